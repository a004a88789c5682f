"""perf.data: small real recordings, and what no recording here shows (other byte order, modules, clocks)."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import zstandard
from perf_data_golden import KALLSYMS, NAMES, SYMBOLS, golden, golden_text
from perf_data_oracle import decode, decoded_events, printed
from perf_data_writing import (
    KERNEL,
    SAMPLE,
    USER,
    big_endian,
    data_section,
    records,
    sample_with_chain,
    with_records,
)

from swarmscope.errors import TraceFileError
from swarmscope.trace.formats import perf_data
from swarmscope.trace.formats.base import Source
from swarmscope.trace.formats.perf_data.order import Rounds
from swarmscope.trace.formats.perf_data.symbols import KernelSymbols


def losses(data: bytes, **source: str) -> dict[str, int]:
    return dict(decode(data, kallsyms=SYMBOLS, **source)["losses"].select("what", "count").iter_rows())


def first_sample(file: bytes) -> bytes:
    return next(record for kind, record in records(file) if kind == SAMPLE)


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_reads_as_perf_printed_it(name: str) -> None:
    found = decoded_events(decode(golden(name), kallsyms=SYMBOLS))
    assert found == printed(golden_text(name))
    assert found


def test_a_file_on_a_disk_is_read_as_the_same_bytes_are(tmp_path: Path) -> None:
    path = tmp_path / "perf.data"
    path.write_bytes(golden("stacks"))
    whole = decode(golden("stacks"), kallsyms=SYMBOLS)
    assert all(
        decode(path, kallsyms=SYMBOLS)[name].equals(whole[name]) for name in ("events", "stacks", "frames")
    )


def test_a_big_endian_machines_file_says_the_same() -> None:
    file = golden("stacks")
    swapped = big_endian(file)
    assert swapped[:8] == b"2ELIFREP"
    assert decoded_events(decode(swapped, kallsyms=SYMBOLS)) == decoded_events(decode(file, kallsyms=SYMBOLS))
    assert losses(swapped) == losses(file) == {}


def test_without_a_list_of_symbols_frames_are_unknown_and_counted() -> None:
    decoded = decode(golden("stacks"))
    assert set(decoded["frames"]["raw"]) == {"[unknown]"}
    assert set(decoded["frames"]["module"]) == {"", "[user]"}
    said = decoded["losses"].filter(pl.col("what") == "without a symbol")
    assert said["count"][0] > 20


def test_a_list_without_addresses_is_said() -> None:
    listed = KernelSymbols.parse(b"0000000000000000 T _text\n0000000000000000 t vxlan_xmit\t[vxlan]\n")
    assert "symbols" in decode(golden("stacks"), kallsyms=listed)["losses"]["what"].to_list()


def test_a_list_of_another_boot_names_nothing() -> None:
    text = KALLSYMS
    same = KernelSymbols.parse(text + b"ffffffff81000000 T _text\n")
    assert decode(golden("stacks"), kallsyms=same)["losses"].is_empty()
    other = decode(golden("stacks"), kallsyms=KernelSymbols.parse(text + b"ffffffff9b000000 T _text\n"))
    assert "of another boot" in other["losses"]["detail"][0]
    assert set(other["frames"]["raw"]) == {"[unknown]"}


def test_names_are_those_perf_chooses_and_modules_are_told() -> None:
    listed = KernelSymbols.parse(
        b"ffffffff81000000 A fixed\n"
        b"ffffffff81000000 T first\n"
        b"ffffffff81000000 t last\n"
        b"ffffffff81000100 t tail.isra.0\n"
        b"not a line\n"
        b"ffffffffc0000020 t vxlan_xmit\t[vxlan]\n"
        b"ffffffffc0000010 t $x\t[vxlan]\n"
        b"ffffffffc0004000 t vxlan_rcv\t[vxlan]\n"
    )
    chain = [
        KERNEL,
        0xFFFFFFFFC0000021,
        0xFFFFFFFF81000010,
        0xFFFFFFFF81000101,
        0xFFFFFFFF81001FFF,  # the last of the kernel: to the end of the page behind its own
        0xFFFFFFFF81002000,
        0xFFFFFFFFC0003FFF,
        0xFFFFFFFFC0004FFF,
        0xFFFFFFFFC0005000,
        0xFFFFFFFF80FFFFFF,
        USER,
        0x7F0000001000,
        0xFFFFFFFF81000010,
    ]
    file = golden("stacks")
    decoded = decode(with_records(file, sample_with_chain(first_sample(file), chain)), kallsyms=listed)
    rows = decoded["frames"].rows()
    frames = [rows[number][1:] for number in reversed(decoded["stacks"]["frames"][0].to_list())]
    assert frames == [
        ("vxlan_xmit", "vxlan", "vxlan_xmit"),
        ("last", "", "last"),
        ("tail", "", "tail.isra.0"),
        ("tail", "", "tail.isra.0"),
        ("[unknown]", "", "[unknown]"),
        ("vxlan_xmit", "vxlan", "vxlan_xmit"),
        ("vxlan_rcv", "vxlan", "vxlan_rcv"),
        ("[unknown]", "", "[unknown]"),
        ("[unknown]", "", "[unknown]"),
        ("[unknown]", "[user]", "[unknown]"),
        ("[unknown]", "[user]", "[unknown]"),
    ]


def test_a_chain_with_a_marker_nobody_knows_is_no_stack() -> None:
    file = golden("stacks")
    sample = first_sample(file)
    chains = [[KERNEL, 1 << 63, (1 << 64) - 2048, 1 << 63], [KERNEL, 1 << 63], [KERNEL], []]
    decoded = decode(with_records(file, b"".join(sample_with_chain(sample, chain) for chain in chains)))
    assert decoded["events"]["stack"].to_list() == [None, 0, None, None]
    assert decoded["stacks"]["frames"].to_list() == [[0]]


def test_a_program_the_kernel_loaded_while_it_recorded_has_its_name() -> None:
    file = golden("stacks")
    start = 0xFFFFFFFFC0201000
    named = struct.pack("<QIHH", start, 0x40, 1, 0) + b"bpf_prog_6deef7357e7b4530_sd\0\0\0\0" + b"\0" * 32
    record = struct.pack("<IHH", 17, 0, 8 + len(named)) + named
    sample = sample_with_chain(first_sample(file), [KERNEL, start + 0x3F, start + 0x40])
    decoded = decode(with_records(file, record + sample))
    assert decoded["frames"].select("raw", "module").rows() == [
        ("[unknown]", ""),
        ("bpf_prog_6deef7357e7b4530_sd", "bpf"),
    ]


@pytest.mark.parametrize(
    ("clockid", "name"), [(0, "REALTIME"), (7, "BOOTTIME"), (11, "TAI"), (99, "clock 99")]
)
def test_a_clock_that_is_not_the_sources_is_said(clockid: int, name: str) -> None:
    file = bytearray(golden("stacks"))
    assert losses(bytes(file)) == {}
    _, attr_size, attrs_at, attrs_size = struct.unpack_from("<4Q", file, 8)
    for at in range(attrs_at, attrs_at + attrs_size, attr_size):
        struct.pack_into("<i", file, at + 92, clockid)
    said = decode(bytes(file), kallsyms=SYMBOLS)["losses"]
    assert said["what"].to_list() == ["other clock"] and name in said["detail"][0]
    assert losses(bytes(file), clock="boottime") == (
        {} if clockid == 7 else {"other clock": said["count"][0]}
    )


def test_a_recorder_that_was_killed_leaves_its_events() -> None:
    file = golden("stacks")
    _, end = data_section(file)
    whole = decode(file, kallsyms=SYMBOLS)["events"]
    killed = decode(file[:48] + bytes(8) + file[56:end], kallsyms=SYMBOLS)
    for column in ("ts", "cpu", "pid", "comm", "stack"):
        assert killed["events"][column].to_list() == whole[column].to_list()
    assert killed["events"]["event"].str.starts_with("tracepoint:").all()
    assert "killed" in killed["losses"]["detail"][0]


@pytest.mark.parametrize(
    "data",
    [b"", b"PERFILE2", b"PERFFILE" + bytes(200), b"ping 1/1 [000] 1.0: net:x: a", bytes(300)],
    ids=["empty", "cut-magic", "version-1", "text", "zeros"],
)
def test_what_is_no_perf_data_is_refused(data: bytes) -> None:
    with pytest.raises(TraceFileError, match=r"t: byte 0: expected the magic of a perf\.data"):
        perf_data.decode(io.BytesIO(data), Source("t"))


def test_what_arrives_after_its_round_was_let_out_stands_where_perf_prints_it() -> None:
    rows = [
        (9, 100),
        (9, 300),
        (68, 0),
        (9, 200),
        (68, 0),  # lets out what is not newer than 300
        (9, 150),  # too late
        (3, 0),  # no stamp: takes effect as it arrives
        (9, 400),
        (68, 0),
        (9, 350),
    ]
    count = len(rows)
    stamps = np.array([time for _, time in rows])
    kinds = np.array([kind for kind, _ in rows], np.int32)
    turns, waiting = Rounds().turn(kinds, stamps, last=True)
    assert not len(waiting)
    shown = [rows[row] for row in turns.tolist() if rows[row][0] != 68]
    assert shown == [(9, 100), (9, 200), (9, 300), (3, 0), (9, 150), (9, 350), (9, 400)]
    for cut in range(count + 1):
        # The same in two batches: what waits stands before what comes.
        parts = Rounds()
        first, held = parts.turn(kinds[:cut], stamps[:cut], last=False)
        behind = np.concatenate((held, np.arange(cut, count)))
        second, _ = parts.turn(kinds[behind], stamps[behind], last=True)
        both = [rows[row] for row in (*first.tolist(), *behind[second].tolist()) if rows[row][0] != 68]
        assert both == shown


def test_a_task_has_the_name_of_its_last_exec_or_else_its_parents() -> None:
    file = golden("stacks")
    sample = first_sample(file)

    def at(time: int, tid: int) -> bytes:
        return sample[:24] + struct.pack("<IIQ", tid, tid, time) + sample[40:]

    def trailer(time: int) -> bytes:
        identifier = sample[8:16]
        return struct.pack("<IIQII", 0, 0, time, 0, 0) + identifier

    def comm(time: int, tid: int, name: bytes) -> bytes:
        body = struct.pack("<II", tid, tid) + name.ljust(16, b"\0") + trailer(time)
        return struct.pack("<IHH", 3, 0, 8 + len(body)) + body

    def fork(time: int, tid: int, parent: int) -> bytes:
        body = struct.pack("<IIIIQ", tid, parent, tid, parent, time) + trailer(time)
        return struct.pack("<IHH", 7, 0, 8 + len(body)) + body

    made = [
        at(5, 77),
        comm(10, 77, b"a: b [1]"),
        at(20, 77),
        fork(30, 78, 77),
        at(40, 78),
        comm(50, 78, b"child"),
        at(60, 77),
        at(61, 78),
        fork(70, 78, 99),  # the number is used again, by the child of a task without a name
        at(80, 78),
        at(90, 0),
    ]
    decoded = decode(with_records(file, b"".join(reversed(made))))
    assert decoded["events"].select("ts", "comm").rows() == [
        (5, ":77"),
        (20, "a: b [1]"),
        (40, "a: b [1]"),
        (60, "a: b [1]"),
        (61, "child"),
        (80, ":78"),
        (90, "swapper"),
    ]


def test_lost_samples_are_the_larger_of_the_two_counts_and_filtered_ones_are_none() -> None:
    file = golden("stacks")
    lost = struct.pack("<IHHQQ", 2, 0, 24, 1, 5)
    samples = struct.pack("<IHHQ", 13, 0, 16, 3)
    filtered = struct.pack("<IHHQ", 13, 1 << 15, 16, 1000)
    throttle = struct.pack("<IHHQQQ", 5, 0, 32, 1, 1, 1)
    sample = first_sample(file)
    assert losses(with_records(file, sample + lost + samples + filtered)) == {"lost samples": 5}
    assert losses(with_records(file, sample + lost + samples * 4 + throttle)) == {
        "lost samples": 12,
        "throttled": 1,
    }


def test_records_packed_for_alignment_are_read_too() -> None:
    """COMPRESSED2, as newer perf writes it: a length, then data, then padding."""
    file = golden("stacks")
    begin, end = data_section(file)
    packer = zstandard.ZstdCompressor().compressobj()
    made = b""
    for at in range(begin, end, 1000):  # cuts through records
        data = packer.compress(file[at : min(at + 1000, end)])
        data += packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        padding = -len(data) % 8
        made += struct.pack("<IHHQ", 83, 0, 16 + len(data) + padding, len(data)) + data + bytes(padding)
    packed = decode(with_records(file, made), kallsyms=SYMBOLS)
    assert decoded_events(packed) == decoded_events(decode(file, kallsyms=SYMBOLS))
    assert packed["losses"].is_empty()


def test_bytes_that_unpack_to_no_records_fill_no_memory() -> None:
    file = golden("stacks")
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 27))
    made = b"".join(
        struct.pack("<IHH", 81, 0, 8 + len(bomb[at : at + 4000])) + bomb[at : at + 4000]
        for at in range(0, len(bomb), 4000)
    )
    said = decode(with_records(file, first_sample(file) + made))
    assert said["events"].height == 1
    assert "damaged" in said["losses"]["what"].to_list()
