"""Trials alternate fairly, kernels are recorded once, and the flow says what the filters need."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmscope.capture.plan import (
    Ends,
    address_word,
    describe_flow,
    group_kernels,
    order_trials,
    packets_of,
    pick_host,
)
from swarmscope.errors import UsageError
from swarmscope.model import Endpoint, Host, Inventory, NetworkSpec, Playbook, TrafficSpec

PING = TrafficSpec("ping", 100, 56, interval_us=5000, traced_count=50)
RR = TrafficSpec("rr", 1000, 64, transport="tcp")


def playbook(plain: int, traced: int) -> Playbook:
    return Playbook(
        path=Path("overlay.yml"),
        name="overlay",
        summary="",
        baseline="host",
        subject="overlay",
        network=NetworkSpec("n", "10.88.0.0/24"),
        image="auto",
        client="first",
        server="second",
        traffic=(PING, RR),
        plain_trials=plain,
        traced_trials=traced,
        collectors=(),
        deadline_s=60,
    )


@given(plain=st.integers(1, 20), traced=st.integers(0, 8))
def test_every_arm_gets_the_trials_the_playbook_asks_for(plain: int, traced: int) -> None:
    trials = order_trials(playbook(plain, traced))
    counted = Counter((t.arm, t.kind, t.traffic.kind) for t in trials)
    for arm in ("baseline", "subject"):
        for traffic in ("ping", "rr"):
            assert counted[arm, "plain", traffic] == plain
            assert counted[arm, "traced", traffic] == traced
    assert [t.index for t in trials] == list(range(len(trials)))


@given(plain=st.integers(1, 20))
def test_each_block_pairs_one_trial_of_either_arm(plain: int) -> None:
    pairs = Counter((t.block, t.arm, t.traffic.kind) for t in order_trials(playbook(plain, 0)))
    assert set(pairs.values()) == {1}


def test_blocks_alternate_so_that_drift_falls_on_both_arms() -> None:
    pings = [t for t in order_trials(playbook(4, 0)) if t.traffic.kind == "ping"]
    assert "".join(t.arm[0] for t in pings) == "bssbbssb"


def test_plain_trials_stand_on_both_sides_of_the_traced_window() -> None:
    kinds = [t.kind for t in order_trials(playbook(5, 2))]
    first, last = kinds.index("traced"), len(kinds) - 1 - kinds[::-1].index("traced")
    assert set(kinds[first : last + 1]) == {"traced"}
    assert kinds[:first].count("plain") == 3 * 4
    assert kinds[last + 1 :].count("plain") == 2 * 4


def test_traced_trials_may_send_less() -> None:
    trials = order_trials(playbook(1, 1))
    counts = {(t.kind, t.traffic.kind): packets_of(t) for t in trials}
    assert counts == {
        ("plain", "ping"): 100,
        ("traced", "ping"): 50,
        ("plain", "rr"): 1000,
        ("traced", "rr"): 1000,
    }


def test_hosts_of_one_kernel_share_a_recorder() -> None:
    kernels = group_kernels({"n1": "a", "n2": "a", "n3": "b"})
    assert kernels == {
        "a": {"recorder": "n1", "hosts": ["n1", "n2"]},
        "b": {"recorder": "n3", "hosts": ["n3"]},
    }


def test_an_address_is_the_word_that_the_machine_loads() -> None:
    assert address_word("198.18.0.1", "little") == 0x010012C6
    assert address_word("198.18.0.1", "big") == 0xC6120001


def test_the_flow_names_addresses_and_ports_of_both_arms() -> None:
    ends = Ends("baseline", "host", Endpoint("n1", "x", "10.0.0.1"), Endpoint("n2", "y", "10.0.0.2"))
    flow = describe_flow([ends.with_ports((7000,))], "little")
    assert flow["vxlan_port"] == 4789
    assert flow["arms"][0]["ports"] == [7000]
    assert flow["arms"][0]["client_u32"] == 0x0100000A


def inventory(*names: str) -> Inventory:
    return Inventory(Path("i.yml"), "i", tuple(Host(name, name, "workers") for name in names))


def test_positions_and_names_place_the_endpoints() -> None:
    assert pick_host(inventory("n1", "n2"), "second").name == "n2"
    assert pick_host(inventory("n1", "n2"), "n1").name == "n1"


@pytest.mark.parametrize(("which", "said"), [("second", "needs 2 hosts"), ("n9", "'n9'")])
def test_a_place_that_is_not_there_is_named(which: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        pick_host(inventory("n1"), which)
