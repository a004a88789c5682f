"""What a reader needs to judge and repeat a run: clocks, window, hosts, playbook, commands; as rows of words.

Scope: reading ``run.json``, facts and clock certificates; every field may be missing, a missing one says so.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from swarmscope.compare.result import Comparison
from swarmscope.report.wording import duration, in_sync, size

UNKNOWN = "not known"


def gather(
    run: Mapping[str, Any],
    comparison: Comparison,
    facts: Mapping[str, Mapping[str, Any]],
    clocks: Mapping[str, Any],
) -> dict[str, Any]:
    """Template variables by name."""
    hosts = sorted(set(facts) | {comparison.subject.client, comparison.subject.server})
    columns, clock_rows = _clock_table(clocks)
    return {
        "created": str(run.get("created", "")),
        "version": str(run.get("version", "")),
        "window_rows": _window(run, comparison),
        "clock_columns": columns,
        "clock_rows": clock_rows,
        "host_names": hosts,
        "host_rows": _hosts(hosts, facts),
        "commands": commands(run),
        "playbook": yaml.safe_dump(run.get("playbook", {}), sort_keys=False, allow_unicode=True),
    }


def commands(run: Mapping[str, Any]) -> list[str]:
    """The exact commands that make this run again and read it."""
    made = shlex.join(str(word) for word in run.get("command", ())) or "invoke trace"
    return [made, "invoke collect", "invoke report"]


def _window(run: Mapping[str, Any], comparison: Comparison) -> list[tuple[str, str]]:
    kernels = run.get("kernels", {})
    moved = run.get("bytes", {})
    network = run.get("network") or {}
    rows = [
        ("recorders", "; ".join(in_sync(comparison.window)) or UNKNOWN),
        ("what the clocks did", "; ".join(comparison.clocks) or "nothing found"),
        ("reference clock", str(run.get("clocks", {}).get("reference", UNKNOWN))),
        (
            "kernels",
            "; ".join(f"{k}: {', '.join(v.get('hosts', ()))}" for k, v in kernels.items()) or UNKNOWN,
        ),
        ("data", ", ".join(f"{name} {size(int(n))}" for name, n in moved.items()) or UNKNOWN),
        ("state", str(run.get("state", UNKNOWN))),
    ]
    if network:
        rows.append(("network", ", ".join(f"{key} {value}" for key, value in network.items())))
    return rows


def _clock_table(clocks: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Certificates as rows: the columns any host has, in the order they come."""
    hosts = clocks.get("hosts", clocks)
    certificates = {str(h): {**c, **_said_by_packets(c)} for h, c in hosts.items() if isinstance(c, Mapping)}
    keys = dict.fromkeys(str(key) for c in certificates.values() for key, v in c.items() if _flat(v))
    columns = [key for key in keys if key != "host"]
    return columns, [(h, [_word(k, c.get(k)) for k in columns]) for h, c in certificates.items()]


def _said_by_packets(certificate: Mapping[str, Any]) -> dict[str, str]:
    """What packets that two hosts recorded say of an alignment that was made without them."""
    said = {}
    counted = certificate.get("causality") or {}
    if counted.get("receives"):
        said["received_before_sent"] = f"{counted.get('violations', 0)} of {counted['receives']}"
    for name, source in (("packets", certificate), ("LTTng's packets", certificate.get("lttng") or {})):
        check = source.get("cross_check") or {}
        if check:
            word = "overlap" if check.get("overlap") else "are apart"
            said[f"probes_and_{name}"] = f"{word} ({duration(float(check.get('apart_ns', 0)))})"
    return said


def _flat(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))


def _word(key: str, value: Any) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and key.endswith("_ns"):
        return duration(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return UNKNOWN if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _hosts(hosts: list[str], facts: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    def row(title: str, read: Any) -> tuple[str, list[str]]:
        return title, [read(facts[h]) if h in facts else UNKNOWN for h in hosts]

    plain = (
        "hostname",
        "kernel",
        "arch",
        "os",
        "python",
        "cpus",
        "clocksource",
        "lockdown",
        "cgroup",
    )
    rows = [row(key, lambda f, key=key: str(f.get(key, UNKNOWN))) for key in plain]
    rows += [row("mitigations", lambda f: _mitigations(f.get("mitigations")))]
    rows += [row("memory", lambda f: size(int(f["mem_kb"]) * 1000) if f.get("mem_kb") else UNKNOWN)]
    rows += [row("boot id", lambda f: str(f.get("boot_id", UNKNOWN)))]
    rows += [row("docker", lambda f: _docker(f.get("docker") or {}))]
    tools = sorted({name for f in facts.values() for name in f.get("tools", {})})
    rows += [row(name, lambda f, name=name: _tool(f.get("tools", {}).get(name))) for name in tools]
    rows += [row("devices", lambda f: "; ".join(_nic(n) for n in f.get("nics", ())) or UNKNOWN)]
    rows += [row("sysctls", lambda f: _pairs(f.get("sysctls", {})))]
    return [r for r in rows if any(value != UNKNOWN for value in r[1])]


def _mitigations(value: Any) -> str:
    """What the kernel does against the CPU's faults: it costs time. Faults the CPU has not are left out."""
    if not isinstance(value, Mapping):
        return UNKNOWN if value is None else str(value)
    kept = {key: str(text).removeprefix("Mitigation: ") for key, text in value.items()}
    rows = [f"{key}: {text}" for key, text in kept.items() if text != "Not affected"]
    return "; ".join(rows) or "none needed"


def _docker(value: Mapping[str, Any]) -> str:
    """Version, API and system of an engine, by the names of the Docker API or of the facts."""
    named = (("", "Version"), ("API ", "ApiVersion"), ("", "Os"))
    found = [f"{word}{value.get(key, value.get(_short(key), ''))}" for word, key in named]
    return ", ".join(text for text, (word, _) in zip(found, named, strict=True) if text != word) or UNKNOWN


def _short(key: str) -> str:
    return key.lower().removesuffix("version") or key.lower()


def _tool(tool: Any) -> str:
    return str(tool.get("version", "there")) if isinstance(tool, Mapping) else "not there"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {' '.join(str(value).split())}" for key, value in values.items()) or UNKNOWN


def _nic(nic: Mapping[str, Any]) -> str:
    on = [key for key, value in (nic.get("offloads") or {}).items() if value]
    kind = f", {nic['kind']}" if nic.get("kind") else ""
    return f"{nic.get('dev')} (MTU {nic.get('mtu')}{kind}, on: {' '.join(on) or 'no offload'})"
