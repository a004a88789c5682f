"""The doctor's judgement: plain observations in, checks out."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from swarmscope.cluster.doctor_checks import Check, HostView, Trouble, check_host
from swarmscope.cluster.doctor_links import LinkView, check_links, check_together, pairs
from swarmscope.cluster.engine_objects import Network, SwarmState
from swarmscope.cluster.interval import Interval
from swarmscope.collectors import load_all
from swarmscope.model import LABEL_SWARM, Host, Inventory
from swarmscope.places import shipped
from swarmscope.verbs.health import diagnosis

N1 = Host("n1", "203.0.113.1", "managers", data_addr="198.51.100.1", advertise_addr="198.51.100.1")
N2 = Host("n2", "203.0.113.2", "workers", data_addr="198.51.100.2", advertise_addr="198.51.100.2")
INVENTORY = Inventory(Path("lab.yml"), "lab", (N1, N2))
CATALOGUE = load_all([shipped("collectors")])
OFFLOADS = {"tso": True, "gso": True, "gro": True, "tx_csum": True}


def facts(host: Host, **changed: Any) -> dict[str, Any]:
    tools = ("perf", "bpftrace", "trace-cmd", "ip", "ping", "busybox", "timeout", "zstd")
    nic = {"dev": "eth0", "mtu": 1500, "addresses": [f"{host.data_addr}/24"], "offloads": OFFLOADS}
    return {
        "hostname": host.name,
        "machine_id": f"id-{host.name}",
        "boot_id": f"boot-{host.name}",
        "kernel": "6.12.1",
        "arch": "x86_64",
        "os": "Debian",
        "tools": {tool: {"path": f"/usr/bin/{tool}", "version": "1.0"} for tool in tools},
        "tracefs": "/sys/kernel/tracing",
        "tracers": ["function", "function_graph", "nop"],
        "tracepoints": ["net:net_dev_queue", "net:netif_receive_skb", "skb:consume_skb", "task:task_rename"],
        "kprobes": True,
        "lttng": True,
        "instances": True,
        "btf": True,
        "kallsyms": True,
        "lockdown": "none",
        "perf_event_paranoid": 2,
        "cgroup": "v2",
        "clocksource": "tsc",
        "disk_free": 50_000_000_000,
        "nics": [nic],
        **changed,
    }


def view(host: Host, **changed: Any) -> HostView:
    told = changed.pop("facts", {})
    healthy = HostView(
        host,
        login=f"lab@{host.address} port 22",
        python="3.11.2",
        facts=facts(host, **told),
        engine={"Version": "26.1", "ApiVersion": "1.45", "Negotiated": "1.44", "Os": "linux"},
        swarm=SwarmState("inactive"),
        features=dict.fromkeys(("vxlan", "ipvlan", "macvlan", "ipvs", "esp", "netem"), True),
        clocks={"real": 10**18, "mono": 5 * 10**9, "adjtimex": {"status": 0}},
        offset=Interval(-2000, 3000),
    )
    return replace(healthy, **changed)


def judged(first: HostView, second: HostView | None = None) -> list[Check]:
    """Checks of ``first``, which is n1 unless it says otherwise, beside a healthy other host."""
    other = second or view(N2 if first.host is N1 else N1)
    ordered = sorted([first, other], key=lambda v: v.host.name)
    views = {v.host.name: v for v in ordered}
    return list(check_host(first, views, INVENTORY, CATALOGUE))


def named(checks: Iterable[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def bad(checks: Sequence[Check]) -> list[tuple[str, str, bool]]:
    return [(check.name, check.status, check.needed) for check in checks if check.status != "ok"]


def test_a_healthy_host_has_nothing_but_ok() -> None:
    assert bad(judged(view(N1))) == []
    assert bad(judged(view(N2))) == []


def test_every_check_that_is_not_ok_says_what_to_do() -> None:
    sick = view(
        N1,
        facts={"tools": {}, "tracefs": "", "clocksource": "hpet", "disk_free": 0, "nics": [], "cgroup": ""},
        leftovers=("process of run x",),
        live="run y of me",
        swarm=SwarmState("pending"),
        sudo=Trouble("no", "do this"),
        python="",
    )
    wanted = [
        c for c in judged(sick) if c.status == "fail" or (c.status == "warn" and "collector" not in c.name)
    ]
    assert len(wanted) > 10
    assert [c.name for c in wanted if not c.hint] == []


def test_an_unreachable_host_has_one_check_and_it_is_needed() -> None:
    gone = HostView(N1, ssh=Trouble("connection refused", "is sshd running there?"))
    assert judged(gone) == [Check("n1", "ssh", "fail", "connection refused", "is sshd running there?", True)]


@pytest.mark.parametrize(
    ("changed", "name", "status", "needed", "words"),
    [
        ({"sudo": Trouble("sudo wants a password", "x")}, "sudo", "fail", True, "wants a password"),
        ({"python": "3.7.3"}, "python", "fail", True, "python3 is 3.7.3"),
        ({"python": ""}, "python", "fail", True, "no python3"),
        ({"docker": Trouble("no socket")}, "docker", "fail", True, "no socket"),
        ({"engine": {"Version": "26", "Os": "windows"}}, "docker", "fail", True, "windows"),
        ({"agent": Trouble("did not start"), "facts": None}, "agent", "fail", True, "did not start"),
        ({"features": {"vxlan": False}}, "vxlan", "fail", True, "VXLAN"),
        ({"features": {"ipvlan": False, "esp": False}}, "features", "warn", False, "ipvlan (modes ipvlan-l2"),
        ({"leftovers": ("instance of run a", "process of run a")}, "leftovers", "warn", False, "2 left"),
        ({"live": "run a of me"}, "lock", "warn", False, "held by run a of me"),
    ],
)
def test_what_was_observed_of_a_host_is_judged(
    changed: dict[str, Any], name: str, status: str, needed: bool, words: str
) -> None:
    bare = replace(view(N1), **changed) if changed.get("facts", 0) is None else view(N1, **changed)
    check = named(judged(bare), name)
    assert (check.status, check.needed) == (status, needed)
    assert words in check.message


@pytest.mark.parametrize(
    ("told", "name", "status", "needed", "words"),
    [
        ({"tracefs": ""}, "tracefs", "warn", False, "not reachable"),
        ({"lockdown": "confidentiality"}, "lockdown", "warn", False, "may be refused"),
        ({"lockdown": "unknown"}, "lockdown", "ok", False, "does not tell"),
        ({"cgroup": ""}, "cgroups", "warn", False, "not found"),
        ({"clocksource": "hpet"}, "clocksource", "warn", False, "hpet"),
        ({"disk_free": 1_000_000_000}, "disk", "warn", False, "1.0 GB"),
        ({"disk_free": 1_000_000}, "disk", "fail", True, "0.0 GB"),
        (
            {"tracers": ["nop"], "kprobes": False},
            "features",
            "warn",
            False,
            "function tracer, function_graph tracer, kprobes",
        ),
        ({"btf": False}, "collector skb-path", "warn", False, "left out, it needs: btf"),
        ({"instances": False}, "collector ftrace-events", "warn", False, "instances"),
        ({"tracepoints": [], "lttng": False}, "collectors", "fail", True, "none of the collectors"),
        (
            {"nics": [{"dev": "lo", "addresses": ["127.0.0.1/8"]}]},
            "data address",
            "fail",
            True,
            "198.51.100.1",
        ),
        (
            {"tools": {"perf": {"path": "/usr/bin/perf", "version": ""}}},
            "perf",
            "warn",
            False,
            "does not run",
        ),
        ({"tools": {}}, "bpftrace", "warn", False, "not installed"),
        ({"tools": {}}, "ping", "fail", True, "not installed"),
    ],
)
def test_what_the_agent_told_of_a_host_is_judged(
    told: dict[str, Any], name: str, status: str, needed: bool, words: str
) -> None:
    check = named(judged(view(N1, facts=told)), name)
    assert (check.status, check.needed) == (status, needed)
    assert words in check.message


def test_facts_that_could_not_be_read_are_no_crash() -> None:
    judged(view(N1, facts=dict.fromkeys(facts(N1))))


OURS = SwarmState("active", node_id="m", control=True, cluster_id="c", labels={LABEL_SWARM: "lab"})


@pytest.mark.parametrize(
    ("swarm", "status", "words"),
    [
        (SwarmState("inactive"), "ok", "in no swarm"),
        (OURS, "ok", "manager of this inventory's swarm"),
        (replace(OURS, labels={}), "fail", "did not make"),
        (replace(OURS, labels={LABEL_SWARM: "other"}), "fail", "inventory 'other'"),
        (SwarmState("pending"), "fail", "half-joined"),
        (SwarmState("error", error="x509"), "fail", "x509"),
        (SwarmState("locked"), "fail", "locked"),
    ],
)
def test_a_managers_swarm_is_told_from_a_foreign_one(swarm: SwarmState, status: str, words: str) -> None:
    check = named(judged(view(N1, swarm=swarm)), "swarm")
    assert (check.status, check.needed) == (status, status == "fail")
    assert words in check.message


def test_a_worker_is_ours_only_if_our_manager_lists_it() -> None:
    worker = view(N2, swarm=SwarmState("active", node_id="w"))
    ours = view(N1, swarm=OURS, members=("m", "w"))
    assert named(judged(worker, ours), "swarm").message == "worker of this inventory's swarm"
    assert named(judged(worker, replace(ours, members=("m",))), "swarm").status == "fail"
    assert named(judged(worker), "swarm").status == "fail"


def test_a_worker_in_a_foreign_swarm_is_told_whose_it_is() -> None:
    swarm = SwarmState("active", node_id="w", managers=("198.51.100.9:2377",))
    worker = view(N2, swarm=swarm)
    theirs = replace(OURS, labels={LABEL_SWARM: "other"})
    check = named(judged(worker, view(N1, swarm=theirs, members=("m", "w"))), "swarm")
    assert check.message == "in the swarm of inventory 'other'"
    assert "swarm-down" in check.hint
    unlabelled = view(N1, swarm=replace(OURS, labels={}), members=("m", "w"))
    assert named(judged(worker, unlabelled), "swarm").message == "in a swarm that swarmscope did not make"
    assert named(judged(worker), "swarm").message == "in a swarm of other managers (198.51.100.9:2377)"


def test_the_clock_says_its_bound_and_how_far_the_wall_clocks_are_apart() -> None:
    late = view(N2, clocks={"real": 10**18 + 7_000_000, "mono": 5 * 10**9, "adjtimex": {"status": 0x40}})
    text = named(judged(late), "clock").message
    assert "±2.5 us against n1" in text
    assert "differ by 7.0 ms, not synchronised by NTP" in text
    assert named(judged(view(N1)), "clock").message == "the reference"


def test_a_host_whose_probes_were_not_answered_fails() -> None:
    check = named(judged(view(N2, offset=None)), "clock")
    assert (check.status, check.needed) == ("fail", True)


def test_hosts_that_share_a_kernel_are_named() -> None:
    twin = view(N2, facts={"boot_id": "boot-n1"})
    assert "one kernel with n1" in named(judged(twin), "clock").message


VIEWS = {"n1": view(N1), "n2": view(N2)}
PORTS = {"7946/tcp": "", "7946/udp": "", "4789/udp": ""}


def one_link(views: dict[str, HostView] = VIEWS, **changed: Any) -> list[Check]:
    return list(check_links([replace(LinkView("n1", "n2", mtu=1500, ports=PORTS), **changed)], views))


def test_a_whole_path_and_proven_ports_are_ok() -> None:
    size, ports = one_link()
    assert (size.status, size.message) == ("ok", "1500, room for 1450 in an overlay")
    assert (ports.status, ports.message) == ("ok", "7946/tcp, 7946/udp, 4789/udp (VXLAN)")


def test_a_path_narrower_than_the_interface_is_a_warning() -> None:
    check = one_link(mtu=1400)[0]
    assert (check.status, check.message) == ("warn", "1400, less than the interface's 1500")


@pytest.mark.parametrize(
    ("mtu", "path", "status"),
    [(1450, 1500, "ok"), (0, 1500, "ok"), (1450, 1499, "fail"), (8900, 1500, "fail")],
)
def test_an_overlay_whose_packets_do_not_fit_the_path_fails(mtu: int, path: int, status: str) -> None:
    network = Network(
        "i", "net", "overlay", "swarm", "10.88.0.0/24", mtu, 4097, True, False, {LABEL_SWARM: "lab"}
    )
    views = {**VIEWS, "n1": view(N1, networks=(network,))}
    views["n1"] = view(
        N1, networks=(network,), facts={"nics": [{"mtu": path, "addresses": ["198.51.100.1/24"]}]}
    )
    assert one_link(views, mtu=path)[0].status == status
    foreign = replace(network, labels={})
    views["n1"] = replace(views["n1"], networks=(foreign,))
    assert one_link(views, mtu=path)[0].status == "ok"


def test_no_packet_at_all_and_a_ping_that_cannot_run_fail() -> None:
    assert [c.status for c in (one_link(mtu=0)[0], one_link(trouble="no ping")[0])] == ["fail", "fail"]
    assert one_link(trouble="no ping")[0].message == "no ping"


def test_each_closed_port_is_named_with_what_it_is_for() -> None:
    checks = one_link(ports={**PORTS, "4789/udp": "nothing arrived", "7946/tcp": "refused"})[1:]
    assert [(c.status, c.needed, c.message) for c in checks] == [
        ("fail", True, "7946/tcp to n2 (the swarm's gossip): refused"),
        ("fail", True, "4789/udp to n2 (VXLAN, the overlay's packets): nothing arrived"),
    ]


def test_a_packet_that_was_only_seen_to_arrive_is_not_called_more_than_that() -> None:
    check = one_link(sniffed=("4789/udp",))[1]
    assert check.status == "ok"
    assert check.message == (
        "7946/tcp, 7946/udp; in use, seen to arrive before the firewall there: 4789/udp (VXLAN)"
    )


def test_all_directions_are_tried_for_few_hosts_and_a_ring_and_star_for_many() -> None:
    assert pairs(["a"]) == []
    assert sorted(pairs(["a", "b"])) == [("a", "b"), ("b", "a")]
    assert len(pairs(list("abcd"))) == 12
    many = pairs([f"n{i}" for i in range(16)])
    assert len(many) < 16 * 5
    assert len(set(many)) == len(many)
    assert all((b, a) in many for a, b in many)
    assert {a for a, _ in many} == {b for _, b in many} == {f"n{i}" for i in range(16)}


def test_cloned_machines_and_unequal_hosts_are_noticed() -> None:
    clone = view(N2, facts={"machine_id": "id-n1", "hostname": "n1", "kernel": "5.15.0"})
    odd = replace(clone, facts={**(clone.facts or {}), "nics": [
        {"dev": "eth0", "mtu": 1500, "addresses": ["198.51.100.2/24"], "offloads": {**OFFLOADS, "gro": False}}
    ]})  # fmt: skip
    checks = list(check_together({"n1": VIEWS["n1"], "n2": odd}, INVENTORY))
    assert [(c.name, c.status) for c in checks] == [
        ("machine id", "warn"),
        ("hostname", "warn"),
        ("offloads", "warn"),
        ("kernels", "warn"),
    ]
    assert list(check_together(VIEWS, INVENTORY)) == []


def test_the_diagnosis_names_collectors_that_can_run_on_one_line_and_each_other_on_its_own() -> None:
    checks = [
        Check("n1", "collector a", "ok", "can run"),
        Check("n1", "collector b", "warn", "left out, it needs: perf"),
        Check("n1", "collector c", "ok", "can run"),
        Check("n2", "collector a", "ok", "can run"),
    ]
    screen = Console(width=100, record=True, file=io.StringIO())
    screen.print(diagnosis(checks, ["n1", "n2"]))
    lines = [" ".join(line.split()) for line in screen.export_text().splitlines()]
    assert "ok collectors n1 can run: a, c" in lines
    assert "ok collectors n2 can run: a" in lines
    assert "warn collector b n1 left out, it needs: perf" in lines
    assert "1 warn 3 ok nothing that a run needs is missing" in lines


def test_the_diagnosis_says_once_what_all_hosts_share_and_fits_the_screen() -> None:
    checks = [
        Check("n1", "sudo", "ok", "root without a password"),
        Check("n2", "sudo", "ok", "root without a password"),
        Check("n1", "disk", "fail", "full " * 40, "free \x1b[31msome", needed=True),
    ]
    screen = Console(width=100, record=True, quiet=True, markup=False)
    with screen.capture() as captured:
        screen.quiet = False
        screen.print(diagnosis(checks, ["n1", "n2"]))
    lines = captured.get().splitlines()
    assert sum("root without" in line for line in lines) == 1
    assert any(line.split()[:3] == ["ok", "sudo", "all"] for line in lines)
    assert any("free some" in line for line in lines)
    assert lines[-1].split() == ["1", "fail", "2", "ok"]  # and not that nothing is missing
    assert max(map(len, lines)) <= 100
