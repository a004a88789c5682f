"""YAML that remembers its lines, so that every mistake in a file can be named with its place.

Scope: bytes or text -> a tree of ``Value``, plus the list that mistakes are gathered in (``Findings``). Used
for inventories, playbooks and collectors; what keys mean is their business.

Understood: one document of mappings with text keys, lists, plain scalars, anchors, aliases and ``<<`` merges.
Limits: tags other than YAML's own are mistakes, and so are keys that YAML reads as something other than text
(``yes``, ``1``): they want quotes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from swarmscope.errors import InvalidFile, Mistake, UsageError

Scalar: TypeAlias = Any
"""What YAML's own types become: str, int, float, bool, None, a date, bytes."""

MERGE_TAG = "tag:yaml.org,2002:merge"
TEXT_TAG = "tag:yaml.org,2002:str"
MAPPING_TAGS = ("tag:yaml.org,2002:map", "!")
LIST_TAGS = ("tag:yaml.org,2002:seq", "!")


@dataclass(frozen=True, slots=True)
class Value:
    """A node of the file. ``line`` counts from 1; an entry of a mapping has the line of its key."""

    line: int
    data: Mapping[str, Value] | Sequence[Value] | Scalar

    @property
    def entries(self) -> Mapping[str, Value] | None:
        """The entries where this is a mapping, else None."""
        return self.data if isinstance(self.data, dict) else None

    @property
    def items(self) -> Sequence[Value] | None:
        """The items where this is a list, else None."""
        return self.data if isinstance(self.data, list) else None

    @property
    def kind(self) -> str:
        """What a user would call this: ``a mapping``, ``a list``, ``text``, ``empty`` …"""
        names = {dict: "a mapping", list: "a list", str: "text", bool: "true/false", type(None): "empty"}
        return names.get(type(self.data), "a number" if isinstance(self.data, int | float) else "a value")

    def plain(self) -> Any:
        """The same data as ordinary dicts, lists and scalars."""
        if isinstance(self.data, dict):
            return {key: value.plain() for key, value in self.data.items()}
        if isinstance(self.data, list):
            return [value.plain() for value in self.data]
        return self.data

    def line_at(self, path: Sequence[str | int]) -> int:
        """The line of the deepest node on ``path`` that exists (what a missing key is missing from)."""
        here = self
        for part in path:
            if not isinstance(here.data, dict | list):
                break
            try:
                here = here.data[part]  # type: ignore[index]
            except (KeyError, IndexError, TypeError):
                break
        return here.line


@dataclass(slots=True)
class Findings:
    """The mistakes of one file, gathered while it is read."""

    path: Path
    mistakes: list[Mistake] = field(default_factory=list)

    def add(self, line: int, key: str, message: str) -> None:
        """Note a mistake at ``line`` (0: the file as a whole) under the dotted ``key``."""
        mistake = Mistake(self.path, line, key, message)
        # An anchor used in several places is wrong once, not once for each use.
        if mistake not in self.mistakes:
            self.mistakes.append(mistake)

    def unknown_keys(self, entries: Mapping[str, Value], known: Iterable[str], *, where: str) -> None:
        """Note every key of ``entries`` that is not among ``known``."""
        words = list(known)
        for key, value in entries.items():
            if key not in words:
                self.add(value.line, dotted(where, key), f"unknown key{did_you_mean(key, words)}")

    def raise_any(self, *, hint: str = "") -> None:
        """Raise ``InvalidFile`` with all mistakes in line order; nothing where there are none."""
        if self.mistakes:
            raise InvalidFile(sorted(self.mistakes, key=lambda m: m.line), hint=hint)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` where a known word is near, else ``; known: …`` of 12 words at most, else
    ``""``.
    """
    words = sorted(known)
    near = difflib.get_close_matches(word.lower(), [w.lower() for w in words], n=1, cutoff=0.6)
    if near:
        return f"; did you mean {next(w for w in words if w.lower() == near[0])!r}?"
    return f"; known: {', '.join(words)}" if 0 < len(words) <= 12 else ""


def dotted(*parts: str | int) -> str:
    """``a.b[0].c`` of its parts; empty ones are left out."""
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part:
            text += f".{part}" if text else part
    return text


def read_text(path: Path, findings: Findings, *, what: str) -> str | None:
    """The file's text, or None with the mistake noted (not UTF-8). ``UsageError`` where it cannot be read."""
    try:
        raw = path.read_bytes()
    except OSError as problem:
        raise UsageError(
            f"cannot read {what} {path}: {problem.strerror}", hint="check the path and its permissions"
        ) from problem
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        findings.add(raw[: problem.start].count(b"\n") + 1, "", f"not UTF-8: byte 0x{raw[problem.start]:02x}")
        return None


def parse(text: str, findings: Findings) -> Value | None:
    """The document in ``text``; None where it is empty or not YAML. Duplicate keys and odd tags are noted."""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            findings.add(0, "", "the file is empty")
            return None
        return _Reader(loader, findings).value(node, "")
    except yaml.reader.ReaderError as problem:
        line = text.count("\n", 0, problem.position) + 1
        findings.add(line, "", f"character U+{int(problem.character):04X} is not allowed in YAML")
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        # PyYAML speaks of "block mapping" and "scanner"; its problem is still the best one-liner there is.
        reason = f"{problem.problem} ({problem.context})" if problem.context else problem.problem
        findings.add(mark.line + 1 if mark else 0, "", f"not valid YAML: {reason}")
    except RecursionError:
        findings.add(0, "", "nested too deeply")
    return None


class _Reader:
    """Turns PyYAML's nodes into values; every node once, so that aliases cannot make the tree explode."""

    def __init__(self, loader: yaml.SafeLoader, findings: Findings) -> None:
        self._loader = loader
        self._findings = findings
        self._done: dict[int, Value] = {}
        self._open: set[int] = set()

    def value(self, node: yaml.Node, where: str) -> Value:
        line = node.start_mark.line + 1
        if id(node) in self._done:
            return self._done[id(node)]
        if id(node) in self._open:
            self._findings.add(line, where, "an alias that contains itself")
            return Value(line, None)
        self._open.add(id(node))
        if isinstance(node, yaml.MappingNode) and node.tag in MAPPING_TAGS:
            data: Any = self._mapping(node, where)
        elif isinstance(node, yaml.SequenceNode) and node.tag in LIST_TAGS:
            data = [self.value(item, dotted(where, i)) for i, item in enumerate(node.value)]
        else:
            data = self._scalar(node, where)
        self._open.discard(id(node))
        self._done[id(node)] = Value(line, data)
        return self._done[id(node)]

    def _scalar(self, node: yaml.Node, where: str) -> Scalar:
        try:
            if not isinstance(node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(problem="")
            return self._loader.construct_object(node)
        except (yaml.constructor.ConstructorError, ValueError):
            # ValueError: a date that is none (2026-13-40), an integer of too many digits.
            short = node.tag.replace("tag:yaml.org,2002:", "!!")
            self._findings.add(
                node.start_mark.line + 1, where, f"cannot be read as {short}; quote it if it is text"
            )
            return None

    def _mapping(self, node: yaml.MappingNode, where: str) -> dict[str, Value]:
        own: dict[str, Value] = {}
        merged: dict[str, Value] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == MERGE_TAG:
                self._merge(value_node, where, merged)
                continue
            if key_node.tag != TEXT_TAG:
                name = repr(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "(not a scalar)"
                self._findings.add(line, where, f"key {name} is not text for YAML; put it in quotes")
                continue
            key = key_node.value
            if key in own:
                self._findings.add(line, dotted(where, key), f"given twice, first in line {own[key].line}")
                continue
            own[key] = replace(self.value(value_node, dotted(where, key)), line=line)
        return {**merged, **own}

    def _merge(self, node: yaml.Node, where: str, merged: dict[str, Value]) -> None:
        """Add what ``<<`` brings. Of several mappings the first one that has a key wins, as YAML says."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for source in sources:
            entries = self.value(source, where).entries
            if entries is None:
                self._findings.add(source.start_mark.line + 1, where, "<< wants a mapping")
            else:
                for key, value in entries.items():
                    merged.setdefault(key, value)
