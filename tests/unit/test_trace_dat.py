"""``trace.dat`` against ``trace-cmd report`` of the same file, event by event."""

from __future__ import annotations

import io
import re
import shutil
import struct
from pathlib import Path

import polars as pl
import pytest
from recording_here import PING, TRACEFS, instance, need, ping, trace_cmd
from reports_of_trace_cmd import Row, report
from synthetic_pages import ENTRY, EXIT, QUEUE, STACK, Pages
from synthetic_trace_dat import TraceDat

from swarmscope.errors import TraceFileError
from swarmscope.trace.call_stream import CallStream
from swarmscope.trace.calls import Edges
from swarmscope.trace.formats import trace_dat
from swarmscope.trace.formats.base import Decoded, Source

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "collectors" / "trace-cmd" / "sample" / "trace.dat"
GOLDEN = ROOT / "tests" / "golden" / "trace_dat"
GRAPH = {"funcgraph_entry", "funcgraph_exit"}
KALLSYMS = b"ffffffff81000000 T outer\nffffffff81000100 T inner\nffffffffc0000000 t veth_xmit\t[veth]\n"
OUTER, INNER = 0xFFFFFFFF81000000, 0xFFFFFFFF81000100
MIXED = re.compile(r"func=(\S+) depth=(\d+)(?: overrun=\d+ calltime=(\w+) rettime=(\w+))?")


def decode(data: bytes | Path) -> Decoded:
    content = data if isinstance(data, bytes) else data.read_bytes()
    return trace_dat.decode(io.BytesIO(content), Source(name="trace.dat"))


def events(decoded: Decoded) -> list[tuple[object, ...]]:
    """Stamp, CPU, pid, comm, event and columns of each event."""
    frame = decoded["events"].with_columns(pl.col("event").str.split(":").list.last())
    return frame.select("ts", "cpu", "pid", "comm", "event", "dev", "skb", "len", "proto").rows()


def printed(rows: list[Row]) -> list[tuple[object, ...]]:
    """The same of printed rows."""
    kept = [row for row in rows if row.event not in GRAPH | {"kernel_stack"}]
    return [(row.ts, row.cpu, row.pid, row.comm, row.event, *row.columns) for row in kept]


def stacks(decoded: Decoded) -> list[list[str] | None]:
    """Each event's stack, innermost first, as trace-cmd prints it: without modules."""
    raw = [name if name.startswith("[") else name.partition(" ")[0] for name in decoded["frames"]["raw"]]
    known = [[raw[frame] for frame in reversed(row)] for row in decoded["stacks"]["frames"].to_list()]
    return [known[one] if one is not None else None for one in decoded["events"]["stack"].to_list()]


def printed_stacks(rows: list[Row]) -> list[list[str] | None]:
    """The same of printed rows: a stack belongs to the last event that still waits for its own.

    An interrupt may write an event and its stack between another one and that one's stack.
    """
    found: list[list[str] | None] = []
    waiting: dict[tuple[str, int, int], list[int]] = {}
    for row in rows:
        lane = waiting.setdefault((row.instance, row.cpu, row.pid), [])
        if row.event == "kernel_stack":
            found[lane.pop()] = row.stack
        elif row.event not in GRAPH:
            lane.append(len(found))
            found.append(None)
    return found


def assert_as_reported(file: Path) -> Decoded:
    decoded, rows = decode(file), report(file)
    assert events(decoded) == printed(rows)
    assert stacks(decoded) == printed_stacks(rows)
    return decoded


@pytest.mark.parametrize(
    "version",
    [["6"], ["7", "--compression", "none"], ["7", "--compression", "zstd"]],
    ids=["6", "7", "7 zstd"],
)
def test_a_recording_made_now_is_read_as_trace_cmd_reports_it(tmp_path: Path, version: list[str]) -> None:
    need("trace-cmd", "ping", "unshare")
    file = tmp_path / "trace.dat"
    systems = [word for name in ("net", "skb", "napi", "sock") for word in ("-e", name)]
    for _ in range(3):  # the top level is everybody's: somebody else may end its events
        trace_cmd("record", "--file-version", *version, "-C", "mono", *systems, "-T", "-o", str(file), *PING)
        decoded = assert_as_reported(file)
        if len(decoded["events"]):
            break
    assert len(decoded["events"]) > 100
    assert decoded["events"]["stack"].null_count() == 0
    assert decoded["losses"].is_empty()


def test_instances_of_one_file_are_merged_by_stamp(tmp_path: Path) -> None:
    need("trace-cmd", "ping")
    file = tmp_path / "trace.dat"
    with instance("one") as one, instance("two") as two:
        (one / "events/net/enable").write_text("1")
        (two / "events/skb/enable").write_text("1")
        (two / "options/stacktrace").write_text("1")
        ping()
        for trace in (one, two):
            (trace / "tracing_on").write_text("0")
        trace_cmd("extract", "-B", one.name, "-B", two.name, "-o", str(file))
    decoded = assert_as_reported(file)
    assert {name.split(":")[0] for name in decoded["events"]["event"]} == {"net", "skb"}
    assert decoded["events"]["ts"].is_sorted()


def test_cycles_of_the_time_stamp_counter_are_kept_and_said_to_be_none_of_the_known_clocks(
    tmp_path: Path,
) -> None:
    need("trace-cmd", "ping", "unshare")
    if "x86-tsc" not in (TRACEFS / "trace_clock").read_text():
        pytest.skip("this machine has no x86-tsc clock")
    file = tmp_path / "trace.dat"
    trace_cmd("record", "-C", "x86-tsc", "-e", "net:net_dev_queue", "-o", str(file), *PING)
    decoded = assert_as_reported(file)
    assert decoded["losses"]["what"].to_list() == ["other clock"]


@pytest.mark.parametrize("file", [SAMPLE, *sorted(GOLDEN.glob("*.dat"))], ids=lambda path: path.name)
def test_recordings_kept_from_before_are_read_as_trace_cmd_reports_them(file: Path) -> None:
    if shutil.which("trace-cmd") is None:
        pytest.skip("not installed here: trace-cmd")
    assert_as_reported(file)


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.dat")), ids=lambda path: path.name)
def test_recordings_kept_from_before_are_read_as_trace_cmd_once_reported_them(file: Path) -> None:
    rows = report(file, printed=(GOLDEN / "report.txt").read_bytes())
    decoded = decode(file)
    assert events(decoded) == printed(rows)
    assert stacks(decoded) == printed_stacks(rows)


def test_every_entry_and_exit_of_a_function_graph_is_the_one_that_trace_cmd_prints(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if shutil.which("trace-cmd") is None:
        pytest.skip("not installed here: trace-cmd")
    given = []
    feed = CallStream.feed

    def spy(stream: CallStream, edges: Edges, **more: object) -> object:
        given.append(edges)
        return feed(stream, edges, **more)

    monkeypatch.setattr(CallStream, "feed", spy)
    decoded = decode(SAMPLE)
    (edges,) = given
    mine = []
    for row in range(len(edges.ts)):
        if edges.function[row] >= 0:
            pid = int(edges.pid[row])
            name = edges.names[edges.function[row]]
            mine.append((int(edges.ts[row]), int(edges.cpu[row]), pid, edges.comm[pid], name))
            mine[-1] += (int(edges.depth[row]), int(edges.dur[row]) if edges.exit[row] else None)
    theirs = []
    for one in report(SAMPLE, "-R"):
        if one.event in GRAPH and (match := MIXED.match(one.text)):
            took = int(match[4], 16) - int(match[3], 16) if match[3] else None
            theirs.append((one.ts, one.cpu, one.pid, one.comm, match[1], int(match[2]), took))
    assert mine == theirs
    assert len(decoded["calls"]) == len(theirs) // 2 == 12


def made(pages: Pages, *, instances: bool = False, options: tuple[tuple[int, bytes], ...] = ()) -> TraceDat:
    """A file with events, a stack and a call on two CPUs, perhaps with an instance."""
    zero = pages.page(
        1_000_000_000_000,
        pages.record(5, pages.queue("eth0")),
        pages.record(1, pages.stack(INNER + 4, OUTER + 8)),
        pages.record(7, pages.queue("eth1", pid=8)),
    ) + pages.page(1_000_000_100_000, pages.record(5, pages.queue("eth2")), lost=12)
    one = pages.page(
        1_000_000_000_001, pages.record(0, pages.entry(OUTER, 0)), pages.record(9, pages.exit(OUTER, 0, 1, 9))
    )
    top = {0: zero, 1: one}
    other = {0: pages.page(1_000_000_000_006, pages.record(0, pages.queue("in-instance"))), 1: b""}
    return TraceDat(
        pages.header,
        {"ftrace": [STACK, ENTRY, EXIT], "net": [QUEUE]},
        {"": top, "second": other} if instances else {"": top},
        kallsyms=KALLSYMS,
        cmdlines=b"7 ping\n8 Client manageme\n",
        options=[(8, struct.pack(pages.order + "I", 2)), *options],
        page_size=pages.size,
        big=pages.big,
    )


def versions(file: TraceDat) -> dict[str, bytes]:
    """The file in each version and compression."""
    packed = {f"7 {name}": file.version7(name) for name in ("none", "zlib", "zstd")}
    return {"6": file.version6(), **packed}


@pytest.mark.parametrize("pages", [Pages(), Pages(big=True), Pages(size=8192)], ids=["", "big", "8 KiB"])
@pytest.mark.parametrize("instances", [False, True])
def test_all_versions_of_one_recording_hold_the_same(pages: Pages, instances: bool) -> None:
    for name, data in versions(made(pages, instances=instances)).items():
        found = decode(data)
        names = ["eth0", *["in-instance"] * instances, "eth1", "eth2"]
        assert found["events"]["dev"].to_list() == names, name
        assert found["events"]["ts"][0] == 1_000_000_000_005
        assert stacks(found)[0] == ["inner", "outer"]
        assert found["calls"].select("ts", "cpu", "function", "dur").rows() == [
            (1_000_000_000_001, 1, "outer", 8)
        ]
        (loss,) = found["losses"].rows(named=True)
        assert (loss["what"], loss["count"]) == ("lost events", 12)


@pytest.mark.parametrize("version", ["6", "7 none", "7 zstd"])
@pytest.mark.parametrize("pages", [Pages(), Pages(big=True)], ids=["", "big"])
@pytest.mark.parametrize("instances", [False, True])
def test_files_made_here_are_files_to_trace_cmd(
    tmp_path: Path, version: str, pages: Pages, instances: bool
) -> None:
    if shutil.which("trace-cmd") is None:
        pytest.skip("not installed here: trace-cmd")
    file = tmp_path / "trace.dat"
    file.write_bytes(versions(made(pages, instances=instances))[version])
    assert_as_reported(file)


def samples(*times: int, interpolate: bool) -> bytes:
    """Option TIME_SHIFT for two CPUs."""
    offsets = [-1000 + 777 * count for count in range(len(times))]
    rows = struct.pack(f"<{len(times)}Q", *times) + struct.pack(f"<{len(times)}q", *offsets)
    rows += struct.pack(f"<{len(times)}Q", *[1] * len(times))
    cpu = struct.pack("<I", len(times)) + rows
    return struct.pack("<QII", 5, int(interpolate), 2) + cpu * 2


@pytest.mark.parametrize(
    "options",
    [
        [(14, struct.pack("<IIQ", 0x5B6DB6DB, 31, 0))],
        [(14, struct.pack("<IIQ", 1 << 30, 32, 0))],
        [(12, samples(1_000_000_000_000, interpolate=False))],
        [(12, samples(1_000_000_000_000, 1_000_000_000_010, interpolate=True))],
        [(12, samples(999_000_000_000, 1_000_000_000_008, 1_000_000_050_000, interpolate=True))],
        [(12, samples(1, 2, 3, interpolate=False)), (14, struct.pack("<IIQ", 3, 1, 0))],
    ],
)
@pytest.mark.parametrize("version", ["6", "7 none"])
def test_clocks_are_turned_into_nanoseconds_as_trace_cmd_does(
    tmp_path: Path, version: str, options: list[tuple[int, bytes]]
) -> None:
    if shutil.which("trace-cmd") is None:
        pytest.skip("not installed here: trace-cmd")
    file = tmp_path / "trace.dat"
    file.write_bytes(versions(made(Pages(), options=tuple(options)))[version])
    decoded = assert_as_reported(file)
    assert decoded["events"]["ts"][0] != 1_000_000_000_005


def test_counters_of_lost_events_in_the_file_are_told() -> None:
    stats = b"CPU: 1\nentries: 5\noverrun: 17\ncommit overrun: 0\ndropped events: 2\n\0"
    for data in versions(made(Pages(), options=((2, stats),))).values():
        found = decode(data)["losses"].filter(pl.col("what") != "lost events")
        assert found.select("what", "count").rows() == [("overrun", 17), ("dropped", 2)]


def test_what_a_latency_tracer_left_is_read_as_text() -> None:
    text = b"# tracer: nop\n#\n ping-7 [000] b.... 1.000002: net_dev_queue: dev=lo len=9\n"
    data = made(Pages()).version6()
    found = decode(data[: data.index(b"flyrecord\0")] + b"latency  \0" + text)
    assert found["events"].select("ts", "dev", "len").rows() == [(1_000_002_000, "lo", 9)]


@pytest.mark.parametrize(
    "data", [b"", b"x" * 100, b"\x17\x08\x44tracing", b"\x17\x08\x44tracing9\0\0\x08\0\0\0\0"]
)
def test_a_file_of_another_format_is_refused(data: bytes) -> None:
    with pytest.raises(TraceFileError, match=r"trace\.dat"):
        decode(data)
