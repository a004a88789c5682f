"""Who records what: once for a kernel, by arm where asked, left out by name where a kernel cannot."""

from __future__ import annotations

from typing import Any

import pytest

from swarmscope.capture.record import round_trips
from swarmscope.capture.recording import plan_recorders, tool_version
from swarmscope.collectors import load_all
from swarmscope.errors import UsageError
from swarmscope.model import CollectorChoice

POINTS = [
    "net:net_dev_queue", "net:net_dev_start_xmit", "net:net_dev_xmit", "net:netif_receive_skb",
    "net:netif_rx", "skb:consume_skb", "skb:kfree_skb", "task:task_rename",
]  # fmt: skip
FACTS: dict[str, Any] = {
    "byteorder": "little",
    "tools": {
        name: {"path": f"/usr/bin/{name}", "version": "1.2"}
        for name in ("perf", "bpftrace", "timeout", "zstd")
    },
    "tracefs": "/sys/kernel/tracing",
    "tracepoints": POINTS,
    "instances": True,
    "btf": True,
    "kallsyms": True,
    "kprobes": False,
    "cpus": 2,
}
FLOW = {
    "arms": [
        {
            "arm": arm,
            "mode": mode,
            "client": c,
            "server": s,
            "client_u32": 1,
            "server_u32": 2,
            "ports": [7000],
        }
        for arm, mode, c, s in (
            ("baseline", "host", "198.18.0.1", "198.18.0.2"),
            ("subject", "overlay", "10.88.0.2", "10.88.0.3"),
        )
    ],
    "vxlan_port": 4789,
}


def plan(*names: str, facts: dict[str, Any] | None = None, patience: int = 1, **options: Any) -> Any:
    return plan_recorders(
        [CollectorChoice(name, options) for name in names],
        load_all(),
        run="20261121-000000-t-abcd",
        facts=facts or {"n1": FACTS, "n2": FACTS, "n3": FACTS},
        kernels={"k1": {"recorder": "n1", "hosts": ["n1", "n2"]}, "k2": {"recorder": "n3", "hosts": ["n3"]}},
        flow=FLOW,
        deadline_s=60,
        patience=patience,
    )


def test_hosts_that_share_a_kernel_are_recorded_by_one_of_them() -> None:
    made = plan("perf-record", "ftrace-events")
    assert made.hosts() == ("n1", "n3")
    assert [recorder.id for recorder in made.on("n1")] == ["perf-record", "ftrace-events"]


def test_a_collector_that_tells_arms_apart_gets_a_recorder_for_each() -> None:
    made = plan("perf-stat")
    assert [recorder.id for recorder in made.on("n1")] == ["perf-stat.baseline", "perf-stat.subject"]
    assert not any(recorder.whole_window for recorder in made.recorders)


def test_what_a_kernel_cannot_do_is_left_out_by_name() -> None:
    blind = {**FACTS, "btf": False}
    made = plan("skb-path", "perf-record", facts={"n1": blind, "n3": FACTS})
    assert [(host, name) for host, name, _ in made.left_out] == [("n1", "skb-path")]
    assert "btf" in made.left_out[0][2]
    assert [recorder.id for recorder in made.on("n1")] == ["perf-record"]
    assert len(made.on("n3")) == 2


def test_a_trace_instance_carries_run_host_and_recorder() -> None:
    [recorder] = plan("ftrace-events", facts={"n1": FACTS, "n3": FACTS}).on("n1")
    assert recorder.request["gate"]["path"].endswith(
        "/instances/swarmscope.20261121-000000-t-abcd.n1.ftrace-events/tracing_on"
    )


def test_an_unknown_option_is_an_error_and_not_ignored() -> None:
    with pytest.raises(UsageError, match="bufer_kb"):
        plan("ftrace-events", bufer_kb=1)


@pytest.mark.parametrize(
    ("version", "expected"), [("bpftrace v0.17.0", [0, 17]), ("perf version 6.1.187", [6, 1]), ("", [0, 0])]
)
def test_a_tool_s_version_is_read_from_what_it_says(version: str, expected: list[int]) -> None:
    assert tool_version({"tools": {"x": {"version": version}}}, "x") == expected


def test_a_missing_tool_has_version_zero() -> None:
    assert tool_version({"tools": {"bpftrace": None}}, "bpftrace") == [0, 0]


def test_round_trips_are_medians_of_the_trials_medians() -> None:
    trials = [
        {"trial": i, "arm": "baseline", "traffic": "ping 56 B", "kind": kind}
        for i, kind in enumerate(["plain", "plain", "plain", "traced", "plain"])
    ]
    traffic = {"0": [(1, 10_000), (2, 12_000), (3, 90_000)], "1": [(1, 20_000)], "2": [(1, 14_000)]}
    traffic |= {"3": [(1, 30_000)], "4": []}
    assert round_trips(trials, traffic) == {"baseline": {"ping 56 B": {"plain_us": 14.0, "traced_us": 30.0}}}


def test_recorders_on_emulated_machines_may_take_longer() -> None:
    tracing = {**FACTS, "tracers": ["function_graph"]}
    facts = {"n1": tracing, "n3": {**tracing, "instances": False}}
    [usual] = plan("function-graph", preset="path", facts=facts).recorders
    [slow] = plan("function-graph", preset="path", facts=facts, patience=5).recorders
    for key in ("stop_grace_s", "after_timeout_s"):
        assert slow.request[key] == 5 * usual.request[key]
    for key in ("ready", "rehearsal"):
        assert slow.request[key]["timeout_s"] == 5 * usual.request[key]["timeout_s"]
    assert slow.request["gate"]["ack_timeout_s"] == 5 * usual.request["gate"]["ack_timeout_s"] == 25
