"""perf trace's text: events, system calls, clocks, and what happens when it is damaged."""

from __future__ import annotations

import io
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmscope.errors import TraceFileError
from swarmscope.trace.formats import perf_trace_text
from swarmscope.trace.formats.base import Decoded, Source
from tests.unit.recording_here import need

ROOT = Path(__file__).parent.parent.parent
GOLDEN = ROOT / "tests" / "golden" / "perf_trace"
SAMPLE = ROOT / "collectors" / "perf-trace" / "sample" / "perf-trace.txt"
EXAMPLES = 10_000 if os.environ.get("SWARMSCOPE_LONG") else 300


def decode(data: bytes, **source: Any) -> Decoded:
    return perf_trace_text.decode(io.BytesIO(data), Source("t", kernel="k", **source))


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.txt").read_bytes()


def losses(decoded: Decoded) -> dict[str, int]:
    return dict(decoded["losses"].group_by("what").agg(pl.col("count").sum()).iter_rows())


def plainly(text: str) -> list[tuple[Any, ...]]:
    """Events of the usual form, read in the plainest way."""
    rows = []
    for line in text.splitlines():
        if match := re.match(r" *(\d+)\.(\d{3}) (\S+)/(\d+) ([\w]+:\w+)\((.*)\)$", line):
            fields = dict(re.findall(r'(\w+): "?([^",]*)"?', match[6]))
            rows.append(
                (
                    int(match[1]) * 10**6 + int(match[2]) * 1000,
                    int(match[4]),
                    match[3],
                    match[5],
                    fields.get("name"),
                    int(fields["skbaddr"], 16) if "skbaddr" in fields else None,
                    int(fields["len"]) if "len" in fields else None,
                    int(fields["protocol"]) if "protocol" in fields else None,
                )
            )
    return rows


COLUMNS = ["ts", "pid", "comm", "event", "dev", "skb", "len", "proto"]


@pytest.mark.parametrize("name", ["events", "chains"])
def test_events_have_the_fields_that_were_printed(name: str) -> None:
    decoded = decode(golden(name))
    reference = plainly(golden(name).decode())
    assert decoded["events"].select(COLUMNS).rows() == reference and len(reference) > 5
    assert losses(decoded) == {"relative clock": 1} and (decoded["events"]["err"] == 1000).all()


def test_events_recorded_here_are_all_there(tmp_path: Path) -> None:
    need("perf", "ping")
    path = tmp_path / "trace.txt"
    command = ["perf", "trace", "-T", "--no-syscalls", "--event", "net:*,skb:consume_skb", "-o", str(path)]
    done = subprocess.run([*command, "--", "ping", "-q", "-f", "-c", "20", "127.0.0.1"], capture_output=True)
    if done.returncode:
        pytest.skip(f"perf trace cannot record here: {done.stderr.decode()[-200:]}")
    decoded = decode(path.read_bytes())
    reference = plainly(path.read_text())
    assert decoded["events"].select(COLUMNS).rows() == reference and len(reference) > 100
    assert losses(decoded) == {"other clock": len(reference)}


def test_the_collectors_clock_lines_lead_to_the_monotonic_clock() -> None:
    text = SAMPLE.read_bytes()
    decoded = decode(text)
    bare = decode(text[: text.index(b"# clock")])
    ahead = (bare["events"]["ts"] - decoded["events"]["ts"]).to_list()
    assert all(104_966 <= step <= 105_129 for step in ahead) and losses(decoded) == {}
    assert (decoded["events"]["err"] == 1000 + 1837).all()
    assert losses(bare) == {"other clock": decoded["events"].height}


def test_call_chains_belong_to_their_event() -> None:
    decoded = decode(golden("chains"))
    names = decoded["frames"]["symbol"]
    stacks = [[names[n] for n in frames] for frames in decoded["stacks"]["frames"].to_list()]
    assert [stack[-1] for stack in stacks] == ["__dev_queue_xmit"] * len(stacks)
    blocks = re.split(rb"(?m)^ {5,9}\d.*\n", golden("chains"))[1:]
    assert [len(stacks[n]) for n in decoded["events"]["stack"]] == [block.count(b"\n") for block in blocks]
    modules = dict(decoded["frames"].select("symbol", "module").iter_rows())
    assert modules["__sys_sendto"] == "" and "[user]" in modules.values()


def test_system_calls_are_calls() -> None:
    decoded = decode(golden("calls"))
    calls = decoded["calls"]
    text = golden("calls").decode()
    assert calls.height == len(re.findall(r"\( *[\d.]+ ms\)", text))
    assert losses(decoded)["calls without their beginning"] == text.count(" ? (")
    assert losses(decoded)["calls without their end"] == text.count("= ?")
    first = calls.row(0, named=True)
    assert (first["function"], first["ts"], first["dur"]) == ("sys_brk", 56_000, 13_000)
    assert first["retval"] == 0x558D45AB2000 and first["comm"] == "ping"
    errors = calls.filter(pl.col("retval") < 0)["retval"].to_list()
    assert len(errors) == text.count(" = -1 E")


def test_a_call_that_was_interrupted_counts_once() -> None:
    text = (
        b"         ? (         ): a b/1  ... [continued]: futex())            = 0\n"
        b"     0.039 (         ): a b/1 sched_yield()                         ...\n"
        b"     0.040 ( 0.001 ms): c/2 read(fd: 8, buf: 0x7f, count: 512)      = -1 EAGAIN (Try again)\n"
        b"     0.039 ( 0.174 ms): a b/1  ... [continued]: sched_yield())      = 0\n"
        b"     0.300 (         ): c/2 ppoll(ufds: 0x55, nfds: 83, tsp: 0x7f)  ...\n"
        b"     0.310 (18446744073649.109 ms): c/2 ppoll(ufds: 0x55)           = 0 (Timeout)\n"
        b'     0.320 (         ): c/2 net:netif_rx(skbaddr: 0x12345, len: 93, name: "lo")\n'
        b"LOST 12 events!\n"
    )
    decoded = decode(text)
    assert decoded["calls"].select("ts", "pid", "comm", "function", "dur", "retval").rows() == [
        (40_000, 2, "c", "sys_read", 1_000, -11),
        (39_000, 1, "a b", "sys_sched_yield", 174_000, 0),
    ]
    assert decoded["events"].select("ts", "pid", "event", "dev", "skb").rows() == [
        (320_000, 2, "net:netif_rx", "lo", None)
    ]
    assert losses(decoded) == {
        "calls that end before they begin": 1,
        "calls without their beginning": 1,
        "calls without their end": 1,
        "hashed pointers": 1,
        "lost events": 12,
        "relative clock": 1,
    }


def test_a_single_thread_is_printed_without_its_name() -> None:
    decoded = decode(b"     0.158 ( 0.027 ms): futex(uaddr: 0x55, op: WAKE)  = 1\n     0.200 net:x(len: 5)\n")
    assert decoded["calls"].select("comm", "pid", "function").rows() == [("", None, "sys_futex")]
    assert decoded["events"].select("comm", "pid", "len").rows() == [("", None, 5)]


def test_a_task_that_perf_does_not_know_is_still_a_task() -> None:
    decoded = decode(b'299806.931 :-1/-1 net:netif_rx(skbaddr: 0xffff88816ab2cc00, len: 84, name: "a0")\n')
    assert decoded["events"].select("comm", "pid", "dev").rows() == [(":-1", -1, "a0")]
    assert "damaged" not in decoded["losses"]["what"].to_list()


def test_fields_may_be_printed_by_the_event_library() -> None:
    line = b"5000.000 p/1 net:net_dev_start_xmit(dev=lo skbaddr=0xffff888000000001 len=98 protocol=0x0800)\n"
    assert decode(line)["events"].select(COLUMNS[4:]).row(0) == ("lo", 0xFFFF888000000001, 98, 0x800)


def test_the_summary_at_the_end_is_passed_over() -> None:
    summary = b"\n Summary of events:\n\n ping (123), 4 events, 100.0%\n\n   syscall  calls\n"
    assert decode(golden("events") + summary)["events"].equals(decode(golden("events"))["events"])
    assert losses(decode(golden("events") + summary)) == {"relative clock": 1}


def test_lines_may_end_in_carriage_returns() -> None:
    decoded = decode(golden("chains").replace(b"\n", b"\r\n"))
    assert decoded["events"].equals(decode(golden("chains"))["events"])


def test_pieces_of_the_file_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = decode(golden("events"))["events"]
    monkeypatch.setattr("swarmscope.trace.formats.base.CHUNK", 777)
    assert decode(golden("events"))["events"].equals(whole)


def test_the_format_is_recognised_and_nothing_else_is() -> None:
    for text in (golden("events"), golden("calls"), golden("chains"), SAMPLE.read_bytes()):
        assert perf_trace_text.looks_like(text[: 1 << 16])
    others = [
        path
        for pattern in (
            "ftrace*/*.txt",
            "perf-*/*.txt",
            "perf_script/*.txt",
            "perf-stat-csv/*.csv",
            "bpftrace/*",
        )
        for path in GOLDEN.parent.glob(pattern)
    ]
    strace = b'     0.000000 execve("/bin/ls", ["ls"], 0x7ffe) = 0\n123 1.123 read(3) = 5\n' * 9
    for text in (*(path.read_bytes() for path in others), strace, b"", b"0.000 hello\n"):
        assert not perf_trace_text.looks_like(text[: 1 << 16])


def test_a_file_of_something_else_is_refused() -> None:
    for data in (b"\0" * 5000, b"hello world\n" * 500):
        with pytest.raises(TraceFileError):
            decode(data)
    assert losses(decode(b"")) == {"damaged": 1}


WHOLE = golden("events")[:1500] + golden("calls")[:1500] + golden("chains")[:1500]
WHOLE = WHOLE[: WHOLE.rindex(b"\n") + 1]


def rows(decoded: Decoded, table: str) -> list[tuple[Any, ...]]:
    """Rows without stacks: one may be cut with the line behind its event."""
    return decoded[table].drop("stack", strict=False).rows()


AT = {
    "events": [match.start() for match in re.finditer(rb"(?m)^ *[\d.]+ \S+ \w+:\w+\(", WHOLE)],
    "calls": [match.start() for match in re.finditer(rb"(?m)^ *[\d.]+ \( *[\d.]+ ms\)", WHOLE)],
}
"""Where the lines of each table begin."""
ALL = {table: rows(decode(WHOLE), table) for table in AT}


def test_the_text_to_be_damaged_has_rows_of_both_kinds() -> None:
    assert {table: len(found) for table, found in ALL.items()} == {t: len(at) for t, at in AT.items()}
    assert all(len(found) > 5 for found in ALL.values())


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 256))
def test_damage_anywhere_changes_nothing_before_it(where: float, value: int) -> None:
    at = int(len(WHOLE) * where)
    data = WHOLE[:at] if value == 256 else WHOLE[:at] + bytes([value]) + WHOLE[at + 1 :]
    line = WHOLE.rfind(b"\n", 0, at) + 1
    try:
        decoded = decode(data)
    except TraceFileError:
        assert line == 0
        return
    for table, starts in AT.items():
        sure = sum(start < line for start in starts)
        found = rows(decoded, table)
        assert found[:sure] == ALL[table][:sure] and len(found) <= len(ALL[table]) + 1


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_are_refused_or_read_as_damage(data: bytes) -> None:
    decode(WHOLE[: WHOLE.index(b"\n") + 1] + data)
