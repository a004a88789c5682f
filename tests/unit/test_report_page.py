"""The page as text: self-contained, escaped, complete; how it draws is tested in a browser (tests/lab)."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import polars as pl
import pytest

from swarmscope.compare import compare
from swarmscope.report import page
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
    assert sections | {"again"} <= set(ids)
    charts = {i for i in ids if str(i).startswith("chart-")}
    wanted = ["trials-0", "ecdf-0", "shift-0", "ladder", "counts", "icicle-subject", "icicle-baseline"]
    assert charts == {f"chart-{name}" for name in wanted}
    text = elements(html).text
    for words in (
        "comparable with care", "vxlan_xmit", "invoke trace --mode overlay", "invoke collect", "6.12.9-amd64",
        "vxlan (VNI 4097)", "41.0 us", "4.10 us", "traced_trials: 4", "not traceable here", "permutation p",
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
