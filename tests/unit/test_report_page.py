"""The page as text: self-contained, escaped, complete; how it draws is tested in a browser (tests/lab)."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import polars as pl
import pytest

from swarmscope.compare import compare, stages
from swarmscope.compare.result import Stack
from swarmscope.report import charts, multiples, page
from tests.unit.synthetic_run import Synthetic, make

EVIL = "</script><img src=x onerror=alert(1)>"


def rendered(made: Synthetic) -> str:
    found = compare(made.run, made.tables, made.kallsyms, facts=made.facts)
    return page.render(made.run, found, made.tables, made.facts, clocks={"n2": {"bound_ns": 4100}})


@pytest.fixture(scope="module")
def html() -> str:
    return rendered(make(plain=6, traced=2))


class Elements(HTMLParser):
    """Every element with its attributes, and the text outside scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside not in ("script", "style"):
            self.text += data


def elements(html: str) -> Elements:
    parser = Elements()
    parser.feed(html)
    return parser


def test_nothing_is_loaded_from_outside(html: str) -> None:
    for tag, attributes in elements(html).found:
        for name in ("src", "href", "srcset", "data", "action"):
            assert not attributes.get(name), (tag, attributes)
    style = re.search(r"<style>(.*?)</style>", html, re.S)
    assert style is not None and "url(" not in style[1] and "@import" not in style[1]
    assert "default-src 'none'" in html


def test_the_page_holds_every_part_of_the_answer(html: str) -> None:
    ids = [attributes["id"] for _, attributes in elements(html).found if attributes.get("id")]
    assert len(ids) == len(set(ids)), "an id that stands twice puts a chart into the wrong place"
    sections = {"path", "round-trips", "ladder", "counts", "functions", "stacks", "losses", "clocks", "hosts"}
    assert sections | {"again", "histograms"} <= set(ids)
    charts = {i for i in ids if str(i).startswith("chart-")}
    wanted = ["trials-0", "ecdf-0", "shift-0", "ladder", "histograms", "counts", "icicle-subject"]
    wanted.append("icicle-baseline")
    assert charts == {f"chart-{name}" for name in wanted}
    text = elements(html).text
    for words in (
        "comparable with care", "vxlan_xmit", "invoke trace --mode overlay", "invoke collect", "6.12.9-amd64",
        "vxlan (VNI 4097)", "41.0 us", "4.10 us", "traced_trials: 4", "not traceable here", "permutation p",
        "Stage times, counted in the kernel", "100 of host and 100 of overlay, not from a sample",
        "br_forward as __br_forward", "all traffic pooled (ping 56 B)",
    ):  # fmt: skip
        assert words in text, words


def test_every_chart_has_a_place_and_every_place_a_chart(html: str) -> None:
    data = re.search(r'<script type="application/json" id="figures">(.*?)</script>', html, re.S)
    assert data is not None
    figures = json.loads(data[1])
    ids = {attributes.get("id") for _, attributes in elements(html).found}
    assert {f"chart-{name}" for name in figures} == {i for i in ids if i and i.startswith("chart-")}


def test_hostile_names_stay_text() -> None:
    made = make(plain=4, traced=2, dev=EVIL)
    made.tables["hops"] = made.tables["hops"].with_columns(label=pl.col("label") + "\x1b<b>")
    made.tables["losses"] = made.tables["losses"].with_columns(what=pl.lit(EVIL), count=pl.lit(3))
    for table in ("trials",):
        made.tables[table] = made.tables[table].with_columns(traffic=pl.lit(EVIL))
    made.run["notes"] = [EVIL]
    made.facts["n1"]["os"] = EVIL
    html = rendered(made)
    found = elements(html)
    assert not [tag for tag, _ in found.found if tag in ("img", "b<")]
    assert not [a for _, a in found.found if "onerror" in a]
    assert EVIL in found.text, "shown, as text"
    assert "\x1b" not in html
    scripts = [tag for tag, _ in found.found if tag == "script"]
    assert len(scripts) == 3


def test_the_library_cannot_end_its_own_script_element() -> None:
    from plotly.offline.offline import get_plotlyjs

    assert "</script" not in get_plotlyjs().lower()


def test_a_run_without_recordings_still_has_a_page() -> None:
    made = make(plain=4, traced=2)
    bare = Synthetic(made.run, {n: made.tables[n] for n in ("trials", "latencies")}, {}, {})
    text = elements(rendered(bare)).text
    assert "Not known: no packet was seen at both hosts" in text
    assert "not comparable" in text


def test_a_self_comparison_has_a_page() -> None:
    made = make(plain=4, traced=2)
    found = compare(made.run, made.tables, made.kallsyms, baseline_arm="subject", facts=made.facts)
    text = elements(page.render(made.run, found, made.tables, made.facts)).text
    assert "x1.00 [1.00, 1.00]" in text and "Added in overlay (0)" in text


def test_a_stack_tree_never_has_more_in_its_branches_than_in_its_trunk() -> None:
    """Where it does by a rounding error, Plotly draws nothing and says nothing."""
    thirds = [Stack("subject", "net:e", ("a", f"f{n}"), 1 / 3, 1 / 3) for n in range(7)]
    (trace,) = charts.icicle(thirds, {}, name="overlay", stages=stages.table())["data"]
    values = dict(zip(trace["ids"], trace["values"], strict=True))
    sums: dict[str, int] = {}
    for parent, value in zip(trace["parents"], trace["values"], strict=True):
        assert isinstance(value, int)
        sums[parent] = sums.get(parent, 0) + value
    assert {parent: total for parent, total in sums.items() if parent} == {
        one: values[one] for one in sums if one
    }


def test_histograms_show_each_stage_once_with_the_arms_side_by_side() -> None:
    made = make(plain=4, traced=2)
    found = compare(made.run, made.tables, made.kallsyms)
    figure = multiples.histograms(found.kernel_times, {"baseline": "host", "subject": "overlay"})
    titles = [note["text"] for note in figure["layout"]["annotations"]]
    assert titles == [f"<b>{one.stage}</b>" for one in found.kernel_times[1].stages]
    assert [trace["name"] for trace in figure["data"] if trace["showlegend"]] == ["host", "overlay"]
    qdisc = {trace["name"]: sum(trace["y"]) for trace in figure["data"][:2]}
    assert qdisc == {"host": pytest.approx(1.0), "overlay": pytest.approx(4.0)}
    assert multiples.beyond(found.kernel_times) == 0


def test_rare_long_steps_do_not_squeeze_the_histograms_and_are_counted() -> None:
    made = make(plain=4, traced=2)
    rows = made.tables["histograms"]
    start = pl.col("to_event") == "net:net_dev_start_xmit"
    late = rows.filter(start, pl.col("arm") == "subject").head(1).with_columns(
        low=pl.lit(1 << 28), high=pl.lit(1 << 29), count=pl.lit(1)
    )  # fmt: skip
    found = compare(
        made.run, {**made.tables, "histograms": pl.concat([rows, late], how="vertical_relaxed")}, {}
    )
    assert multiples.beyond(found.kernel_times) == 1
    assert multiples.span(found.kernel_times)[1] < 28


def test_a_mode_against_itself_says_that_its_stage_times_are_of_both_arms() -> None:
    made = make(plain=4, traced=2)
    made.run["endpoints"]["baseline"] = made.run["endpoints"]["subject"]
    text = " ".join(elements(rendered(made)).text.split())
    assert "these are the packets of both arms together" in text and "overlay, both arms" in text


def test_without_the_collector_the_page_says_what_did_not_run() -> None:
    made = make(plain=4, traced=2)
    del made.tables["histograms"]
    text = " ".join(elements(rendered(made)).text.split())
    assert "bpftrace-latency did not run" in text


def test_facts_of_an_engine_and_of_mitigations_are_short() -> None:
    made = make(plain=4, traced=2)
    made.facts["n1"]["docker"] = {
        "Version": "26.1.5",
        "ApiVersion": "1.45",
        "Os": "linux",
        "Components": [{}],
    }
    made.facts["n1"]["mitigations"] = {"mds": "Not affected", "spectre_v1": "Mitigation: barriers"}
    made.facts["n1"]["sysctls"] = {"net.ipv4.ping_group_range": "1\t0"}
    text = elements(rendered(made)).text
    assert "26.1.5, API 1.45, linux" in text and "Components" not in text
    assert "spectre_v1: barriers" in text and "mds" not in text
    assert "ping_group_range 1 0" in text
    assert "26.1.5, API 1.45, Debian 13" in text, "the other host's facts, in the facts' own names"


def test_times_in_functions_are_said_to_be_traced_and_what_could_not_be_timed_is_named() -> None:
    made = make()
    row = {"kernel": "boot-a", "collector": "bpftrace-latency", "arm": "subject", "per": "packet"}
    row |= {"from_event": "kprobe:vxlan_xmit", "to_event": "kretprobe:vxlan_xmit", "sum": 900_000}
    found = pl.DataFrame([row | {"low": 4096, "high": 8192, "count": 100}])
    made.tables["histograms"] = pl.concat([made.tables["histograms"], found], how="diagonal_relaxed")
    made.run["notes"] = ["n1: bpftrace-latency: <b>: not in this kernel: not timed"]
    html = page.render(made.run, compare(made.run, made.tables, made.kallsyms), made.tables, made.facts)
    section = html.split('id="function-times"')[1].split("<h2")[0]
    assert "Time in functions (traced)" in section and "vxlan_xmit" in section
    assert "9.00 us" in section and "4.10 to 8.19 us" in section
    assert "n1: bpftrace-latency: &lt;b&gt;: not in this kernel: not timed" in section
