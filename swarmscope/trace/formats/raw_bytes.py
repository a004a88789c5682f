"""Memory by its address, for compiled functions that are called for every few bytes.

Scope: an array that goes into a compiled function is counted as used, in every call, and a place in it may
count from its end: too much for a function that reads a number of three digits. ``pointer`` is an array's
memory without these, and is read and written like one: ``pointer(data)[at]``. Whoever makes it holds the
array and has checked that the place is there: a pointer is made of what a function was *given*, because the
compiler lets go of an array of a function's own behind its last use. Loads take an address
(``array.ctypes.data``) and a place behind it in bytes, whatever it is a multiple of.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
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


def _pointer(typing: Any, array: Any, first: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        begin = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return cgutils.gep(builder, begin, arguments[1])  # type: ignore[no-untyped-call]

    return types.CPointer(array.dtype)(array, types.int64), codegen  # type: ignore[no-untyped-call]


pointer: Any = intrinsic(_pointer)
"""The memory of a contiguous array from its item number ``first`` on, all dimensions counted as one."""
load1: Any = intrinsic(_load1)
"""The byte at ``base + at``."""
load4: Any = intrinsic(_load4)
"""The four bytes there, as this machine reads a number."""
load8: Any = intrinsic(_load8)
"""The eight bytes there."""
