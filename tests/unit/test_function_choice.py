"""Which functions the collectors that trace functions choose: globs, modules, presets, stacks."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import pytest

import swarmscope.agent
from swarmscope import collectors
from swarmscope.errors import UsageError
from swarmscope.places import shipped

FOLDER = shipped("collectors") / "function-graph"
LINES = [
    "__traceiter_initcall",
    "ip_rcv",
    "ip_rcv_core.isra.0",
    "__ftrace_invalid_address___96",
    "veth_xmit [veth]",
    "br_forward [bridge]",
    "br_nf_forward_ip [br_netfilter]",
    "vxlan_xmit [vxlan]",
    "bridge_of_clocks",
]
STACKS = """\
        ffffffff81000001 __dev_queue_xmit
        ffffffff81000002 ip_output
                7f0012345678 [unknown]

        ffffffff81000003 netif_rx
        ffffffff81000004 sysvec_call_function_single
        ffffffff81000005 do_something_else

        ffffffff81000006 perf_trace_net_dev_template
        ffffffff81000007 br_forward+0x12
"""


@pytest.fixture
def choosing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as a recorder imports it: beside its script, with the agent's package on the path."""
    package = swarmscope.agent.__path__[0]
    monkeypatch.syspath_prepend(package.rpartition("/")[0])
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in [name for name in sys.modules if name.partition(".")[0] in ("agent", "choosing")]:
        monkeypatch.delitem(sys.modules, name)
    return importlib.import_module("choosing")


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("ip_rcv", ["ip_rcv"]),
        ("ip_rcv*", ["ip_rcv", "ip_rcv_core.isra.0"]),
        ("*_xmit", ["veth_xmit [veth]", "vxlan_xmit [vxlan]"]),
        ("*:mod:bridge", ["br_forward [bridge]"]),
        (":mod:br*", ["br_forward [bridge]", "br_nf_forward_ip [br_netfilter]"]),
        ("br_n*:mod:br_netfilter", ["br_nf_forward_ip [br_netfilter]"]),
        ("v?th_xmit", ["veth_xmit [veth]"]),
        ("bridge", []),
        ("[veth]", []),
        ("*", [line for line in LINES if "invalid" not in line]),
    ],
)
def test_a_word_means_what_it_means_to_the_kernel(choosing: ModuleType, word: str, wanted: list[str]) -> None:
    assert choosing.choose(LINES, [word]).names == wanted


def test_places_are_counted_over_all_lines_and_what_is_excluded_is_left_out(choosing: ModuleType) -> None:
    choice = choosing.choose(LINES, ["*_xmit", "br_*", "nothing"], ["vxlan*"])
    assert choice.names == ["veth_xmit [veth]", "br_forward [bridge]", "br_nf_forward_ip [br_netfilter]"]
    assert choice.places == [5, 6, 7]
    assert choice.matched == {"*_xmit": 1, "br_*": 2, "nothing": 0}
    assert choosing.choose(LINES, []).places == []


def test_stacks_are_cut_where_something_was_interrupted_and_lose_the_tracers_own(
    choosing: ModuleType,
) -> None:
    assert choosing.of_stacks(STACKS) == [
        "__dev_queue_xmit",
        "ip_output",
        "[unknown]",
        "netif_rx",
        "br_forward",
    ]


def test_the_presets_that_the_help_names_are_those_there_are(choosing: ModuleType) -> None:
    presets = choosing.read_presets((FOLDER / "presets.txt").read_text())
    assert " ".join(presets) == "net ip tcp udp skb br vxlan veth macvlan ipvlan nf"
    assert " ".join(presets) in collectors.load(FOLDER).options["preset"].help
    assert all(presets.values())
    assert "veth_xmit [veth]" in choosing.choose(LINES, presets["veth"]).names


@pytest.mark.parametrize("name", ["function-graph", "trace-cmd"])
def test_only_the_preset_path_asks_for_a_rehearsal(name: str) -> None:
    collector = collectors.load(FOLDER.parent / name)
    context = {
        "run": "r", "host": "h", "recorder": name, "instance": "i", "deadline_s": 9, "tracefs": "/t",
        "tools": {"perf": None, "trace-cmd": {"path": "/usr/bin/trace-cmd"}}, "tracepoints": [],
    }  # fmt: skip
    assert collectors.render(collector, options={}, context=context)["rehearsal"] is None
    asked = collectors.render(collector, options={"preset": "net path"}, context=context)["rehearsal"]
    assert asked == {"fifo": "rehearsal", "match": "^swarmscope rehearsed", "timeout_s": 60}
    with pytest.raises(UsageError, match="depth"):
        collectors.render(collector, options={"depth": "3"}, context=context)


def test_a_kernel_without_the_graph_tracer_is_left_out_by_name() -> None:
    facts = {
        "tools": {}, "tracefs": "/t", "tracepoints": ["net:net_dev_queue", "net:netif_receive_skb"],
        "instances": True, "kallsyms": True, "tracers": ["nop"],
    }  # fmt: skip
    for name in ("function-graph", "trace-cmd"):
        assert collectors.missing(collectors.load(FOLDER.parent / name), facts) == ["tracer function_graph"]
