"""Which field selects a variant's option and which gives a sequence's length.

Names are looked up among the fields read before, in the struct itself and outward, or from one of the roots
of CTF 1.8.3 section 7.3.2 (``stream.event.header.id``). Every field found so gets a register.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from swarmscope.trace.formats.ctf.types import (
    Array,
    Enumeration,
    FieldType,
    Integer,
    Sequence,
    Struct,
    Variant,
)

ROOTS = (
    "trace.packet.header",
    "stream.packet.context",
    "stream.event.header",
    "stream.event.context",
    "event.context",
    "event.fields",
)
Path = tuple[str, ...]
"""A root, then names; ``[]`` for the elements of an array."""


class UnreadableType(Exception):
    """A type that refers to what is not there."""


Number = Integer | Enumeration


@dataclass(slots=True)
class _Scope:
    """The fields of a struct read so far."""

    path: Path
    fields: dict[str, FieldType] = field(default_factory=dict)


class Resolved:
    """The fields of one trace, stream or event class others refer to; ``outer``: those of what it is in."""

    def __init__(self, outer: Resolved | None = None, *, first_register: int = 0) -> None:
        self.outer = outer
        self._next: list[int] = outer._next if outer else [first_register]
        self._roots: dict[str, Struct] = {}
        self._targets: dict[Path, tuple[Path, Number]] = {}
        self._registers: dict[Path, int] = {}
        self._live: set[Path] = set()
        self._read: set[Path] = set()

    @property
    def registers(self) -> int:
        """One more than the highest register given out."""
        return self._next[0]

    def add(self, root: str, kind: Struct) -> None:
        """Look up all that the types below ``root`` refer to."""
        self._roots[root] = kind
        self._walk(kind, (root,), [])

    def register(self, path: Path) -> int:
        """The register of a field, -1 where nothing refers to it."""
        level: Resolved | None = self
        while level is not None:
            if path in level._registers:
                return level._registers[path]
            level = level.outer
        return -1

    def steers(self, path: Path) -> bool:
        """Whether something refers to this field or one within it."""
        return path in self._live or (self.outer is not None and self.outer.steers(path))

    def target(self, path: Path) -> tuple[int, Number]:
        """The register and type of what the variant or sequence at ``path`` refers to."""
        target, kind = self._targets[path]
        return self.register(target), kind

    def _walk(self, kind: FieldType, path: Path, scopes: list[_Scope]) -> None:
        if isinstance(kind, Struct):
            scopes.append(_Scope(path))
            for name, member in kind.fields:
                self._walk(member, (*path, name), scopes)
                scopes[-1].fields[name] = member
            scopes.pop()
        elif isinstance(kind, Variant):
            self._refer(path, kind.tag, scopes)
            if not isinstance(self._targets[path][1], Enumeration):
                raise UnreadableType(f"the tag {'.'.join(kind.tag)} is no enumeration")
            for name, option in kind.options:
                self._walk(option, (*path, name), scopes)
        elif isinstance(kind, Array | Sequence):
            if isinstance(kind, Sequence):
                self._refer(path, kind.length, scopes)
            self._walk(kind.element, (*path, "[]"), scopes)
        else:
            self._read.add(path)

    def _refer(self, path: Path, name: Path, scopes: list[_Scope]) -> None:
        found = self._find(name, scopes)
        if found is None or not self._is_read(found[0]):
            raise UnreadableType(f"nothing before it is named {'.'.join(name) or 'as its tag'}")
        self._targets[path] = found
        target = found[0]
        owner: Resolved | None = self
        while owner is not None and target[0] not in owner._roots:
            owner = owner.outer
        owner = owner or self
        if target not in owner._registers:
            owner._registers[target] = self._next[0]
            self._next[0] += 1
            owner._live.update(target[: length + 1] for length in range(len(target)))

    def _find(self, name: Path, scopes: list[_Scope]) -> tuple[Path, Number] | None:
        dotted = ".".join(name)
        for root in ROOTS:
            if dotted.startswith(root + "."):
                declared = self._root(root)
                rest = name[root.count(".") + 1 :]
                return _descended(declared, (root,), rest) if declared else None
        for scope in reversed(scopes):
            if name and name[0] in scope.fields:
                return _descended(scope.fields[name[0]], (*scope.path, name[0]), name[1:])
        for root in reversed(ROOTS):
            declared = self._root(root)
            if declared and (found := _descended(declared, (root,), name)):
                return found
        return None

    def _is_read(self, path: Path) -> bool:
        """Whether the field comes before what is walked now."""
        return path in self._read or (self.outer is not None and self.outer._is_read(path))

    def _root(self, root: str) -> Struct | None:
        if root in self._roots:
            return self._roots[root]
        return self.outer._root(root) if self.outer else None


def _descended(kind: FieldType, path: Path, names: Path) -> tuple[Path, Number] | None:
    for name in names:
        members = (
            kind.fields if isinstance(kind, Struct) else kind.options if isinstance(kind, Variant) else ()
        )
        declared = dict(members).get(name)
        if declared is None:
            return None
        kind, path = declared, (*path, name)
    return (path, kind) if isinstance(kind, Integer | Enumeration) else None
