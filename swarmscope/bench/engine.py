"""The trace engine against the tools that own the formats: how many times as fast, on the same files.

Each row makes its input from a real recording (made here where perf runs and we may, else the collector's
sample), repeated to ``events``; then the tool and we read it in turn, each in a process of its own. Formats
of which the tool is not installed here are left out by name.

Scope: measuring; the verb prints. A ratio is the tool's time over ours: of the tool the whole process, of
ours from the first import of a decoder to the last row, loading compiled code included. What is left out of
ours, the start of the interpreter and of Polars, stands beside it; ``small_files`` has all of it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarmscope.bench import (
    clock_truth,
    multiplied_ctf,
    multiplied_graph_text,
    multiplied_pages,
    multiplied_perf_data,
    multiplied_perf_script,
)
from swarmscope.bench.processes import Taken, in_turn, take_ours, together, warm
from swarmscope.places import shipped
from swarmscope.report.wording import duration
from swarmscope.trace.compiling import OTHERS

MICROSECOND: Final = 1000
LONG: Final = ("wander, 300 s", "wander, 300 s, probes every 5 s")
"""Simulations in which a start-and-end line is held against the fit."""
GROWTH: Final = (200_000, 2_000_000, 20_000_000)
TEXTS: Final = 5
SMALL: Final = (
    ("perf-record", "perf-data", "perf.data"),
    ("function-graph", "ring-buffer-pages", "pages"),
    ("function-graph", "function-graph-text", "graph.txt"),
    ("trace-cmd", "trace-dat", "trace.dat"),
    ("lttng", "ctf", "ctf"),
    ("ftrace-events", "ftrace-text", "events.txt"),
)
"""Collector, format and file or folder of samples."""
SCRIPT: Final = ["perf", "script", "--ns", "-F", "comm,pid,tid,cpu,time,event,trace,ip,sym", "-i"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. ``met`` is None where nothing was measured: ``note`` says why."""

    work: str
    goal: str
    measured: str
    met: bool | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where inputs are made, and how large they are."""

    folder: Path
    events: int
    rounds: int

    @property
    def lines(self) -> int:
        """Events of a text, which takes many times as many bytes for each."""
        return self.events // TEXTS

    def path(self, name: str) -> Path:
        return self.folder / name


def rows(place: Place) -> Iterator[Row]:
    """All rows, each as soon as it is measured; its input is removed before the next one's is made."""
    for measure in (perf_data, ring_buffer, perf_script, graph_text, ctf, four_hosts, growth, small_files):
        yield from measure(place)
        for entry in place.folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    yield from clocks(place)


def ours(what: str, path: Path) -> list[str]:
    """The command that decodes ``path`` with the project."""
    return [sys.executable, "-m", "swarmscope.bench.decode", what, str(path)]


def perf_data(place: Place) -> Iterator[Row]:
    work, goal = "perf.data -> events with stacks", 25.0
    if shutil.which("perf") is None:
        yield _left_out(work, f">= {goal:g}x perf script", "perf is not installed")
        return
    path, count = _perf_data(place, place.path("perf.data"), place.events)
    tool = [*SCRIPT, str(path)]
    turns = in_turn(tool, ours("perf-data", path), rounds=place.rounds, reads=(path,))
    yield _row(work, goal, "perf script", turns, count)


def ring_buffer(place: Place) -> Iterator[Row]:
    """The same records as bare pages and in a trace.dat. trace-cmd reads the latter, both times."""
    goal = 25.0
    pages, dat = place.path("pages"), place.path("trace.dat")
    storages = (("raw pages", "ring-buffer-pages", pages), ("trace.dat", "trace-dat", dat))
    tool = ["trace-cmd", "report", "-t", "-i", str(dat)]
    count = 0
    for name, what, path in storages:
        work = f"{name} -> events and call trees"
        if shutil.which("trace-cmd") is None:
            yield _left_out(work, f">= {goal:g}x trace-cmd report", "trace-cmd is not installed")
            continue
        if not count:
            sample = shipped("collectors") / "function-graph" / "sample" / "pages"
            count = multiplied_pages.multiply(sample, pages, records=place.events)
            multiplied_pages.write_trace_dat(sample, dat, records=place.events)
        turns = in_turn(tool, ours(what, path), rounds=place.rounds, reads=(pages, dat))
        yield _row(work, goal, "trace-cmd report", turns, count)


def perf_script(place: Place) -> Iterator[Row]:
    work, goal = "perf script text -> folded stacks", 10.0
    tool = "stackcollapse (Perl)"
    if shutil.which("perl") is None or shutil.which("perf") is None:
        yield _left_out(work, f">= {goal:g}x {tool}", "perf or perl is not installed")
        return
    small, _ = _perf_data(place, place.path("small.data"), 20_000)
    text = place.path("small.txt")
    with text.open("wb") as sink:
        subprocess.run([*SCRIPT, str(small)], stdout=sink, stderr=subprocess.DEVNULL, check=True)
    path = place.path("perf.txt")
    count = multiplied_perf_script.multiply(text.read_bytes(), path, events=place.lines)
    perl = ["perl", str(Path(__file__).with_name("stackcollapse.pl")), str(path)]
    turns = in_turn(perl, ours("folded", path), rounds=place.rounds, reads=(path,))
    yield _row(work, goal, tool, turns, count)


def graph_text(place: Place) -> Iterator[Row]:
    work, goal = "function_graph text -> call trees", 100.0
    sample = shipped("collectors") / "function-graph" / "sample" / "graph.txt"
    path = place.path("graph.txt")
    multiplied_graph_text.multiply(sample, path, size=100 * place.lines)
    warm([path])
    mine = together([take_ours(ours("function-graph-text", path)) for _ in range(place.rounds)])
    rate = path.stat().st_size / 1e6 / mine.work
    size = f"{path.stat().st_size / 1e6:.0f} MB, {_memory(mine.peak)}"
    yield Row(work, f">= {goal:g} MB/s", f"{rate:.0f} MB/s", rate >= goal, size)


def ctf(place: Place) -> Iterator[Row]:
    work, goal = "CTF -> events", 10.0
    if shutil.which("babeltrace2") is None:
        yield _left_out(work, f">= {goal:g}x babeltrace2", "babeltrace2 is not installed")
        return
    sample = shipped("collectors") / "lttng" / "sample" / "ctf"
    path = place.path("ctf")
    count = multiplied_ctf.multiply(sample, path, events=place.events)
    turns = in_turn(["babeltrace2", str(path)], ours("ctf", path), rounds=place.rounds, reads=(path,))
    yield _row(work, goal, "babeltrace2", turns, count)


def four_hosts(place: Place) -> Iterator[Row]:
    """Four hosts' perf.data, a quarter of the events each, as a run: tables against perf script alone."""
    work, goal = "decode + align + merge, four hosts", "<= 1/3 of perf script's time"
    if shutil.which("perf") is None:
        yield _left_out(work, goal, "perf is not installed")
        return
    hosts = [f"n{number}" for number in range(1, 5)]
    run = place.path("run")
    first, count = _perf_data(place, place.path("first.data"), place.events // 4)
    for host in hosts:
        folder = run / "raw" / host / "perf-record"
        folder.mkdir(parents=True)
        os.link(first, folder / "perf.data")
        symbols = first.with_name("kallsyms")
        if symbols.is_file():
            os.link(symbols, folder / "kallsyms")
    (run / "run.json").write_text(json.dumps(_record(hosts)))
    script = "; ".join(f"{' '.join(SCRIPT)} {run}/raw/{host}/perf-record/perf.data" for host in hosts)
    tool = ["sh", "-c", f"set -e; {script}"]
    theirs, mine = in_turn(tool, ours("run", run), rounds=place.rounds, reads=(first,))
    share = mine.work / theirs.whole
    said = f"{4 * count} events, {_times(mine, theirs)}"
    yield Row(work, goal, f"{share:.2f}", share <= 1 / 3, said)


def growth(place: Place) -> Iterator[Row]:
    """perf.data of more and more events: time per event, and the peak, of the largest over the next smaller
    one.
    """
    if shutil.which("perf") is None:
        yield _left_out("growth", "<= 1.3", "perf is not installed")
        return
    sizes = [size for size in GROWTH if size <= 10 * place.events]
    taken = []
    for size in sizes:
        path, count = _perf_data(place, place.path("perf.data"), size)
        warm([path])
        taken.append((count, take_ours(ours("perf-data", path))))
        path.unlink()
    said = ", ".join(f"{count / 1e6:.1f} M: {one.work:.1f} s, {_memory(one.peak)}" for count, one in taken)
    (few, small), (many, large) = taken[-2], taken[-1]
    slope = large.work / many / (small.work / few)
    yield Row("growth: time per event", "<= 1.3", f"{slope:.2f}", slope <= 1.3, said)
    memory = large.peak / small.peak
    yield Row("growth: peak memory", "<= 1.3", f"{memory:.2f}", memory <= 1.3, said)


def small_files(place: Place) -> Iterator[Row]:
    """The collectors' samples, each in a process of its own: what one waits for who has a small file."""
    files = [(what, shipped("collectors") / collector / "sample" / name) for collector, what, name in SMALL]
    for what, content in OTHERS.items():
        path = place.path(f"{what}.small")
        path.write_bytes(content)
        files.append((what, path))
    took = {
        what: together([take_ours(ours(what, path)) for _ in range(place.rounds)]).whole
        for what, path in files
    }
    most = max(took, key=took.__getitem__)
    said = f"the slowest of {len(took)} formats: {most}"
    yield Row("a small file, from a cold start", "<= 1 s", f"{took[most]:.2f} s", took[most] <= 1, said)


def clocks(place: Place) -> Iterator[Row]:
    """The clock fit against simulations whose truth is known."""
    del place
    sharp = {scenario.name for scenario in clock_truth.SCENARIOS}
    for outcome in clock_truth.against_truth():
        worst, bound, line = (duration(ns) for ns in (outcome.worst, outcome.bound, outcome.line_error))
        said = f"worst {worst}, bound {bound}, start-and-end line {line}"
        held = outcome.covered == 1.0
        if outcome.scenario in sharp:
            shown = f"{duration(outcome.error)}, {100 * outcome.covered:.4g} %"
            met = held and outcome.error <= MICROSECOND
            yield Row(f"clock: {outcome.scenario}", "<= 1 us, bound 100 %", shown, met, said)
        else:
            shown = f"{100 * outcome.covered:.4g} %"
            yield Row(f"clock: {outcome.scenario}", "bound 100 %", shown, held, said)
        if outcome.scenario in LONG:
            ratio = f"1/{outcome.ratio:.0f}"
            yield Row(
                f"of a start-and-end line: {outcome.scenario}", "<= 1/50", ratio, outcome.ratio >= 50, said
            )


def _row(work: str, goal: float, tool: str, turns: tuple[Taken, Taken], count: int) -> Row:
    theirs, mine = turns
    ratio = theirs.whole / mine.work
    said = f"{count} events, {_times(mine, theirs)}"
    return Row(work, f">= {goal:g}x {tool}", f"{ratio:.1f}x", ratio >= goal, said)


def _times(mine: Taken, theirs: Taken) -> str:
    return f"{mine.work:.2f} s ({mine.whole:.2f} s in all) for {theirs.whole:.1f} s, {_memory(mine.peak)}"


def _left_out(work: str, goal: str, why: str) -> Row:
    return Row(work, goal, "not measured", None, why)


def _memory(peak: int) -> str:
    return f"{peak / 1e6:.0f} MB"


def _perf_data(place: Place, path: Path, events: int) -> tuple[Path, int]:
    """A perf.data of at least so many events at ``path``, ``kallsyms`` beside it, and how many it has."""
    real = place.path("recorded.data")
    if not real.exists():
        _record_here(real)
    return path, multiplied_perf_data.multiply(real, path, at_least=events)


def _record_here(path: Path) -> None:
    """A second of pings on the loopback device as the collector records it; the sample where perf may not."""
    record = [
        "perf",
        "record",
        "-q",
        "-a",
        "-g",
        "-k",
        "mono",
        "-e",
        "net:*",
        "-e",
        "skb:*",
        "-o",
        str(path),
        "--",
    ]
    pings = ["ping", "-q", "-f", "-c", "400", "127.0.0.1"]
    done = subprocess.run([*record, *pings], capture_output=True, check=False)
    symbols = path.with_name("kallsyms")
    if done.returncode == 0 and path.exists():
        symbols.write_bytes(Path("/proc/kallsyms").read_bytes())
        return
    sample = shipped("collectors") / "perf-record" / "sample"
    shutil.copyfile(sample / "perf.data", path)
    shutil.copyfile(sample / "kallsyms", symbols)


def _record(hosts: list[str]) -> dict[str, object]:
    outputs = [
        {"file": "perf.data", "format": "perf-data", "clock": "monotonic"},
        {"file": "kallsyms", "format": "kallsyms", "optional": True},
    ]
    recorder = {"id": "perf-record", "collector": "perf-record", "outputs": outputs}
    return {
        "format": 1,
        "id": "bench",
        "state": "collected",
        "inventory": {"hosts": [{"name": host} for host in hosts]},
        "kernels": {f"boot-{host}": {"recorder": host, "hosts": [host]} for host in hosts},
        "recorders": {host: [recorder] for host in hosts},
        "clocks": {
            "reference": hosts[0],
            "hosts": {host: _bursts(number) for number, host in enumerate(hosts)},
        },
        "trials": [],
    }


def _bursts(number: int) -> dict[str, object]:
    """Probes of a host whose clock is ``number`` seconds ahead; none for the reference."""
    if not number:
        return {}
    ahead = number * 1_000_000_000

    def burst(at: int) -> dict[str, object]:
        samples = [
            [
                at + n * 1_000_000,
                at + n * 1_000_000 + 20_000 + ahead,
                at + n * 1_000_000 + 25_000 + ahead,
                at + n * 1_000_000 + 45_000,
            ]
            for n in range(50)
        ]
        return {"samples": samples, "lost": 0, "snapshot": {}}

    return {"start": burst(1_000_000_000), "end": burst(10**15)}
