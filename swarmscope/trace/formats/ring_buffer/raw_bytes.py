"""Loads from memory by address, for compiled loops that take a number from any byte.

Scope: an array that goes into a compiled function is counted as used, in every call: too much for a function
that takes four bytes. These take an address (``array.ctypes.data``) and a place behind it; the loop that
calls them holds the array, and has checked that the bytes are there.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic


def _load(bits: int, result: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(builder.add(arguments[0], arguments[1]), ir.IntType(bits).as_pointer())
        value = builder.load(place)
        value.align = 1
        return value

    return result(types.int64, types.int64), codegen


def _load1(typing: Any, base: Any, at: Any) -> Any:
    return _load(8, types.uint8)


def _load4(typing: Any, base: Any, at: Any) -> Any:
    return _load(32, types.uint32)


def _load8(typing: Any, base: Any, at: Any) -> Any:
    return _load(64, types.int64)


load1: Any = intrinsic(_load1)
"""The byte at ``base + at``."""
load4: Any = intrinsic(_load4)
"""The four bytes there, as this machine reads a number."""
load8: Any = intrinsic(_load8)
"""The eight bytes there."""
