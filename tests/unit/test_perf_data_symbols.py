"""Names of kernel addresses in perf.data: the list of symbols, and what the file itself says of modules."""

from __future__ import annotations

import io
import struct
import time

import pytest
from perf_data_golden import KALLSYMS, SYMBOLS, golden, golden_text
from perf_data_oracle import decode, decoded_events, printed
from perf_data_writing import KERNEL, SAMPLE, data_section, records, sample_with_chain, with_records

from swarmscope.trace.formats import perf_data
from swarmscope.trace.formats.base import Decoded, Source
from swarmscope.trace.formats.perf_data.symbols import KernelSymbols

MMAP, MMAP2 = 1, 10
MODULE = 0xFFFFFFFFC0000000


def first_sample(file: bytes) -> bytes:
    return next(record for kind, record in records(file) if kind == SAMPLE)


def mapped(kind: int, start: int, size: int, name: bytes, *, anchor: int = 0) -> bytes:
    """A record of a map of the kernel's: MMAP, or MMAP2 as ``perf record --buildid-mmap`` writes it."""
    name += bytes(8 - len(name) % 8)
    body = struct.pack("<iIQQQ", -1, 0, start, size, anchor) + bytes(32 if kind == MMAP2 else 0) + name
    return struct.pack("<IHH", kind, 1, 8 + len(body)) + body


def frames(decoded: Decoded) -> list[tuple[str, str]]:
    return [(row[3], row[2]) for row in decoded["frames"].rows()]


def test_two_hundred_thousand_symbols_are_read_in_less_than_a_third_of_a_second() -> None:
    line = b"ffffffff%08x t a_function_with_a_long_name_%d%s\n"
    text = b"".join(
        line % (0x81000000 + 32 * row, row, b"\t[a_module]" if row > 150_000 else b"")
        for row in range(200_000)
    )
    KernelSymbols.parse(text[:1000])
    begin = time.process_time()
    found = KernelSymbols.parse(text)
    assert time.process_time() - begin < 0.3
    assert len(found.start) == 200_000
    assert found.name(0) == ("a_function_with_a_long_name_0", "")
    assert found.name(199_999) == ("a_function_with_a_long_name_199999", "a_module")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n\n",
        b"ffffffff81000000",
        b"ffffffff81000000 T",
        b"ffffffff81000000 T ",
        b"x T y",
        b"\0 \n" * 9,
    ],
)
def test_what_is_no_symbol_is_passed_over(text: bytes) -> None:
    assert not len(KernelSymbols.parse(text).start)


def test_a_last_line_without_an_end_counts_and_so_do_short_addresses() -> None:
    found = KernelSymbols.parse(b"c0008000 T _text\nc0008100 T last")
    assert found.start.tolist() == [0xC0008000, 0xC0008100]
    assert found.name(1) == ("last", "")
    assert found.anchors[b"_text"] == 0xC0008000


def test_symbols_may_be_given_as_text_with_the_source_or_as_a_list() -> None:
    expected = printed(golden_text("stacks"))
    assert decoded_events(decode(golden("stacks"), kallsyms=KALLSYMS)) == expected
    source = Source("t", kernel="k", kallsyms=KALLSYMS)
    assert decoded_events(perf_data.decode(io.BytesIO(golden("stacks")), source)) == expected


def test_a_list_that_older_perf_put_into_the_file_is_used_where_no_other_is_given() -> None:
    file = golden("stacks")
    _, end = data_section(file)
    at, size = struct.unpack_from("<QQ", file, end)  # the tracing data is the first section
    tracing = file[at : at + size]
    place = tracing.rindex(bytes(4) + struct.pack("<I", len(_printk(tracing))) + _printk(tracing))
    longer = tracing[:place] + struct.pack("<I", len(KALLSYMS)) + KALLSYMS + tracing[place + 4 :]
    made = bytearray(file + longer)
    struct.pack_into("<QQ", made, end, len(file), len(longer))
    assert decoded_events(decode(bytes(made))) == printed(golden_text("stacks"))
    other = KernelSymbols.parse(b"ffffffff81000000 T everything\n")
    assert ("everything", "") in frames(decode(bytes(made), kallsyms=other))


def _printk(tracing: bytes) -> bytes:
    """The formats of printk in a tracing data: lines ``0xaddress : "text"``."""
    begin = tracing.index(b"0xffffffff")
    size = int.from_bytes(tracing[begin - 4 : begin], "little")
    return tracing[begin : begin + size]


@pytest.mark.parametrize("kind", [MMAP, MMAP2], ids=["mmap", "mmap2"])
@pytest.mark.parametrize(
    "name", [b"[vxlan]", b"/lib/modules/6.12.0/kernel/drivers/net/vxlan.ko.xz", b"/a/vx-lan.ko"]
)
def test_an_address_in_a_module_has_at_least_its_name(kind: int, name: bytes) -> None:
    file = golden("stacks")
    sample = sample_with_chain(first_sample(file), [KERNEL, MODULE + 0x10, MODULE + 0x2000, MODULE + 0x110])
    listed = KernelSymbols.parse(
        b"%x t vxlan_xmit\t[vxlan]\n%x t other\t[last]\n" % (MODULE + 0x100, MODULE + 0x200)
    )
    decoded = decode(with_records(file, mapped(kind, MODULE, 0x1000, name) + sample), kallsyms=listed)
    module = "vx_lan" if b"-" in name else "vxlan"
    assert set(frames(decoded)) == {("[unknown]", module), ("vxlan_xmit", "vxlan"), ("[unknown]", "")}
    assert decoded["losses"]["count"].to_list() == [2]


@pytest.mark.parametrize("kind", [MMAP, MMAP2], ids=["mmap", "mmap2"])
def test_where_the_kernel_was_is_known_from_either_kind_of_map(kind: int) -> None:
    file = golden("stacks")
    moved = mapped(kind, 0xFFFFFFFF9B000000, 0x1000000, b"[kernel.kallsyms]_text", anchor=0xFFFFFFFF9B000000)
    text = KALLSYMS + b"ffffffff81000000 T _text\n"
    decoded = decode(with_records(file, moved + first_sample(file)), kallsyms=KernelSymbols.parse(text))
    assert "of another boot" in decoded["losses"]["detail"][0]
    assert {name for name, _ in frames(decoded)} == {"[unknown]"}
    assert SYMBOLS.of_boot(b"", 0)
