"""Text of tracefs beyond plain events: functions, user stacks, variants of the columns, what was lost."""

import io
import time
from pathlib import Path

import polars as pl
import pytest

from swarmscope.trace.formats import base, ftrace_text
from swarmscope.trace.formats.base import Decoded, Source

GOLDEN = Path(__file__).parent.parent / "golden"
HEAD = b"# tracer: nop\n"


def decode(data: bytes, **source) -> Decoded:
    return ftrace_text.decode(io.BytesIO(data), Source("t", kernel="k", **source))


def stack(decoded: Decoded, row: int) -> list[tuple[str, str]]:
    frames = decoded["stacks"]["frames"][decoded["events"]["stack"][row]]
    return [(decoded["frames"]["raw"][f], decoded["frames"]["module"][f]) for f in frames]


def test_what_the_function_tracer_wrote_are_calls_with_their_caller_and_no_duration() -> None:
    calls = decode(
        HEAD + b"  ping-1     [000] ..... 12.300001: ip_rcv <-netif_receive_skb\n"
        b"  ping-1     [000] d.h1. 12.300002: veth_xmit+0x0/0x210 [veth] <-dev_hard_start_xmit+0x90/0x1d0\n"
        b"  ping-1     [000] ..... 12.300003: ip_rcv(skb=0xffff888100000001, dev=0x0) <-deliver [mod]\n"
    )["calls"]
    assert calls.select("ts", "cpu", "pid", "comm", "function", "parent").rows() == [
        (12_300_001_000, 0, 1, "ping", "ip_rcv", "netif_receive_skb"),
        (12_300_002_000, 0, 1, "ping", "veth_xmit", "dev_hard_start_xmit"),
        (12_300_003_000, 0, 1, "ping", "ip_rcv", "deliver"),
    ]
    assert calls["dur"].null_count() == 3 and (calls["err"] == 1000).all()


def test_the_programs_own_stack_stands_above_the_kernels() -> None:
    decoded = decode((GOLDEN / "ftrace_text" / "user-stacks.txt").read_bytes())
    assert decoded["events"].height == 6 and decoded["events"]["stack"].null_count() == 0
    first = stack(decoded, 0)
    assert first[0] == (" <00007f98dbe58cb3>", "[user]")
    assert first[1] == ("entry_SYSCALL_64_after_hwframe", "")
    assert first[-1] == ("trace_event_raw_event_net_dev_template", "")
    assert decoded["losses"].is_empty()


@pytest.mark.parametrize(
    "columns",
    [b"ping-7 [001] 1.000001:", b"ping-7 [001] b.s2. 1.000001:", b"ping-7 (     7) [001] 1.000001:"],
    ids=["no flags", "flags", "thread group"],
)
def test_columns_that_may_be_missing_are_no_part_of_the_event(columns: bytes) -> None:
    row = decode(HEAD + columns + b" netif_rx: dev=lo len=84\n")["events"].row(0, named=True)
    assert (row["comm"], row["pid"], row["cpu"], row["ts"], row["len"]) == ("ping", 7, 1, 1_000_001_000, 84)


def test_lost_events_are_counted_per_cpu_and_an_unknown_number_is_one() -> None:
    losses = decode(HEAD + b"CPU:0 [LOST 12 EVENTS]\nCPU:1 [LOST EVENTS]\n##### CPU 1 buffer started ####\n")[
        "losses"
    ]
    assert losses.select("what", "count").rows() == [("lost events", 12), ("lost events", 1)]
    assert losses["detail"][0] == f"CPU 0, before byte {len(HEAD)}"


@pytest.mark.parametrize("size", [64, 300, 1000, 5000])
@pytest.mark.parametrize("name", ["stacks-tgid.txt", "overrun.txt", "lost-hashed.txt", "odd-comm-hashed.txt"])
def test_where_a_file_is_split_into_pieces_changes_nothing(
    name: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (GOLDEN / "ftrace-text" / name).read_bytes()
    whole = decode(data)
    monkeypatch.setattr(base, "CHUNK", size)
    pieces = decode(data)
    for table in ("events", "stacks", "frames", "losses"):
        assert pieces[table].equals(whole[table]), table


def test_an_event_that_has_one_block_of_stack_for_many_megabytes_is_read_in_no_time() -> None:
    head = b"  ping-1 [000] b.... 1.000001: "
    line = head + b"netif_rx: dev=lo len=84\n" + head + b"<stack trace>\n"
    start = time.perf_counter()
    decoded = decode(HEAD + line + b" => f\n" * 2_000_000)
    assert time.perf_counter() - start < 20 and decoded["events"].height == 1


def test_tables_without_events_have_all_columns_and_no_rows() -> None:
    decoded = decode(HEAD)
    assert decoded["events"].is_empty() and decoded["events"].schema["ts"] == pl.Int64()
    assert decode(b"")["losses"]["what"].to_list() == ["damaged"]
