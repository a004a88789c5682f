"""What a host is and what can be recorded on it.

Scope: every part is read by itself; one that cannot be read is null, with the reason under ``problems``.
Nothing is changed for good: the trace instance made to see whether it can be made is removed at once.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from pathlib import Path
from typing import Any, Callable

from . import links, locks, tools, tracefs
from .places import Places

SYSCTLS = (
    "net.bridge.bridge-nf-call-iptables",
    "net.ipv4.ip_forward",
    "net.core.rmem_max",
    "net.ipv4.ping_group_range",
    "kernel.sched_autogroup_enabled",
)


def gather(host: str, places: Places) -> dict[str, Any]:
    """All facts; never fails as a whole."""
    problems: dict[str, str] = {}
    facts: dict[str, Any] = {"host": host, "problems": problems}

    def part(name: str, read: Callable[[], Any]) -> None:
        try:
            facts[name] = read()
        except Exception as error:
            # Whatever is wrong with one file of one kernel must not hide the other facts.
            facts[name] = None
            problems[name] = f"{type(error).__name__}: {error}"

    part("hostname", platform.node)
    part("boot_id", locks.boot_id)
    part("kernel", lambda: os.uname().release)
    part("arch", lambda: os.uname().machine)
    part("byteorder", lambda: sys.byteorder)
    part("os", _os_name)
    part("python", platform.python_version)
    part("uid", os.geteuid)
    part("cpus", lambda: len(os.sched_getaffinity(0)))
    part("mem_kb", _memory_kb)
    part("machine_id", lambda: _text("/etc/machine-id"))
    part("tools", tools.inventory)
    part("btf", lambda: Path("/sys/kernel/btf/vmlinux").exists())
    part("lttng", tools.has_lttng_modules)
    part("kallsyms", _kallsyms_readable)
    part("perf_event_paranoid", lambda: int(_text("/proc/sys/kernel/perf_event_paranoid")))
    part("kptr_restrict", lambda: int(_text("/proc/sys/kernel/kptr_restrict")))
    part("cgroup", _cgroup)
    part("clocksource", lambda: _text("/sys/devices/system/clocksource/clocksource0/current_clocksource"))
    part("nics", links.nics)
    part("sysctls", lambda: {name: _sysctl(name) for name in SYSCTLS})
    part("disk_free", lambda: shutil.disk_usage(places.data).free)
    part("mitigations", _mitigations)
    part("lockdown", lambda: tracefs.with_mounted("securityfs", tracefs.SECURITY, _lockdown))
    try:
        facts.update(tracefs.with_mounted("tracefs", tracefs.TRACING, _tracing))
    except Exception as error:
        facts.update(_tracing(None))
        problems["tracefs"] = f"{type(error).__name__}: {error}"
    if not facts["tracefs"]:
        problems.setdefault("tracefs", "tracefs is not mounted and could not be")
    return facts


def _text(path: str) -> str:
    return Path(path).read_text(errors="replace").strip()


def _os_name() -> str:
    for line in _text("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip("\"'")
    return "unknown"


def _memory_kb() -> int:
    found = re.search(r"^MemTotal:\s+(\d+)", _text("/proc/meminfo"), re.MULTILINE)
    if not found:
        raise ValueError("no MemTotal in /proc/meminfo")
    return int(found.group(1))


def _kallsyms_readable() -> bool:
    """Whether symbol addresses are shown: without them no tool names kernel frames."""
    with Path("/proc/kallsyms").open(encoding="utf-8", errors="replace") as file:
        return any(int(file.readline().split()[0] or "0", 16) for _ in range(20))


def _cgroup() -> str:
    kinds = {line.split()[2] for line in _text("/proc/mounts").splitlines() if len(line.split()) > 2}
    if "cgroup" in kinds:
        return "hybrid" if "cgroup2" in kinds else "v1"
    return "v2"


def _sysctl(name: str) -> str | None:
    # The name bridge-nf-call-iptables has no dot of its own, so every dot is a folder.
    path = Path("/proc/sys") / name.replace(".", "/")
    return path.read_text().strip() if path.exists() else None


def _mitigations() -> dict[str, str]:
    folder = Path("/sys/devices/system/cpu/vulnerabilities")
    return {entry.name: _text(str(entry)) for entry in sorted(folder.iterdir())}


def _lockdown(root: Path | None) -> str:
    path = root / "lockdown" if root else None
    if path is None or not path.exists():
        return "unknown"
    found = re.search(r"\[(\w+)\]", path.read_text())
    return found.group(1) if found else "unknown"


def _tracing(root: Path | None) -> dict[str, Any]:
    if root is None:
        return {"tracefs": "", "tracers": [], "tracepoints": [], "kprobes": False, "instances": False}
    return {
        "tracefs": str(root),
        "tracers": (root / "available_tracers").read_text().split(),
        "tracepoints": tracefs.tracepoints(root),
        "kprobes": (root / "kprobe_events").exists(),
        "instances": tracefs.instances_work(root),
    }
