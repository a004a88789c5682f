"""New perf.data files from a real one: other records between its header and its feature sections."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence

from swarmscope.trace.formats.event_format import EventLayout
from swarmscope.trace.formats.perf_data.tracing import TracingData

SAMPLE = 9
KERNEL = (1 << 64) - 128
USER = (1 << 64) - 512


def data_section(file: bytes) -> tuple[int, int]:
    """Where a file's records begin and end."""
    begin, size = struct.unpack_from("<QQ", file, 40)
    return begin, begin + size


def records(file: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and bytes of each record of an unpacked file."""
    at, end = data_section(file)
    while at < end:
        kind, _, size = struct.unpack_from("<IHH", file, at)
        yield kind, file[at : at + size]
        at += size


def with_records(file: bytes, data: bytes) -> bytes:
    """The file with other records; its sections move behind them."""
    begin, end = data_section(file)
    moved = begin + len(data) - end
    flags = struct.unpack_from("<4Q", file, 72)
    count = sum(bin(word).count("1") for word in flags)
    table = b"".join(
        struct.pack("<QQ", at + moved, size)
        for at, size in struct.iter_unpack("<QQ", file[end : end + 16 * count])
    )
    head = file[:48] + struct.pack("<Q", len(data)) + file[56:begin]
    return head + data + table + file[end + 16 * count :]


def sample_with_chain(sample: bytes, chain: Sequence[int]) -> bytes:
    """A sample (IDENTIFIER IP TID TIME CPU PERIOD CALLCHAIN RAW) with another chain, markers included."""
    words = struct.unpack_from("<Q", sample, 56)[0]
    body = sample[8:56] + struct.pack(f"<{len(chain) + 1}Q", len(chain), *chain) + sample[64 + 8 * words :]
    return sample[:6] + struct.pack("<H", 8 + len(body)) + body


def _swap(data: bytes, sizes: Sequence[int]) -> bytes:
    """Numbers of these sizes with their bytes turned round, what is behind them as it is."""
    made, at = b"", 0
    for size in sizes:
        made += data[at : at + size][::-1]
        at += size
    return made + data[at:]


def _swap_attr(attr: bytes) -> bytes:
    flags = int(f"{struct.unpack_from('<Q', attr, 40)[0]:064b}"[::-1], 2)  # bit fields begin at the other end
    attr = attr[:40] + struct.pack("<Q", flags) + attr[48:]
    return _swap(attr, [4, 4, *[8] * 5, 4, 4, *[8] * 4, 4, 4, 8, 4, 2, 2, *[8] * 4])[: len(attr)]


def _swap_tracing(data: bytes) -> bytes:
    """The tracing data of a section as another machine writes it: the lengths in it, up to kallsyms."""
    at = data.index(b"\0", 10) + 1
    made = [data[:at], b"\1", data[at + 1 : at + 2], data[at + 2 : at + 6][::-1]]
    at += 6

    def number(size: int) -> int:
        nonlocal at
        made.append(data[at : at + size][::-1])
        at += size
        return int.from_bytes(data[at - size : at], "little")

    def raw(size: int) -> None:
        nonlocal at
        made.append(data[at : at + size])
        at += size

    for name in (b"header_page\0", b"header_event\0"):
        raw(len(name))
        raw(number(8))
    for _ in range(number(4)):
        raw(number(8))
    for _ in range(number(4)):
        raw(data.index(b"\0", at) + 1 - at)
        for _ in range(number(4)):
            raw(number(8))
    return b"".join(made) + data[at:]


def _swap_record(kind: int, record: bytes, layouts: Mapping[int, EventLayout]) -> bytes:
    body = record[8:]
    trailer = [4, 4, 8, 4, 4, 8]
    if kind == SAMPLE:
        words = struct.unpack_from("<Q", body, 48)[0]
        at = 56 + 8 * words
        head = _swap(body[: at + 4], [8, 8, 4, 4, 8, 4, 4, 8, 8, *[8] * words, 4])
        raw = bytearray(body[at + 4 :])
        for field in layouts[int.from_bytes(raw[:2], "little")].fields:
            if not field.array or field.dynamic:
                raw[field.offset : field.offset + field.size] = raw[field.offset : field.offset + field.size][
                    ::-1
                ]
        body = head + bytes(raw)
    elif kind == 3:  # COMM
        body = _swap(body[:8], [4, 4]) + body[8:-32] + _swap(body[-32:], trailer)
    elif kind in (4, 7):  # EXIT, FORK
        body = _swap(body, [4, 4, 4, 4, 8, *trailer])
    return _swap(record[:8], [4, 2, 2]) + body


def big_endian(file: bytes) -> bytes:
    """An unpacked file (samples as in ``sample_with_chain``) as written by a big-endian machine.

    Of its sections only the first is left, the tracing data.
    """
    begin, end = data_section(file)
    _, attr_size, attrs_at, attrs_size = struct.unpack_from("<4Q", file, 8)
    made = bytearray(file)
    made[:104] = _swap(file[:72] + struct.pack("<4Q", 1 << 1, 0, 0, 0), [8] * 13)
    for at in range(attrs_at, attrs_at + attrs_size, attr_size):
        ids = at + attr_size - 16
        ids_at, ids_size = struct.unpack_from("<QQ", file, ids)
        made[ids_at : ids_at + ids_size] = _swap(file[ids_at : ids_at + ids_size], [8] * (ids_size // 8))
        made[at:ids] = _swap_attr(file[at:ids])
        made[ids : ids + 16] = _swap(file[ids : ids + 16], [8, 8])
    at, size = struct.unpack_from("<QQ", file, end)
    layouts: dict[int, EventLayout] = {}
    TracingData(file[at : at + size]).read(layouts)
    made[at : at + size] = _swap_tracing(file[at : at + size])
    made[begin:end] = b"".join(_swap_record(kind, record, layouts) for kind, record in records(file))
    made[end : end + 16] = _swap(file[end : end + 16], [8, 8])
    return bytes(made)
