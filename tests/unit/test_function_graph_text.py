"""Calls from function_graph's text, whatever its options, are those of the records it was printed from."""

import io
import os
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmscope.errors import TraceFileError
from swarmscope.places import shipped
from swarmscope.trace import calls
from swarmscope.trace.formats import function_graph_text
from swarmscope.trace.formats.base import Decoded, Source, call_table
from tests.unit import synthetic_graph_text
from tests.unit.synthetic_calls import EVENT, EXIT, GAP, Row, World, edges
from tests.unit.synthetic_graph_text import OPTIONS, printed

EXAMPLES = 10_000 if os.environ.get("SWARMSCOPE_LONG") else 300
GOLDEN = Path(__file__).parent.parent / "golden" / "ftrace_text"
SAMPLE = shipped("collectors") / "function-graph" / "sample"
COMM = {0: "<idle>", 11: "ping", 12: "a b:c", 13: "-1 [0]"}
TREE = ["function", "parent", "depth", "folded"]
seeds = st.integers(0, 2**40)


def decode(data: bytes | str, **source) -> Decoded:
    raw = data.encode() if isinstance(data, str) else data
    return function_graph_text.decode(io.BytesIO(raw), Source("t", kernel="k", **source))


def losses(decoded: Decoded) -> dict[str, int]:
    return dict(decoded["losses"].group_by("what").agg(pl.col("count").sum()).iter_rows())


def durations(rows: list[Row]) -> dict[int, int]:
    """What the tracer measured for the call that each exit ends: 3 ns less than between the stamps."""
    first = {row.call: row.ts for row in rows if row.kind not in (EXIT, EVENT, GAP)}
    return {n: max(row.ts - first[row.call] - 3, 0) for n, row in enumerate(rows) if row.kind == EXIT}


def expected(rows: list[Row], options: set[str]) -> tuple[pl.DataFrame, dict[str, int]]:
    took = np.array([printed(durations(rows).get(n, -1)) for n in range(len(rows))])
    found = edges(rows)
    ts = found.ts // 1000 * 1000 if "abstime" in options else np.zeros(len(rows), np.int64)
    columns, left_out = calls.build(replace(found, ts=ts, dur=took if "duration" in options else None))
    return call_table(Source("t"), err=0, columns=columns), {what: count for what, count, _ in left_out}


@settings(max_examples=EXAMPLES, deadline=None)
@given(seeds, st.sets(st.sampled_from(OPTIONS)))
def test_with_any_columns_the_calls_are_those_that_were_recorded(seed: int, options: set[str]) -> None:
    options |= {"cpu"}
    rows = World(seed).rows
    options -= {"irqs"}  # an arrow tells more than the names do
    decoded = decode(synthetic_graph_text.text(rows, durations(rows), options, comm=COMM))
    want, _ = expected(rows, options)
    got = decoded["calls"]
    assert got.select(TREE).rows() == want.select(TREE).rows()
    if "duration" in options:
        assert (
            got.select("dur", "self", "irq", "slept").rows()
            == want.select("dur", "self", "irq", "slept").rows()
        )
    else:
        assert got["self"].null_count() == got.height
    if "abstime" in options:
        assert got["ts"].to_list() == want["ts"].to_list()
    else:
        assert got["ts"].null_count() == got.height
    known = got.filter(pl.col("pid").is_not_null())
    assert set(known["pid"]) <= {0, 11, 12, 13}
    if "proc" in options:
        assert got["pid"].to_list() == want["pid"].to_list()
        assert got["comm"].to_list() == [comm.strip() for comm in want["comm"].to_list()]
    if "retval" in options:
        assert got["retval"].null_count() == 0 and set(got["retval"].unique()) & {-22} <= {-22}
    if "args" in options:
        assert (got["skb"] == 0xFFFF888100000ABC).all()
    assert "damaged" not in losses(decoded)
    assert decoded["events"].height == sum(row.kind == EVENT for row in rows)


@settings(max_examples=EXAMPLES, deadline=None)
@given(seeds, st.floats(0, 1), st.integers(1, 30))
def test_around_lost_events_only_true_calls_come_out(seed: int, where: float, many: int) -> None:
    world = World(seed, plain=True)
    at = int(where * (len(world.rows) - 1))
    cpu = world.rows[at].cpu
    lost = [row for row in world.rows[at:] if row.cpu == cpu][:many]
    rows = [row for row in world.rows if row not in lost]
    behind = next((n for n, row in enumerate(rows) if n >= at and row.cpu == cpu), len(rows))
    rows.insert(behind, Row(rows[behind - 1].ts, cpu, -1, GAP))
    first = {row.call: row for row in world.rows if row.kind not in (EXIT, EVENT)}
    took = {n: row.ts - first[row.call].ts for n, row in enumerate(rows) if row.kind == EXIT}
    options = {"abstime", "cpu", "proc", "duration", "tail"}
    decoded = decode(synthetic_graph_text.text(rows, took, options, comm=COMM))
    truth = {
        (world.rows[n].ts // 1000 * 1000, name, printed(dur + irq))
        for n, name, _, _, dur, _, irq, _, _ in world.truth()
    }
    whole = decoded["calls"].select("ts", "function", pl.col("dur") + pl.col("irq")).rows()
    close = {(ts, name): dur for ts, name, dur in truth}
    assert all((ts, name) in close for ts, name, _ in whole)
    assert losses(decoded)["lost events"] == 7


def test_the_sample_of_the_collector_gives_what_its_pages_give() -> None:
    pages = pytest.importorskip("swarmscope.trace.formats.ring_buffer")
    binary = pages.decode_folder(SAMPLE / "pages", Source("p"))["calls"]
    got = decode((SAMPLE / "graph.txt").read_bytes())["calls"]
    same = ["cpu", "pid", "function", "parent", "depth", "irq", "slept", "folded"]
    assert got.select(same).rows() == binary.select(same).rows() and got.height == 10
    assert got["ts"].to_list() == (binary["ts"] // 1000 * 1000).to_list()
    assert got["dur"].to_list() == [printed(dur) for dur in binary["dur"]]


def test_a_leaf_that_is_two_halves_of_two_calls_gives_both_calls() -> None:
    decoded = decode((GOLDEN / "graph-migrated-leaf.txt").read_bytes())
    rows = decoded["calls"].filter(pid=1241).select("ts", "cpu", "dur", "slept").rows()
    assert (147_152_779_000, 1, 1_984_232, True) in rows and (147_157_551_000, 0, 1_251_815, True) in rows
    assert "broken calls" not in losses(decoded)


def test_return_values_arguments_and_callers_of_newer_kernels_are_read() -> None:
    text = (
        "# tracer: function_graph\n"
        " 1)               |  ip_rcv(skb=0xffff888100000001, dev=0x0) { /* <-deliver_skb+0x12/0x30 */\n"
        " 1)   1.250 us    |    ip_rcv_core(skb=0x0); /* <-ip_rcv+0x1b/0xa0 ret=0xffff888100000001 */\n"
        " 1)   0.300 us    |    older(); /* = 0x16 */\n"
        " 1)   0.310 us    |    newer(); /* ret=true */\n"
        " 1)   7.000 us    |  } /* ip_rcv ret=-22 */\n"
    )
    got = decode(text)["calls"]
    assert got.select("function", "parent", "retval", "skb", "self").rows() == [
        ("ip_rcv", "", -22, 0xFFFF888100000001, 5140),
        ("ip_rcv_core", "ip_rcv", 0xFFFF888100000001 - (1 << 64), None, 1250),
        ("older", "ip_rcv", 0x16, None, 300),
        ("newer", "ip_rcv", 1, None, 310),
    ]


def test_an_interrupt_arrow_makes_a_tree_of_its_own_whatever_the_function_is_called() -> None:
    text = (
        " 0)               |  f() {\n 0)   ==========> |\n 0)               |    odd_interrupt() {\n"
        " 0)   2.000 us    |      g();\n 0)   3.000 us    |    }\n 0)   <========== |\n"
        " 0)   9.000 us    |  }\n"
    )
    got = decode(text)["calls"].select("function", "parent", "dur", "irq").rows()
    assert got == [("f", "", 6000, 3000), ("odd_interrupt", "", 3000, 0), ("g", "odd_interrupt", 2000, 0)]


def test_a_task_without_a_column_is_known_from_the_banner_also_before_it() -> None:
    text = (
        " 0)   2.000 us    |  f();\n" + synthetic_graph_text.RULE + " 0)   ping-1     =>    <idle>-0   \n"
        " ------------------------------------------\n\n"
        " 0)   1.000 us    |  g();\n 1)   1.000 us    |  h();\n"
    )
    got = decode(text)["calls"].select("function", "pid", "comm").rows()
    assert got == [("f", 1, "ping"), ("g", 0, "<idle>"), ("h", None, "")]


def test_a_comment_over_several_lines_is_no_damage_and_buffer_starts_are_none() -> None:
    text = (
        "##### CPU 1 buffer started ####\n 0)               |  /* written by hand\n   further */\n"
        " 0)   1.000 us    |  f();\n (Overruns: 3)\n => caller\n"
    )
    decoded = decode(text)
    assert decoded["calls"].height == 1
    assert losses(decoded) == {"stack traces": 1, "overruns": 3}


def test_without_context_there_is_a_tree_without_times() -> None:
    got = decode("# tracer: function_graph\n#\nf() {\n  g();\n}\n")["calls"]
    assert got.select("function", "parent", "ts", "dur", "self").rows() == [
        ("f", "", None, None, None),
        ("g", "f", None, None, None),
    ]


def test_hashed_addresses_become_null_and_are_counted() -> None:
    line = " 0)               |  /* netif_rx: dev=lo skbaddr=%s len=84 */\n"
    decoded = decode(line % "00000000deadbeef" + line % "ffff888100000001")
    assert decoded["events"]["skb"].to_list() == [None, 0xFFFF888100000001]
    assert losses(decoded) == {"hashed pointers": 1}


def test_a_file_of_another_format_is_an_error_that_says_what_was_expected() -> None:
    for other in (b"\x7fELF\x02\x01 no trace\n" * 3, b"cpus=2\n a-1 [000] 1.000000: netif_rx: len=1\n"):
        with pytest.raises(TraceFileError, match="expected '# tracer: function_graph'"):
            decode(other)
    assert losses(decode(b"")) == {"damaged": 1}


TEXT = (SAMPLE / "graph.txt").read_bytes()
WHOLE = decode(TEXT)


def before(decoded: Decoded, ts: int) -> tuple[list[tuple], list[tuple]]:
    """Calls that ended, and events that happened, before a stamp."""
    ended = decoded["calls"].filter(pl.col("ts") + pl.col("dur") + pl.col("irq") < ts)
    return ended.rows(), decoded["events"].filter(pl.col("ts") < ts).rows()


def damaged(data: bytes, at: int) -> None:
    try:
        got = decode(data)
    except TraceFileError:
        assert at < 4000
        return
    lines = [line for line in TEXT[:at].split(b"\n")[:-1] if line[:1] == b" " and b"." in line[:12]]
    if lines and data[: len(TEXT[:at])] == TEXT[:at]:
        seconds, _, micros = lines[-1].split()[0].partition(b".")
        ts = int(seconds) * 10**9 + int(micros) * 1000
        want = before(WHOLE, ts)
        found = before(got, ts)
        assert set(want[0]) <= set(found[0])
        # The damaged line itself may have got an earlier stamp: that cannot be told from a right one.
        beyond = Counter(found[1]) - Counter(want[1])
        assert not Counter(want[1]) - Counter(found[1]) and beyond.total() <= 1


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(300, len(TEXT) - 1), st.integers(0, 255))
def test_a_flipped_byte_changes_nothing_that_ended_before_it(at: int, value: int) -> None:
    data = bytearray(TEXT)
    data[at] = value
    damaged(bytes(data), at)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, len(TEXT) - 1))
def test_a_cut_file_gives_what_ended_before_the_cut(at: int) -> None:
    damaged(TEXT[:at], at)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_are_refused_or_give_tables(data: bytes) -> None:
    for text in (data, TEXT[:900] + data):
        try:
            assert isinstance(decode(text)["losses"], pl.DataFrame)
        except TraceFileError as error:
            assert "t: byte" in str(error)


def test_a_damaged_line_is_told_with_its_byte_and_the_calls_around_it_are_not_guessed() -> None:
    line = b" 2570.328791 |   0)   ping-2921    |   48.112 us   |    veth_xmit [veth]();\n"
    at = TEXT.index(line)
    decoded = decode(TEXT[:at] + b"!" + TEXT[at + 1 :])
    found = decoded["losses"].filter(what="damaged")["detail"].to_list()
    assert len(found) == 1 and f"byte {at}:" in found[0]
    assert losses(decoded)["broken calls"] == 1


def test_a_file_without_line_ends_is_refused_in_no_time() -> None:
    start = time.perf_counter()
    with pytest.raises(TraceFileError):
        decode(b"a" * 20_000_000)
    assert time.perf_counter() - start < 5
