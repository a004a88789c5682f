"""Names for namespaces and devices, from topologies as the agents report them."""

import json
from pathlib import Path
from typing import Any

from swarmscope.trace import roles, schema

GOLDEN = Path(__file__).parent.parent / "golden" / "run-overlay"


def link(ifindex: int, name: str, kind: str = "", **more: Any) -> dict[str, Any]:
    info = {"linkinfo": {"info_kind": kind, "info_data": more.pop("data", {})}} if kind else {}
    return {"ifindex": ifindex, "ifname": name, "mtu": 1500, "link_type": "ether", **info, **more}


LO = {"ifindex": 1, "ifname": "lo", "mtu": 65536, "link_type": "loopback"}


def space(inode: int, kind: str, *links: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"inode": inode, "path": "", "kind": kind, "pids": [], "names": [], "links": [LO, *links], **more}


def named(found: list[roles.Device]) -> dict[tuple[str, int, str], tuple[str, str]]:
    return {(d.host, d.netns, d.dev): (d.role, d.label) for d in found}


HOST = space(
    1,
    "host",
    link(2, "eth0", "veth"),
    link(3, "docker_gwbridge", "bridge"),
    link(9, "veth12ab", "veth", master="docker_gwbridge"),
    link(4, "ens5"),
)
OVERLAY = space(
    2,
    "overlay",
    link(2, "br0", "bridge"),
    link(5, "vxlan0", "vxlan", data={"id": 4097}, master="br0"),
    link(7, "veth0", "veth", master="br0"),
    names=["1-abcdef"],
)


def test_every_device_of_a_host_gets_its_role_and_label() -> None:
    names = named(roles.devices({"n1": {"netns": [HOST, OVERLAY]}}, {"n1": "k"}))
    assert names[("n1", 1, "eth0")] == ("nic", "host eth0")
    assert names[("n1", 1, "ens5")] == ("nic", "host ens5")
    assert names[("n1", 1, "docker_gwbridge")] == ("bridge", "docker_gwbridge")
    assert names[("n1", 1, "veth12ab")] == ("veth", "veth")
    assert names[("n1", 1, "lo")] == ("loopback", "lo")
    assert names[("n1", 2, "br0")] == ("bridge", "overlay bridge")
    assert names[("n1", 2, "vxlan0")] == ("vxlan", "vxlan (VNI 4097)")
    assert names[("n1", 2, "veth0")] == ("veth", "veth")


def test_a_container_is_found_by_its_pid_or_its_address_and_gets_network_and_vni() -> None:
    def container(**key: Any) -> dict[str, Any]:
        return {"name": "web", "networks": {"net": {"id": "abcdef99", "address": "10.88.0.5/24"}}, **key}

    eth0 = link(2, "eth0", "veth", addr_info=[{"local": "10.88.0.5"}])
    eth1 = link(3, "eth1", "veth")
    for item, pids in ((container(pid=40), [40]), (container(pid=0), [])):
        topology = {
            "netns": [OVERLAY, space(3, "container", eth0, eth1, pids=pids)],
            "containers": [item],
            "networks": [{"id": "abcdef99", "name": "net", "driver": "overlay", "vni": 4097}],
        }
        found = {d.dev: d for d in roles.devices({"n1": topology}, {"n1": "k"}) if d.netns == 3}
        assert (found["eth0"].label, found["eth0"].container, found["eth0"].network) == (
            "container eth0",
            "web",
            "net",
        )
        assert (found["eth0"].vni, found["eth1"].vni, found["eth1"].network) == (4097, None, "")


def test_two_overlays_in_one_namespace_keep_their_vnis_apart() -> None:
    both = space(
        2,
        "overlay",
        link(2, "br0", "bridge"),
        link(3, "vxlan0", "vxlan", data={"id": 10}, master="br0"),
        link(4, "br1", "bridge"),
        link(5, "vxlan1", "vxlan", data={"id": 20}, master="br1"),
        link(6, "veth0", "veth", master="br1"),
    )
    vnis = {d.dev: d.vni for d in roles.devices({"n1": {"netns": [both]}}, {"n1": "k"})}
    assert vnis == {"lo": None, "br0": 10, "vxlan0": 10, "br1": 20, "vxlan1": 20, "veth0": 20}


def test_a_namespace_two_hosts_see_belongs_to_the_one_that_calls_it_its_own() -> None:
    other = {**HOST, "kind": "other"}
    found = roles.devices({"n1": {"netns": [other]}, "n2": {"netns": [HOST]}}, {"n1": "k", "n2": "k"})
    assert {d.host for d in found} == {"n2"}


def test_equal_inode_numbers_of_two_kernels_are_two_namespaces() -> None:
    found = roles.devices({"n1": {"netns": [HOST]}, "n2": {"netns": [HOST]}}, {"n1": "a", "n2": "b"})
    assert {(d.kernel, d.host) for d in found} == {("a", "n1"), ("b", "n2")}


def test_the_wire_belongs_to_no_host() -> None:
    found = roles.devices({"n1": {"netns": [HOST]}}, {"n1": "k"}, wire_netns=[1])
    assert {(d.host, d.role, d.label) for d in found} == {("", "wire", "wire")}


def test_a_namespace_with_vxlan_and_bridge_is_an_overlay_whoever_made_it() -> None:
    found = named(roles.devices({"n1": {"netns": [{**OVERLAY, "kind": "other"}]}}, {"n1": "k"}))
    assert found[("n1", 2, "br0")] == ("bridge", "overlay bridge")


def test_a_topology_with_nothing_in_it_gives_no_devices() -> None:
    assert roles.devices({"n1": {}, "n2": {"netns": None}}, {}) == []
    assert roles.table([]).columns == list(schema.DEVICES)


def test_the_recorded_lab_is_named_as_it_was_built() -> None:
    topologies = {h: json.loads((GOLDEN / "raw" / h / "topology.json").read_text()) for h in ("n1", "n2")}
    labels = [
        (d.host, d.label, d.master)
        for d in roles.devices(topologies, {"n1": "k", "n2": "k"})
        if d.role != "loopback" and d.host == "n1"
    ]
    assert sorted(labels) == [
        ("n1", "container eth0", ""),
        ("n1", "host eth0", ""),
        ("n1", "overlay bridge", ""),
        ("n1", "veth", "br0"),
        ("n1", "vxlan (VNI 4097)", "br0"),
    ]
