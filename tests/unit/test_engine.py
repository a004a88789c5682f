"""What engines say, read: versions, shapes with holes in them, and the image we make."""

from __future__ import annotations

import io
import tarfile

import pytest

from swarmscope.cluster import engine_objects as objects
from swarmscope.cluster.engine import negotiate
from swarmscope.cluster.images import busybox_image
from swarmscope.errors import PreflightFailed


@pytest.mark.parametrize(
    ("server", "minimum", "spoken"),
    [("1.41", "1.12", "1.41"), ("1.52", "1.44", "1.45"), ("1.45", "1.45", "1.45"), ("1.100", "1.24", "1.45")],
)
def test_the_newest_version_both_know_is_spoken(server: str, minimum: str, spoken: str) -> None:
    assert negotiate(server, minimum, ours="1.45", our_minimum="1.24") == spoken


@pytest.mark.parametrize(
    ("server", "minimum", "upgrade"),
    [("1.60", "1.50", "the docker package here"), ("1.23", "1.12", "the engine")],
)
def test_no_common_version_names_both_ranges_and_what_to_upgrade(
    server: str, minimum: str, upgrade: str
) -> None:
    with pytest.raises(PreflightFailed) as caught:
        negotiate(server, minimum, ours="1.45", our_minimum="1.24")
    for part in (server, minimum, "1.45", "1.24"):
        assert part in caught.value.message
    assert upgrade in caught.value.hint


def test_a_worker_that_knows_no_cluster_is_read() -> None:
    info = {
        "Swarm": {
            "NodeID": "w1",
            "NodeAddr": "198.18.0.2",
            "LocalNodeState": "active",
            "ControlAvailable": False,
            "RemoteManagers": [{"NodeID": "m1", "Addr": "198.18.0.1:2377"}],
        }
    }
    state = objects.swarm_state(info)
    assert (state.state, state.node_id, state.control, state.cluster_id) == ("active", "w1", False, "")
    assert state.managers == ("198.18.0.1:2377",)


@pytest.mark.parametrize(
    "info", [{}, {"Swarm": None}, {"Swarm": {"LocalNodeState": "", "RemoteManagers": None}}]
)
def test_an_engine_without_a_swarm_is_inactive(info: dict[str, object]) -> None:
    assert objects.swarm_state(info) == objects.SwarmState("inactive")


def test_a_managers_address_is_its_own_and_not_its_view_of_itself() -> None:
    node = objects.node(
        {
            "ID": "m1",
            "Version": {"Index": 9},
            "Spec": {"Role": "manager", "Availability": "active", "Labels": None},
            "Description": {"Hostname": "n1"},
            "Status": {"State": "ready", "Addr": "0.0.0.0"},
            "ManagerStatus": {"Leader": True, "Addr": "198.18.0.1:2377"},
        }
    )
    assert (node.address, node.leader, node.version, node.labels) == ("198.18.0.1", True, 9, {})


def test_an_overlays_vni_mtu_and_subnet_are_read_from_its_options() -> None:
    network = objects.network(
        {
            "Id": "x",
            "Name": "ovl",
            "Driver": "overlay",
            "Scope": "swarm",
            "Attachable": True,
            "IPAM": {"Config": [{"Subnet": "10.88.0.0/24"}]},
            "Options": {objects.VNI_OPTION: "4097,4098", objects.MTU_OPTION: "1450"},
        }
    )
    assert (network.vni, network.mtu, network.subnet, network.attachable) == (
        4097,
        1450,
        "10.88.0.0/24",
        True,
    )


def test_a_network_with_nulls_for_everything_is_read() -> None:
    network = objects.network({"Id": "x", "Name": "none", "IPAM": {"Config": None}, "Options": None})
    assert (network.vni, network.mtu, network.subnet, network.labels) == (0, 0, "", {})


def test_a_container_gives_its_namespace_only_while_it_runs() -> None:
    data = {
        "Id": "c",
        "Name": "/web",
        "State": {"Status": "running", "Pid": 7},
        "Config": {"Labels": {"a": "b"}},
    }
    running = objects.container(data)
    assert (running.name, running.netns, running.running) == ("web", "/proc/7/ns/net", True)
    stopped = objects.container({**data, "State": {"Status": "exited", "Pid": 0}})
    assert (stopped.netns, stopped.running) == ("", False)


def test_the_busybox_image_has_the_program_and_a_link_per_applet_and_is_reproducible() -> None:
    data = busybox_image(b"\x7fELF...")
    assert data == busybox_image(b"\x7fELF...")
    assert data != busybox_image(b"\x7fELF,,,")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        program = tar.getmember("bin/busybox")
        assert program.mode == 0o755
        for applet in ("sh", "sleep", "ping", "nc", "telnet"):
            assert tar.getmember(f"bin/{applet}").linkname == "busybox"
        assert tar.getmember("tmp").mode == 0o1777
        assert all(member.uid == member.gid == member.mtime == 0 for member in tar.getmembers())
