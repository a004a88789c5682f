"""Packet captures, pcap and pcapng (``tcpdump -w``, Wireshark, ``dumpcap``), as ``events`` and ``hops``.

A packet is one row of each, the event ``pcap:packet``: ``len`` as on the wire, ``proto`` the ethertype behind
VLAN tags, ``dev`` the interface's name where the file has it (pcapng), else the file's own, and in ``hops``
the key of ``trace.packet_key``. ``ifindex`` is known of Linux cooked captures of version 2 only; which
network namespace it was, no capture tells.

Stamps are the wall clock's: they are kept as recorded, and the loss ``other clock`` says so, whatever
``Source.clock`` says of the host's other recordings. ``err`` is the unit in which an interface counts. Rows
are in the order of their stamps.

Read in pieces of 4 MB, so besides the tables memory does not grow with the file. Packed files are unpacked by
whoever opens them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from swarmscope.trace.formats.base import Decoded, LossLog, Source, chunks, wrong_format

RECORD_MAGICS = (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d")
SECTION = b"\x0a\x0d\x0d\x0a"
_ORDERS = (b"\x4d\x3c\x2b\x1a", b"\x1a\x2b\x3c\x4d")
_HEAD = 24


def looks_like(head: bytes) -> bool:
    """Whether a file that begins so is a capture; its first 12 bytes tell."""
    return head[:4] in RECORD_MAGICS or (head[:4] == SECTION and head[8:12] in _ORDERS)


def decode(file: BinaryIO, source: Source) -> Decoded:
    """All packets of a capture; ``TraceFileError`` where ``file`` is none."""
    from swarmscope.trace.formats.pcap.blocks import Blocks
    from swarmscope.trace.formats.pcap.records import Records
    from swarmscope.trace.formats.pcap.tables import Tables

    log = LossLog(source)
    tables = Tables(source)
    reader: Records | Blocks | None = None
    rest, base = b"", 0
    for piece, final in _with_last(chunks(file, log)):
        content = bytearray(rest + piece)
        if reader is None:
            head = bytes(content[:_HEAD])
            if len(head) == _HEAD or final:
                _check(head, source, log)
            if len(head) < _HEAD:
                rest = head
                continue
            reader = (Blocks if head[:4] == SECTION else Records).opened(head)
        window = np.frombuffer(content, np.uint8)
        packets, done, damages = reader.scan(window, final=final)
        for offset, reason in damages:
            log.damage(base + offset, reason)
        tables.add(window, packets, names=reader.names, interfaces=reader.table)
        rest, base = bytes(content[done:]), base + done
    return tables.decoded(log, reader)


def _with_last(pieces: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Each piece and whether it is the last one; one empty piece for an empty file."""
    before = next(pieces, b"")
    for piece in pieces:
        yield before, False
        before = piece
    yield before, True


def _check(head: bytes, source: Source, log: LossLog) -> None:
    """Note that ``head`` is cut off; ``TraceFileError`` where it is no capture's."""
    if len(head) >= 12 or head[:4] in RECORD_MAGICS:
        fits = looks_like(head)
    else:
        fits = any(start.startswith(head[:4]) for start in (*RECORD_MAGICS, SECTION))
    if not fits:
        raise wrong_format(source, 0, expected="a packet capture (pcap or pcapng)", found=head)
    if not head:
        log.damage(0, "the file is empty")
    elif len(head) < _HEAD:
        log.damage(len(head), "the file ends within its header")
