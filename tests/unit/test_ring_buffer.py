"""Pages of the ring buffer made by hand: every kind of record, both byte orders, losses, stacks and calls."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest
from synthetic_pages import ENTRY, EXIT, FUNCTION, QUEUE, RETVAL, STACK, Pages, layout

from swarmscope.errors import TraceFileError
from swarmscope.trace.formats import function_graph_text, ring_buffer
from swarmscope.trace.formats.base import Decoded, Source
from swarmscope.trace.formats.ring_buffer.symbols import TRAMPOLINE, SymbolTable, comms

SAMPLE = Path(__file__).parents[2] / "collectors" / "function-graph" / "sample"
FORMATS = {
    "net/net_dev_queue": QUEUE,
    "ftrace/kernel_stack": STACK,
    "ftrace/function": FUNCTION,
    "ftrace/funcgraph_entry": ENTRY,
    "ftrace/funcgraph_exit": EXIT,
}
KALLSYMS = b"""0000000000000000 A fixed_percpu_data
ffffffff81000000 T outer
ffffffff81000100 T inner
ffffffff81000100 t inner_alias
ffffffffc0000000 t veth_xmit\t[veth]
ffffffffc0000100 t veth_open\t[veth]
"""
OUTER, INNER, VETH = 0xFFFFFFFF81000000, 0xFFFFFFFF81000100, 0xFFFFFFFFC0000000
P = Pages()


def folder(
    path: Path,
    cpus: Mapping[int, bytes],
    *,
    formats: Mapping[str, str] = FORMATS,
    pages: Pages = P,
    functions: str = "",
) -> Path:
    for cpu, data in cpus.items():
        (path / f"cpu{cpu}.raw").write_bytes(data)
    (path / "header_page").write_text(pages.header)
    for name, text in formats.items():
        (path / "formats" / name).parent.mkdir(parents=True, exist_ok=True)
        (path / "formats" / name).write_text(text)
    (path / "kallsyms").write_bytes(KALLSYMS)
    (path / "functions").write_text(functions)
    (path / "saved_cmdlines").write_text("7 ping\n8 Client manageme\n")
    return path


def decode(path: Path, *, big: bool = False) -> Decoded:
    return ring_buffer.decode_folder(path, Source(name="pages", byteorder="big" if big else "little"))


def losses(decoded: Decoded) -> list[tuple[str, int, str]]:
    return [(row["what"], row["count"], row["detail"]) for row in decoded["losses"].iter_rows(named=True)]


@pytest.mark.parametrize(
    "pages", [Pages(), Pages(big=True), Pages(long_size=4), Pages(big=True, long_size=4), Pages(size=8192)]
)
def test_every_kind_of_record_keeps_its_stamp_in_any_kernel(tmp_path: Path, pages: Pages) -> None:
    page = pages.page(
        1_000_000,
        pages.record(5, pages.queue("eth0")),
        pages.record(0, pages.queue("eth0"), long=True),
        pages.padding(24, delta=3),
        pages.record(1, pages.queue("x" * 120)),
        pages.extend(1 << 30),
        pages.record(2, pages.queue("eth1")),
        pages.absolute(5_000_000_000),
        pages.record(0, pages.queue("eth2")),
        pages.word(29, 0),
    )
    found = decode(folder(tmp_path, {0: page}, pages=pages), big=pages.big)
    events = found["events"]
    first = 1_000_005
    assert events["ts"].to_list() == [
        first,
        first,
        first + 4,
        first + 6 + (1 << 30),
        5_000_000_000,
    ]
    assert events["dev"].to_list() == ["eth0", "eth0", "x" * 120, "eth1", "eth2"]
    assert events["skb"].to_list() == [0xFFFF888000000100] * 5
    assert set(events["event"]) == {"net:net_dev_queue"}
    assert losses(found) == []


def test_an_absolute_stamp_takes_its_upper_five_bits_from_the_page(tmp_path: Path) -> None:
    high = 0x10 << 56
    page = P.page(high + 7, P.absolute(high + 9), P.record(1, P.queue("lo")))
    assert decode(folder(tmp_path, {0: page}))["events"]["ts"].to_list() == [high + 10]


def test_cpus_are_merged_by_stamp_the_lower_first_and_none_out_of_its_own_order(tmp_path: Path) -> None:
    zero = P.page(100, *(P.record(0, P.queue(f"a{i}")) for i in range(2)))
    zero += P.page(50, P.record(0, P.queue("stepped-back")))
    one = P.page(60, P.record(0, P.queue("b0")), P.record(40, P.queue("b1")), P.record(1, P.queue("b2")))
    events = decode(folder(tmp_path, {0: zero, 3: one}))["events"]
    assert events["dev"].to_list() == ["b0", "a0", "a1", "stepped-back", "b1", "b2"]
    assert events["cpu"].to_list() == [3, 0, 0, 0, 3, 3]


def test_tasks_have_the_names_that_the_kernel_remembers(tmp_path: Path) -> None:
    page = P.page(1, *(P.record(0, P.queue("lo", pid=pid)) for pid in (7, 8, 0, 9, -1, 1 << 30)))
    events = decode(folder(tmp_path, {0: page}))["events"]
    assert events["comm"].to_list() == ["ping", "Client manageme", "<idle>", "<...>", "<...>", "<...>"]


def test_lost_events_are_counted_where_the_page_says_how_many(tmp_path: Path) -> None:
    pages = P.page(1, P.record(0, P.queue("lo"))) + P.page(2, P.record(0, P.queue("lo")), lost=1638)
    pages += P.page(3, P.record(0, P.queue("lo")), lost=1, stored=False)
    found = decode(folder(tmp_path, {1: pages}))
    assert len(found["events"]) == 3
    assert losses(found) == [
        ("lost events", 1638, "CPU 1, before byte 4096"),
        ("lost events", 1, "CPU 1, before byte 8192, at least"),
    ]


def test_a_stack_belongs_to_the_record_before_it_in_its_task_and_at_its_level(tmp_path: Path) -> None:
    softirq = 0x10
    page = P.page(
        1,
        P.record(0, P.queue("task")),
        P.record(0, P.queue("irq", flags=softirq)),
        P.record(0, P.stack(INNER + 4, OUTER + 8, flags=softirq)),
        P.record(0, P.stack(VETH + 1, TRAMPOLINE, OUTER + 9)),
        P.record(0, P.stack(OUTER)),
        P.record(0, P.queue("alone")),
        P.record(0, P.stack(OUTER, pid=9)),
    )
    found = decode(folder(tmp_path, {0: page}))
    frames = dict(zip(found["frames"]["frame"], found["frames"]["raw"], strict=True))
    stacks = [[frames[one] for one in row] for row in found["stacks"]["frames"]]
    assert [stacks[one] if one is not None else None for one in found["events"]["stack"]] == [
        ["outer", "[FTRACE TRAMPOLINE]", "veth_xmit [veth]"],
        ["outer", "inner"],
        None,
    ]
    assert found["frames"].filter(pl.col("raw") == "veth_xmit [veth]")["module"].to_list() == ["veth"]


def test_a_stack_behind_lost_events_belongs_to_none_that_is_left(tmp_path: Path) -> None:
    pages = P.page(1, P.record(0, P.queue("lo"))) + P.page(2, P.record(0, P.stack(OUTER)), lost=3)
    assert decode(folder(tmp_path, {0: pages}))["events"]["stack"].to_list() == [None]


def test_entries_and_exits_become_calls_with_the_duration_that_the_exit_holds(tmp_path: Path) -> None:
    page = P.page(
        1000,
        P.record(0, P.entry(OUTER, 0)),
        P.record(10, P.entry(INNER, 1)),
        P.record(10, P.exit(INNER, 1, 5000, 5004)),
        P.record(10, P.exit(OUTER, 0, 4990, 5020)),
    )
    calls = decode(folder(tmp_path, {0: page}))["calls"]
    assert calls.select("ts", "function", "parent", "depth", "dur", "self", "comm", "retval").rows() == [
        (1000, "outer", "", 0, 30, 26, "ping", None),
        (1010, "inner", "outer", 1, 4, 4, "ping", None),
    ]


def test_return_values_are_read_where_the_format_has_them(tmp_path: Path) -> None:
    ended = struct.pack("<HBBiQqiIQQ", 10, 0, 0, 7, OUTER, -12, 0, 0, 100, 130)
    page = P.page(1, P.record(0, P.entry(OUTER, 0)), P.record(9, ended))
    calls = decode(folder(tmp_path, {0: page}, formats={**FORMATS, "ftrace/funcgraph_exit": RETVAL}))["calls"]
    assert calls.select("dur", "retval").rows() == [(30, -12)]


def test_lost_events_break_the_calls_around_them(tmp_path: Path) -> None:
    pages = P.page(1, P.record(0, P.entry(OUTER, 0)))
    pages += P.page(9, P.record(0, P.exit(OUTER, 0, 1, 9)), lost=2)
    found = decode(folder(tmp_path, {0: pages}))
    assert len(found["calls"]) == 0
    assert {what for what, _, _ in losses(found)} == {"lost events", "broken calls"}


def test_the_function_tracer_gives_calls_without_a_duration(tmp_path: Path) -> None:
    entry = struct.pack("<HBBiQQ", 1, 0, 0, 7, INNER, OUTER + 16)
    calls = decode(folder(tmp_path, {2: P.page(5, P.record(1, entry))}))["calls"]
    assert calls.select("ts", "cpu", "function", "parent", "dur", "comm").rows() == [
        (6, 2, "inner", "outer", None, "ping")
    ]


def test_a_traceable_function_comes_before_other_names_of_its_address() -> None:
    assert SymbolTable(KALLSYMS).name(INNER + 3) == "inner"
    assert SymbolTable(KALLSYMS, preferred={"inner_alias"}).name(INNER + 3) == "inner_alias"
    assert SymbolTable(KALLSYMS).name(5) == "0x5"
    assert SymbolTable(b"0000000000000000 T hidden\n").frame(5) == "0x5"
    assert SymbolTable(b"c0001000 T arm_function\nc0002000 t $a\n").name(0xC0001000) == "arm_function"
    assert SymbolTable(KALLSYMS).name(0xFFFFFFFFC0000104) == "veth_open"
    assert SymbolTable(KALLSYMS).name(0xFFFFFFFFC0000110) == "0xffffffffc0000110"
    assert SymbolTable(b"").name(5) == "0x5"
    assert comms(b"12 a b\nx y\n\n99999999999 z\n") == {12: "a b", 0: "<idle>"}


def test_a_folder_without_pages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceFileError, match=r"cpu0\.raw"):
        decode(tmp_path)
    with pytest.raises(TraceFileError, match=r"cpu0\.raw"):
        decode(tmp_path / "nothing")


def test_a_folder_that_lacks_everything_but_pages_still_says_what_it_lost(tmp_path: Path) -> None:
    (tmp_path / "cpu0.raw").write_bytes(P.page(1, P.record(0, P.queue("lo"))))
    found = decode(tmp_path)
    assert len(found["events"]) == 0
    assert losses(found) == [("unknown events", 1, "no usable format of event number 1455")]


def test_formats_and_headers_that_cannot_be_read_are_noted(tmp_path: Path) -> None:
    path = folder(tmp_path, {0: P.page(1, P.record(0, P.queue("lo")))})
    (path / "formats" / "net" / "broken").write_text("name: broken\nID: ?\n")
    (path / "header_page").write_text("\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n")
    (path / "options.json").write_text("[")
    found = decode(path)
    assert len(found["events"]) == 1
    details = " | ".join(detail for _, _, detail in losses(found))
    assert "formats/net/broken: line 2" in details
    assert "header_page: a page has no" in details
    assert "options.json" in details


def test_a_clock_that_cannot_be_placed_is_said(tmp_path: Path) -> None:
    path = folder(tmp_path, {0: P.page(1)})
    for clock, said in (("local [mono] boot", []), ("[local] mono", ["other clock"])):
        (path / "options.json").write_text(json.dumps({"trace_clock": clock}))
        assert [what for what, _, _ in losses(decode(path))] == said


@pytest.mark.parametrize(
    ("page", "says", "left"),
    [
        (P.page(1, P.record(0, P.queue("lo")))[:10], "within a page's header", 0),
        (P.page(1, P.record(0, P.queue("a")), P.record(0, P.queue("b")))[:70], "ends within a page", 1),
        (P.page(1, P.record(0, P.queue("a")), P.word(0, 0), b"\xff\xff\xff\x7f"), "does not fit", 1),
        (P.page(1, P.record(0, P.queue("a")), P.word(0, 0), b"\x03\0\0\0"), "does not fit", 1),
        (P.page(1, P.record(0, P.queue("a")), P.word(1, 0), b"\0\0\0\0"), "does not fit", 1),
        (P.page(1, P.record(0, P.queue("a")), P.word(30, 0)), "does not fit", 1),
        (b"\1" + bytes(7) + b"\xff\xff\0\0" + bytes(4084), "more than a page", 0),
    ],
)
def test_damage_costs_the_rest_of_its_page_and_no_other(
    tmp_path: Path, page: bytes, says: str, left: int
) -> None:
    before = P.page(1, P.record(0, P.queue("before")))
    whole = len(page) == 4096
    after = P.page(3, P.record(0, P.queue("after"))) if whole else b""
    found = decode(folder(tmp_path, {0: before + page + after}))
    assert found["events"]["dev"].to_list() == ["before", *["a"] * left, *["after"] * whole]
    assert len(losses(found)) == 1 and says in losses(found)[0][2] and "cpu0.raw" in losses(found)[0][2]


def test_the_collectors_sample_gives_its_events_and_calls() -> None:
    found = decode(SAMPLE / "pages")
    assert len(found["events"]) == 20
    assert found["calls"].select("function", "dur").rows()[:3] == [
        ("veth_xmit", 15184765),
        ("vxlan_xmit", 6793804),
        ("veth_xmit", 48112),
    ]
    text = (SAMPLE / "graph.txt").read_text()
    assert text.count("net_dev_queue:") + text.count("netif_receive_skb:") == 20
    assert all(f"{dur // 1000}.{dur % 1000 // 10:02}"[:6] in text for dur in found["calls"]["dur"].to_list())
    assert losses(found) == []


def test_the_pages_and_the_text_of_one_recording_give_the_same_calls() -> None:
    pages = decode(SAMPLE / "pages")
    with (SAMPLE / "graph.txt").open("rb") as file:
        text = function_graph_text.decode(file, Source(name="graph.txt"))
    same = ["cpu", "pid", "function", "parent", "depth", "slept", "folded", "irq"]
    assert pages["calls"].select(same).equals(text["calls"].select(same))
    for column, within in (("ts", 1000), ("dur", 10)):
        assert (pages["calls"][column] - text["calls"][column]).abs().max() < within  # type: ignore[operator]


def test_entries_with_a_return_address_and_arguments_are_entries_too(tmp_path: Path) -> None:
    # Packed, with a depth of 64 bits and an array at the end, as in kernels from 6.13 on.
    entry = layout(
        "fgraph_retaddr_entry",
        12,
        ("unsigned long func", 8, 8),
        ("unsigned long depth", 16, 8),
        ("unsigned long retaddr", 24, 8),
        ("unsigned long args[]", 32, 0),
    )
    ended = layout(
        "funcgraph_exit",
        10,
        ("unsigned long func", 8, 8),
        ("unsigned long retval", 16, 8),
        ("unsigned int depth", 24, 4),
        ("unsigned int overrun", 28, 4),
    )
    page = P.page(
        1,
        P.record(0, struct.pack("<HBBiQQQ6Q", 12, 0, 0, 7, OUTER, 0, INNER, *range(6))),
        P.record(0, struct.pack("<HBBiQQQ6Q", 12, 0, 0, 7, INNER, 1, OUTER, *range(6))),
        P.record(20, struct.pack("<HBBiQQII", 10, 0, 0, 7, INNER, 5, 1, 0)),
        P.record(30, struct.pack("<HBBiQQII", 10, 0, 0, 7, OUTER, 0, 0, 0)),
    )
    formats = {"ftrace/fgraph_retaddr_entry": entry, "ftrace/funcgraph_exit": ended}
    calls = decode(folder(tmp_path, {0: page}, formats=formats))["calls"]
    assert calls.select("function", "depth", "dur", "retval").rows() == [
        ("outer", 0, 50, 0),
        ("inner", 1, 20, 5),
    ]
