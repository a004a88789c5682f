"""Many hosts at once, over real servers: outcomes, timeouts, Ctrl-C, and errors that name every host."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from private_sshd import Server, free_port, inventory

from swarmscope.cluster.fleet import Fleet
from swarmscope.cluster.remote import Remote
from swarmscope.cluster.shell import Command
from swarmscope.errors import HostUnreachable, RemoteFailed
from swarmscope.model import Inventory


@pytest.fixture
def three(shared_server: Server) -> Inventory:
    """Three names for one server: hosts are told apart by name, not by address."""
    hosts = [shared_server.host(name) for name in ("n1", "n2", "n3")]
    return inventory(*hosts, known_hosts=shared_server.known_hosts())


def test_every_host_has_its_own_result_though_they_share_an_address(three: Inventory) -> None:
    with Fleet(three) as fleet:
        fleet.require_all()
        got = fleet.each(lambda remote: remote.run(Command("echo", remote.name)).stdout).require()
    assert got == {"n1": "n1\n", "n2": "n2\n", "n3": "n3\n"}


def test_unreachable_hosts_are_all_named_and_the_rest_still_work(three: Inventory) -> None:
    dead = [replace(host, name=f"dead{i}", port=free_port()) for i, host in enumerate(three.hosts[:2])]
    with Fleet(replace(three, hosts=(*three.hosts, *dead))) as fleet:
        with pytest.raises(HostUnreachable) as caught:
            fleet.require_all()
        assert "dead0: " in str(caught.value)
        assert "dead1: " in str(caught.value)
        assert caught.value.exit_code == 5
        outcomes = fleet.each(lambda remote: remote.name)
        assert [o.state for o in outcomes] == ["ok", "ok", "ok", "unreachable", "unreachable"]


def test_failures_are_outcomes_and_require_names_every_one(three: Inventory) -> None:
    def work(remote: Remote) -> str:
        command = Command("true") if remote.name == "n1" else Command("false")
        remote.run(command, check=True)
        return "done"

    with Fleet(three) as fleet:
        outcomes = fleet.each(work)
    assert outcomes.values == {"n1": "done"}
    assert [o.state for o in outcomes] == ["ok", "failed", "failed"]
    with pytest.raises(RemoteFailed, match=r"(?s)n2: .*n3: "):
        outcomes.require()


def test_a_bug_in_the_work_is_raised_as_it_is(three: Inventory) -> None:
    with Fleet(three) as fleet, pytest.raises(ZeroDivisionError):
        fleet.each(lambda remote: 1 / 0).require()


def test_a_slow_host_is_timed_out_and_one_never_begun_is_skipped(three: Inventory) -> None:
    with Fleet(three, workers=2) as fleet:
        started = time.monotonic()
        outcomes = fleet.each(
            lambda remote: remote.run(Command("sleep", 0 if remote.name == "n1" else 5)), timeout=1.0
        )
        assert time.monotonic() - started < 3
    assert [o.state for o in outcomes] == ["ok", "timed-out", "timed-out"]
    with Fleet(three, workers=1) as fleet:
        outcomes = fleet.each(lambda remote: remote.run(Command("sleep", 5)), timeout=0.7)
    assert [o.state for o in outcomes] == ["timed-out", "skipped", "skipped"]


def test_a_host_that_goes_away_counts_as_unreachable(serve: Callable[..., Server]) -> None:
    server = serve()
    one = inventory(server.host(), known_hosts=server.known_hosts())
    with Fleet(one) as fleet:
        server.cut()
        outcomes = fleet.each(lambda remote: remote.run(Command("true")))
    assert [o.state for o in outcomes] == ["unreachable"]


def test_twenty_logins_all_succeed_at_a_server_with_default_limits(serve: Callable[..., Server]) -> None:
    server = serve("MaxStartups 10:30:100")
    hosts = [server.host(f"n{i}") for i in range(20)]
    with Fleet(inventory(*hosts, known_hosts=server.known_hosts())) as fleet:
        fleet.require_all()
        assert len(fleet.remotes) == 20


CTRL_C = """
import signal, sys, threading
from pathlib import Path
from swarmscope.cluster.fleet import Fleet
from swarmscope.cluster.shell import Command
from swarmscope.model import Host, Inventory
port, user, key, known = int(sys.argv[1]), *sys.argv[2:5]
login = {"port": port, "user": user, "identity_file": Path(key)}
hosts = tuple(Host(name, "127.0.0.1", "managers", **login) for name in ("a", "b"))
with Fleet(Inventory(Path("x"), "x", hosts, known_hosts=Path(known))) as fleet:
    fleet.require_all()
    threading.Timer(0.5, lambda: signal.raise_signal(signal.SIGINT)).start()
    try:
        fleet.each(lambda remote: remote.run(Command("sleep", 30)))
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        sys.exit(130)
"""


def test_ctrl_c_ends_the_program_at_once_though_hosts_are_still_busy(shared_server: Server) -> None:
    host = shared_server.host()
    arguments = [str(host.port), str(host.user), str(host.identity_file), str(shared_server.known_hosts())]
    started = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", CTRL_C, *arguments],
        capture_output=True,
        text=True,
        timeout=25,
        cwd=Path(__file__).parents[2],
    )
    assert ended.stdout == "interrupted\n"
    assert ended.returncode == 130
    assert time.monotonic() - started < 15
