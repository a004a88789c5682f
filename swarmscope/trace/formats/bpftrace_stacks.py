r"""Kernel call stacks of single hops, printed once at the end by ``bpftrace -f json``.

One map, keyed by time, CPU, address of the packet and event; 64-bit values may be printed signed::

    {"type": "map", "data": {"@stack": {"<nsecs>,<cpu>,<skb>,<event>":
        "\n        dev_hard_start_xmit+283\n        __dev_queue_xmit+2340\n", ...}}}

Stacks are printed innermost first and kept outermost first. A hop whose stack could not be kept is there with
nothing in it: it is an event without a stack, and the collector's own counters name it as lost.

Read by scanning for whole entries, so a cut or damaged file costs the entries hit and no others.
"""

from __future__ import annotations

import re
from typing import BinaryIO

from swarmscope.trace.formats.base import Decoded, EventSink, Source, StackTable
from swarmscope.trace.formats.bpftrace_json import EVENT_CODES, gaps, opened

EVENTS = EVENT_CODES | {8: "skb:skb_copy_datagram_iovec"}
_U64 = (1 << 64) - 1
_ENTRY = re.compile(rb'"(\d{1,18}),(\d{1,5}),(-?\d{1,20}),(\d{1,3})": ?"((?:[^"\\\n]|\\.)*)"')
_OFFSET = re.compile(r"\+(?:0x[0-9a-f]+|\d+)(?=$|\s)")


def looks_like(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is such output."""
    return b'{"type"' in head[:4096] and b'{"@stack": {"' in head


def decode(file: BinaryIO, source: Source) -> Decoded:
    """``events`` with their ``stacks`` and ``frames``; ``TraceFileError`` where not of the format."""
    log, data = opened(file, source)
    sink = EventSink(source, err=0)
    stacks = StackTable(source.modules)
    known: dict[bytes, int | None] = {}
    spans = []
    for match in _ENTRY.finditer(data):
        spans.append(match.span())
        nsecs, cpu, skb, code, text = match.groups()
        event = EVENTS.get(int(code))
        if event is None:
            log.damage(match.start(), f"unknown event code {int(code)}")
            continue
        if text not in known:
            known[text] = _stack(text, stacks)
        # No device and no length: the hop with the same time and address has them.
        sink.add((int(nsecs), int(cpu), None, "", event, None, int(skb) & _U64, None, None, known[text]))
    gaps(data, b"@stack", spans, log)
    return Decoded({"events": sink.frame(), "losses": log.frame(), **stacks.tables()})


def _stack(text: bytes, stacks: StackTable) -> int | None:
    lines = [line.strip() for line in text.decode("utf-8", "replace").split("\\n")]
    frames = [stacks.frame(_OFFSET.sub("", line)) for line in reversed(lines) if line]
    return stacks.stack(tuple(frames)) if frames else None
