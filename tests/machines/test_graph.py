"""function-graph and trace-cmd on a kernel with the graph tracer: what they record, what they leave."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from host_state import difference, state
from recording_on import PATIENCE_S, Lab, Machine, machine

from swarmscope.errors import SwarmscopeError

TRACING = "/sys/kernel/tracing"
BOTH = ("function-graph", "trace-cmd")
OVERLAY = ("vxlan_xmit", "br_forward", "veth_xmit")
SENT = 3
NETWORK = """
set -e
for name in A B a b; do ip netns add gr$name; ip -n gr$name link set lo up; done
ip -n grA link add under type veth peer name under netns grB
one() {
  ip -n gr$1 addr add $3/24 dev under
  ip -n gr$1 link set under up
  ip -n gr$1 link add br0 type bridge
  ip -n gr$1 link set br0 up
  ip -n gr$1 link add vx0 type vxlan id 42 dstport 4789 local $3 remote $4 dev under
  ip -n gr$1 link set vx0 master br0 up
  ip -n gr$1 link add v0 type veth peer name eth0 netns gr$2
  ip -n gr$1 link set v0 master br0 up
  ip -n gr$2 addr add $5/24 dev eth0
  ip -n gr$2 link set eth0 up
}
one A a 10.88.200.1 10.88.200.2 10.88.201.1
one B b 10.88.200.2 10.88.200.1 10.88.201.2
for _ in $(seq 60); do ip netns exec gra ping -q -c 1 -W 1 10.88.201.2 && exit; sleep 0.5; done
exit 1
"""
PING = f"ip netns exec gra ping -q -c {SENT} -i 0.2 10.88.201.2"


@pytest.fixture(scope="module")
def on(machines: Lab) -> Iterator[Machine]:
    """The first machine, with an overlay of two bridges and a VXLAN inside it."""
    with machine(machines.root) as made:
        made.root(NETWORK)
        # Its first use expands the buffer of the top level, and nothing can undo that.
        made.root(f"echo 1408 >{TRACING}/buffer_size_kb")
        try:
            yield made
        finally:
            made.root("for name in A B a b; do ip netns del gr$name; done")


def as_before(on: Machine, before: list[str]) -> None:
    on.agent.call("discard", run=on.run, timeout=PATIENCE_S)
    assert difference(before, state(on.root)) == []


def record(on: Machine, *recorders: str) -> None:
    on.gate("open", *recorders)
    on.root(PING)
    on.gate("close", *recorders)


def count(on: Machine, function: str, where: str) -> int:
    return int(on.root(f"cd {on.folder}; {where} | grep -cw '{function}' || true"))


def test_both_record_the_same_calls_at_once_and_leave_the_machine_as_it_was(on: Machine) -> None:
    before = state(on.root)
    on.arm({name: {} for name in BOTH})
    record(on, *BOTH)
    on.stop()
    for function in OVERLAY:
        called = f"{function}\\( \\[[a-z_]*\\]\\)\\?() \\?[{{;]"  # the kernel's text names the module
        calls = count(on, called, "cat function-graph/graph.txt")
        entered = count(on, called, "trace-cmd report -i trace-cmd/trace.dat")
        assert calls == entered >= 2 * SENT, function
    for name in BOTH:
        assert on.losses(name) == {"overrun": 0, "commit_overrun": 0, "dropped": 0}
    as_before(on, before)


def test_the_pages_stand_beside_what_is_needed_to_read_them(on: Machine) -> None:
    on.arm({"function-graph": {"preset": "vxlan veth"}})
    record(on, "function-graph")
    on.stop()
    pages = f"{on.folder}/function-graph/pages"
    sizes = [int(size) for size in on.root(f"stat -c %s {pages}/cpu*.raw").split()]
    assert len(sizes) == on.facts["cpus"] and sum(sizes) > 0
    assert all(size % 4096 == 0 for size in sizes)
    about = json.loads(on.root(f"cat {pages}/options.json"))
    assert about["own_instance"] is True
    assert "[mono]" in about["trace_clock"]
    assert about["options_of_tracefs"]["funcgraph-abstime"] == "1"
    assert about["options_of_tracefs"]["hash-ptr"] == "0"
    assert "veth_xmit [veth]" in on.root(f"cat {pages}/functions")
    formats = set(on.root(f"cd {pages}/formats; find -type f").split())
    assert {"./ftrace/funcgraph_entry", "./ftrace/funcgraph_exit", "./net/net_dev_queue"} <= formats
    address = on.root(f"awk '$3 == \"vxlan_xmit\" {{ print $1 }}' {pages}/kallsyms").strip()
    assert int(address, 16) > 0


def test_below_chosen_roots_everything_down_to_the_depth_is_recorded_and_nothing_else(on: Machine) -> None:
    before = state(on.root)
    on.arm({"function-graph": {"preset": "", "roots": "vxlan_xmit", "depth": 2, "events": ""}})
    record(on, "function-graph")
    on.stop()
    calls = [
        line for line in on.root(f"cat {on.folder}/function-graph/graph.txt").splitlines() if "()" in line
    ]
    depths = {len(line.rpartition("|")[2]) - len(line.rpartition("|")[2].lstrip()) for line in calls}
    assert min(depths) == 2 and max(depths) == 4  # a level is two spaces
    roots = [line for line in calls if line.rpartition("|")[2].startswith("  v")]
    assert roots and all("vxlan_xmit" in line for line in roots)
    as_before(on, before)


def test_the_top_level_is_given_back_as_somebody_had_set_it(on: Machine) -> None:
    theirs = {
        "max_graph_depth": "7",
        "set_graph_function": "ip_rcv",
        "trace_clock": "global",
        "tracing_on": "0",
    }
    on.root("".join(f"echo {value} >{TRACING}/{name}\n" for name, value in theirs.items()))
    try:
        before = state(on.root)
        on.arm({"function-graph": {"instance": False, "depth": 5, "preset": "vxlan veth"}})
        assert on.root(f"cat {TRACING}/current_tracer").strip() == "function_graph"
        record(on, "function-graph")
        on.stop()
        assert count(on, "vxlan_xmit", "cat function-graph/graph.txt") > 0
        as_before(on, before)
    finally:
        restored = {
            "max_graph_depth": "0",
            "set_graph_function": "",
            "trace_clock": "local",
            "tracing_on": "1",
        }
        on.root("".join(f"echo {value} >{TRACING}/{name}\n" for name, value in restored.items()))


def test_whoever_graphs_functions_already_is_left_alone_and_named(on: Machine) -> None:
    on.root(f"cd {TRACING}; echo vxlan_xmit >set_ftrace_filter; echo function_graph >current_tracer")
    try:
        before = state(on.root)
        for options in ({"instance": False}, {"instance": True}):
            with pytest.raises(SwarmscopeError, match="somebody"):
                on.arm({"function-graph": options})
            as_before(on, before)
    finally:
        on.root(f"cd {TRACING}; echo nop >current_tracer; echo >set_ftrace_filter")


@pytest.mark.parametrize("options", [{"depth": 4}, {"instance": False, "depth": 4}])
def test_after_a_recorder_was_killed_the_agent_gives_the_settings_back(
    on: Machine, options: dict[str, object]
) -> None:
    before = state(on.root)
    on.arm({"function-graph": options})
    on.root("kill -9 $(pgrep -f 'python3 -B record.py')")
    [report] = on.agent.call("stop", recorders=None, timeout=PATIENCE_S)["recorders"]
    assert report["exit"] not in (0, 130) and "not_restored" not in report
    on.agent.call("unlock", run=on.run)
    as_before(on, before)


def test_the_preset_path_graphs_what_the_rehearsal_went_through(on: Machine) -> None:
    on.arm({"function-graph": {"preset": "path"}})
    on.root(PING)
    on.agent.call("rehearsed", recorders=["function-graph"], timeout=PATIENCE_S)
    record(on, "function-graph")
    on.stop()
    chosen = on.root(f"cat {on.folder}/function-graph/pages/functions").split()
    assert {"veth_xmit", "vxlan_xmit", "ip_output"} <= set(chosen)
    assert "macvlan_start_xmit" not in chosen
    assert count(on, "vxlan_xmit", "cat function-graph/graph.txt") > 0
    on.agent.call("discard", run=on.run, timeout=PATIENCE_S)


def test_what_the_kernel_can_trace_is_kept_with_the_run(on: Machine) -> None:
    on.arm({"function-graph": {"preset": "veth"}})
    on.stop()
    on.agent.call("kallsyms", run=on.run, timeout=PATIENCE_S)
    names = on.root(f"cat {on.folder}/traceable.txt").splitlines()
    assert "veth_xmit [veth]" in names and len(names) > 20_000
    files = on.agent.call("pack", run=on.run, timeout=PATIENCE_S)["files"]
    assert "traceable.txt.zst" in {entry["path"] for entry in files}
    on.agent.call("discard", run=on.run, timeout=PATIENCE_S)
