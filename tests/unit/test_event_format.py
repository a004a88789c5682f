"""Records of tracepoints laid out by the kernel's own ``format`` files."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from swarmscope.trace.formats import event_format
from swarmscope.trace.formats.event_format import EventLayout, Field, columns, integers, parse, strings

COMMON = """\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;
"""
QUEUE = f"""name: net_dev_queue
ID: 1455
format:
{COMMON}
\tfield:void * skbaddr;\toffset:8;\tsize:8;\tsigned:0;
\tfield:unsigned int len;\toffset:16;\tsize:4;\tsigned:0;
\tfield:__data_loc char[] name;\toffset:20;\tsize:4;\tsigned:0;

print fmt: "dev=%s skbaddr=%p len=%u", __get_str(name), REC->skbaddr, REC->len
"""
SKB = 0xFFFF8ED502661100


def layout_of(fields: str, print_fmt: str) -> EventLayout:
    return parse(f"name: some\nID: 7\nformat:\n{COMMON}\n{fields}\nprint fmt: {print_fmt}\n")


def queue(dev: bytes, *, skb: int = SKB, length: int = 98, pid: int = 42) -> bytes:
    head = struct.pack("<HBBiQIHH", 1455, 0, 0, pid, skb, length, 24, len(dev) + 1)
    return head + dev + b"\0"


def joined(records: list[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sizes = np.array([len(record) for record in records], np.int64)
    ends = np.cumsum(sizes)
    return np.frombuffer(b"".join(records), np.uint8), ends - sizes, ends


def test_a_format_file_gives_the_events_number_name_and_fields():
    layout = parse(QUEUE, system="net")
    assert (layout.id, layout.full_name) == (1455, "net:net_dev_queue")
    assert layout.field("skbaddr") == Field("skbaddr", "void *", 8, 8, signed=False)
    assert layout.field("name") == Field(
        "name", "char[]", 20, 4, signed=False, dynamic="data_loc", array=True
    )
    assert layout.field("common_pid") == Field("common_pid", "int", 4, 4, signed=True)
    assert layout.field("nothing") is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("__u8 saddr[28]", Field("saddr", "__u8[28]", 8, 4, False, "", True)),
        ("unsigned long args[]", Field("args", "unsigned long[]", 8, 4, False, "", True)),
        ("__rel_loc char[] msg", Field("msg", "char[]", 8, 4, False, "rel_loc", True)),
        ("const char *name", Field("name", "const char *", 8, 4, False, "", False)),
        ("struct Qdisc * qdisc", Field("qdisc", "struct Qdisc *", 8, 4, False, "", False)),
    ],
)
def test_a_declaration_is_split_into_type_name_and_kind(line: str, expected: Field):
    layout = layout_of(f"\tfield:{line};\toffset:8;\tsize:4;\tsigned:0;", '""')
    assert layout.fields[-1] == expected


def test_kernels_that_do_not_say_whether_a_field_is_signed_are_read():
    layout = layout_of("\tfield:int rc;\toffset:8;\tsize:4;", '"rc=%d", REC->rc')
    assert layout.fields[-1].name == "rc"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: x\nID: many\n", "line 2.*number"),
        ("name: x\nID: 1\nformat:\n\tfield:int a;\toffset:?;\n", "line 4: not a field"),
        ("ID: 1\n", "no name"),
        ("name: x\n", "no ID"),
        ("name: x\nID: 1\nformat:\n\tfield:__data_loc char[] a;\toffset:8;\tsize:8;\tsigned:0;\n", "line 4"),
    ],
)
def test_a_format_file_that_is_none_is_refused_with_its_line(text: str, says: str):
    with pytest.raises(ValueError, match=says):
        parse(text)


def test_every_format_file_of_this_kernel_is_read():
    files = list(Path("/sys/kernel/tracing/events").glob("*/*/format"))
    if not files:
        pytest.skip("no tracefs on this machine")
    for file in files:
        layout = parse(file.read_text(), system=file.parent.parent.name)
        assert layout.name == file.parent.name
        assert layout.field("common_type")
        event_format.shown_fields(layout)


def test_records_become_columns_in_either_byte_order():
    layout = parse(QUEUE)
    data, starts, ends = joined([queue(b"eth0"), queue(b"veth12", length=1500), queue(b"eth0", skb=1 << 63)])
    found = columns(layout, data, starts, ends=ends)
    assert found["dev"].to_list() == ["eth0", "veth12", "eth0"]
    assert found["skb"].to_list() == [SKB, SKB, 1 << 63]
    assert found["len"].to_list() == [98, 1500, 98]
    assert found["proto"].to_list() == [None] * 3
    big = np.frombuffer(
        struct.pack(">HBBiQIHH", 1455, 0, 0, -7, SKB, 98, 5, 24) + b"eth0\0", np.uint8
    )  # a pair (length, offset) where the 32 bits are big-endian
    one = np.array([0], np.int64)
    there = columns(layout, big, one, ends=one + len(big), byteorder="big")
    assert [there[name][0] for name in ("dev", "skb", "len")] == ["eth0", SKB, 98]
    pid = layout.field("common_pid")
    assert pid is not None and integers(pid, big, one, byteorder="big").tolist() == [-7]


def test_values_that_are_no_lengths_or_no_protocols_are_unknown():
    fields = (
        "\tfield:unsigned long len;\toffset:8;\tsize:8;\tsigned:0;\n"
        "\tfield:int protocol;\toffset:16;\tsize:4;\tsigned:1;"
    )
    layout = layout_of(fields, '"len=%lu protocol=%d", REC->len, REC->protocol')
    rows = [(10**9, -1), ((1 << 64) - 1, 2048), (999_999_999, 0)]
    data, starts, ends = joined([struct.pack("<8xQi4x", *row) for row in rows])
    found = columns(layout, data, starts, ends=ends)
    assert found["len"].to_list() == [None, None, 999_999_999]
    assert found["proto"].to_list() == [None, 2048, 0]


def test_the_print_format_says_which_field_is_meant_not_its_name():
    fields = (
        "\tfield:unsigned int data_len;\toffset:8;\tsize:4;\tsigned:0;\n"
        "\tfield:u16 len;\toffset:12;\tsize:2;\tsigned:0;\n"
        "\tfield:u16 protocol;\toffset:14;\tsize:2;\tsigned:0;\n"
        "\tfield:char name[16];\toffset:16;\tsize:16;\tsigned:0;"
    )
    layout = layout_of(
        fields,
        '"a,b %*d data_len=%u " "dev=%s len=%u protocol=0x%04x %s", 3, 4, REC->len, REC->name, '
        '((int)(REC->data_len)), REC->protocol, __print_symbolic(REC->len, { 1, "x, y" }, { 2, ")" })',
    )
    assert {name: field.name for name, field in event_format.shown_fields(layout).items()} == {
        "dev": "name",
        "proto": "protocol",
    }
    plain = layout_of(fields, '"%d%% len=%u", REC->protocol, (unsigned int)REC->data_len')
    assert event_format.shown_fields(plain)["len"].name == "data_len"


def test_block_devices_and_named_protocols_are_not_columns():
    fields = (
        "\tfield:dev_t s_dev;\toffset:8;\tsize:4;\tsigned:0;\n"
        "\tfield:__u16 protocol;\toffset:12;\tsize:2;\tsigned:0;"
    )
    layout = layout_of(
        fields,
        '"dev=%d:%d protocol=%s", ((unsigned int) ((REC->s_dev) >> 20)), '
        '((unsigned int) ((REC->s_dev) & 1)), __print_symbolic(REC->protocol, { 6, "IPPROTO_TCP" })',
    )
    assert event_format.shown_fields(layout) == {}


def test_a_relative_place_counts_from_behind_its_field():
    layout = layout_of(
        "\tfield:__rel_loc char[] name;\toffset:8;\tsize:4;\tsigned:0;", '"dev=%s", __get_rel_str(name)'
    )
    data, starts, ends = joined([struct.pack("<8xHH2x", 2, 5) + b"wlan\0"])
    assert columns(layout, data, starts, ends=ends)["dev"].to_list() == ["wlan"]


def test_text_ends_at_its_nul_and_never_behind_the_record():
    layout = parse(QUEUE)
    name = layout.field("name")
    assert name is not None
    far = struct.pack("<HBBiQIHH", 1455, 0, 0, 1, SKB, 98, 60000, 65535)
    long = struct.pack("<HBBiQIHH", 1455, 0, 0, 1, SKB, 98, 24, 65535) + b"lo"
    cut = queue(b"eth0")[:22]
    data, starts, ends = joined([queue(b"a\0b"), far, long, cut, queue(b"eth\xff")])
    assert strings(name, data, starts, ends=ends).to_list() == ["a", "", "lo", "", "eth\ufffd"]
    found = columns(layout, data, starts, ends=ends)
    assert found["dev"].to_list() == ["a", None, "lo", None, "eth\ufffd"]
    assert found["len"].to_list() == [98] * 5
    shorter = columns(layout, data, starts[3:4], ends=ends[3:4] - 5)
    assert (shorter["skb"][0], shorter["len"][0]) == (SKB, None)


def test_text_up_to_the_records_end_has_no_size_of_its_own():
    layout = layout_of("\tfield:char buf[];\toffset:8;\tsize:0;\tsigned:0;", '"%s", REC->buf')
    data, starts, ends = joined([b"12345678hello\n\0\0", b"12345678"])
    assert strings(layout.fields[-1], data, starts, ends=ends).to_list() == ["hello\n", ""]


def test_many_distinct_texts_are_all_told_apart():
    layout = parse(QUEUE)
    name = layout.field("name")
    assert name is not None
    names = [f"veth{i * 7919 % 3000}".encode() for i in range(9000)]
    data, starts, ends = joined([queue(text) for text in names])
    assert strings(name, data, starts, ends=ends).to_list() == [text.decode() for text in names]


def test_no_records_give_empty_columns_and_an_array_is_no_number():
    layout = parse(QUEUE)
    none = np.empty(0, np.int64)
    found = columns(layout, np.empty(0, np.uint8), none, ends=none)
    assert [len(series) for series in found.values()] == [0] * 4
    with pytest.raises(ValueError, match="not a number"):
        integers(Field("a", "u8[4]", 0, 4, False, "", True), np.zeros(8, np.uint8), none)


def test_columns_agree_with_printed_text_for_all_net_events_of_this_kernel():
    """What ``fields`` would find in the text is what ``print fmt`` promises: same keys, for every event."""
    files = list(Path("/sys/kernel/tracing/events").glob("net/*/format"))
    if not files:
        pytest.skip("no tracefs on this machine")
    for file in files:
        layout = parse(file.read_text())
        promised = {
            key for key in ("dev", "skbaddr", "len", "protocol") if f" {key}=" in f" {layout.print_fmt[1:]}"
        }
        renamed = {"skbaddr": "skb", "protocol": "proto"}
        assert set(event_format.shown_fields(layout)) == {renamed.get(key, key) for key in promised}
