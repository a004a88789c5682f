"""The real agent over a real server: deployed once, answering, and noticed when it is gone."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from private_sshd import Server, free_port, inventory

from swarmscope.cluster import agent_link, agents
from swarmscope.cluster.agent_link import AgentFailed, AgentLink, translate
from swarmscope.cluster.agents import Agents, build_agent, deploy, start
from swarmscope.cluster.fleet import Fleet
from swarmscope.cluster.remote import Remote, RemoteTimeout
from swarmscope.errors import HostLost, LockHeld, PreflightFailed

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the agent runs as root")


@pytest.fixture
def remote(serve: Callable[..., Server]) -> Iterator[Remote]:
    server = serve()
    with Remote(server.host(), inventory(known_hosts=server.known_hosts())) as made:
        yield made


@pytest.fixture
def link(remote: Remote) -> Iterator[AgentLink]:
    made = start(remote)
    yield made
    made.close()


def test_the_zipapp_is_the_same_every_time_and_runs_alone(tmp_path: Path) -> None:
    first = build_agent()
    build_agent.cache_clear()
    assert build_agent() == first
    names = zipfile.ZipFile(BytesIO(first)).namelist()
    assert names[0] == "__main__.py"
    assert "agent/main.py" in names
    path = tmp_path / "agent.pyz"
    path.write_bytes(first)
    # Without site-packages and outside of the project: the standard library must do.
    ended = subprocess.run(
        [sys.executable, "-I", "-S", str(path), "agent", "--host", "x", "--idle", "5"],
        input=b"",
        capture_output=True,
        cwd=tmp_path,
        timeout=20,
    )
    assert json.loads(ended.stdout.splitlines()[0])["event"] == "hello"


def test_it_is_sent_once_and_again_when_what_is_there_is_not_whole(remote: Remote) -> None:
    path = Path(deploy(remote))
    stamp = path.stat().st_mtime_ns
    assert deploy(remote) == str(path)
    assert path.stat().st_mtime_ns == stamp
    path.write_bytes(path.read_bytes()[:100])
    deploy(remote)
    assert path.read_bytes() == build_agent()
    assert path.stat().st_mode & 0o777 == 0o600


def test_calls_are_answered_also_many_at_once(link: AgentLink) -> None:
    assert link.hello["host"] == "n1"
    replies = [link.submit("clocks") for _ in range(20)]
    assert all(reply.result(10)["mono"] > 0 for reply in replies)


def test_an_error_of_the_agent_is_raised_by_the_call(link: AgentLink) -> None:
    with pytest.raises(AgentFailed) as caught:
        link.call("no-such-op")
    assert caught.value.kind == "usage"
    assert link.call("beat") == {}


def test_a_late_answer_is_a_timeout_and_the_link_goes_on(link: AgentLink) -> None:
    with pytest.raises(RemoteTimeout):
        link.call(
            "listen", timeout=0.3, proto="udp", address="127.0.0.1", port=free_port(), token="t", timeout_s=2
        )
    assert link.call("beat") == {}


def test_it_lives_longer_than_its_idle_time_while_nothing_is_asked(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_link, "BEAT_S", 0.4)
    link = start(remote, idle=1)
    time.sleep(2.5)
    assert link.alive
    link.close()


def test_a_killed_agent_fails_all_pending_calls_at_once(link: AgentLink) -> None:
    reply = link.submit("listen", proto="udp", address="127.0.0.1", port=free_port(), token="t", timeout_s=30)
    assert reply.event(10)["event"] == "listening"
    threading.Timer(0.3, os.kill, (int(link.hello["pid"]), signal.SIGKILL)).start()
    started = time.monotonic()
    with pytest.raises(HostLost):
        reply.result(30)
    assert time.monotonic() - started < 5
    assert not link.alive
    with pytest.raises(HostLost):
        link.call("beat")


def test_a_cut_connection_is_a_lost_host_and_ends_the_agent(serve: Callable[..., Server]) -> None:
    server = serve()
    with Remote(server.host(), inventory(known_hosts=server.known_hosts())) as remote:
        link = start(remote)
        pid = int(link.hello["pid"])
        reply = link.submit(
            "listen", proto="udp", address="127.0.0.1", port=free_port(), token="t", timeout_s=30
        )
        assert reply.event(10)["event"] == "listening"
        server.cut()
        with pytest.raises(HostLost):
            reply.result(10)
    deadline = time.monotonic() + 15
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()


def test_a_host_without_python_is_told_so(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "_START", 'exec no-such-python "$1"')
    with pytest.raises(PreflightFailed, match="no-such-python"):
        start(remote)


@pytest.mark.parametrize(
    "line",
    ['{"id": [1], "ok": true}', '{"event": "x", "id": [2]}', '{"event": "late", "id": 1, "sequence": 1}'],
    ids=["an answer without sense", "an event without sense", "an event whose handler fails"],
)
def test_whatever_stops_the_reader_fails_all_pending_calls_and_is_no_traceback(
    remote: Remote, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder, line: str
) -> None:
    hello = '{"event": "hello", "host": "n1"}'
    monkeypatch.setattr(agents, "_START", f"echo '{hello}'; read asked; echo '{line}'; exec sleep 30")

    def handler(host: str, event: Mapping[str, Any]) -> None:
        if event["event"] == "late":
            raise ValueError(f"{host}: no room for this")

    link = start(remote, on_event=handler)
    with pytest.raises(HostLost, match=r"answers cannot be followed.*Error"):
        link.call("facts", timeout=10)
    with pytest.raises(HostLost):
        link.submit("beat")
    assert not link.alive
    link.close()
    gc.collect()  # pytest tells of a thread's traceback by a warning
    assert [str(w.message) for w in recwarn if "agent-n1" in str(w.message)] == []


def test_a_connection_closed_under_the_reader_fails_all_pending_calls(
    remote: Remote, recwarn: pytest.WarningsRecorder
) -> None:
    link = start(remote)
    replies = [
        link.submit("listen", proto="udp", address="127.0.0.1", port=free_port(), token="t", timeout_s=30)
        for _ in range(3)
    ]
    assert [reply.event(10)["event"] for reply in replies] == ["listening"] * 3
    remote.close()
    for reply in replies:
        with pytest.raises(HostLost):
            reply.result(5)
    assert not link.alive
    assert [str(w.message) for w in recwarn if "agent-n1" in str(w.message)] == []


def test_agents_of_a_fleet_start_answer_and_end_together(serve: Callable[..., Server]) -> None:
    servers = [serve(), serve()]
    known = servers[0].folder / "known"
    known.write_text("".join(server.known() for server in servers))
    two = inventory(servers[0].host("n1"), servers[1].host("n2"), known_hosts=known)
    with Fleet(two) as fleet:
        with Agents(fleet) as group:
            assert [link.hello["host"] for link in group.links.values()] == ["n1", "n2"]
            assert group.call_all("beat").require() == {"n1": {}, "n2": {}}
            servers[1].cut()
            assert [o.state for o in group.call_all("beat")] == ["ok", "unreachable"]
            assert group.alive == ("n1",)
        assert group.alive == ()


def test_a_held_lock_names_who_holds_it_and_since_when() -> None:
    holder = {
        "run": "r7",
        "holder": "ann@desk",
        "host": "desk",
        "since": "2026-01-02T03:04:05Z",
        "expires": "later",
    }
    error = translate({"kind": "locked", "message": "locked", "holder": holder}, "n1")
    assert isinstance(error, LockHeld)
    assert error.exit_code == 6
    for part in ("n1", "r7", "ann@desk", "2026-01-02T03:04:05Z"):
        assert part in str(error)
