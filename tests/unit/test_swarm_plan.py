"""From every state a host can be found in to steps or to a refusal: no host, no engine."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from swarmscope.cluster.engine_objects import Attachment, Container, Network, Node, SwarmState
from swarmscope.cluster.networks import data_mtu
from swarmscope.cluster.swarm_plan import plan_down, plan_leave, plan_up
from swarmscope.cluster.swarm_state import LABEL_BRIDGE, LABEL_HOST, HostState, LabelNode
from swarmscope.errors import PreflightFailed, Refused, UsageError
from swarmscope.model import LABEL_RUN, LABEL_SWARM, NetworkSpec

NAME = "lab"
SPEC = NetworkSpec("ovl", "10.88.0.0/24")
OURS = {LABEL_SWARM: NAME}
INGRESS = Network("ing", "ingress", "overlay", "swarm", "10.0.0.0/24", 0, 4096, False, True, {})
OVERLAY = Network("net1", "ovl", "overlay", "swarm", "10.88.0.0/24", 1450, 4097, True, False, OURS)


def host(number: int, role: str = "worker", **changes: object) -> HostState:
    address = f"198.18.0.{number}"
    values: dict[str, object] = {
        "name": f"n{number}",
        "role": role,
        "advertise": address,
        "data": address,
        "mtu": 1500,
        "swarm": SwarmState("inactive"),
        **changes,
    }
    return HostState(**values)  # type: ignore[arg-type]


def node(number: int, role: str = "worker", state: str = "ready", **labels: str) -> Node:
    marks = {LABEL_SWARM: NAME, LABEL_HOST: f"n{number}", LABEL_BRIDGE: "made", **labels}
    return Node(f"id{number}", f"n{number}", role, state, "active", f"198.18.0.{number}", False, marks, 1)  # type: ignore[arg-type]


def manager(
    number: int = 1, *, nodes: tuple[Node, ...] = (), networks: tuple[Network, ...] = (INGRESS,)
) -> HostState:
    state = SwarmState("active", f"id{number}", f"198.18.0.{number}", True, "cluster1", OURS)
    entries = nodes or (node(number, "manager"),)
    return host(number, "manager", swarm=state, nodes=entries, networks=networks)


def worker(number: int, **changes: object) -> HostState:
    state = SwarmState("active", f"id{number}", f"198.18.0.{number}", managers=("198.18.0.1:2377",))
    return host(number, swarm=state, **changes)


def formed(*, networks: tuple[Network, ...] = (INGRESS, OVERLAY)) -> list[HostState]:
    return [manager(nodes=(node(1, "manager"), node(2)), networks=networks), worker(2)]


def container(network: str, **labels: str) -> Container:
    return Container("c1", "box", "img", "running", 0, labels, {"ovl": Attachment(network, "10.88.0.2")})


def lines(plan: object) -> list[str]:
    return [f"{where}: {what}" for where, what in plan.lines]  # type: ignore[attr-defined]


def refusal(states: list[HostState], network: NetworkSpec | None = SPEC) -> str:
    with pytest.raises(Refused) as caught:
        plan_up(states, name=NAME, network=network)
    assert caught.value.exit_code == 7
    return caught.value.message


class TestUp:
    def test_fresh_hosts_init_join_and_get_the_network(self) -> None:
        plan = plan_up([host(1, "manager"), host(2), host(3)], name=NAME, network=SPEC)
        assert lines(plan) == [
            "n1: init the swarm, advertise 198.18.0.1, data path 198.18.0.1",
            "n2: join as worker at 198.18.0.1:2377, advertise 198.18.0.2, data path 198.18.0.2",
            "n3: join as worker at 198.18.0.1:2377, advertise 198.18.0.3, data path 198.18.0.3",
            "n1: create overlay network ovl, subnet 10.88.0.0/24, MTU 1450",
        ]

    def test_further_managers_join_before_workers(self) -> None:
        plan = plan_up([host(1, "manager"), host(2), host(3, "manager")], name=NAME, network=None)
        assert [line.split(",")[0] for line in lines(plan)] == [
            "n1: init the swarm",
            "n3: join as manager at 198.18.0.1:2377",
            "n2: join as worker at 198.18.0.1:2377",
        ]

    def test_a_formed_swarm_needs_nothing(self) -> None:
        plan = plan_up(formed(), name=NAME, network=SPEC)
        assert not plan
        assert plan.lines == ()

    def test_a_missing_worker_joins_through_the_manager_that_is_there(self) -> None:
        states = [host(3, "manager"), *formed(), host(4)]
        plan = plan_up(states, name=NAME, network=SPEC)
        assert [line.split(",")[0] for line in lines(plan)] == [
            "n3: join as manager at 198.18.0.1:2377",
            "n4: join as worker at 198.18.0.1:2377",
        ]

    def test_a_node_that_lost_its_label_is_labelled(self) -> None:
        bare = replace(node(2), labels={})
        states = [manager(nodes=(node(1, "manager"), bare), networks=(INGRESS, OVERLAY)), worker(2)]
        assert lines(plan_up(states, name=NAME, network=SPEC)) == ["n2: label node id2"]

    def test_a_first_manager_that_lost_its_label_still_knows_whose_its_bridge_is(self) -> None:
        bare = replace(node(1, "manager"), labels={})
        via = manager(nodes=(bare,))
        via = replace(via, swarm=replace(via.swarm, labels={**OURS, LABEL_BRIDGE: "made"}))
        (step,) = plan_up([via], name=NAME, network=None).steps
        assert step == LabelNode("n1", "id1", bridge=True)

    def test_the_bridge_is_ours_only_where_there_was_none(self) -> None:
        bridge = Network("b", "docker_gwbridge", "bridge", "local", "", 0, 0, False, False, {})
        plan = plan_up([host(1, "manager", networks=(bridge,)), host(2)], name=NAME, network=None)
        assert [step.bridge for step in plan.steps] == [False, True]  # type: ignore[union-attr]

    @pytest.mark.parametrize(
        ("swarm", "reason"),
        [
            (
                SwarmState("active", "x", control=True, cluster_id="c9"),
                "in swarm c9, which swarmscope did not make",
            ),
            (
                SwarmState("active", "x", control=True, cluster_id="c9", labels={LABEL_SWARM: "b"}),
                "labelled b",
            ),
            (SwarmState("active", "x", control=True, cluster_id="c9", labels=OURS), "both labelled lab"),
            (
                SwarmState("active", "x", managers=("10.0.0.9:2377",)),
                "in another swarm, as node x (10.0.0.9:2377)",
            ),
            (SwarmState("active", "x", control=True, error="no leader"), "does not answer: no leader"),
            (SwarmState("pending", managers=("10.0.0.9:2377",)), "half-joined, a join to 10.0.0.9:2377"),
            (SwarmState("error", error="bad CA"), "half-joined, its membership is in state error: bad CA"),
            (SwarmState("locked"), "locked"),
        ],
    )
    def test_a_host_that_is_not_free_and_not_ours_is_refused(self, swarm: SwarmState, reason: str) -> None:
        assert reason in refusal([*formed(), host(3, swarm=swarm)])

    def test_a_worker_of_another_swarm_is_refused_also_where_we_have_none_yet(self) -> None:
        message = refusal([host(1, "manager"), worker(2)])
        assert "n2: in another swarm" in message

    def test_every_reason_of_every_host_is_said_at_once(self) -> None:
        states = [
            host(1, "manager"),
            host(2, swarm=SwarmState("locked")),
            host(3, swarm=SwarmState("pending")),
        ]
        message = refusal(states)
        assert "n2: " in message
        assert "n3: " in message

    def test_a_former_node_entry_of_a_host_is_refused(self) -> None:
        states = [manager(nodes=(node(1, "manager"), node(2, state="down"))), host(2)]
        assert "n2: the swarm still lists its former node id2 (down)" in refusal(states, None)

    def test_a_node_that_is_down_or_elsewhere_or_of_another_role_is_refused(self) -> None:
        down = [manager(nodes=(node(1, "manager"), node(2, state="down"))), worker(2)]
        assert "n2: its node is down in the swarm" in refusal(down, None)
        moved = [formed()[0], replace(worker(2), advertise="198.18.0.99")]
        assert "n2: advertises 198.18.0.2, the inventory wants 198.18.0.99" in refusal(moved)
        promoted = [formed()[0], replace(worker(2), role="manager")]
        assert "n2: is a worker, the inventory wants a manager" in refusal(promoted)

    def test_without_a_manager_among_the_hosts_it_is_a_usage_error(self) -> None:
        with pytest.raises(UsageError, match="no manager"):
            plan_up([host(2)], name=NAME, network=SPEC)


class TestNetwork:
    def test_the_narrowest_data_path_decides_the_mtu_unless_the_playbook_does(self) -> None:
        states = [host(1, "manager", mtu=9000), host(2, mtu=1400)]
        assert lines(plan_up(states, name=NAME, network=SPEC))[-1].endswith("MTU 1350")
        assert lines(plan_up(states, name=NAME, network=replace(SPEC, mtu=1200)))[-1].endswith("MTU 1200")

    def test_a_difference_is_shown_and_the_network_made_anew_while_nobody_uses_it(self) -> None:
        plan = plan_up(formed(), name=NAME, network=replace(SPEC, subnet="10.88.9.0/24", mtu=1400))
        assert lines(plan) == [
            "n1: remove network ovl (subnet: 10.88.0.0/24 -> 10.88.9.0/24, mtu: 1450 -> 1400)",
            "n1: create overlay network ovl, subnet 10.88.9.0/24, MTU 1400",
        ]

    def test_a_network_in_use_is_not_made_anew(self) -> None:
        states = formed()
        states[1] = replace(states[1], containers=(container("net1"),))
        message = refusal(states, replace(SPEC, mtu=1400))
        assert "mtu: 1450 -> 1400" in message
        assert "n2: " in message
        assert "container box" in message

    @pytest.mark.parametrize("labels", [{}, {LABEL_SWARM: "other"}])
    def test_a_network_of_that_name_that_is_not_ours_is_refused(self, labels: dict[str, str]) -> None:
        assert "n1: network ovl" in refusal(formed(networks=(INGRESS, replace(OVERLAY, labels=labels))))

    def test_a_local_network_of_that_name_on_any_host_is_refused(self) -> None:
        local = Network("l", "ovl", "bridge", "local", "172.30.0.0/16", 0, 0, False, False, {})
        message = refusal([host(1, "manager"), host(2, networks=(local,))])
        assert "n2: has a bridge network ovl" in message

    def test_the_overlay_as_a_worker_sees_it_is_no_clash(self) -> None:
        states = formed()
        states[1] = replace(states[1], networks=(replace(OVERLAY, vni=0),))
        assert not plan_up(states, name=NAME, network=SPEC)

    def test_a_subnet_that_holds_a_hosts_own_address_is_refused(self) -> None:
        assert "n1: its address 198.18.0.1 lies in" in refusal(
            [host(1, "manager")], NetworkSpec("o", "198.18.0.0/15")
        )

    def test_the_data_devices_mtu_is_found_by_its_address(self) -> None:
        links = json.dumps(
            [
                {"mtu": 65536, "addr_info": [{"local": "127.0.0.1"}, {"local": "::1"}]},
                {"mtu": 9000, "addr_info": [{"local": "198.18.0.1"}]},
                {"mtu": 1500},
            ]
        )
        assert data_mtu(links, "198.18.0.1", host="n1") == 9000
        with pytest.raises(PreflightFailed, match=r"n1: no device holds 198\.18\.0\.2"):
            data_mtu(links, "198.18.0.2", host="n1")


class TestDown:
    def test_a_whole_swarm_ends_network_first_and_the_manager_last(self) -> None:
        assert lines(plan_down(formed(), name=NAME)) == [
            "n1: remove network ovl",
            "n2: leave the swarm, remove docker_gwbridge",
            "n1: leave the swarm, which ends with it, remove docker_gwbridge",
        ]

    def test_hosts_in_no_swarm_need_nothing(self) -> None:
        assert not plan_down([host(1, "manager"), host(2)], name=NAME)

    def test_a_bridge_that_was_there_before_stays(self) -> None:
        nodes = (node(1, "manager", **{LABEL_BRIDGE: ""}), node(2, **{LABEL_BRIDGE: ""}))
        plan = plan_down([manager(nodes=nodes), worker(2)], name=NAME)
        assert not any("docker_gwbridge" in line for line in lines(plan))

    def test_another_swarm_is_never_left(self) -> None:
        other = host(1, "manager", swarm=SwarmState("active", "x", control=True, cluster_id="c9"))
        with pytest.raises(Refused, match="n1: in swarm c9"):
            plan_down([other], name=NAME)

    def test_containers_of_a_run_are_left_to_sweep(self) -> None:
        states = formed()
        states[1] = replace(states[1], containers=(container("net1", **{LABEL_RUN: "r1"}),))
        with pytest.raises(Refused, match=r"n2: container box of run r1 is running.*invoke sweep"):
            plan_down(states, name=NAME)

    def test_a_strangers_container_on_our_network_is_not_cut_off(self) -> None:
        states = formed()
        states[1] = replace(states[1], containers=(container("net1"),))
        with pytest.raises(Refused, match="n2: container box, not made by swarmscope"):
            plan_down(states, name=NAME)

    def test_a_strangers_container_elsewhere_does_not_matter(self) -> None:
        states = formed()
        states[1] = replace(states[1], containers=(container("bridge"),))
        assert plan_down(states, name=NAME)

    def test_services_somebody_deployed_are_not_ended(self) -> None:
        states = formed()
        states[0] = replace(states[0], services={"web": {}})
        with pytest.raises(Refused, match="service web"):
            plan_down(states, name=NAME)

    def test_nodes_outside_the_inventory_are_not_orphaned(self) -> None:
        with pytest.raises(Refused, match="n3, which this would leave without a manager"):
            plan_down([manager(nodes=(node(1, "manager"), node(2), node(3))), worker(2)], name=NAME)

    def test_a_former_entry_of_a_host_that_is_out_already_does_not_stop_it(self) -> None:
        states = [manager(nodes=(node(1, "manager"), node(2, state="down"))), host(2)]
        assert lines(plan_down(states, name=NAME))[-1].startswith("n1: leave the swarm, which ends")

    def test_one_worker_leaves_and_its_entries_go_while_the_swarm_stays(self) -> None:
        old = replace(node(2, state="down"), id="old2")
        states = [manager(nodes=(node(1, "manager"), node(2), old), networks=(INGRESS, OVERLAY)), worker(2)]
        assert lines(plan_leave(states, ["n2"], name=NAME)) == [
            "n2: leave the swarm, remove docker_gwbridge",
            "n1: remove the node entry of n2",
            "n1: remove the node entry of n2",
        ]

    def test_a_manager_does_not_leave_a_swarm_that_stays(self) -> None:
        with pytest.raises(Refused, match="n1: is a manager"):
            plan_leave(formed(), ["n1"], name=NAME)
