"""System calls that Python 3.8 has no name for: setns, unshare, mount, prctl, adjtimex.

Scope: Linux through the C library with ctypes. Constants are the kernel's ABI (linux/sched.h, linux/mount.h,
linux/prctl.h); ``Timex`` follows adjtimex(2) on 64-bit and 32-bit Linux (``long`` fields).
"""

from __future__ import annotations

import ctypes
import os
import signal

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
MS_REC = 0x4000
MS_SLAVE = 1 << 19
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


class Timex(ctypes.Structure):
    """struct timex of adjtimex(2); ``freq`` is in units of 2**-16 ppm, errors in microseconds."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time_sec", ctypes.c_long),
        ("time_usec", ctypes.c_long),
        ("tick", ctypes.c_long),
        ("rest", ctypes.c_byte * 128),
    ]


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def setns(fd: int, kind: int) -> None:
    """Move the calling thread into the namespace of ``fd``; ``OSError`` where it may not."""
    _check(_libc.setns(fd, kind), "setns")


def unshare(flags: int) -> None:
    """Give the calling thread namespaces of its own."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str, flags: int = 0) -> None:
    """mount(2) without data, in the calling thread's mount namespace."""
    _check(
        _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None),
        f"mount {target}",
    )


def end_with_parent() -> None:
    """Ask for SIGINT when the thread that forked this process ends. Safe between fork and exec."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)


def adjtimex() -> Timex:
    """What the kernel's clock discipline says; reads only."""
    timex = Timex()
    _check(_libc.adjtimex(ctypes.byref(timex)), "adjtimex")
    return timex
