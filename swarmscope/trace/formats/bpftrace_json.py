"""Maps printed once at the end by ``bpftrace -f json``: what their decoders share, and hops of packets.

Hops (the map ``@hop``; 64-bit values may be printed signed)::

    {"type": "map", "data": {"@hop": {"<nsecs>,<cpu>,<skb>":
        [event, netns, ifindex, len, network_header, 10 words from the IP header, "device"], ...}}}
    {"type": "map", "data": {"@seen": 240}}

``@seen`` less the entries is what did not fit the map (loss ``map_full``). The words are native loads,
so the host's byte order gives the header's bytes back.

Read by scanning for whole entries, so a cut or damaged file costs the entries hit and no others. Other lines
(``printf``; ``helper_error`` of bpftrace 0.23, one for each write that did not fit) are passed over.
"""

from __future__ import annotations

import itertools
import re
import struct
from typing import Any, BinaryIO

import polars as pl

from swarmscope.trace import packet_key, schema
from swarmscope.trace.formats.base import Decoded, LossLog, Source, read_all, wrong_format

EVENT_CODES = {
    1: "net:net_dev_queue",
    2: "net:net_dev_start_xmit",
    3: "net:netif_receive_skb",
    4: "net:netif_rx",
    5: "net:napi_gro_receive_entry",
    6: "skb:consume_skb",
    7: "skb:kfree_skb",
}
WORDS = packet_key.HEADER_BYTES // 8
_U64 = (1 << 64) - 1
_INT31 = 1 << 31
_INT = rb"(-?\d{1,20})"
_HOP = re.compile(
    rb'"(\d{1,18}),(\d{1,5}),' + _INT + rb'": ?\[(\d{1,3}), ?(\d{1,18}), ?(\d{1,9}), ?(\d{1,9}), ?\d{1,9}, ?'
    rb"((?:-?\d{1,20}, ?){" + str(WORDS).encode() + rb'})"((?:[^"\\\n]|\\.){0,64})"\]'
)
_SEEN = re.compile(rb'\{"type": ?"map", ?"data": ?\{"@seen": ?(\d{1,18})\}\}\n')
_DELIMITER = re.compile(rb", ?$")
_BEFORE_FIRST = re.compile(rb'\{"type": ?"(?:map|hist)", ?"data": ?\{"@\w+": ?\{$')
_AFTER_LAST = re.compile(rb"\}\}\}(?:\n|$)")


def looks_like(head: bytes) -> bool:
    """Whether a file that begins with ``head`` holds hops of packets."""
    return b'{"type"' in head[:4096] and b'{"@hop": {"' in head


def decode_hops(file: BinaryIO, source: Source) -> Decoded:
    """``hops`` of one kernel with the packet's key; roles come later. ``TraceFileError`` otherwise."""
    log, data = opened(file, source)
    rows: list[tuple[Any, ...]] = []
    layout = struct.Struct(("<" if source.byteorder == "little" else ">") + f"{WORDS}Q")
    matches = list(_HOP.finditer(data))
    for match in matches:
        nsecs, cpu, skb, event, netns, ifindex, length, words, dev = match.groups()
        header = layout.pack(*(int(word) & _U64 for word in words.rstrip(b", ").split(b",")))
        name = EVENT_CODES.get(int(event))
        if name is None:
            log.damage(match.start(), f"unknown event code {int(event)}")
            continue
        packet = packet_key.identify(header, vxlan_port=source.vxlan_port)
        rows.append(
            (
                int(nsecs) - source.clock_shift,
                int(cpu),
                name,
                int(netns),
                int(ifindex),
                _text(dev),
                packet.vni,
                int(skb) & _U64,
                int(length),
                packet.outer,
                packet.key,
            )
        )
    gaps(data, b"@hop", [match.span() for match in matches], log)
    if seen := _SEEN.search(data):
        log.add("map_full", max(int(seen.group(1)) - len(matches), 0))
    columns = ("ts", "cpu", "event", "netns", "ifindex", "dev", "vni", "skb", "len", "outer", "key")
    frame = pl.DataFrame(rows, schema={name: schema.HOPS[name] for name in columns}, orient="row")
    hops = frame.with_columns(
        pl.lit(source.boot_error if source.clock_shift else 0).alias("err"),
        pl.lit("").alias("host"),
        pl.lit(source.kernel).alias("kernel"),
        pl.lit("").alias("arm"),
    )
    return Decoded({"hops": schema.conform("hops", hops), "losses": log.frame()})


def opened(file: BinaryIO, source: Source) -> tuple[LossLog, bytes]:
    log = LossLog(source)
    data = read_all(file, log)
    if not data:
        log.damage(0, "the file is empty")
    elif b'{"type"' not in data[:4096]:
        raise wrong_format(
            source, 0, expected='bpftrace\'s JSON, a line like {"type": "map", ...', found=data
        )
    elif not data.endswith(b"\n"):
        log.damage(data.rfind(b"\n") + 1, "the file ends within a line")
    return log, data


def gaps(data: bytes, name: bytes, spans: list[tuple[int, int]], log: LossLog) -> None:
    """Note every stretch between whole entries that is not just the comma between two of them.

    An empty map is printed as ``{}`` or not at all, so no entries without the map's name are no damage.
    """
    if not spans:
        at = data.find(b'"' + name + b'": {')
        if at >= 0 and not data.startswith(b"}", at + len(name) + 5):
            log.damage(at, f"{name.decode()} holds no entry that can be read")
        return
    line = data.rfind(b"\n", 0, spans[0][0]) + 1
    if not _BEFORE_FIRST.match(data[line : spans[0][0]]):
        log.damage(line, f"{name.decode()} begins with entries that cannot be read")
    for (_, end), (start, _) in itertools.pairwise(spans):
        if start - end > 2 or not _DELIMITER.match(data[end:start]):
            # a map per arm or a second print begins anew; anything else is damage
            between = data[end:start]
            if not (_AFTER_LAST.match(between) and _BEFORE_FIRST.search(between)):
                log.damage(end, "entries that cannot be read")
    if not _AFTER_LAST.match(data, spans[-1][1]):
        log.damage(spans[-1][1], f"{name.decode()} ends with entries that cannot be read")


def _text(value: bytes) -> str:
    """A JSON string's content; the only escapes bpftrace writes are ``\\"`` and ``\\\\``."""
    text = value.decode("utf-8", "replace")
    return re.sub(r"\\(.)", r"\1", text)
