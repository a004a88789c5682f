"""What ``trace-cmd report`` prints is what its file holds."""

import io
import shutil
import subprocess
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmscope.errors import TraceFileError
from swarmscope.places import shipped
from swarmscope.trace.formats import trace_cmd_text
from swarmscope.trace.formats.base import Decoded, Source

GOLDEN = Path(__file__).parent.parent / "golden" / "ftrace_text"
SAMPLE = shipped("collectors") / "trace-cmd" / "sample" / "trace.dat"
FULL = (GOLDEN / "trace-cmd-t.txt").read_bytes()
EVENT = ["ts", "cpu", "pid", "comm", "event", "dev", "skb", "len", "proto"]
CALL = ["ts", "cpu", "pid", "comm", "function", "parent", "depth", "dur", "self", "irq", "slept", "folded"]


def decode(data: bytes) -> Decoded:
    return trace_cmd_text.decode(io.BytesIO(data), Source("t", kernel="k"))


def losses(decoded: Decoded) -> list[tuple]:
    return decoded["losses"].select("what", "count").rows()


def test_the_text_holds_the_same_events_and_calls_as_the_file() -> None:
    binary = pytest.importorskip("swarmscope.trace.formats.trace_dat")
    with SAMPLE.open("rb") as file:
        want = binary.decode(file, Source("b"))
    got = decode(FULL)
    assert (
        got["events"].select(EVENT).rows() == want["events"].select(EVENT).rows()
        and got["events"].height == 16
    )
    assert got["calls"].select(CALL).rows() == want["calls"].select(CALL).rows() and got["calls"].height == 12
    assert (got["events"]["err"] == 0).all() and not losses(got)


def test_stored_text_is_still_what_the_tool_prints() -> None:
    if not shutil.which("trace-cmd"):
        pytest.skip("trace-cmd is not installed")
    for options, name in (([], "trace-cmd.txt"), (["-t"], "trace-cmd-t.txt")):
        printed = subprocess.run(
            ["trace-cmd", "report", *options, "-i", SAMPLE], capture_output=True, check=True
        )
        same = [
            table.drop("err").rows()
            for table in (decode(data)["calls"] for data in (printed.stdout, (GOLDEN / name).read_bytes()))
        ]
        assert same[0] == same[1]


def test_without_t_stamps_are_microseconds_and_say_so() -> None:
    rounded, full = decode((GOLDEN / "trace-cmd.txt").read_bytes())["events"], decode(FULL)["events"]
    assert ((rounded["ts"] - full["ts"]).abs() <= rounded["err"]).all() and (rounded["err"] == 1000).all()


def test_a_comm_with_blanks_and_the_name_of_an_instance_are_told_apart() -> None:
    line = b"run.n1-3.trace-cmd:  Client manageme-1857  [001]   280.862969835: netif_rx:   dev=lo len=9\n"
    row = decode(b"cpus=2\n" + line)["events"].row(0, named=True)
    assert (row["comm"], row["pid"], row["dev"]) == ("Client manageme", 1857, "lo")


def test_dropped_events_are_counted_and_break_what_was_open() -> None:
    head = b"  ping-1  [000]  1.%09d: "
    text = (
        b"cpus=2\n"
        + head % 1
        + b"funcgraph_entry:                   |  f() {\nCPU:0 [5 EVENTS DROPPED]\n"
        + head % 9
        + b"funcgraph_exit:         0.007 us   |  }\nCPU:1 [EVENTS DROPPED]\n"
    )
    decoded = decode(text)
    assert losses(decoded) == [("lost events", 5), ("lost events", 1), ("broken calls", 1)]
    assert decoded["calls"].is_empty()


def test_stacks_and_functions_as_trace_cmd_prints_them() -> None:
    text = (
        b"cpus=1\n  ping-1  [000]  1.000001: netif_rx:             dev=lo len=9\n"
        b"  ping-1  [000]  1.000001: kernel_stack:         <stack trace >\n"
        b"=> __netif_rx (ffffffff81000000)\n=> veth_xmit [veth] (ffffffffc0000000)\n"
        b"  ping-1  [000]  1.000002: function:             ip_rcv <-- netif_receive_skb\n"
    )
    decoded = decode(text)
    frames = decoded["frames"].select("symbol", "module").rows()
    assert frames == [("veth_xmit", "veth"), ("__netif_rx", "")] and decoded["events"]["stack"].to_list() == [
        0
    ]
    assert decoded["calls"].select("function", "parent").rows() == [("ip_rcv", "netif_receive_skb")]
    assert not losses(decoded)


def test_a_file_of_another_format_is_refused() -> None:
    with pytest.raises(TraceFileError, match="expected 'cpus=2'"):
        decode(b"\x7fELF\x02\x01 no trace\n" * 3)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(FULL) - 1), st.integers(0, 255), st.booleans())
def test_damage_changes_no_event_before_it(at: int, value: int, cut: bool) -> None:
    data = FULL[:at] if cut else FULL[:at] + bytes([value]) + FULL[at + 1 :]
    try:
        got = decode(data)
    except TraceFileError:
        assert at < 200
        return
    sure = sum(b"funcgraph" not in line for line in FULL[:at].split(b"\n")[:-1][1:])
    whole = decode(FULL)["events"].select(EVENT)
    assert got["events"].select(EVENT).rows()[:sure] == whole.rows()[:sure]
    assert isinstance(got["calls"], pl.DataFrame)
