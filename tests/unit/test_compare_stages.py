"""The function-to-stage table: every entry has its test, and the data file keeps its own rules."""

from __future__ import annotations

import pytest

from swarmscope.compare import stages
from swarmscope.compare.stages import Spot

TABLE = stages.table()


@pytest.mark.parametrize(
    ("symbol", "stage"),
    [
        ("raw_sendmsg", "tx-socket"),
        ("tcp_sendmsg_locked", "tx-socket"),
        ("ip_finish_output2", "ip-out"),
        ("__dev_queue_xmit", "qdisc"),
        ("veth_xmit", "veth"),
        ("br_handle_frame", "bridge"),
        ("__br_forward", "bridge"),
        ("br_nf_pre_routing", "netfilter"),
        ("nf_hook_slow", "netfilter"),
        ("vxlan_xmit_one", "vxlan-encap"),
        ("vxlan_rcv", "vxlan-decap"),
        ("gro_cell_poll", "vxlan-decap"),
        ("ip_rcv", "ip-in"),
        ("icmp_rcv", "rx-socket"),
        ("icmp_reply", "tx-socket"),
        ("napi_gro_receive", "gro"),
        ("virtnet_poll", "nic-rx"),
        ("consume_skb", "skb"),
        ("something_new", "other"),
    ],
)
def test_a_function_has_its_stage(symbol: str, stage: str) -> None:
    assert TABLE.stage(symbol) == stage


def spot(event: str, role: str, index: int, host: str = "n1") -> Spot:
    return Spot(event, role, (1, index), host)


@pytest.mark.parametrize(
    ("start", "end", "stage"),
    [
        (spot("net_dev_queue", "nic", 2), spot("net_dev_start_xmit", "nic", 2), "qdisc"),
        (spot("net_dev_start_xmit", "nic", 2), spot("netif_receive_skb", "nic", 2, "n2"), "wire"),
        (spot("net_dev_start_xmit", "vxlan", 4), spot("net_dev_queue", "nic", 2), "vxlan-encap"),
        (spot("netif_receive_skb", "nic", 2), spot("napi_gro_receive_entry", "vxlan", 4), "vxlan-decap"),
        (spot("netif_receive_skb", "veth", 6), spot("net_dev_queue", "vxlan", 4), "bridge"),
        (spot("net_dev_start_xmit", "container", 5), spot("netif_rx", "veth", 6), "veth"),
        (spot("netif_receive_skb", "container", 5), spot("consume_skb", "other", 5), "rx-socket"),
    ],
)
def test_a_step_between_two_events_has_its_stage(start: Spot, end: Spot, stage: str) -> None:
    assert TABLE.step(start, end) == stage


def test_every_stage_in_the_data_is_known_and_ordered() -> None:
    used = {*TABLE.functions, *(rule.stage for rule in TABLE.segments)}
    assert used <= set(stages.ORDER)


def test_every_expected_function_has_a_stage_of_its_own() -> None:
    for mode, names in TABLE.expected.items():
        assert [name for name in names if TABLE.stage(name) == "other"] == [], mode


@pytest.mark.parametrize("alias", TABLE.aliases, ids=lambda alias: f"{alias.old} to {alias.new}")
def test_an_alias_is_found_from_both_sides(alias: stages.Alias) -> None:
    assert TABLE.renamed(alias.old, {alias.new}) is not None
    assert TABLE.renamed(alias.new, {alias.old}) is not None
    assert TABLE.renamed(alias.old, {"unrelated"}) is None


@pytest.mark.parametrize(
    ("text", "parts"), [("6.12.9-amd64", (6, 12)), ("5.17", (5, 17)), ("", ()), ("weird", ())]
)
def test_a_kernel_release_is_read(text: str, parts: tuple[int, ...]) -> None:
    assert stages.release(text) == parts


@pytest.mark.parametrize(
    ("frame", "machinery"),
    [
        ("__traceiter_net_dev_queue", True),
        ("__probestub_netif_rx", True),
        ("trace_event_raw_event_net_dev_start_xmit", True),
        ("perf_trace_net_dev_template", True),
        ("__bpf_trace_net_dev_template", True),
        ("__dev_queue_xmit", False),
    ],
)
def test_a_tracepoint_s_own_frames_are_told_from_the_path(frame: str, machinery: bool) -> None:
    assert bool(TABLE.tracer.match(frame)) == machinery
