"""Collectors: folders that say how to record something on a host. Read, checked, rendered.

Scope: ``collectors/NAME/collector.yml`` and its Jinja2 templates -> ``Collector`` -> the request that the
agent's ``arm`` takes. Adding a collector is adding a folder; nothing here knows any of them by name.
``docs/collectors.md`` explains the keys.

Limits: nothing is run here, and whether a host can run a collector is judged from its agent's facts alone.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, Literal

import jinja2
from jinja2.sandbox import SandboxedEnvironment
from pydantic import Field

from swarmscope.checking import Strict, validate
from swarmscope.errors import InvalidFile, Mistake, UsageError
from swarmscope.formats import FORMATS
from swarmscope.places import shipped
from swarmscope.yamlsource import Findings, Value, did_you_mean, dotted, parse, read_text

FEATURES: Final = ("btf", "instances", "kprobes", "kallsyms", "lttng")
"""Facts of the agent that ``needs.features`` may name; besides ``tracer:NAME``."""
CLOCKS: Final = ("monotonic", "boottime")
"""What an output may be stamped with. Jinja2 may choose, so it is checked once it is rendered."""


@dataclass(frozen=True, slots=True)
class Option:
    """Something a playbook may set. Its type is the default's."""

    default: Any
    help: str


@dataclass(frozen=True, slots=True)
class Needs:
    """What a host must have: commands, tracepoints (globs, one match each is enough), kernel features."""

    commands: tuple[str, ...] = ()
    tracepoints: tuple[str, ...] = ()
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Collector:
    """One collector. Texts may hold Jinja2; ``render`` fills it."""

    name: str
    folder: Path
    summary: str
    cost: Literal["low", "medium", "high"]
    scope: Literal["kernel", "host"]
    """``kernel``: once for all hosts that share a kernel; ``host``: on every host."""
    per_arm: bool
    """Whether each arm has a recorder of its own, open only in that arm's traced trials."""
    needs: Needs
    options: Mapping[str, Option]
    files: tuple[str, ...]
    record: str
    after: str
    fifos: tuple[str, ...]
    ready: Mapping[str, Any]
    gate: Mapping[str, str] | None
    rehearsal: Mapping[str, Any] | None
    stop_grace_s: int
    after_timeout_s: int
    outputs: tuple[Mapping[str, Any], ...]
    env: Mapping[str, str]


class _NeedsShape(Strict):
    commands: list[str] = Field(default_factory=list)
    tracepoints: list[str] = Field(default_factory=list)
    features: list[str] = Field(default_factory=list)


class _OptionShape(Strict):
    default: Any
    help: str


class _ReadyShape(Strict):
    file: str
    match: str
    timeout_s: int = Field(default=25, ge=1)


class _GateShape(Strict):
    path: str
    open: str
    close: str
    ack: str = ""


class _RehearsalShape(Strict):
    fifo: str
    match: str
    timeout_s: int = Field(default=60, ge=1)


class _OutputShape(Strict):
    file: str
    format: Literal[tuple(FORMATS)]  # type: ignore[valid-type]  # one list for this check and for people
    clock: str = "monotonic"
    optional: bool = False
    copy_of: str = ""


class _CollectorShape(Strict):
    summary: str
    cost: Literal["low", "medium", "high"]
    scope: Literal["kernel", "host"]
    per_arm: bool = False
    needs: _NeedsShape = _NeedsShape()
    options: dict[str, _OptionShape] = Field(default_factory=dict)
    files: list[str] = Field(default_factory=list)
    record: str
    after: str = ""
    fifos: list[str] = Field(default_factory=list)
    ready: _ReadyShape
    gate: _GateShape | None = None
    rehearsal: _RehearsalShape | None = None
    stop_grace_s: int = Field(default=10, ge=1)
    after_timeout_s: int = Field(default=60, ge=1)
    outputs: list[_OutputShape] = Field(min_length=1)
    env: dict[str, str] = Field(default_factory=dict)


def folders() -> list[Path]:
    """Where collectors are looked for: ``./collectors``, then those that come with the package."""
    return list(dict.fromkeys([Path("collectors").resolve(), shipped("collectors")]))


def load_all(paths: Sequence[Path] | None = None) -> dict[str, Collector]:
    """All collectors by name; the first folder that has a name wins.

    Raises ``InvalidFile`` with the mistakes of all of them.
    """
    found: dict[str, Collector] = {}
    mistakes: list[Mistake] = []
    for base in folders() if paths is None else paths:
        for file in sorted(base.glob("*/collector.yml")):
            if file.parent.name in found:
                continue
            try:
                found[file.parent.name] = load(file.parent)
            except InvalidFile as problem:
                mistakes.extend(problem.mistakes)
    if mistakes:
        raise InvalidFile(mistakes, hint="docs/collectors.md explains the keys of a collector")
    return found


def load(folder: Path) -> Collector:
    """The collector in ``folder``, its templates compiled once to find their mistakes too. Raises
    ``InvalidFile``.
    """
    path = folder / "collector.yml"
    findings = Findings(path)
    text = read_text(path, findings, what="collector")
    root = parse(text, findings) if text is not None else None
    shape = validate(_CollectorShape, root, findings) if root is not None else None
    if shape is not None and root is not None:
        _check(shape, root, folder, findings)
    findings.raise_any(hint="docs/collectors.md explains the keys of a collector")
    if shape is None:
        raise AssertionError("a collector without mistakes was not read")
    plain = shape.model_dump()
    needs = {key: tuple(words) for key, words in plain.pop("needs").items()}
    options = {name: Option(**option) for name, option in plain.pop("options").items()}
    for key in ("files", "fifos", "outputs"):
        plain[key] = tuple(plain[key])
    return Collector(name=folder.name, folder=folder, needs=Needs(**needs), options=options, **plain)


def _check(shape: _CollectorShape, root: Value, folder: Path, findings: Findings) -> None:
    """What the shape alone cannot say: templates exist and compile, features are known."""
    scripts = [(("record",), shape.record), (("after",), shape.after)]
    named = [(path, name) for path, name in scripts if name]
    named += [(("files", i), name) for i, name in enumerate(shape.files)]  # type: ignore[misc]
    for path, name in named:
        template = folder / name
        if not template.is_file() or template.parent != folder:
            findings.add(root.line_at(path), dotted(*path), f"no file {name!r} in {folder}")
            continue
        try:
            _environment(folder).get_template(name)
        except jinja2.TemplateSyntaxError as problem:
            findings.mistakes.append(
                Mistake(template, problem.lineno, "", f"not valid Jinja2: {problem.message}")
            )
        except UnicodeDecodeError:
            findings.mistakes.append(Mistake(template, 0, "", "not UTF-8"))
    for i, feature in enumerate(shape.needs.features):
        if feature not in FEATURES and not feature.startswith("tracer:"):
            place = ("needs", "features", i)
            findings.add(
                root.line_at(place), dotted(*place), f"unknown feature{did_you_mean(feature, FEATURES)}"
            )
    files = {output.file for output in shape.outputs}
    for number, output in enumerate(shape.outputs):
        if output.copy_of and output.copy_of not in files - {output.file}:
            key = ("outputs", number, "copy_of")
            findings.add(root.line_at(key), "outputs", f"copy_of: {output.copy_of!r} is no other output")
    if not any(output.format == "losses-json" for output in shape.outputs):
        findings.add(root.line_at(("outputs",)), "outputs", "no losses-json: a collector counts what it lost")


def missing(collector: Collector, facts: Mapping[str, Any]) -> list[str]:
    """Why a host with these agent facts cannot run the collector, one short reason each; empty: it can.

    A command that the agent does not look for (``bash``) counts as there.
    """
    tools = facts.get("tools") or {}
    reasons = [f"command {command}" for command in collector.needs.commands if not tools.get(command, True)]
    events: Sequence[str] = facts.get("tracepoints") or ()
    if collector.needs.tracepoints and not facts.get("tracefs"):
        reasons.append("tracefs (not mounted)")
    else:
        reasons += [f"tracepoint {glob}" for glob in collector.needs.tracepoints if not _any(events, glob)]
    lockdown = facts.get("lockdown", "none")
    because = f" (kernel lockdown {lockdown})" if lockdown in ("integrity", "confidentiality") else ""
    for feature in collector.needs.features:
        if feature.startswith("tracer:"):
            if feature[7:] not in (facts.get("tracers") or ()):
                reasons.append(f"tracer {feature[7:]}")
        elif not facts.get(feature):
            explained = {"kprobes": because, "lttng": " (its kernel modules)"}
            reasons.append(feature + explained.get(feature, ""))
    return reasons


def _any(names: Iterable[str], glob: str) -> bool:
    return any(fnmatchcase(name, glob) for name in names)


def option_mistakes(collector: Collector, options: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with options that a playbook sets: option name -> message; empty where all is well."""
    wrong = {}
    for name, value in options.items():
        option = collector.options.get(name)
        if option is None:
            wrong[name] = f"{collector.name} has no such option{did_you_mean(name, collector.options)}"
        elif not _fits(value, option.default):
            wanted, got = Value(0, option.default).kind, Value(0, value).kind
            wrong[name] = f"must be {wanted} like its default {option.default!r}, not {got}"
    return wrong


def _fits(value: object, default: object) -> bool:
    if default is None:
        return True
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(default)


def render(collector: Collector, *, options: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """The request for the agent's ``arm``, all templates filled.

    ``context`` is the run's side (run, host, recorder, arm, instance, deadline_s, tools, tracefs, flow, …);
    the options, defaults included, are added as ``options``. Besides the keys of the request, ``described``
    lists the outputs with format and clock. Raises ``UsageError`` for a wrong option, for a name in a
    template that nothing defines, and for a clock that is none.
    """
    wrong = option_mistakes(collector, options)
    if wrong:
        name, message = next(iter(wrong.items()))
        raise UsageError(f"collector {collector.name}: {name}: {message}", hint="see `invoke collectors`")
    names = {**context, "options": {**{n: o.default for n, o in collector.options.items()}, **options}}
    environment = _environment(collector.folder)

    def text(template: str) -> str:
        return _filled(environment.from_string(template), names, collector, "collector.yml")

    def file(name: str) -> str:
        return _filled(environment.get_template(name), names, collector, name)

    def texts(section: Mapping[str, Any]) -> dict[str, Any]:
        return {key: text(value) if isinstance(value, str) else value for key, value in section.items()}

    scripts = [name for name in (collector.record, collector.after) if name]
    rehearsal = texts(collector.rehearsal or {"fifo": ""})
    outputs = [
        {**output, "file": text(output["file"]), "clock": text(output["clock"])}
        for output in collector.outputs
    ]
    for output in outputs:
        if output["clock"] not in CLOCKS:
            raise UsageError(
                f"collector {collector.name}: output {output['file']}: unknown clock {output['clock']!r}",
                hint=f"clock is one of {', '.join(CLOCKS)}",
            )
    return {
        "id": context["recorder"],
        "files": {name.removesuffix(".j2"): file(name) for name in (*scripts, *collector.files)},
        "record": ["bash", collector.record.removesuffix(".j2")],
        "ready": texts(collector.ready),
        "gate": texts(collector.gate) if collector.gate else None,
        "rehearsal": rehearsal if rehearsal["fifo"] else None,
        "fifos": [text(name) for name in collector.fifos],
        "stop_grace_s": collector.stop_grace_s,
        "after": ["bash", collector.after.removesuffix(".j2")] if collector.after else None,
        "after_timeout_s": collector.after_timeout_s,
        "outputs": [output["file"] for output in outputs],
        "env": {key: text(value) for key, value in collector.env.items()},
        "described": outputs,
    }


def _filled(template: jinja2.Template, names: Mapping[str, Any], collector: Collector, file: str) -> str:
    try:
        return template.render(names)
    except (jinja2.TemplateError, TypeError, ValueError, KeyError) as problem:
        raise UsageError(
            f"collector {collector.name}: {file}: {problem}",
            hint="docs/collectors.md lists the names templates see",
        ) from problem


@functools.lru_cache(maxsize=64)
def _environment(folder: Path) -> SandboxedEnvironment:
    # keep_trailing_newline: a gate's text is "enable\n", and a script's last line wants its end.
    return SandboxedEnvironment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
