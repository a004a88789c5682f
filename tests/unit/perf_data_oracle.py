"""What ``perf script`` prints of a perf.data, event by event, and the same from the decoder's tables."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swarmscope.trace.formats import fields, perf_data
from swarmscope.trace.formats.base import Decoded, Source
from swarmscope.trace.formats.perf_data.symbols import KernelSymbols

FIELDS = "comm,pid,tid,cpu,time,event,trace,ip,sym"
_HEADER = re.compile(
    r"\s*(.*?)\s+(-?\d+)/(-?\d+)\s+(?:\[(\d+)\]\s+)?(\d+)\.(\d{9}):\s+(?:\d+ )?(\S+):(?:\s(.*))?$"
)
_FRAME = re.compile(r"\t\s*([0-9a-f]{1,16}) (.+)$")

Event = tuple[Any, ...]
"""Stamp, CPU, thread, comm, event, dev, skb, len, proto, frames (outermost first; ``[user]``: a program)."""


def need_perf() -> None:
    """Skips by name where a recording cannot be made."""
    if not shutil.which("perf"):
        pytest.skip("no perf on this machine")
    if os.geteuid() != 0:
        pytest.skip("needs root: records the whole machine")


def listed() -> KernelSymbols:
    """The symbols of the kernel that runs here."""
    return KernelSymbols.parse(Path("/proc/kallsyms").read_bytes())


def script(path: Path, *, columns: str = FIELDS) -> str:
    """The text of ``perf script``."""
    command = ["perf", "script", "--no-inline", "--ns", "-F", columns, "-i", str(path)]
    done = subprocess.run(command, capture_output=True, check=True)
    return done.stdout.decode("utf-8", "replace")


def printed(text: str) -> list[Event]:
    """The events of such a text."""
    return list(_printed(text))


def _printed(text: str) -> Iterator[Event]:
    head: re.Match[str] | None = None
    frames: list[str] = []
    user = False
    for line in [*text.split("\n"), ""]:
        if match := _FRAME.match(line):
            address, name = match.groups()
            user = user or len(address) < 16 or address[0] < "8"
            frames.append("[user]" if user else name)
            continue
        if head is not None:
            yield _event(head, frames)
        head, frames, user = None, [], False
        if line.strip():
            head = _HEADER.match(line)
            assert head, line


def _event(head: re.Match[str], frames: list[str]) -> Event:
    comm, _, tid, cpu, seconds, nanos, name, text = head.groups()
    (dev, skb, length, proto), _ = fields.parse((text or "").encode())
    stamp = int(seconds) * 10**9 + int(nanos)
    where = None if cpu is None else int(cpu)
    return (stamp, where, int(tid), comm, name, dev, skb, length, proto, tuple(reversed(frames)))


def decode(data: bytes | Path, *, kallsyms: bytes | KernelSymbols | None = None, **source: Any) -> Decoded:
    """The decoder's answer for bytes or a file."""
    if isinstance(data, bytes):
        return perf_data.decode(io.BytesIO(data), Source("t", kernel="k", **source), kallsyms=kallsyms)
    with data.open("rb") as file:
        return perf_data.decode(file, Source("t", kernel="k", **source), kallsyms=kallsyms)


def decoded_events(decoded: Decoded) -> list[Event]:
    """The events of a decoder's tables, stacks spelled out."""
    names = {
        number: "[user]" if module == "[user]" else raw
        for number, _, module, raw in decoded["frames"].iter_rows()
    }
    stacks = {
        number: tuple(names[frame] for frame in frames) for number, frames in decoded["stacks"].iter_rows()
    }
    stacks[None] = ()
    columns = ("ts", "cpu", "pid", "comm", "event", "dev", "skb", "len", "proto", "stack")
    return [
        (*row[:3], row[3].strip(), *row[4:9], stacks[row[9]])
        for row in decoded["events"].select(columns).iter_rows()
    ]


def compare(path: Path, *, columns: str = FIELDS, **source: Any) -> Decoded:
    """Asserts that the decoder says what ``perf script`` prints, all of it and in the same order."""
    expected = printed(script(path, columns=columns))
    decoded = decode(path, kallsyms=listed(), **source)
    found = decoded_events(decoded)
    assert expected
    for number, (ours, theirs) in enumerate(zip(found, expected, strict=False)):
        assert ours == theirs, f"event {number} of {len(expected)}"
    assert len(found) == len(expected)
    return decoded
