"""Stages of the path: which one a function or a step between two events belongs to, and what a mode expects.

Everything that changes with kernel versions is data, in ``stages.yml`` beside this file. Scope: looking
names up; whether a function was seen is decided in ``stacks``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import yaml

ORDER = (
    "entry", "tx-socket", "ip-out", "qdisc", "veth", "bridge", "netfilter", "vxlan-encap", "nic-tx", "wire",
    "nic-rx", "gro", "ip-in", "vxlan-decap", "rx-socket", "skb", "other",
)  # fmt: skip
"""All stages, in the order a packet meets them first."""


@dataclass(frozen=True, slots=True)
class Names:
    """A set of names, some of them prefixes; ``match`` gives the length of the longest match, 0 for none."""

    exact: frozenset[str]
    prefixes: tuple[str, ...]

    @classmethod
    def of(cls, patterns: Iterable[str]) -> Names:
        listed = tuple(patterns)
        return cls(
            frozenset(p for p in listed if not p.endswith("*")),
            tuple(p.removesuffix("*") for p in listed if p.endswith("*")),
        )

    def match(self, name: str) -> int:
        if name in self.exact:
            return len(name) + 1  # a whole name beats a prefix as long as itself
        return max((len(p) for p in self.prefixes if name.startswith(p)), default=0)


@dataclass(frozen=True, slots=True)
class Segment:
    """A rule of ``segments``: empty tuples and None match anything."""

    stage: str
    start: tuple[str, ...]
    end: tuple[str, ...]
    start_role: tuple[str, ...]
    end_role: tuple[str, ...]
    same: bool | None
    across: bool | None


@dataclass(frozen=True, slots=True)
class Alias:
    """``old`` is called ``new`` from kernel release ``since`` on."""

    old: str
    new: str
    since: tuple[int, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Spot:
    """Where an event of a packet happened: bare event name, role of the device, device identity, host."""

    event: str
    role: str
    device: tuple[int | None, int | None]
    host: str


@dataclass(frozen=True, slots=True)
class Table:
    """``stages.yml`` as read."""

    functions: Mapping[str, Names]
    tracer: Names
    borders: Names
    segments: tuple[Segment, ...]
    expected: Mapping[str, tuple[str, ...]]
    aliases: tuple[Alias, ...]

    def stage(self, symbol: str) -> str:
        """Stage of a function by its longest matching name; ``other`` for one the table does not know."""
        best, reach = "other", 0
        for stage, names in self.functions.items():
            length = names.match(symbol)
            if length > reach:
                best, reach = stage, length
        return best

    def step(self, start: Spot, end: Spot) -> str:
        """Stage of the time between two consecutive events of a packet."""
        same, across = start.device == end.device and start.host == end.host, start.host != end.host
        for rule in self.segments:
            if (
                _fits(start.event, rule.start)
                and _fits(end.event, rule.end)
                and _fits(start.role, rule.start_role)
                and _fits(end.role, rule.end_role)
                and rule.same in (None, same)
                and rule.across in (None, across)
            ):
                return rule.stage
        return "other"

    def renamed(self, symbol: str, names: Iterable[str]) -> Alias | None:
        """The alias under which ``symbol`` is among ``names``, in either direction; None where it is not."""
        present = names if isinstance(names, (set, frozenset)) else set(names)
        for alias in self.aliases:
            if (alias.old == symbol and alias.new in present) or (
                alias.new == symbol and alias.old in present
            ):
                return alias
        return None


def _fits(value: str, allowed: tuple[str, ...]) -> bool:
    return not allowed or value in allowed


def release(text: str) -> tuple[int, ...]:
    """``6.12.9-amd64`` as (6, 12); empty for what is no kernel release."""
    head = text.split("-")[0].split(".")[:2]
    return tuple(int(part) for part in head) if all(part.isdigit() for part in head) else ()


def _segment(rule: Mapping[str, Any]) -> Segment:
    def names(key: str) -> tuple[str, ...]:
        return tuple(rule.get(key, ()))

    return Segment(
        str(rule["stage"]), names("from"), names("to"), names("from_role"), names("to_role"),
        rule.get("same"), rule.get("across"),
    )  # fmt: skip


@lru_cache(maxsize=1)
def table() -> Table:
    """The table shipped with the package."""
    data = yaml.safe_load(resources.files("swarmscope.compare").joinpath("stages.yml").read_text("utf-8"))
    return Table(
        functions={stage: Names.of(names) for stage, names in data["functions"].items()},
        tracer=Names.of(data["tracer"]),
        borders=Names.of(data["borders"]),
        segments=tuple(_segment(rule) for rule in data["segments"]),
        expected={mode: tuple(names) for mode, names in data["expected"].items()},
        aliases=tuple(Alias(a["old"], a["new"], release(a["since"]), a["why"]) for a in data["aliases"]),
    )
