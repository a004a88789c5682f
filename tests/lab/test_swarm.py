"""swarm-up and swarm-down on real engines: once, again, beside what is not ours, and with nothing left.

The tests build on one another: first hosts in no swarm or in another's, then one swarm of ours from its birth
to its end.
"""

from __future__ import annotations

import contextlib
import io
import logging
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from raising import Labs

from swarmscope import console
from swarmscope.cluster import swarm
from swarmscope.cluster.doctor import examine
from swarmscope.cluster.engine import Engine
from swarmscope.cluster.fleet import Fleet
from swarmscope.cluster.images import busybox_image
from swarmscope.cluster.shell import Command
from swarmscope.cluster.swarm_state import GATEWAY_BRIDGE
from swarmscope.cluster.swarm_status import summarize
from swarmscope.collectors import load_all
from swarmscope.errors import Refused
from swarmscope.inventory import load
from swarmscope.lab.status import LabStatus
from swarmscope.model import LABEL_RUN, LABEL_SWARM, NetworkSpec

SPEC = NetworkSpec("ovl", "10.88.0.0/24")
CHANGED = NetworkSpec("ovl", "10.88.9.0/24")
BUSYBOX = Path("/usr/bin/busybox")


@pytest.fixture(scope="module")
def raised(labs: Labs) -> LabStatus:
    """A lab of this module's own: its engines join and leave swarms."""
    return labs.up(2)


@pytest.fixture(scope="module")
def fleet(raised: LabStatus) -> Iterator[Fleet]:
    with Fleet(load(raised.inventory)) as made:
        made.require_all()
        yield made


@pytest.fixture(scope="module")
def engines(fleet: Fleet) -> Iterator[dict[str, Engine]]:
    """The engines; in no swarm at the end, whatever the tests came to."""
    made = swarm.engines_of(fleet)
    yield made
    for engine in reversed(made.values()):
        for container in engine.containers():
            engine.remove_container(container.id)
        if engine.swarm_state().state != "inactive":
            engine.leave_swarm(force=True)
        engine.close()


Docker = Callable[..., str]


@pytest.fixture(scope="module")
def docker(fleet: Fleet) -> Docker:
    """``docker("n1", "node", "ls")``: the real command on a host, as its owner would type it."""

    def run(host: str, *arguments: str) -> str:
        return fleet.remote(host).run(Command("docker", *arguments), sudo=True, check=True).stdout.strip()

    return run


@pytest.fixture
def leaving(engines: dict[str, Engine]) -> Iterator[Callable[[str], None]]:
    """``leaving("n2")``: this host leaves the swarm that the test put it in, when the test ends."""
    names: list[str] = []
    yield names.append
    for name in names:
        engines[name].leave_swarm(force=True)


def local_networks(engines: dict[str, Engine]) -> dict[str, set[str]]:
    return {
        name: {n.name for n in engine.networks() if n.name != "ingress"} for name, engine in engines.items()
    }


def test_a_dry_run_says_what_would_be_done_and_does_nothing(fleet: Fleet, engines: dict[str, Engine]) -> None:
    before = local_networks(engines)
    plan = swarm.up(fleet, engines, network=SPEC, dry_run=True)
    assert [host for host, _ in plan.lines] == ["n1", "n2", "n1"]
    assert {engine.swarm_state().state for engine in engines.values()} == {"inactive"}
    assert local_networks(engines) == before


def test_a_foreign_swarm_is_refused_and_left_as_it_is(
    fleet: Fleet, engines: dict[str, Engine], docker: Docker, leaving: Callable[[str], None]
) -> None:
    docker("n2", "swarm", "init", "--advertise-addr", fleet.inventory.host("n2").advertise_addr)
    leaving("n2")
    before = engines["n2"].swarm_state()
    for act in (lambda: swarm.up(fleet, engines, network=SPEC), lambda: swarm.down(fleet, engines)):
        with pytest.raises(Refused, match=f"n2: in swarm {before.cluster_id}") as caught:
            act()
        assert caught.value.exit_code == 7
    assert engines["n2"].swarm_state() == before
    assert engines["n1"].swarm_state().state == "inactive"


def test_a_swarm_labelled_by_another_inventory_is_refused(
    fleet: Fleet, engines: dict[str, Engine], leaving: Callable[[str], None]
) -> None:
    labels = {LABEL_SWARM: "somebody-else"}
    address = fleet.inventory.host("n1").advertise_addr
    engines["n1"].init_swarm(advertise=address, data_path=address, labels=labels)
    leaving("n1")
    with pytest.raises(Refused, match="labelled somebody-else"):
        swarm.up(fleet, engines, network=SPEC)
    assert engines["n1"].swarm_state().labels == labels


@dataclass(frozen=True)
class Formed:
    """The swarm of the tests below, and what was seen while it was formed."""

    networks_before: dict[str, set[str]]
    steps: list[str]
    said: str
    command_lines: set[bytes]
    """Of any process of this machine, with a join token in it."""


@pytest.fixture(scope="module")
def formed(fleet: Fleet, engines: dict[str, Engine], docker: Docker) -> Formed:
    """``swarm-up`` on hosts in no swarm, while everything that could show a join token is watched."""
    for name in engines:  # what the foreign swarms above left; ours must make and remove one of its own
        if GATEWAY_BRIDGE in docker(name, "network", "ls", "--format", "{{.Name}}").split():
            docker(name, "network", "rm", GATEWAY_BRIDGE)
    before = local_networks(engines)
    seen: set[bytes] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = path.read_bytes()
                except OSError:
                    continue
                if b"SWMTKN-" in line:
                    seen.add(line)

    log = io.StringIO()
    handler = logging.StreamHandler(log)
    root = logging.getLogger()
    level = root.level
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        root.addHandler(handler)
        root.setLevel("DEBUG")
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            plan = swarm.up(fleet, engines, network=SPEC, progress=console.step)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        done.set()
        watcher.join()
    return Formed(before, [text for _, text in plan.lines], log.getvalue(), seen)


def test_hosts_are_joined_under_one_manager_with_an_overlay_that_fits(
    formed: Formed, fleet: Fleet, engines: dict[str, Engine], docker: Docker
) -> None:
    assert [step.split()[0] for step in formed.steps] == ["init", "join", "create"]
    assert docker("n1", "node", "ls", "--format", "{{.Hostname}} {{.Status}}").splitlines() == [
        "n1 Ready",
        "n2 Ready",
    ]
    network = engines["n1"].network("ovl")
    assert (network.mtu, network.attachable, network.vni > 0) == (1450, True, True)
    assert network.labels[LABEL_SWARM] == fleet.inventory.name
    assert not swarm.up(fleet, engines, network=SPEC)

    status = summarize(swarm.observe_each(fleet, engines), name=fleet.inventory.name)
    assert [(row.membership, row.node_state) for row in status.hosts] == [("ours", "ready")] * 2
    assert [row.name for row in status.networks if row.ours] == ["ovl"]


def test_join_tokens_show_in_no_process_no_log_and_no_output(
    formed: Formed, engines: dict[str, Engine], raised: LabStatus
) -> None:
    tokens = engines["n1"].join_tokens()
    assert tokens["worker"].reveal().startswith("SWMTKN-")
    assert formed.command_lines == set()
    assert "join as worker" in formed.said
    assert "SWMTKN-" not in formed.said + repr(tokens)
    logs = subprocess.run(
        ["grep", "-rl", "SWMTKN-", str(raised.folder / "hosts")], capture_output=True, text=True
    )
    assert [name for name in logs.stdout.split() if name.endswith(".log")] == []


def test_the_doctor_knows_it_and_finds_its_ports_in_use(formed: Formed, fleet: Fleet) -> None:
    checks = {(c.host, c.name): c for c in examine(fleet.inventory, load_all())}
    assert checks["n1", "swarm"].message == "manager of this inventory's swarm"
    assert checks["n2", "swarm"].message == "worker of this inventory's swarm"
    assert checks["n1", "path MTU to n2"].status == "ok"
    proven = checks["n2", "ports to n1"]
    assert proven.status == "ok"
    assert proven.message == (
        "2377/tcp, 7946/tcp; in use, seen to arrive before the firewall there: 7946/udp, 4789/udp (VXLAN)"
    )


def test_a_network_somebody_else_made_is_refused(
    formed: Formed, fleet: Fleet, engines: dict[str, Engine], docker: Docker
) -> None:
    docker("n1", "network", "create", "--driver", "overlay", "--attachable", "theirs")
    with pytest.raises(Refused, match="network theirs was not made by swarmscope"):
        swarm.up(fleet, engines, network=NetworkSpec("theirs", "10.88.7.0/24"))
    assert engines["n1"].network("theirs").subnet != "10.88.7.0/24"
    docker("n1", "network", "rm", "theirs")


def test_a_changed_subnet_makes_the_network_anew_but_not_while_it_is_used(
    formed: Formed, fleet: Fleet, engines: dict[str, Engine]
) -> None:
    if not BUSYBOX.exists():
        pytest.skip("no static busybox on this machine")
    engine = engines["n2"]
    engine.import_image(
        busybox_image(BUSYBOX.read_bytes()), repository="box", tag="1", labels={LABEL_RUN: "r1"}
    )
    box = engine.run_container(
        "box:1", name="box", network="ovl", command=["sleep", "600"], labels={LABEL_RUN: "r1"}
    )
    assert box.running
    assert box.networks["ovl"].address.startswith("10.88.0.")
    with pytest.raises(Refused, match=r"n2: .*10\.88\.0\.0/24 -> 10\.88\.9\.0/24.*container box"):
        swarm.up(fleet, engines, network=CHANGED)
    with pytest.raises(Refused, match=r"container box of run r1 is running.*invoke sweep"):
        swarm.down(fleet, engines)
    engine.remove_container("box")
    assert engine.images({LABEL_RUN: "r1"})
    engine.remove_image("box:1")
    swarm.up(fleet, engines, network=CHANGED)
    assert engines["n1"].network("ovl").subnet == CHANGED.subnet


def test_a_worker_leaves_and_comes_back_while_the_swarm_stays(
    formed: Formed, fleet: Fleet, engines: dict[str, Engine]
) -> None:
    cluster = engines["n1"].swarm_state().cluster_id
    network = engines["n1"].network("ovl")
    swarm.down(fleet, engines, leaving=["n2"])
    assert engines["n2"].swarm_state().state == "inactive"
    assert [node.hostname for node in engines["n1"].nodes()] == ["n1"]
    wanted = NetworkSpec(network.name, network.subnet)
    assert [host for host, _ in swarm.up(fleet, engines, network=wanted).lines] == ["n2"]
    assert engines["n1"].swarm_state().cluster_id == cluster
    assert engines["n1"].network("ovl") == network


def test_down_leaves_nothing_and_a_second_time_does_nothing(
    formed: Formed, fleet: Fleet, engines: dict[str, Engine]
) -> None:
    assert swarm.down(fleet, engines)
    assert {engine.swarm_state().state for engine in engines.values()} == {"inactive"}
    assert local_networks(engines) == formed.networks_before
    assert not swarm.down(fleet, engines)
