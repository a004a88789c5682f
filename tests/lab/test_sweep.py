"""``sweep`` on a real host: what an interrupted run leaves goes, all of it; what only looks like it stays."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from raising import Ssh
from traces_left import instances

from swarmscope.cluster import agents
from swarmscope.cluster.engine import Engine, NotThere
from swarmscope.cluster.fleet import Fleet
from swarmscope.cluster.images import busybox_image
from swarmscope.inventory import load
from swarmscope.lab.status import LabStatus
from swarmscope.model import LABEL_RUN

BUSYBOX = Path("/usr/bin/busybox")
DEAD, LIVE = "20260101-000000-overlay-dead", "20260101-000001-overlay-live"
FINISHED = "20260101-000002-ping-done"
PIDS = "/run/planted"
TRACING = "/sys/kernel/tracing/instances"

PROCESS = f"setsid -f sh -c 'echo $$ >> {PIDS}; exec sleep \"$1\"' sh"
"""Shell words: a process in a session of its own, as an agent starts them; not by ``&``, which has it ignore
SIGINT.
"""
PLANT = f"""
set -e
cd /
mkdir -p /run/swarmscope/ledger /var/tmp/swarmscope/{DEAD}/perf-record /var/tmp/swarmscope/{FINISHED}
echo samples > /var/tmp/swarmscope/{DEAD}/perf-record/perf.data
echo '{{}}' > /var/tmp/swarmscope/{FINISHED}/manifest.json   # packed, waits for `collect`
echo '{{"kind": "directory"}}' > /run/swarmscope/ledger/{DEAD}.jsonl
for name in swarmscope.{DEAD}.n1.ftrace-events swarmscope.{DEAD}.n9.ftrace-events mine.{DEAD}; do
    mkdir {TRACING}/$name
done
SWARMSCOPE_RUN={DEAD} {PROCESS} 611 >/dev/null 2>&1
{PROCESS} 622 SWARMSCOPE_RUN={DEAD} >/dev/null 2>&1
docker network create --label {LABEL_RUN}={DEAD} ours-net
docker network create --label com.example.run={DEAD} theirs-net
"""
CLEAN = f"""
for pid in $(cat {PIDS}); do
    case "$(tr '\\0' ' ' < /proc/$pid/cmdline)" in 'sleep 6'*) kill -9 $pid;; esac
done
rm -rf {PIDS} /var/tmp/swarmscope/{DEAD} /var/tmp/swarmscope/{LIVE} /var/tmp/swarmscope/{FINISHED}
rm -f /run/swarmscope/ledger/{DEAD}.jsonl /run/swarmscope/ledger/{LIVE}.jsonl
rmdir {TRACING}/*{DEAD}* {TRACING}/*{LIVE}*
docker rm -f theirs ours alive
docker network rm ours-net theirs-net
"""

Sweep = Callable[..., tuple[str, str]]


@pytest.fixture(scope="module")
def fleet(lab: LabStatus) -> Iterator[Fleet]:
    with Fleet(load(lab.inventory)) as made:
        made.require_all()
        yield made


@pytest.fixture(scope="module")
def engine(fleet: Fleet) -> Iterator[Engine]:
    """The engine of n1, which holds an image to run containers from."""
    if not BUSYBOX.exists():
        pytest.skip("no static busybox on this machine")
    with Engine(fleet.remote("n1")) as made:
        made.import_image(busybox_image(BUSYBOX.read_bytes()), repository="box", tag="1", labels={})
        yield made
        made.remove_image("box:1")


@pytest.fixture
def root(ssh: Ssh) -> Iterator[Callable[[str], str]]:
    """Run a shell script as root on n1; afterwards nothing of these tests is left there."""

    def run(script: str, *, check: bool = True) -> str:
        ended = ssh("n1", f"sudo sh -s <<'END'\n{script}\nEND")
        assert ended.returncode == 0 or not check, ended.stdout + ended.stderr
        return ended.stdout

    yield run
    run(CLEAN, check=False)


@pytest.fixture(scope="module")
def sweep(lab: LabStatus) -> Sweep:
    def run(*words: str) -> tuple[str, str]:
        argv = [sys.executable, "-m", "swarmscope", "sweep", "--inventory", str(lab.inventory), *words]
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=120)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout, ended.stderr

    return run


def listed(answer: str) -> dict[str, list[tuple[str, str, str]]]:
    """Kind, run and the words for people of each item, by host."""
    hosts = json.loads(answer)["hosts"]
    return {
        name: sorted((i["kind"], i["run"], i["detail"]) for i in found["items"])
        for name, found in hosts.items()
    }


def start(
    engine: Engine, name: str, labels: dict[str, str], network: str = "none", seconds: str = "600"
) -> None:
    engine.run_container("box:1", name=name, network=network, command=["sleep", seconds], labels=labels)


def until(check: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.05)
    return check()


def gone(engine: Engine, name: str) -> bool:
    try:
        engine.container(name)
    except NotThere:
        return True
    return False


def state(root: Callable[[str], str]) -> set[str]:
    """What of the planted things is there, ours and their twins; other tests' instances left aside."""
    planted = {name for name in instances() if DEAD in name or LIVE in name}
    found = root(
        f"for pid in $(cat {PIDS}); do tr '\\0' ' ' 2>/dev/null < /proc/$pid/cmdline && echo; done;"
        "ls /var/tmp/swarmscope /run/swarmscope/ledger;"
        "docker ps --format '{{.Names}}'; docker network ls --format '{{.Name}}'"
    )
    return {line.strip() for line in found.splitlines() if line.strip()} | planted


def test_what_an_interrupted_run_left_is_listed_then_removed_and_nothing_else(
    sweep: Sweep, engine: Engine, root: Callable[[str], str]
) -> None:
    root(PLANT)
    start(engine, "ours", {LABEL_RUN: DEAD}, network="ours-net")
    start(engine, "theirs", {"com.example.run": DEAD}, network="theirs-net")
    before = state(root)
    ours = {
        "sleep 611",
        DEAD,
        f"{DEAD}.jsonl",
        f"swarmscope.{DEAD}.n1.ftrace-events",
        "ours",
        "ours-net",
    }
    assert ours < before

    told, _ = sweep("--dry-run", "--json")
    assert listed(told) == {
        "n1": [
            ("container", DEAD, "ours"),
            ("directory", DEAD, "never packed"),
            ("instance", DEAD, "trace instance"),
            ("network", DEAD, "ours-net"),
            ("process", DEAD, "sleep 611"),
        ],
        "n2": [],
    }
    assert state(root) == before, "a dry run changes nothing"

    swept, _ = sweep("--json")
    assert listed(swept) == listed(told)
    assert {i["why_kept"] for found in json.loads(swept)["hosts"].values() for i in found["items"]} == {""}
    assert state(root) == before - ours

    assert sweep()[0].strip() == "nothing left over"


def test_a_run_that_goes_on_is_spared_and_named(
    sweep: Sweep, fleet: Fleet, engine: Engine, root: Callable[[str], str]
) -> None:
    link = agents.start(fleet.remote("n1"), idle=30)
    try:
        link.call("lock", run=LIVE, holder="ann@desk", ttl_s=60)
        root(
            f"mkdir /var/tmp/swarmscope/{LIVE} {TRACING}/swarmscope.{LIVE}.n1.ftrace-events\n"
            f"echo '{{}}' > /run/swarmscope/ledger/{LIVE}.jsonl\n"
            f"SWARMSCOPE_RUN={LIVE} {PROCESS} 633 >/dev/null 2>&1"
        )
        start(engine, "alive", {LABEL_RUN: LIVE})
        before = state(root)
        said, _ = sweep()
        assert f"n1: spared run {LIVE} of ann@desk, going on since 20" in said
        assert "nothing left over" in said
        assert state(root) == before
        assert link.call("unlock", run=LIVE) == {}
    finally:
        link.close()
    kinds = [item[0] for item in listed(sweep("--json")[0])["n1"]]
    assert kinds == ["container", "directory", "instance", "process"], "then it is left over"
    assert not [name for name in state(root) if LIVE in name or name in ("alive", "sleep 633")]


def test_a_container_vanishes_when_its_command_ends_though_nobody_removes_it(engine: Engine) -> None:
    start(engine, "brief", {LABEL_RUN: DEAD}, seconds="0.3")
    assert until(lambda: gone(engine, "brief"))
    engine.remove_container("brief")


def test_a_container_that_several_remove_at_once_is_gone_for_all_of_them(engine: Engine) -> None:
    errors: list[BaseException] = []
    seen: list[bool] = []
    together = threading.Barrier(3)

    def remove() -> None:
        together.wait(10)
        try:
            engine.remove_container("contested")
            seen.append(gone(engine, "contested"))
        except BaseException as error:
            errors.append(error)

    for _ in range(3):
        start(engine, "contested", {LABEL_RUN: DEAD})
        threads = [threading.Thread(target=remove) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
    assert seen == [True] * 9
