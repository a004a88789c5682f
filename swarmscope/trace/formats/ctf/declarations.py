"""Declarations of TSDL: types with their names and scopes, and the blocks trace, env, clock, stream, event.

A recursive descent over ``ctf.tsdl.tokens``. Names of types are looked up from the innermost block outward,
as in C; ``struct x``, ``enum x``, ``variant x`` and bare names are four kinds of names.
"""

from __future__ import annotations

import re
from dataclasses import replace

from swarmscope.trace.formats.ctf import blocks
from swarmscope.trace.formats.ctf.blocks import Value
from swarmscope.trace.formats.ctf.tsdl import Token, TsdlError, number, tokens, unquoted
from swarmscope.trace.formats.ctf.types import (
    MAX_BITS,
    MAX_LEAVES,
    Array,
    Enumeration,
    FieldType,
    Integer,
    Metadata,
    Sequence,
    String,
    Struct,
    Variant,
    fixed_size,
    leaves,
)

MAX_DEPTH = 40
_BLOCKS = ("trace", "env", "clock", "stream", "event", "callsite")
_BEGINNINGS = re.compile(
    r"(?<=\n)(?:trace|env|clock|stream|event|callsite|typealias|typedef|struct|enum|variant)\b"
)

_STARTS = ("integer", "floating_point", "string", "struct", "enum", "variant")

Names = dict[tuple[str, str], FieldType]
"""Kind (struct, enum, variant or empty) and name of a type."""


def parse(text: str) -> Metadata:
    """All declarations of ``text``; what cannot be read is in ``problems``."""
    return _Parser(text).run()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokens(text)
        self.at = 0
        self.depth = 0
        self.scopes: list[Names] = [{}]
        self.found = Metadata()

    def run(self) -> Metadata:
        while self.peek().kind != "end":
            start = self.at
            try:
                self._top()
            except TsdlError as error:
                self.found.problems.append((error.offset, str(error)))
                self._resume(start)
        return self.found

    def _resume(self, start: int) -> None:
        """Go on at the next declaration that begins a line."""
        del self.scopes[1:]
        self.depth = 0
        match = _BEGINNINGS.search(self.text, self.tokens[start].offset + 1)
        goal = match.start() if match else len(self.text)
        self.at = start + 1
        while self.peek().offset < goal:
            self.at += 1

    # words

    def peek(self, ahead: int = 0) -> Token:
        return self.tokens[min(self.at + ahead, len(self.tokens) - 1)]

    def next(self) -> Token:
        token = self.peek()
        self.at += 1
        return token

    def error(self, expected: str) -> TsdlError:
        token = self.peek()
        return TsdlError(token.offset, f"expected {expected}, found {token.text[:40]!r}")

    def accept(self, text: str) -> bool:
        if self.peek().text == text and self.peek().kind in ("sign", "word"):
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.accept(text):
            raise self.error(repr(text))

    def word(self) -> str:
        if self.peek().kind != "word":
            raise self.error("a name")
        return self.next().text

    def path(self) -> tuple[str, ...]:
        names = [self.word()]
        while self.accept("."):
            names.append(self.word())
        return tuple(names)

    def value(self) -> Value:
        """A number, a string, or words with dots between them as they stand."""
        if self.peek().kind == "string":
            return unquoted(self.next().text)
        if self.peek().kind == "word":
            return ".".join(self.path())
        return self.integer()

    def integer(self) -> int:
        negative = self.accept("-")
        if not negative:
            self.accept("+")
        if self.peek().kind != "number":
            raise self.error("a number")
        try:
            found = number(self.next().text)
        except ValueError:
            self.at -= 1
            raise self.error("a number") from None
        return -found if negative else found

    # names of types

    def named(self, kind: str, name: str) -> FieldType:
        for scope in reversed(self.scopes):
            if (kind, name) in scope:
                return scope[kind, name]
        raise TsdlError(self.peek().offset, f"no type is named {f'{kind} {name}'.strip()!r}")

    def define(self, kind: str, name: str, declared: FieldType) -> None:
        self.scopes[-1][kind, name] = declared

    # declarations

    def _top(self) -> None:
        if self.peek().text in _BLOCKS and self.peek(1).text == "{":
            kind = self.next().text
            start = self.peek().offset
            values, types = self.block()
            self.accept(";")
            blocks.add(self.found, kind, values, types, offset=start)
        elif not self.type_declaration() and not self.accept(";"):
            raise self.error("a declaration")

    def type_declaration(self) -> bool:
        """``typealias``, ``typedef``, or a type that is named and nothing else; False: none of these."""
        if self.accept("typealias"):
            kind = self.specifier()
            self.expect(":=")
            self.define("", self.type_words(), kind)
        elif self.accept("typedef"):
            for name, kind in self.declarators():
                self.define("", name, kind)
            return True
        elif self.peek().text in ("struct", "enum", "variant") and self.peek(1).kind == "word":
            self.specifier()
        else:
            return False
        self.expect(";")
        return True

    def block(self) -> tuple[dict[str, Value], dict[str, FieldType]]:
        """``{ key = value; key := type; declarations }``"""
        values: dict[str, Value] = {}
        types: dict[str, FieldType] = {}
        self.expect("{")
        self.scopes.append({})
        while not self.accept("}"):
            if self.type_declaration():
                continue
            key = ".".join(self.path())
            if self.accept(":="):
                types[key] = self.specifier()
            else:
                self.expect("=")
                values[key] = self.value()
            self.expect(";")
        self.scopes.pop()
        return values, types

    def declarators(self) -> list[tuple[str, FieldType]]:
        """``TYPE NAME[length], NAME;`` as names and types."""
        kind: FieldType
        if self.peek().kind == "word" and self.peek().text not in _STARTS:
            words = self.words()
            if len(words) < 2:
                raise self.error("a name after a type")
            kind, name = self.named("", " ".join(words[:-1])), words[-1]
        else:
            kind, name = self.specifier(), self.word()
        found = []
        while True:
            lengths: list[int | tuple[str, ...]] = []
            while self.accept("["):
                lengths.append(self.path() if self.peek().kind == "word" else self.integer())
                self.expect("]")
            declared = kind
            for length in reversed(lengths):
                if isinstance(length, tuple):
                    declared = Sequence(declared, length)
                elif 0 <= length < MAX_BITS:
                    declared = Array(declared, length)
                else:
                    raise self.error("an array that can be")
            if (fixed_size(declared) or 0) > MAX_BITS:
                raise self.error("an array that can be")
            found.append((name, declared))
            if self.accept(";"):
                return found
            self.expect(",")
            name = self.word()

    def words(self) -> list[str]:
        """Consecutive words and stars: names of types such as ``unsigned long`` and ``void *``."""
        found = []
        while self.peek().kind == "word" or self.peek().text == "*":
            text = self.next().text
            if text != "const":
                found.append(text)
        return found

    def type_words(self) -> str:
        words = self.words()
        if not words:
            raise self.error("the name of a type")
        return " ".join(words)

    def specifier(self) -> FieldType:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error("types that are not nested that deep")
        kind = self._specifier()
        self.depth -= 1
        return kind

    def _specifier(self) -> FieldType:
        start = self.peek().offset
        if self.accept("integer"):
            return blocks.integer(self.attributes(), start)
        if self.accept("floating_point"):
            return blocks.floating(self.attributes(), start)
        if self.accept("string"):
            if self.peek().text == "{":
                self.attributes()
            return String()
        if self.accept("struct"):
            return self._struct()
        if self.accept("enum"):
            return self._enumeration()
        if self.accept("variant"):
            return self._variant()
        return self.named("", self.type_words())

    def attributes(self) -> dict[str, Value]:
        values, types = self.block()
        if types:
            raise self.error("values")
        return values

    def _members(self) -> tuple[tuple[tuple[str, FieldType], ...], int]:
        """``{ declarations }`` and how many fields that makes at any depth."""
        found: dict[str, FieldType] = {}
        self.expect("{")
        self.scopes.append({})
        while not self.accept("}"):
            if self.type_declaration_within():
                continue
            for name, kind in self.declarators():
                if name in found:
                    raise self.error(f"no second {name!r}")
                found[name] = kind
        self.scopes.pop()
        total = sum(leaves(kind) for kind in found.values())
        if total > MAX_LEAVES:
            raise self.error("a type that can be")
        return tuple(found.items()), total

    def type_declaration_within(self) -> bool:
        """Within a struct, ``struct name { } x;`` is a field: only what has no name of a field is none."""
        return self.peek().text in ("typealias", "typedef") and self.type_declaration()

    def _struct(self) -> FieldType:
        name = self.word() if self.peek().kind == "word" and self.peek().text != "align" else ""
        if self.peek().text != "{":
            return self.named("struct", name)
        fields, total = self._members()
        align = 1
        if self.accept("align"):
            self.expect("(")
            align = blocks.alignment(self.integer(), self.peek().offset)
            self.expect(")")
        kind = Struct(fields, align, total + 1)
        if (fixed_size(kind) or 0) > MAX_BITS:
            raise self.error("a struct that can be")
        if name:
            self.define("struct", name, kind)
        return kind

    def _variant(self) -> FieldType:
        name = self.word() if self.peek().kind == "word" else ""
        tag: tuple[str, ...] = ()
        if self.accept("<"):
            tag = self.path()
            self.expect(">")
        if self.peek().text == "{":
            options, total = self._members()
            kind = Variant(tag, options, total + 1)
            if name:
                self.define("variant", name, kind)
            return kind
        known = self.named("variant", name)
        assert isinstance(known, Variant)
        return replace(known, tag=tag or known.tag)

    def _enumeration(self) -> FieldType:
        name = self.word() if self.peek().kind == "word" else ""
        container: FieldType | None = None
        if self.accept(":"):
            container = self.specifier()
        if self.peek().text != "{":
            return self.named("enum", name)
        container = container or self.named("", "int")
        if not isinstance(container, Integer):
            raise self.error("an enumeration of integers")
        self.expect("{")
        labels: list[tuple[str, int, int]] = []
        following = 0
        while not self.accept("}"):
            label = unquoted(self.next().text) if self.peek().kind == "string" else self.word()
            low = self.integer() if self.accept("=") else following
            high = self.integer() if self.accept("...") else low
            labels.append((label, low, high))
            following = high + 1
            if not self.accept(",") and self.peek().text != "}":
                raise self.error("',' or '}'")
        kind = Enumeration(container, tuple(labels))
        if name:
            self.define("enum", name, kind)
        return kind
