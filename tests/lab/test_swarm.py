"""swarm-up and swarm-down on real engines: once, again, beside what is not ours, and with nothing left."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from raising import Labs

from swarmscope.cluster import swarm
from swarmscope.cluster.engine import Engine
from swarmscope.cluster.fleet import Fleet
from swarmscope.cluster.images import busybox_image
from swarmscope.cluster.shell import Command
from swarmscope.cluster.swarm_status import summarize
from swarmscope.errors import Refused
from swarmscope.inventory import load
from swarmscope.lab.namespaces import LabStatus
from swarmscope.model import LABEL_RUN, LABEL_SWARM, NetworkSpec

SPEC = NetworkSpec("ovl", "10.88.0.0/24")
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


@pytest.fixture
def engines(fleet: Fleet) -> Iterator[dict[str, Engine]]:
    """The engines, in no swarm before the test and after it."""
    made = swarm.engines_of(fleet)
    yield made
    for engine in reversed(made.values()):
        for container in engine.containers():
            engine.remove_container(container.id)
        if engine.swarm_state().state != "inactive":
            engine.leave_swarm(force=True)
        engine.close()


Docker = Callable[..., str]


@pytest.fixture
def docker(fleet: Fleet) -> Docker:
    """``docker("n1", "node", "ls")``: the real command on a host, as its owner would type it."""

    def run(host: str, *arguments: str) -> str:
        return fleet.remote(host).run(Command("docker", *arguments), sudo=True, check=True).stdout.strip()

    return run


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


def test_up_then_no_change_then_down_with_nothing_left(
    fleet: Fleet, engines: dict[str, Engine], docker: Docker
) -> None:
    before = local_networks(engines)
    assert swarm.up(fleet, engines, network=SPEC)
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

    swarm.down(fleet, engines)
    assert {engine.swarm_state().state for engine in engines.values()} == {"inactive"}
    assert local_networks(engines) == before
    assert not swarm.down(fleet, engines)


def test_join_tokens_show_in_no_process_no_log_and_no_output(
    fleet: Fleet,
    engines: dict[str, Engine],
    raised: LabStatus,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level("DEBUG")
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

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        swarm.up(fleet, engines, network=SPEC)
        tokens = engines["n1"].join_tokens()
    finally:
        done.set()
        watcher.join()
    assert tokens["worker"].reveal().startswith("SWMTKN-")
    assert seen == set()
    output = capfd.readouterr()
    assert "SWMTKN-" not in output.out + output.err + caplog.text + repr(tokens)
    logs = subprocess.run(
        ["grep", "-rl", "SWMTKN-", str(raised.folder / "hosts")], capture_output=True, text=True
    )
    assert [name for name in logs.stdout.split() if name.endswith(".log")] == []


def test_a_foreign_swarm_is_refused_and_left_as_it_is(
    fleet: Fleet, engines: dict[str, Engine], docker: Docker
) -> None:
    docker("n2", "swarm", "init", "--advertise-addr", fleet.inventory.host("n2").advertise_addr)
    before = engines["n2"].swarm_state()
    for act in (lambda: swarm.up(fleet, engines, network=SPEC), lambda: swarm.down(fleet, engines)):
        with pytest.raises(Refused, match=f"n2: in swarm {before.cluster_id}") as caught:
            act()
        assert caught.value.exit_code == 7
    assert engines["n2"].swarm_state() == before
    assert engines["n1"].swarm_state().state == "inactive"


def test_a_swarm_labelled_by_another_inventory_is_refused(fleet: Fleet, engines: dict[str, Engine]) -> None:
    labels = {LABEL_SWARM: "somebody-else"}
    address = fleet.inventory.host("n1").advertise_addr
    engines["n1"].init_swarm(advertise=address, data_path=address, labels=labels)
    with pytest.raises(Refused, match="labelled somebody-else"):
        swarm.up(fleet, engines, network=SPEC)
    assert engines["n1"].swarm_state().labels == labels


def test_a_network_somebody_else_made_is_refused(
    fleet: Fleet, engines: dict[str, Engine], docker: Docker
) -> None:
    swarm.up(fleet, engines, network=None)
    docker("n1", "network", "create", "--driver", "overlay", "--attachable", "ovl")
    with pytest.raises(Refused, match="network ovl was not made by swarmscope"):
        swarm.up(fleet, engines, network=SPEC)
    docker("n1", "network", "rm", "ovl")


def test_a_changed_subnet_makes_the_network_anew_but_not_while_it_is_used(
    fleet: Fleet, engines: dict[str, Engine]
) -> None:
    if not BUSYBOX.exists():
        pytest.skip("no static busybox on this machine")
    swarm.up(fleet, engines, network=SPEC)
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
        swarm.up(fleet, engines, network=NetworkSpec("ovl", "10.88.9.0/24"))
    with pytest.raises(Refused, match=r"container box of run r1 is running.*invoke sweep"):
        swarm.down(fleet, engines)
    engine.remove_container("box")
    assert engine.images({LABEL_RUN: "r1"})
    engine.remove_image("box:1")
    swarm.up(fleet, engines, network=NetworkSpec("ovl", "10.88.9.0/24"))
    assert engines["n1"].network("ovl").subnet == "10.88.9.0/24"
    swarm.down(fleet, engines)


def test_a_worker_leaves_and_comes_back_while_the_swarm_stays(
    fleet: Fleet, engines: dict[str, Engine]
) -> None:
    swarm.up(fleet, engines, network=SPEC)
    cluster = engines["n1"].swarm_state().cluster_id
    swarm.down(fleet, engines, leaving=["n2"])
    assert engines["n2"].swarm_state().state == "inactive"
    assert [node.hostname for node in engines["n1"].nodes()] == ["n1"]
    plan = swarm.up(fleet, engines, network=SPEC)
    assert [host for host, _ in plan.lines] == ["n2"]
    assert engines["n1"].swarm_state().cluster_id == cluster
    swarm.down(fleet, engines)
