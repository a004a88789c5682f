"""Playbooks: an experiment in a YAML file, rendered with Jinja2, checked, all mistakes at once.

Scope: file + ``--set`` variables -> ``model.Playbook``. Order: the ``vars:`` section of the file gives the
variables and their defaults, ``--set`` overrides them, the whole file is rendered (an undefined variable is a
mistake), then read as YAML.

Limits: mistakes carry lines of the rendered text, which are the file's own unless a Jinja2 loop or a
multi-line value comes before. ``vars:`` itself is plain YAML.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import jinja2
import yaml
from jinja2 import meta, nodes
from jinja2.sandbox import SandboxedEnvironment
from pydantic import AfterValidator, BeforeValidator, Field

from swarmscope import collectors
from swarmscope.checking import Strict, validate
from swarmscope.errors import UsageError
from swarmscope.model import CollectorChoice, Mode, NetworkSpec, Playbook, TrafficSpec
from swarmscope.places import shipped
from swarmscope.yamlsource import Findings, Value, did_you_mean, dotted, parse, read_text

HINT: Final = "playbooks/overlay.yml shows every key"
SMALLEST_MTU: Final = 68
"""The smallest MTU an IPv4 link may have (RFC 791)."""


def _network_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", text):
        raise ValueError(f"must be a network name (letters, digits, '_', '.', '-'), not {text!r}")
    return text


def _subnet(text: str) -> str:
    try:
        network = IPv4Network(text)
    except ValueError as problem:
        raise ValueError(f"must be an IPv4 network like 10.88.0.0/24: {problem}") from None
    if not 8 <= network.prefixlen <= 28:
        raise ValueError(f"must have a prefix from /8 to /28, not /{network.prefixlen}")
    return text


def _auto_is_zero(value: object) -> object:
    return 0 if value == "auto" else value


def _mtu(value: int) -> int:
    if value and not SMALLEST_MTU <= value <= 65535:
        raise ValueError(f"must be auto or from {SMALLEST_MTU} to 65535, not {value}")
    return value


class _NetworkShape(Strict):
    name: Annotated[str, AfterValidator(_network_name)]
    subnet: Annotated[str, AfterValidator(_subnet)]
    mtu: Annotated[int, BeforeValidator(_auto_is_zero), AfterValidator(_mtu)] = 0


class _PlacementShape(Strict):
    client: str = "first"
    server: str = "second"


class _PingShape(Strict):
    kind: Literal["ping"]
    count: int = Field(ge=1, le=1_000_000)
    # Below 16 bytes ping has no room for its time stamp and reports no round-trip times.
    size: int = Field(default=56, ge=16, le=65_507)
    interval_ms: float = Field(default=5, ge=0, le=60_000)
    traced_count: int = Field(default=0, ge=0, le=1_000_000)


class _RequestShape(Strict):
    kind: Literal["rr"]
    transport: Literal["tcp", "udp"] = "tcp"
    count: int = Field(ge=1, le=1_000_000)
    size: int = Field(default=64, ge=16, le=65_507)
    traced_count: int = Field(default=0, ge=0, le=1_000_000)


class _TrialsShape(Strict):
    plain: int = Field(default=10, ge=1, le=10_000)
    traced: int = Field(default=4, ge=0, le=10_000)


class _PlaybookShape(Strict):
    summary: str = ""
    vars: dict[str, Any] = Field(default_factory=dict)
    baseline: Mode
    subject: Mode
    network: _NetworkShape | None = None
    image: str = Field(default="auto", min_length=1)
    placement: _PlacementShape = _PlacementShape()
    traffic: list[Annotated[_PingShape | _RequestShape, Field(discriminator="kind")]] = Field(min_length=1)
    trials: _TrialsShape = _TrialsShape()
    collectors: list[Any]
    deadline_s: int = Field(default=300, ge=10, le=86_400)
    pin_cpus: bool = True


def find(name: str | Path) -> Path:
    """The file of a playbook: a path as it is, a name in ``./playbooks``, then among those of the package.

    Raises ``UsageError`` where there is none, with the names there are.
    """
    text = str(name)
    if "/" in text or text.endswith((".yml", ".yaml")):
        path = Path(text).expanduser()
        if not path.is_file():
            raise UsageError(f"no playbook {path}", hint="a name without .yml is looked up in playbooks/")
        return path
    known: dict[str, Path] = {}
    for folder in (Path("playbooks"), shipped("playbooks")):
        for file in sorted(folder.glob("*.yml")):
            known.setdefault(file.stem, file)
    if text not in known:
        raise UsageError(
            f"no playbook {text!r}{did_you_mean(text, known)}", hint=f"there are: {', '.join(sorted(known))}"
        )
    return known[text]


def load(name: str | Path, variables: Mapping[str, Any] | None = None) -> Playbook:
    """The playbook ``name`` (or path) with ``variables`` set.

    Text values of ``variables`` are read as YAML, as on a command line: ``count=10`` is a number. Raises
    ``InvalidFile`` with all mistakes; ``UsageError`` for an unknown name or variable.
    """
    path = find(name)
    findings = Findings(path)
    text = read_text(path, findings, what="playbook")
    rendered = _render(text, variables or {}, findings) if text is not None else None
    root = parse(rendered, findings) if rendered is not None else None
    shape = validate(_PlaybookShape, root, findings) if root is not None else None
    choices = _choices(root, findings) if root is not None else ()
    if shape is not None and root is not None:
        _check(shape, root, findings)
    findings.raise_any(hint=HINT)
    if shape is None:
        raise AssertionError("a playbook without mistakes was not read")
    return Playbook(
        path=path,
        name=path.stem,
        summary=shape.summary,
        baseline=shape.baseline,
        subject=shape.subject,
        network=NetworkSpec(**shape.network.model_dump()) if shape.network else None,
        image=shape.image,
        client=shape.placement.client,
        server=shape.placement.server,
        traffic=tuple(_traffic(item) for item in shape.traffic),
        plain_trials=shape.trials.plain,
        traced_trials=shape.trials.traced,
        collectors=choices,
        deadline_s=shape.deadline_s,
        pin_cpus=shape.pin_cpus,
    )


def to_dict(playbook: Playbook) -> dict[str, Any]:
    """The playbook as ``run.json`` keeps it."""
    network = playbook.network
    return {
        "name": playbook.name,
        "summary": playbook.summary,
        "baseline": playbook.baseline,
        "subject": playbook.subject,
        "network": {"name": network.name, "subnet": network.subnet, "mtu": network.mtu} if network else None,
        "image": playbook.image,
        "client": playbook.client,
        "server": playbook.server,
        "traffic": [
            {
                "kind": t.kind,
                "count": t.count,
                "size": t.size,
                "transport": t.transport,
                "title": t.title,
                "interval_us": t.interval_us,
                "traced_count": t.traced_count,
            }
            for t in playbook.traffic
        ],
        "plain_trials": playbook.plain_trials,
        "traced_trials": playbook.traced_trials,
        "collectors": [{"name": c.name, "options": dict(c.options)} for c in playbook.collectors],
        "deadline_s": playbook.deadline_s,
        "pin_cpus": playbook.pin_cpus,
    }


def schema() -> dict[str, Any]:
    """JSON Schema of a rendered playbook, for editors."""
    return {"title": "swarmscope playbook", **_PlaybookShape.model_json_schema()}


def _traffic(shape: _PingShape | _RequestShape) -> TrafficSpec:
    if isinstance(shape, _PingShape):
        interval_us = round(shape.interval_ms * 1000)
        return TrafficSpec(
            "ping",
            count=shape.count,
            size=shape.size,
            interval_us=interval_us,
            traced_count=shape.traced_count,
        )
    return TrafficSpec(
        "rr", count=shape.count, size=shape.size, transport=shape.transport, traced_count=shape.traced_count
    )


def _check(shape: _PlaybookShape, root: Value, findings: Findings) -> None:
    """What no single key can say."""
    for arm in ("baseline", "subject"):
        if getattr(shape, arm) == "overlay" and shape.network is None:
            findings.add(root.line_at((arm,)), arm, "mode overlay needs a network: section")
    if shape.placement.client == shape.placement.server:
        place = ("placement", "server")
        findings.add(root.line_at(place), dotted(*place), "client and server must be different hosts")
    titles: dict[str, int] = {}
    for i, item in enumerate(shape.traffic):
        title = _traffic(item).title
        first = titles.setdefault(title, i)
        if first != i:
            findings.add(
                root.line_at(("traffic", i)), dotted("traffic", i), f"same traffic as [{first}]: {title}"
            )


def _choices(root: Value, findings: Findings) -> tuple[CollectorChoice, ...]:
    """The collectors: names, or a name with its options. Unknown names and options are noted."""
    listed = (root.entries or {}).get("collectors")
    if listed is None or listed.items is None:
        return ()
    known = collectors.load_all()
    choices: dict[str, CollectorChoice] = {}
    for i, item in enumerate(listed.items):
        where = dotted("collectors", i)
        entries = {item.data: Value(item.line, None)} if isinstance(item.data, str) else item.entries
        if entries is None or len(entries) != 1:
            findings.add(
                item.line, where, "must be a name, or one name with its options: `- name: {option: value}`"
            )
            continue
        name, value = next(iter(entries.items()))
        options = value.entries or {}
        if value.data is not None and value.entries is None:
            findings.add(value.line, dotted(where, name), f"options must be a mapping, not {value.kind}")
        elif name not in known:
            findings.add(value.line, where, f"unknown collector {name!r}{did_you_mean(name, known)}")
        elif name in choices:
            findings.add(value.line, where, f"collector {name!r} is listed twice")
        else:
            plain = {key: option.plain() for key, option in options.items()}
            for key, message in collectors.option_mistakes(known[name], plain).items():
                findings.add(options[key].line, dotted(where, name, key), message)
            choices[name] = CollectorChoice(name, plain)
    return tuple(choices.values())


def _render(text: str, given: Mapping[str, Any], findings: Findings) -> str | None:
    """``text`` with its variables filled in, or None with the mistakes noted."""
    variables = _declared(text, findings)
    if findings.mistakes:
        return None
    for name, value in given.items():
        if name not in variables:
            raise UsageError(
                f"--set {name}: {findings.path} has no such variable{did_you_mean(name, variables)}",
                hint="variables are declared in the playbook's vars: section",
            )
        variables[name] = _from_command_line(name, value)
    environment = SandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    try:
        tree = environment.parse(text)
        _note_undefined(tree, variables, findings)
        return None if findings.mistakes else environment.from_string(tree).render(variables)
    except jinja2.TemplateSyntaxError as problem:
        findings.add(problem.lineno, "", f"not valid Jinja2: {problem.message}")
    except Exception as problem:
        # Any expression can fail in any way; Jinja2 puts the template's own line into the traceback.
        frames = traceback.extract_tb(problem.__traceback__)
        line = next((f.lineno for f in reversed(frames) if f.filename in ("<template>", "<unknown>")), 0)
        findings.add(line or 0, "", f"cannot be rendered: {problem}")
    return None


def _note_undefined(tree: nodes.Template, variables: Mapping[str, Any], findings: Findings) -> None:
    undefined = meta.find_undeclared_variables(tree) - set(variables)
    for name in tree.find_all(nodes.Name):
        if name.ctx == "load" and name.name in undefined:
            findings.add(
                name.lineno, "", f"variable {name.name!r} is not set{did_you_mean(name.name, variables)}"
            )


def _declared(text: str, findings: Findings) -> dict[str, Any]:
    """The ``vars:`` section of an unrendered playbook: its lines from ``vars:`` to the next unindented
    one.
    """
    lines = text.split("\n")
    start = next((i for i, line in enumerate(lines) if re.match(r"vars\s*:", line)), None)
    if start is None:
        return {}
    end = next((i for i in range(start + 1, len(lines)) if re.match(r"[^\s#]", lines[i])), len(lines))
    # Empty lines before the section keep its line numbers those of the file.
    section = parse("\n" * start + "\n".join(lines[start:end]), findings)
    value = section.entries["vars"] if section and section.entries else None
    if value is None or value.data is None:
        return {}
    if value.entries is None:
        findings.add(value.line, "vars", f"must be a mapping, not {value.kind}")
        return {}
    for key, item in value.entries.items():
        if not key.isidentifier():
            findings.add(item.line, dotted("vars", key), "a variable's name has letters, digits and '_'")
    return {key: item.plain() for key, item in value.entries.items()}


def _from_command_line(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as problem:
        raise UsageError(f"--set {name}={value!r} is not a YAML value", hint="put it in quotes") from problem
