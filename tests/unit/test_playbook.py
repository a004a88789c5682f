"""Playbooks: rendering, the shipped ones, and every mistake with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmscope.errors import InvalidFile, UsageError
from swarmscope.model import CollectorChoice
from swarmscope.places import shipped
from swarmscope.playbook import find, load, schema, to_dict

GOOD = """\
summary: test
vars: {n: 3, mode: overlay}
baseline: host
subject: "{{ mode }}"
network: {name: net, subnet: 10.88.0.0/24, mtu: auto}
traffic:
  - kind: ping
    count: {{ n }}
    size: 56
    interval_ms: 2.5
  - {kind: rr, count: 10, transport: udp}
trials: {plain: 2, traced: 1}
collectors:
  - perf-stat
  - ftrace-events: {buffer_kb: 1024}
deadline_s: 60
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "p.yml"
    path.write_text(text)
    return path


def mistakes(folder: Path, text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(InvalidFile) as caught:
        load(written(folder, text))
    return [(m.line, m.key, m.message) for m in caught.value.mistakes]


def test_a_playbook_is_rendered_and_read(tmp_path: Path) -> None:
    playbook = load(written(tmp_path, GOOD), {"n": "7"})
    ping, rr = playbook.traffic
    assert (ping.count, ping.interval_us, ping.transport) == (7, 2500, "icmp")
    assert (rr.count, rr.size, rr.transport) == (10, 64, "udp")
    assert playbook.network is not None
    assert playbook.network.mtu == 0
    assert playbook.collectors == (
        CollectorChoice("perf-stat"),
        CollectorChoice("ftrace-events", {"buffer_kb": 1024}),
    )
    assert (playbook.client, playbook.server, playbook.image) == ("first", "second", "auto")
    assert playbook.mode("subject") == "overlay"


def test_the_shipped_overlay_playbook_is_the_documented_experiment() -> None:
    overlay = load(shipped("playbooks") / "overlay.yml")
    assert (overlay.baseline, overlay.subject) == ("host", "overlay")
    assert overlay.network is not None
    assert (overlay.network.name, overlay.network.subnet) == ("swarmscope-overlay", "10.88.0.0/24")
    assert [(t.title, t.count, t.traced_count) for t in overlay.traffic] == [
        ("ping 56 B", 100, 0),
        ("rr tcp 64 B", 1000, 600),
    ]
    assert overlay.traffic[0].interval_us == 5000
    assert (overlay.plain_trials, overlay.traced_trials, overlay.deadline_s) == (10, 4, 300)
    assert [choice.name for choice in overlay.collectors] == ["ftrace-events", "skb-path"]
    assert load(shipped("playbooks") / "overlay.yml", {"plain": "20"}).plain_trials == 20


def test_the_shipped_self_playbook_compares_the_host_with_itself() -> None:
    same = load(shipped("playbooks") / "self.yml")
    assert (same.baseline, same.subject, same.network) == ("host", "host", None)


def test_a_name_is_found_in_the_working_directory_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find("overlay") == shipped("playbooks") / "overlay.yml"
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks" / "overlay.yml").write_text(GOOD)
    assert find("overlay") == Path("playbooks/overlay.yml")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("overlya", "did you mean 'overlay'"),
        ("./none.yml", "no playbook none.yml"),
        ("a/b", "no playbook a/b"),
    ],
)
def test_an_unknown_playbook_is_a_usage_error(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load(name)


def test_an_unknown_variable_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'mode'"):
        load(written(tmp_path, GOOD), {"mod": "host"})


def test_the_record_of_a_playbook_holds_all_of_it(tmp_path: Path) -> None:
    record = to_dict(load(written(tmp_path, GOOD)))
    assert record["traffic"][0]["title"] == "ping 56 B"
    assert record["network"] == {"name": "net", "subnet": "10.88.0.0/24", "mtu": 0}
    assert record["collectors"][1] == {"name": "ftrace-events", "options": {"buffer_kb": 1024}}
    assert (record["name"], record["plain_trials"], record["deadline_s"]) == ("p", 2, 60)


def test_the_json_schema_names_every_key() -> None:
    assert set(schema()["properties"]) >= {
        "baseline",
        "subject",
        "traffic",
        "trials",
        "collectors",
        "deadline_s",
    }


# (line to replace, its new text, key of the mistake, words of the message); the mistake is at that line
ONE_MISTAKE = {
    "unknown key": ("summary: test", "sumary: test", "sumary", "did you mean 'summary'?"),
    "unknown mode": (
        "baseline: host",
        "baseline: hots",
        "baseline",
        "must be 'host' or 'overlay', not 'hots'",
    ),
    "number as text": (
        "    size: 56",
        "    size: '56'",
        "traffic[0].size",
        "must be a whole number, not '56'",
    ),
    "too small": ("    size: 56", "    size: 8", "traffic[0].size", "must be at least 16, not 8"),
    "unknown key in traffic": ("    size: 56", "    sise: 56", "traffic[0].sise", "did you mean 'size'?"),
    "key of the other kind": ("    size: 56", "    transport: tcp", "traffic[0].transport", "unknown key"),
    "unknown traffic": (
        "  - kind: ping",
        "  - kind: pong",
        "traffic[0].kind",
        "must be 'ping' or 'rr', not 'pong'",
    ),
    "unknown transport": (
        "  - {kind: rr, count: 10, transport: udp}",
        "  - {kind: rr, count: 10, transport: sctp}",
        "traffic[1].transport",
        "'tcp' or 'udp'",
    ),
    "missing count": (
        "  - {kind: rr, count: 10, transport: udp}",
        "  - {kind: rr}",
        "traffic[1].count",
        "is missing",
    ),
    "missing kind": ("  - {kind: rr, count: 10, transport: udp}", "  - {count: 1}", "traffic[1]", "kind"),
    "same traffic twice": (
        "  - {kind: rr, count: 10, transport: udp}",
        "  - {kind: ping, count: 1}",
        "traffic[1]",
        "same traffic as [0]",
    ),
    "host bits in the subnet": (
        "network: {name: net, subnet: 10.88.0.0/24, mtu: auto}",
        "network: {name: net, subnet: 10.88.0.1/24}",
        "network.subnet",
        "host bits set",
    ),
    "impossible mtu": (
        "network: {name: net, subnet: 10.88.0.0/24, mtu: auto}",
        "network: {name: net, subnet: 10.88.0.0/24, mtu: 20}",
        "network.mtu",
        "auto or from 68",
    ),
    "odd network name": (
        "network: {name: net, subnet: 10.88.0.0/24, mtu: auto}",
        "network: {name: 'a b', subnet: 10.88.0.0/24}",
        "network.name",
        "a network name",
    ),
    "fraction of a trial": (
        "trials: {plain: 2, traced: 1}",
        "trials: {plain: 1.5}",
        "trials.plain",
        "must be a whole number, not 1.5",
    ),
    "trials that are a list": (
        "trials: {plain: 2, traced: 1}",
        "trials: [2]",
        "trials",
        "must be a mapping, not a list",
    ),
    "unknown collector": ("  - perf-stat", "  - perf-start", "collectors[0]", "did you mean 'perf-stat'?"),
    "collector listed twice": ("  - perf-stat", "  - ftrace-events", "collectors[1]", "listed twice"),
    "unknown option": (
        "  - perf-stat",
        "  - perf-record: {bufer_pages: 8}",
        "collectors[0].perf-record.bufer_pages",
        "did you mean 'buffer_pages'?",
    ),
    "option of a wrong type": (
        "  - perf-stat",
        "  - perf-record: {buffer_pages: many}",
        "collectors[0].perf-record.buffer_pages",
        "must be a number like its default",
    ),
    "two names in one item": (
        "  - perf-stat",
        "  - {a: 1, b: 2}",
        "collectors[0]",
        "one name with its options",
    ),
    "truth for a number": (
        "deadline_s: 60",
        "deadline_s: true",
        "deadline_s",
        "must be a whole number, not true/false",
    ),
    "given twice": ("deadline_s: 60", "baseline: host", "baseline", "given twice, first in line 3"),
}


@pytest.mark.parametrize("name", ONE_MISTAKE)
def test_each_kind_of_mistake_is_named_with_its_line_and_key(name: str, tmp_path: Path) -> None:
    old, new, key, words = ONE_MISTAKE[name]
    lines = GOOD.splitlines()
    at = lines.index(old)
    lines[at] = new
    found = mistakes(tmp_path, "\n".join(lines))
    wanted_line = at + 2 if name == "collector listed twice" else at + 1
    assert [(m[0], m[1]) for m in found] == [(wanted_line, key)], found
    assert words in found[0][2]


def test_an_overlay_arm_without_a_network_is_a_mistake(tmp_path: Path) -> None:
    text = "\n".join(line for line in GOOD.splitlines() if not line.startswith("network"))
    assert mistakes(tmp_path, text) == [(4, "subject", "mode overlay needs a network: section")]


def test_client_and_server_on_one_host_are_a_mistake(tmp_path: Path) -> None:
    found = mistakes(tmp_path, GOOD + "placement: {client: n1, server: n1}\n")
    assert [(m[0], m[1]) for m in found] == [(17, "placement.server")]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("baseline: host\nsubject: {{ sbject }}\n", 2, "variable 'sbject' is not set"),
        ("vars: {count: 1}\nsubject: {{ cuont }}\n", 2, "did you mean 'count'?"),
        ("a: 1\nb: {% if %}\n", 2, "not valid Jinja2"),
        ("a: 1\n\nb: {{ 1 / 0 }}\n", 3, "division by zero"),
        ("a: 1\nvars: [1]\n", 2, "must be a mapping"),
        ("a: {{ ''.__class__.__mro__ }}\n", 1, "cannot be rendered"),
    ],
)
def test_a_template_that_cannot_be_rendered_is_named_with_its_line(
    text: str, line: int, words: str, tmp_path: Path
) -> None:
    found = mistakes(tmp_path, text)
    assert [m[0] for m in found] == [line]
    assert words in found[0][2]


def test_all_undefined_variables_are_reported_at_once(tmp_path: Path) -> None:
    found = mistakes(tmp_path, "a: {{ x }}\nb: {{ y }}\nc: {{ x }}\n")
    assert [m[0] for m in found] == [1, 2, 3]


PLANTS = (
    "{kind: rr}",
    "{kind: ping, count: 0}",
    "{kind: nc}",
    "{count: 2}",
    "{kind: rr, count: 1, bogus: 1}",
    "7",
)


@given(st.lists(st.sampled_from(PLANTS), min_size=1, max_size=10))
def test_a_file_with_k_planted_mistakes_reports_all_k_at_their_lines(
    tmp_path_factory: pytest.TempPathFactory, plants: list[str]
) -> None:
    lines = ["baseline: host", "subject: host", "collectors: []", "traffic:"] + [
        f"  - {plant}" for plant in plants
    ]
    found = mistakes(tmp_path_factory.mktemp("k"), "\n".join(lines))
    assert [m[0] for m in found] == [5 + i for i in range(len(plants))]
