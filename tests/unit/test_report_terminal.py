"""The answer on a terminal: narrow, complete, honest, and safe to print."""

from __future__ import annotations

import io
import re

import polars as pl
import pytest
from rich.console import Console

from swarmscope.compare import compare
from swarmscope.report import terminal, wording
from tests.unit.synthetic_clocks import SECOND, START, Clock, Pair
from tests.unit.synthetic_run import Synthetic, make


def printed(made: Synthetic, *, page: str = "", baseline: str = "baseline") -> str:
    found = compare(made.run, made.tables, made.kallsyms, baseline_arm=baseline, facts=made.facts)
    out = io.StringIO()
    Console(file=out, width=200).print(terminal.render(found, page=page))
    return out.getvalue()


@pytest.fixture(scope="module")
def made() -> Synthetic:
    return make()


def row(text: str, label: str) -> str:
    """The words of the labelled row, its continuation lines joined."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip().startswith(label))
    end = next((i for i in range(start + 1, len(lines)) if lines[i][2:3] != " "), len(lines))
    return " ".join(" ".join(lines[start:end]).split())


def test_no_line_is_wider_than_a_hundred_columns(made: Synthetic) -> None:
    text = printed(made, page="runs/20261121-064512-overlay-7f3a/report.html")
    assert max(map(len, text.splitlines())) <= 100


def test_the_answer_says_what_the_issue_promises(made: Synthetic) -> None:
    text = printed(made, page="runs/x/report.html")
    head = "overlay against host     n1 -> n2     ping 56 B, 10 interleaved trials     comparable with care"
    assert text.splitlines()[0] == head
    assert "  - one kernel for both hosts: they share its CPUs and locks (round trip, stages)" in text
    trip = row(text, "round trip, ping 56 B")
    assert re.fullmatch(
        r"round trip, ping 56 B \d+\.\d us -> \d+\.\d us x1\.8\d \[1\.\d\d, 1\.\d\d\] plain trials", trip
    )
    assert "net_dev_queue 1 -> 4" in row(text, "events per packet")
    client = "container eth0 > veth > overlay bridge > vxlan (VNI 4097) > host eth0 > wire"
    assert client in row(text, "the path (client)")
    assert row(text, "the path (server)").endswith("> container eth0")
    added = row(text, "functions added (15)")
    assert "veth: veth_xmit" in added and "bridge: br_handle_frame" in added
    assert "vxlan-encap: vxlan_xmit vxlan_xmit_one" in added
    assert "br_forward (as __br_forward)" in added and "other names" not in text
    gone = row(text, "functions gone (0)")
    assert gone.startswith("functions gone (0) not traceable here (1): udp_tunnel_xmit_skb not observed (")
    assert re.search(r"not observed \(\d+\): .*vxlan_rcv", gone)
    assert re.fullmatch(
        r"tracing cost host x1\.\d\d overlay x1\.\d\d traced trials against plain", row(text, "tracing cost")
    )
    assert row(text, "lost events") == "lost events none"
    assert row(text, "page") == "page runs/x/report.html"


def two_traffics() -> Synthetic:
    """A run in which every other block ran requests and responses instead of pings."""
    made = make()
    rr = pl.when(pl.col("block") % 2 == 1).then(pl.lit("rr tcp 64 B")).otherwise(pl.col("traffic"))
    made.tables["trials"] = made.tables["trials"].with_columns(traffic=rr)
    return made


def test_two_kinds_of_traffic_stand_on_a_line_each() -> None:
    text = printed(two_traffics())
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].endswith("ping 56 B, rr tcp 64 B, 5 interleaved trials  comparable with care")
    trips = [line for line in lines if line.startswith("  round trip, ")]
    assert len(trips) == 2 and len({line.index(" -> ") for line in trips}) == 1
    assert all(line.endswith("plain trials") for line in trips)
    costs = [line for line in lines if line.endswith("traced trials against plain")]
    assert len(costs) == 2 and len({line.index("overlay x") for line in costs}) == 1
    assert "all traffic pooled" in row(text, "events per packet")


def test_a_colour_ends_where_its_words_end(made: Synthetic) -> None:
    found = compare(made.run, made.tables, made.kallsyms, facts=made.facts)
    text, console = terminal.render(found), Console()

    def style(words: str) -> str:
        assert words in text.plain
        return str(text.get_style_at_offset(console, text.plain.index(words)))

    assert style("overlay against host") == "bold" and style("n1 -> n2") == "none"
    assert style("comparable with care") == "bold yellow"
    assert style("bridge: ") == "bold green" and style("br_handle_frame") == "none"
    assert style("not observed (") == "dim" and style("vxlan_rcv") == "none"


def test_reasons_stay_on_one_line() -> None:
    lines = printed(two_traffics()).splitlines()
    found = compare((made := two_traffics()).run, made.tables, made.kallsyms, facts=made.facts)
    assert sum(line.startswith("  - ") for line in lines) == len(found.verdict.reasons)
    assert not [line for line in lines if line.startswith("    ") and line.endswith(")") and "(" not in line]


def test_stages_stand_in_a_table_that_adds_up(made: Synthetic) -> None:
    lines = printed(made).splitlines()
    start = next(i for i, line in enumerate(lines) if "one way, by stage" in line)
    end = next(i for i, line in enumerate(lines) if "first to last" in line)
    assert end - start + 1 <= 12
    table = [line[24:].split() for line in lines[start + 1 : end]]
    total = float(lines[end].split()[5])
    assert sum(float(cells[-4]) for cells in table) == pytest.approx(total, abs=0.1 * len(table))
    veth = next(cells for cells in table if cells[0] == "veth")
    assert veth[1] == "-" and veth[-2] == f"+{veth[2]}"


def test_many_stages_leave_the_smallest_to_one_line(made: Synthetic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "STAGES_SHOWN", 4)
    lines = printed(made).splitlines()
    start = next(i for i, line in enumerate(lines) if "one way, by stage" in line)
    names = [line[24:].split("  ")[0] for line in lines[start + 1 : start + 7]]
    assert names[3:] == ["others", "residual", "first to last"]


def test_losses_and_unmatched_packets_are_said() -> None:
    text = printed(make(lost=7, drop_arrival=0.3, plain=4, traced=2))
    assert "7 lost samples (perf-record on n1)" in row(text, "lost events")
    assert "one-sided" in row(text, "packets followed")


def test_a_self_comparison_claims_no_difference(made: Synthetic) -> None:
    text = printed(made, baseline="subject")
    assert "x1.00" in text and "within noise, plain trials" in text
    assert "functions added (0)" in text


def test_control_characters_in_names_never_reach_the_terminal(made: Synthetic) -> None:
    evil = pl.when(pl.col("role") == "vxlan").then(pl.lit("\x1b[31mvx\x07\u202e")).otherwise(pl.col("label"))
    hostile = Synthetic(
        made.run,
        {**made.tables, "hops": made.tables["hops"].with_columns(label=evil)},
        made.kallsyms,
        made.facts,
    )
    text = printed(hostile)
    assert "?[31mvx??" in text
    assert not set("\x1b\x07\u202e") & set(text)


def test_a_run_without_recordings_says_what_is_not_known(made: Synthetic) -> None:
    bare = {name: made.tables[name] for name in ("trials", "latencies")}
    text = printed(Synthetic(made.run, bare, {}, {}))
    assert "not known: no packet was seen at both hosts" in text
    assert "no stacks were recorded" in text


def test_one_trial_gives_no_interval() -> None:
    text = printed(make(plain=1, traced=1))
    assert "[no interval from 1 trial]" in text and "not comparable" in text


@pytest.mark.parametrize(
    ("ns", "words"),
    [
        (0, "0 ns"),
        (850, "850 ns"),
        (999.9, "1.00 us"),
        (61_040, "61.0 us"),
        (111_240, "111 us"),
        (1.2e6, "1.20 ms"),
        (-162, "-162 ns"),
        (3.5e9, "3.50 s"),
        (999_900, "1.00 ms"),
    ],
)
def test_durations_have_three_digits(ns: float, words: str) -> None:
    assert wording.duration(ns) == words


@pytest.mark.parametrize(
    ("ns", "words"),
    [
        ((14_500, 148_000), ["14.5 us", "148.0 us"]),
        ((10, 1_920), ["0.01 us", "1.92 us"]),
        ((850, 20), ["850 ns", "20 ns"]),
        ((-1, 50_000), ["0.0 us", "50.0 us"]),
        ((3e9, 1e6), ["3.00 s", "0.00 s"]),
        ((), []),
    ],
)
def test_durations_side_by_side_share_unit_and_precision(ns: tuple[float, ...], words: list[str]) -> None:
    assert wording.durations(*ns) == words


@pytest.mark.parametrize(
    ("mean", "words"),
    [(1.0, "1"), (4.014, "4"), (0.985, "1"), (3.7, "3.70"), (0.0, "0"), (0.01, "0.01"), (0.001, "< 0.01")],
)
def test_a_mean_count_is_an_integer_within_a_fiftieth_and_never_a_false_zero(mean: float, words: str) -> None:
    assert wording.count(mean) == words


@pytest.mark.parametrize(
    ("value", "words"), [(0.001, "< 0.5 %"), (0.999, "> 99 %"), (1.0, "100 %"), (0, "0 %")]
)
def test_a_share_is_never_rounded_to_all_or_nothing(value: float, words: str) -> None:
    assert wording.share(value) == words


def test_times_in_functions_stand_with_their_count_mean_and_buckets_and_what_could_not_be_timed() -> None:
    made = make()
    ends = {"from_event": "kprobe:vxlan_xmit", "to_event": "kretprobe:vxlan_xmit", "per": "packet"}
    one = {"kernel": "boot-a", "collector": "bpftrace-latency", "arm": "subject", "sum": 900_000, **ends}
    found = pl.DataFrame([one | {"low": 4096, "high": 8192, "count": 100}])
    made.tables["histograms"] = pl.concat([made.tables["histograms"], found], how="diagonal_relaxed")
    made.run["notes"] = ["n1: bpftrace-latency: nope: not in this kernel: not timed"]
    text = printed(made)
    shown = row(text, "time in functions")
    assert "traced trials calls mean p50 p90 p99 vxlan_xmit per packet" in shown
    assert "overlay 100 9.00 us 4.10-8.19 us 4.10-8.19 us 4.10-8.19 us " in shown
    assert shown.endswith("n1: bpftrace-latency: nope: not in this kernel: not timed")
    assert max(map(len, text.splitlines())) <= 100


def test_without_functions_to_time_nothing_is_said_of_them(made: Synthetic) -> None:
    assert "time in functions" not in printed(made)


def test_the_skew_its_cause_and_what_the_clocks_did_are_on_it() -> None:
    stepped = make()
    host = Clock(steps=[(START + 4 * SECOND, 2 * SECOND)], steering=[(START + 13 * SECOND, 300e-6)])
    record, reference = Pair(Clock(), host).records([0, 3, 6, 9, 12, 15])
    stepped.run["clocks"] = {"reference": "n1", "hosts": {"n1": reference, "n2": record}}
    text = printed(stepped)
    assert row(text, "in sync") == (
        "in sync opened within 41.0 us ± 8.40 us closed within 55.0 us ± 8.40 us"
        " perf-record on n1 took 2.10 ms to answer"
    )
    steered = "n2: monotonic clock steered by +300.000 ppm between 12.0 s and 15.0 s"
    wall = "n2: wall clock stepped by +2.000 s between 3.0 s and 6.0 s"
    assert row(text, "clocks  ") == f"clocks {wall} {steered}"
    assert f"  - {steered} (stages)" in text, "what widens the bound is a reason"
    assert "- n2: wall clock" not in text, "what does not, is none"


def test_of_clocks_that_did_nothing_nothing_is_said(made: Synthetic) -> None:
    assert "clocks  " not in printed(made)
