"""perf script's text in all layouts that perf prints, against a plain reading of the fullest of them."""

from __future__ import annotations

import functools
import io
import re
import subprocess
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from swarmscope.errors import TraceFileError
from swarmscope.trace.formats import perf_script
from swarmscope.trace.formats.base import Decoded, Source, joined
from tests.unit.recording_here import need

GOLDEN = Path(__file__).parent.parent / "golden" / "perf_script"
FULL = "comm,pid,tid,cpu,time,event,trace,ip,sym,dso"
CHAINED = (
    FULL,
    "comm,tid,time,event,trace,ip,sym",
    "comm,pid,cpu,time,event,ip,sym,symoff,dso",
    "comm,tid,cpu,misc,time,event,trace,ip,sym",
    "comm,pid,tid,cpu,tod,time,period,event,trace,ip,sym",
    "pid,tid,time,event,trace,ip,sym",
    "comm,time,event,trace,ip,sym",
    "time,event,trace,ip,sym",
    "comm,tid,time,ip,sym",
    "comm,cpu,time,period,ip,sym",
    "comm,tid,event,ip,sym",
    "comm,event,ip,sym",
    "comm,tid,ip,sym",
    "comm,ip,sym",
    "ip,sym",
    "comm,pid,tid,cpu,time,event,trace",
    "comm,tid,time,event",
    "comm,tid,cpu,event,trace",
)
ONE_LINE = (
    FULL,
    "comm,tid,time,event,ip,sym",
    "comm,tid,cpu,time,period,event,trace,ip,sym,symoff,dso",
    "comm,tid,ip,sym",
    "comm,ip,sym,dso",
    "ip,sym",
    "comm,pid,event,ip,sym",
    "comm,tid,time,event,trace",
)


def decode(data: bytes, **source: Any) -> Decoded:
    return perf_script.decode(io.BytesIO(data), Source("t", kernel="k", **source))


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.txt").read_bytes()


def losses(decoded: Decoded) -> dict[str, int]:
    return dict(decoded["losses"].group_by("what").agg(pl.col("count").sum()).iter_rows())


def chains(decoded: Decoded, column: str = "symbol") -> list[tuple[str, ...] | None]:
    """The names of each event's stack, outermost first."""
    names = decoded["frames"][column].to_list()
    stacks = {n: tuple(names[f] for f in frames) for n, frames in decoded["stacks"].iter_rows()}
    return [None if n is None else stacks[n] for n in decoded["events"]["stack"].to_list()]


def plainly(text: str) -> list[dict[str, Any]]:
    """The fullest layout, read in the plainest way."""
    rows: list[dict[str, Any]] = []
    head = re.compile(
        r" *(.{0,15}?) +-?\d+/(-?\d+) +\[(\d+)\] +(\d+)\.(\d{9}): +(?:\d+ )?([\w:-]+):(?: (.*?))?"
        r"(?:(?: |^)( *[0-9a-f]{4,16}) (\S.*?) \((.*)\))?$"
    )
    for line in text.splitlines():
        if line.startswith("\t"):
            _, name = line.split(None, 1)
            rows[-1]["chain"].insert(0, name)
        elif line:
            match = head.match(line)
            assert match, line
            comm, tid, cpu, seconds, nanos, event, trace, _, symbol, place = match.groups()
            rows.append(
                {
                    "comm": comm,
                    "pid": int(tid),
                    "cpu": int(cpu),
                    "ts": int(seconds) * 10**9 + int(nanos),
                    "event": event,
                    "chain": [f"{symbol} ({place})"] if symbol else [],
                    **{
                        name: (int(found[1], 0) if name != "dev" else found[1])
                        if (found := re.search(rf"\b{field}=(\S+)", trace or ""))
                        else None
                        for name, field in (("dev", "dev"), ("skb", "skbaddr"), ("len", "len"))
                    },
                }
            )
    return rows


@functools.cache
def printed(path: Path, fields: str, *more: str) -> bytes:
    """What perf script prints; it complains on stderr about fields that some kinds of events lack."""
    command = ["perf", "script", "-i", str(path), *(["-F", fields] if fields else []), *more]
    return subprocess.run(command, check=True, capture_output=True).stdout


def recorded(path: Path, *options: str, count: int = 150) -> Path:
    command = ["perf", "record", "-q", "-o", str(path), "-k", "mono", *options, "--"]
    done = subprocess.run([*command, "ping", "-q", "-f", "-c", str(count), "127.0.0.1"], capture_output=True)
    if done.returncode:
        pytest.skip(f"perf cannot record here: {done.stderr.decode()[-200:]}")
    return path


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("perf", "ping")
    events = ["-e", "net:*,skb:consume_skb,cpu-clock", "-F", "4000", "-g"]
    return recorded(tmp_path_factory.mktemp("perf") / "chained.data", *events, "--sample-cpu")


@pytest.fixture(scope="module")
def one_line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("perf", "ping")
    events = ["-e", "net:net_dev_queue,cpu-clock:k,cpu-clock:u", "-F", "4000"]
    return recorded(tmp_path_factory.mktemp("perf") / "line.data", *events, "--sample-cpu", count=2000)


def bare(name: str) -> str:
    """A frame without its object and offset."""
    return re.sub(r"\+0x[0-9a-f]+$", "", re.sub(r" \((?:[^()]|\(deleted\))*\)$", "", name))


def same(decoded: Decoded, reference: list[dict[str, Any]], fields: str, *, micro: bool = False) -> None:
    wanted = set(fields.split(","))
    events = decoded["events"]
    assert events.height == len(reference)
    assert "damaged" not in losses(decoded)
    for name, field in (("comm", "comm"), ("cpu", "cpu"), ("event", "event")):
        expected = [row[name] if field in wanted else ("" if name != "cpu" else None) for row in reference]
        assert events[name].to_list() == expected
    if "tid" in wanted:
        assert events["pid"].to_list() == [row["pid"] for row in reference]
    for name in ("dev", "skb", "len"):
        expected = [row[name] if "trace" in wanted else None for row in reference]
        assert events[name].to_list() == expected
    if "time" in wanted:
        stamps = [row["ts"] // 1000 * 1000 if micro else row["ts"] for row in reference]
        assert events["ts"].to_list() == stamps
        assert (events["err"] == (1000 if micro else 0)).all()
    else:
        assert (events["ts"] == 0).all() and losses(decoded)["events without time"] == len(reference)
    got = chains(decoded, "raw")
    if "ip" not in wanted:
        assert got == [None] * len(reference)
        return
    for chain, row in zip(got, reference, strict=True):
        assert [bare(name) for name in chain or ()] == [bare(name) for name in row["chain"]]


@pytest.mark.parametrize("fields", CHAINED)
def test_every_layout_with_call_chains_gives_the_same_events(chained: Path, fields: str) -> None:
    reference = plainly(printed(chained, FULL, "--ns").decode())
    assert len(reference) > 100 and {row["event"] for row in reference} >= {"net:netif_rx", "cpu-clock"}
    if fields == "ip,sym":  # of an event without a chain nothing is printed then
        reference = [row for row in reference if row["chain"]]
    # Without a call chain on the way, perf prints an address where ip is asked for.
    same(decode(printed(chained, fields, "--ns")), reference, fields)
    if "time" in fields:
        same(decode(printed(chained, fields)), reference, fields, micro=True)


@pytest.mark.parametrize("fields", ONE_LINE)
def test_every_layout_on_one_line_gives_the_same_events(one_line: Path, fields: str) -> None:
    reference = plainly(printed(one_line, FULL, "--ns").decode())
    assert len(reference) > 50 and len({row["event"] for row in reference}) > 1
    same(decode(printed(one_line, fields, "--ns")), reference, fields)


def test_the_default_layout_and_the_fullest_are_the_same_events(chained: Path, one_line: Path) -> None:
    for path in (chained, one_line):
        full = decode(printed(path, FULL, "--ns"))
        short = decode(printed(path, "", "--ns"))
        columns = ["ts", "cpu", "pid", "comm", "event", "dev", "skb", "len", "proto"]
        assert short["events"].select(columns).equals(full["events"].select(columns))
        if path == chained:
            assert chains(short) == chains(full)


def test_the_committed_texts_of_one_recording_agree() -> None:
    reference = plainly(golden("whole").decode())
    same(decode(golden("whole")), reference, FULL)
    default = decode(golden("default"))
    same(default, reference, FULL, micro=True)
    assert chains(default) == chains(decode(golden("whole")))


def test_frames_of_a_program_are_told_from_the_kernels() -> None:
    decoded = decode(golden("program"))
    modules = dict(decoded["frames"].select("symbol", "module").iter_rows())
    assert modules["update_active"] == "[user]" and modules["do_syscall_64"] == ""
    assert (chains(decoded)[1] or ())[:2] == ("[unknown]", "__GI___open64_nocancel")
    assert decoded["events"]["cpu"].null_count() == decoded["events"].height > 5


def test_events_with_and_without_an_address_on_their_line_mix() -> None:
    decoded = decode(golden("mixed"))
    events = decoded["events"]
    text = golden("mixed")
    assert events.height == text.count(b"\n") and "damaged" not in losses(decoded)
    chained = events["stack"].is_not_null()
    assert chained.sum() == text.count(b" cpu-clock:")
    assert (events.filter(chained)["event"].str.starts_with("cpu-clock:")).all()
    assert events.filter(~chained)["cpu"].null_count() == 0 and events.filter(chained)["cpu"].is_null().all()


def test_lines_of_source_files_are_passed_over() -> None:
    decoded = decode(golden("srcline"))
    assert "damaged" not in losses(decoded)
    assert [len(chain or ()) for chain in chains(decoded)] == [
        block.count("\n\t") for block in golden("srcline").decode().split("\n\n")[:-1]
    ]


def test_what_perf_says_it_lost_is_a_loss_and_no_event() -> None:
    decoded = decode(golden("lost"))
    assert losses(decoded) == {"lost events": 579}
    assert decoded["events"].height == golden("lost").count(b"skbaddr=") + golden("lost").count(b" ret=")
    lines = (
        b"ping 1 [000] 1.000001: PERF_RECORD_LOST_SAMPLES lost 7\n"
        b"ping 1 [000] 1.000001: PERF_RECORD_COMM: ping:1/1\n"
        b"Warning:\nProcessed 9 events and lost 3 chunks!\n\nCheck IO/CPU overload!\n\n"
    )
    assert losses(decode(golden("lost") + lines)) == {"lost events": 579, "lost samples": 7, "lost chunks": 3}


def test_forced_loss_is_counted_as_perf_counts_it(tmp_path: Path) -> None:
    need("perf", "ping")
    path = recorded(tmp_path / "lost.data", "-m", "1", "-e", "net:*,skb:*", "-g", "-a", count=2000)
    text = printed(path, "", "--show-lost-events")
    expected = sum(int(n) for n in re.findall(rb"PERF_RECORD_LOST lost (\d+)", text))
    decoded = decode(text)
    assert losses(decoded) == ({"lost events": expected} if expected else {})
    assert decoded["events"].height == len(plainly(printed(path, FULL, "--ns").decode()))


def test_comments_and_other_records_are_no_events(chained: Path) -> None:
    plain = decode(printed(chained, ""))
    text = printed(chained, "", "--header", "--show-task-events", "--show-mmap-events")
    decoded = decode(text)
    assert decoded["events"].equals(plain["events"]) and decoded["losses"].is_empty()


def test_lines_may_end_in_carriage_returns() -> None:
    text = golden("default")
    decoded = decode(text.replace(b"\n", b"\r\n"))
    assert decoded["events"].equals(decode(text)["events"]) and decoded["losses"].is_empty()
    broken = text.replace(b"\n", b"\r\n") + b"what is this?\r\n"
    detail = decode(broken)["losses"]["detail"].item()
    assert f"byte {len(broken) - 15}: " in detail


@pytest.mark.parametrize(
    "comm", ["pi ng: [3] -x", "a 1/1 [1] 1: x", "5 1.000000: a:", "x:y: z", ":77", "[k]"]
)
def test_a_comm_may_hold_what_looks_like_columns(comm: str) -> None:
    text = golden("whole").replace(b"ping", comm.encode())
    decoded = decode(text)
    assert decoded["events"]["comm"].unique().to_list() == [comm]
    rest = [name for name in decoded["events"].columns if name != "comm"]
    assert decoded["events"].select(rest).equals(decode(golden("whole"))["events"].select(rest))


@pytest.mark.parametrize(
    ("event", "name"),
    [
        ("cycles:", "cycles"),
        ("cpu-clock:pppH:", "cpu-clock:pppH"),
        ("cpu/event=0x3c,umask=0x0/:", "cpu/event=0x3c,umask=0x0/"),
        ("r01c2:", "r01c2"),
        ("probe_libc:malloc:", "probe_libc:malloc"),
        ("[unknown]:", "[unknown]"),
    ],
)
def test_events_of_any_kind_keep_their_names(event: str, name: str) -> None:
    text = f"ping 14399 33861.385705:     250000 {event} \n\t           153e0 main (/usr/bin/ping)\n\n"
    events = decode(text.encode())["events"]
    assert events["event"].to_list() == [name] and events["stack"].to_list() == [0]


def test_frames_of_every_kind_are_read() -> None:
    frames = {
        "ffffffff81e63976 __dev_queue_xmit+0x486 ([kernel.kallsyms])": ("__dev_queue_xmit", ""),
        "ffffffffc0a63976 br_nf_forward.isra.0 ([br_netfilter])": ("br_nf_forward", "br_netfilter"),
        "ffffffffc0a63977 vxlan_xmit (/lib/modules/6.1/kernel/drivers/net/vxlan/vxlan.ko)": (
            "vxlan_xmit",
            "vxlan",
        ),
        "ffffffff81e63977 skb_put (inlined)": ("skb_put", ""),
        "ffffffff81e63978 [unknown] ([kernel.kallsyms])": ("[unknown]", ""),
        "ffffffff81e63979": ("ffffffff81e63979", ""),
        "ffffffff81e6397a ([kernel.kallsyms])": ("ffffffff81e6397a", ""),
        "     55a867a7b1d0 operator new(unsigned long) (/usr/lib/x.so.6)": (
            "operator new(unsigned long)",
            "[user]",
        ),
        "         7ffe1000 [unknown] (/tmp/x (deleted))": ("[unknown]", "[user]"),
        "         7ffe1001 [unknown] ([vdso])": ("[unknown]", "[user]"),
        "fffffffffffffffe [unknown] ([unknown])": ("[unknown]", "[user]"),
    }
    text = "ping 1 [000] 1.000001: net:netif_rx: \n" + "".join(f"\t{line}\n" for line in frames) + "\n"
    decoded = decode(text.encode())
    assert losses(decoded) == {}
    found = decoded["frames"].select("symbol", "module").rows()
    assert found == list(frames.values())


def test_a_line_of_its_own_kind_is_damage_with_its_offset() -> None:
    text = golden("default")
    cut = text.index(b"\n\n") + 2
    broken = text[:cut] + b"Segmentation fault\n" + text[cut:]
    decoded = decode(broken)
    assert decoded["events"].equals(decode(text)["events"])
    assert f"byte {cut}: not an event: 'Segmentation fault'" in decoded["losses"]["detail"].item()


def test_the_file_may_end_anywhere_and_the_last_event_keeps_no_half_stack() -> None:
    text = golden("whole")
    whole = chains(decode(text))
    for at in range(text.index(b"\n\n") + 2, 4000, 7):
        decoded = decode(text[:at])
        got = chains(decoded)
        assert got[:-1] == whole[: len(got) - 1] and got[-1] in (None, whole[len(got) - 1])


def test_a_file_of_something_else_is_refused() -> None:
    for data in (b"\0" * 5000, b"hello world\nthis is a text\n" * 50, b"1,2,3\n" * 400):
        with pytest.raises(TraceFileError):
            decode(data)
    assert decode(b"")["events"].is_empty() and decode(b"# a comment\n")["events"].is_empty()


def test_pieces_of_the_file_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    text = golden("whole") * 30
    whole = decode(text)
    assert whole["events"].height > 200
    for size in (1000, 4096, 20000):
        monkeypatch.setattr("swarmscope.trace.formats.perf_script.pieces.CHUNK", size)
        monkeypatch.setattr("swarmscope.trace.formats.perf_script.reader.BATCH", size // 200)
        batches = list(perf_script.batches(io.BytesIO(text), Source("t", kernel="k")))
        assert len(batches) > 2 and all(batch["events"].height for batch in batches[:-1])
        cut = joined(batches)
        for name in whole.tables:
            assert cut[name].equals(whole[name]), name
        lines = decode(golden("mixed") * 9)
        assert lines["events"].height == 9 * golden("mixed").count(b"\n") and lines["losses"].is_empty()


def test_a_long_file_with_many_names_and_stacks_is_read_on() -> None:
    head = "c{0} {0} [000] 1.{0:09d}: net:netif_rx: dev=d{0} len={0}\n"
    block = head + "\tffffffff81000000 f{0}\n\tffffffff82000000 g\n\n"
    decoded = decode("".join(block.format(n) for n in range(1, 9001)).encode())
    events = decoded["events"]
    assert events["pid"].to_list() == list(range(1, 9001)) and decoded["losses"].is_empty()
    assert events["dev"].to_list() == [f"d{n}" for n in range(1, 9001)]
    assert chains(decoded) == [("g", f"f{n}") for n in range(1, 9001)]


def test_the_head_of_a_text_of_perf_scripts_is_recognised(chained: Path, one_line: Path) -> None:
    for path, sets in ((chained, CHAINED), (one_line, ONE_LINE)):
        for fields in ("", *sets[1::3]):
            assert perf_script.looks_like(printed(path, fields)[: 1 << 16]), fields
    for name in ("default", "whole", "program", "mixed", "lost", "srcline"):
        assert perf_script.looks_like(golden(name))


def test_no_other_text_is_taken_for_perf_scripts() -> None:
    root = GOLDEN.parent
    others = [
        *(root / "ftrace-text").glob("*.txt"),
        *(root / "ftrace_text").glob("*.txt"),
        *(root / "perf-stat-csv").glob("*.csv"),
        *(root / "perf_trace").glob("*.txt"),
        *(root / "bpftrace").glob("*"),
        *(root.parent.parent / "collectors").glob("*/sample/*.txt"),
    ]
    for path in others:
        if path.name != "perf.txt" and "perf-script" not in path.parts:
            assert not perf_script.looks_like(path.read_bytes()[: 1 << 16]), path
    strace = b'1234 12:00:00.123456 sendto(3, "a: b", 4, 0, NULL, 0) = 4\n0.000123 read(3) = 1\n' * 20
    log = b"Nov 21 15:40:34 host sshd[123]: Accepted key for x: y\n[    1.234567] usb 1-1: new device\n" * 20
    for text in (strace, log, b"", b"hello\n", b"a: b\n" * 50, b"dmesg: x\n\n"):
        assert not perf_script.looks_like(text)
