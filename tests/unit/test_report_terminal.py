"""The answer on a terminal: narrow, complete, honest, and safe to print."""

from __future__ import annotations

import io

import polars as pl
import pytest
from rich.console import Console

from swarmscope.compare import compare
from swarmscope.report import terminal, wording
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
    assert "overlay against host" in text and "n1 -> n2" in text and "10 interleaved trials" in text
    assert "comparable with care" in row(text, "verdict") and "one kernel for both hosts" in text
    assert "[1." in row(text, "round trip, median") and "(plain trials)" in row(text, "round trip, median")
    assert "net_dev_queue 1 -> 4" in row(text, "events per packet")
    client = "container eth0 > veth > overlay bridge > vxlan (VNI 4097) > host eth0 > wire"
    assert client in row(text, "the path (client)")
    assert row(text, "the path (server)").endswith("> container eth0")
    added = row(text, "functions added (15)")
    assert "veth: veth_xmit" in added and "bridge: br_handle_frame" in added
    assert "vxlan-encap: vxlan_xmit vxlan_xmit_one" in added
    assert row(text, "functions gone (0)") == "functions gone (0) none"
    assert "udp_tunnel_xmit_skb" in row(text, "not traceable here (1)")
    assert "(traced trials against plain)" in row(text, "tracing cost")
    assert row(text, "lost events") == "lost events none"
    assert row(text, "page") == "page runs/x/report.html"


def test_losses_and_unmatched_packets_are_said() -> None:
    text = printed(make(lost=7, drop_arrival=0.3, plain=4, traced=2))
    assert "7 lost samples (perf-record on n1)" in row(text, "lost events")
    assert "one-sided" in row(text, "packets followed")


def test_a_self_comparison_claims_no_difference(made: Synthetic) -> None:
    text = printed(made, baseline="subject")
    assert "x1.00" in text and "no difference resolved" in text
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
    ("value", "words"), [(0.001, "< 0.5 %"), (0.999, "> 99 %"), (1.0, "100 %"), (0, "0 %")]
)
def test_a_share_is_never_rounded_to_all_or_nothing(value: float, words: str) -> None:
    assert wording.share(value) == words
