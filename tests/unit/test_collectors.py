"""Collectors: the shipped ones are whole, a broken one is named, and rendering gives what the agent takes."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from swarmscope.agent import tools, tracefs
from swarmscope.collectors import (
    CLOCKS,
    FEATURES,
    Collector,
    load,
    load_all,
    missing,
    option_mistakes,
    render,
)
from swarmscope.errors import InvalidFile, UsageError
from swarmscope.formats import FORMATS
from swarmscope.places import shipped

GOOD = """\
summary: counts something
cost: low
scope: kernel
needs: {commands: [perf], tracepoints: ["net:*", "skb:consume_skb"], features: [btf]}
options:
  pages: {default: 8, help: how many}
files: [program.bt.j2]
record: record.sh.j2
ready: {file: stderr, match: armed}
gate: {path: ctl, open: "enable\\n", close: "disable\\n", ack: ack}
fifos: [ctl, ack]
outputs:
  - {file: out.txt, format: perf-script, clock: "{{ 'monotonic' if bpftrace[1] > 18 else 'boottime' }}"}
  - {file: losses.json, format: losses-json}
"""

FACTS: dict[str, Any] = {
    "tools": {"perf": {"path": "/usr/bin/perf", "version": "6.1"}, "bpftrace": None},
    "tracefs": "/sys/kernel/tracing",
    "tracepoints": ["net:net_dev_queue", "skb:consume_skb"],
    "tracers": ["nop"],
    "btf": True,
    "instances": True,
    "kprobes": False,
    "kallsyms": True,
    "lockdown": "confidentiality",
}
CONTEXT: dict[str, Any] = {
    "run": "20261121-064512-overlay-7f3a",
    "host": "n1",
    "recorder": "one",
    "arm": "",
    "instance": "swarmscope.20261121-064512-overlay-7f3a.n1.one",
    "deadline_s": 300,
    "tools": {name: {"path": f"/usr/bin/{name}", "version": "1"} for name in ("perf", "bpftrace", "timeout")},
    "bpftrace": [0, 17],
    "byteorder": "little",
    "tracefs": "/sys/kernel/tracing",
    "tracepoints": [
        "net:net_dev_queue",
        "net:net_dev_start_xmit",
        "net:netif_receive_skb",
        "net:netif_rx",
        "net:napi_gro_receive_entry",
        "skb:consume_skb",
        "skb:kfree_skb",
        "task:task_rename",
    ],
    "flow": {
        "vxlan_port": 4789,
        "arms": [
            {
                "arm": arm,
                "mode": mode,
                "client": f"198.18.{i}.1",
                "server": f"198.18.{i}.2",
                "client_u32": 0xC6120001 + (i << 8),
                "server_u32": 0xC6120002 + (i << 8),
                "ports": [40000 + i],
            }
            for i, (arm, mode) in enumerate((("baseline", "host"), ("subject", "overlay")))
        ],
    },
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mine"
    made.mkdir()
    (made / "collector.yml").write_text(GOOD)
    (made / "record.sh.j2").write_text("perf -m {{ options.pages }} {{ recorder }}\n")
    (made / "program.bt.j2").write_text("port {{ flow.vxlan_port }}\n")
    return made


def mistakes(folder: Path) -> list[tuple[str, int, str, str]]:
    with pytest.raises(InvalidFile) as caught:
        load(folder)
    return [(m.path.name, m.line, m.key, m.message) for m in caught.value.mistakes]


def test_a_collector_is_rendered_into_the_agents_request(folder: Path) -> None:
    request = render(load(folder), options={"pages": 16}, context=CONTEXT)
    assert request["id"] == "one"
    assert request["files"] == {"record.sh": "perf -m 16 one\n", "program.bt": "port 4789\n"}
    assert request["record"] == ["bash", "record.sh"]
    assert request["after"] is None
    assert request["gate"] == {"path": "ctl", "open": "enable\n", "close": "disable\n", "ack": "ack"}
    assert request["outputs"] == ["out.txt", "losses.json"]
    described = {
        "file": "out.txt",
        "format": "perf-script",
        "clock": "boottime",
        "optional": False,
        "copy_of": "",
    }
    assert request["described"][0] == described
    assert request["ready"] == {"file": "stderr", "match": "armed", "timeout_s": 25}
    assert request["fifos"] == ["ctl", "ack"]


def test_a_name_that_nothing_defines_fails_with_the_template_named(folder: Path) -> None:
    (folder / "record.sh.j2").write_text("{{ optoins.pages }}")
    with pytest.raises(UsageError, match=r"mine: record.sh.j2: 'optoins' is undefined"):
        render(load(folder), options={}, context=CONTEXT)


def test_a_clock_that_no_decoder_knows_is_refused_once_it_is_rendered(folder: Path) -> None:
    (folder / "collector.yml").write_text(GOOD.replace("'boottime'", "'bootime'"))
    with pytest.raises(UsageError, match=r"output out\.txt: unknown clock 'bootime'"):
        render(load(folder), options={}, context=CONTEXT)


def test_a_wrong_option_is_refused_before_anything_is_rendered(folder: Path) -> None:
    collector = load(folder)
    with pytest.raises(UsageError, match="did you mean 'pages'"):
        render(collector, options={"page": 1}, context=CONTEXT)
    assert option_mistakes(collector, {"pages": 3}) == {}
    assert "must be a number" in option_mistakes(collector, {"pages": "3"})["pages"]
    assert "must be a number" in option_mistakes(collector, {"pages": True})["pages"]


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "words"),
    [
        ("cost: low", "cost: cheap", 2, "cost", "'low', 'medium' or 'high'"),
        ("scope: kernel", "scop: kernel", 3, "scop", "did you mean 'scope'?"),
        ("features: [btf]", "features: [bft]", 4, "needs.features[0]", "did you mean 'btf'?"),
        ("pages: {default: 8, help: how many}", "pages: {default: 8}", 6, "options.pages.help", "is missing"),
        ("record: record.sh.j2", "record: nope.sh", 8, "record", "no file 'nope.sh'"),
        ("files: [program.bt.j2]", "files: [../x]", 7, "files[0]", "no file '../x'"),
        ("match: armed", "match: 3", 9, "ready.match", "must be text, not 3"),
        ("format: losses-json", "format: loses-json", 14, "outputs[1].format", "losses-json"),
        ("gate: {path: ctl, ", "gate: {", 10, "gate.path", "is missing"),
    ],
)
def test_each_mistake_in_a_collector_is_named(
    folder: Path, old: str, new: str, line: int, key: str, words: str
) -> None:
    (folder / "collector.yml").write_text(GOOD.replace(old, new))
    assert any(m[:3] == ("collector.yml", line, key) and words in m[3] for m in mistakes(folder)), mistakes(
        folder
    )


def test_a_collector_that_counts_no_losses_is_a_mistake(folder: Path) -> None:
    (folder / "collector.yml").write_text(GOOD.replace("  - {file: losses.json, format: losses-json}\n", ""))
    assert [m[2] for m in mistakes(folder)] == ["outputs"]


def test_a_template_that_does_not_compile_is_named_with_its_own_line(folder: Path) -> None:
    (folder / "record.sh.j2").write_text("one\n{% if %}\n")
    assert mistakes(folder)[0][:2] == ("record.sh.j2", 2)


def test_mistakes_of_several_collectors_are_reported_together(folder: Path) -> None:
    shutil.copytree(folder, folder.parent / "other")
    for name in ("mine", "other"):
        (folder.parent / name / "collector.yml").write_text(GOOD.replace("cost: low", "cost: cheap"))
    with pytest.raises(InvalidFile) as caught:
        load_all([folder.parent])
    assert [m.path.parent.name for m in caught.value.mistakes] == ["mine", "other"]


def test_the_first_folder_that_has_a_name_wins(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "elsewhere" / "mine")
    assert load_all([tmp_path / "elsewhere", folder.parent])["mine"].folder == tmp_path / "elsewhere" / "mine"


def test_what_a_host_lacks_is_said_by_name(folder: Path) -> None:
    collector = load(folder)
    assert missing(collector, FACTS) == []
    bare = {**FACTS, "tools": {"perf": None}, "tracepoints": ["net:net_dev_queue"], "btf": False}
    assert missing(collector, bare) == ["command perf", "tracepoint skb:consume_skb", "btf"]
    assert missing(collector, {**FACTS, "tracefs": ""}) == ["tracefs (not mounted)"]


def test_kprobes_refused_by_lockdown_and_tracers_are_explained(folder: Path) -> None:
    text = GOOD.replace("features: [btf]", "features: [kprobes, 'tracer:function_graph']")
    (folder / "collector.yml").write_text(text)
    assert missing(load(folder), FACTS) == [
        "kprobes (kernel lockdown confidentiality)",
        "tracer function_graph",
    ]


def test_a_host_without_lttng_hears_which_part_is_missing() -> None:
    lttng = load(shipped("collectors") / "lttng")
    tools = {"lttng": None, "lttng-sessiond": None}
    assert missing(lttng, {"tools": tools, "lttng": True}) == ["command lttng", "command lttng-sessiond"]
    found = {name: {"path": f"/usr/bin/{name}", "version": "2.13"} for name in tools}
    assert missing(lttng, {"tools": found, "lttng": False}) == ["lttng (its kernel modules)"]


def test_an_unknown_way_to_follow_call_stacks_is_refused() -> None:
    with pytest.raises(UsageError, match="perf-record: record"):
        render(load(shipped("collectors") / "perf-record"), options={"call_graph": "lbr"}, context=CONTEXT)


SHIPPED = load_all([shipped("collectors")])
PAGE = Path(__file__).parents[2] / "docs" / "collectors.md"


def test_the_page_on_collectors_names_every_key_format_feature_and_name_there_is() -> None:
    page = PAGE.read_text()
    keys = {field.name for field in dataclasses.fields(Collector)} - {"name", "folder"}
    assert keys == set(re.findall(r"^\| `(\w+)` \|", page[: page.index("What templates see")], re.MULTILINE))
    words = {*FORMATS, *FEATURES, *CLOCKS, *tracefs.SYSTEMS, *tools.VERSION_ARGUMENT}
    words |= {*CONTEXT, "options", *CONTEXT["flow"], *CONTEXT["flow"]["arms"][0]}
    counters = [json.loads((one.folder / "sample" / "losses.json").read_text()) for one in SHIPPED.values()]
    words |= {name for names in counters for name in names}
    assert not [word for word in words if f"`{word}`" not in page and f"`{word}: " not in page]


def test_all_five_collectors_are_shipped() -> None:
    names = {"perf-stat", "perf-record", "ftrace-events", "bpftrace-latency", "skb-path"}
    assert names <= set(SHIPPED)
    assert {name for name, one in SHIPPED.items() if one.per_arm} >= {"perf-stat"}


@pytest.mark.parametrize("bpftrace", [[0, 17], [0, 23]])
@pytest.mark.parametrize("collector", SHIPPED.values(), ids=lambda one: one.name)
def test_every_shipped_collector_renders_to_scripts_that_bash_can_parse(
    collector: Collector, bpftrace: list[int], tmp_path: Path
) -> None:
    context = {**CONTEXT, "arm": "baseline" if collector.per_arm else "", "bpftrace": bpftrace}
    request = render(collector, options={}, context=context)
    for name, text in request["files"].items():
        assert "{{" not in text, name
        if name.endswith(".sh"):
            (tmp_path / name).write_text(text)
            checked = subprocess.run(["bash", "-n", str(tmp_path / name)], capture_output=True, text=True)
            assert checked.returncode == 0, checked.stderr
    assert all(output["format"] in FORMATS for output in request["described"])
    assert all(output["clock"] in ("monotonic", "boottime") for output in request["described"])
    assert "losses.json" in request["outputs"]
