"""The agent as a process: protocol, lock, and that nothing stays whatever way it ends."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from driving_agent import AgentProcess, Answered, agents, marked, recorder, until

from swarmscope import store

START = Callable[..., AgentProcess]
SLEEPER = "echo armed >&2\nexec sleep 300\n"
STUBBORN = "trap '' INT TERM\necho armed >&2\nwhile :; do sleep 0.2; done\n"


def armed(agent: AgentProcess, run: str, *scripts: str, deadline_s: float = 60) -> list[int]:
    agent("lock", run=run, holder="ann@desk", ttl_s=60)
    specs = [recorder(f"rec{index}", script) for index, script in enumerate(scripts)]
    return [one["pid"] for one in agent("arm", run=run, recorders=specs, deadline_s=deadline_s)["recorders"]]


def test_the_first_line_says_who_speaks(start: START) -> None:
    hello = start(host="n7").hello
    assert hello["event"] == "hello"
    assert hello["host"] == "n7"
    assert hello["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_requests_run_side_by_side_and_errors_name_their_kind(start: START) -> None:
    agent = start()
    slow = agent.ask("listen", proto="tcp", address="127.0.0.1", port=_free_port(), token="t", timeout_s=1)
    began = time.monotonic()
    agent("beat")
    assert time.monotonic() - began < 0.8
    assert agent.answer(slow) == {"bound": True, "received": False, "via": "socket"}
    with pytest.raises(Answered, match="usage: unknown op 'dance'"):
        agent("dance")
    with pytest.raises(Answered, match="usage: ping: argument 'netns' is missing"):
        agent("ping", run="r")


def test_a_line_that_is_no_request_is_logged_and_the_next_one_answered(start: START) -> None:
    agent = start()
    assert agent.process.stdin
    agent.process.stdin.write(b"\xff\xfe not json\n[1]\n{}\n")
    assert agent("beat") == {}
    assert agent.event("log")["message"].startswith("not a request")


def test_bye_ends_the_agent_with_exit_code_0(start: START) -> None:
    agent = start()
    assert agent("bye") == {}
    assert agent.process.wait(10) == 0


def test_facts_are_there_and_what_cannot_be_read_is_a_problem_not_a_failure(start: START) -> None:
    facts = start()("facts")
    assert facts["kernel"] == os.uname().release
    assert facts["byteorder"] in ("little", "big")
    assert any(nic["dev"] == "lo" for nic in facts["nics"])
    for name, reason in facts["problems"].items():
        assert not facts[name], f"{name} is there, but a problem: {reason}"


def test_clocks_are_read_in_a_narrow_sandwich(start: START) -> None:
    before = time.monotonic_ns()
    clocks = start()("clocks")
    assert before < clocks["mono"] < time.monotonic_ns()
    assert abs(clocks["real"] - time.time_ns()) < 5_000_000_000
    assert 0 <= clocks["width"] < 1_000_000
    assert clocks["adjtimex"]["tick"] > 0
    assert clocks["source"] and clocks["namespace"] == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="a time namespace needs root")
def test_an_agent_in_a_time_namespace_says_how_far_off_its_clock_is(start: START) -> None:
    clocks = start(through=["unshare", "--time", "--monotonic", "86400", "--"])("clocks")
    assert clocks["namespace"] == {"monotonic": 86_400 * 10**9}
    assert clocks["mono"] - time.monotonic_ns() == pytest.approx(86_400 * 10**9, abs=10**10)


def test_probes_of_one_clock_hold_zero_in_every_interval(start: START, tmp_path: Path) -> None:
    with agents(_folder(tmp_path / "peer")) as start_peer:
        peer, agent = start_peer(), start()
        port = peer("probe_serve", address="127.0.0.1")["port"]
        began = time.monotonic()
        result = agent("probe", address="127.0.0.1", port=port, count=200)
        assert time.monotonic() - began < 5
        assert len(result["samples"]) + result["lost"] == 200
        assert len(result["samples"]) > 180
        for t1, t2, t3, t4 in result["samples"]:
            assert t1 <= t2 <= t3 <= t4  # one machine, one clock: causality is exact
        peer("probe_stop")
        gone = agent("probe", address="127.0.0.1", port=port, count=50)
        assert gone == {"samples": [], "lost": 50}


def test_packets_of_strangers_do_not_disturb_probes(start: START) -> None:

    agent = start()
    port = agent("probe_serve", address="127.0.0.1")["port"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for data in (b"", b"x" * 16, b"swsQ" + bytes(12)):
            stranger.sendto(data, ("127.0.0.1", port))
    assert agent("probe", address="127.0.0.1", port=port, count=20)["lost"] == 0


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_request_and_response_gives_a_time_for_each_and_stops(start: START, transport: str) -> None:
    agent = start()
    where = {"netns": "", "address": "127.0.0.1"}
    port = agent("rr_serve", run="r", transport=transport, size=64, **where)["port"]
    wanted = {
        "run": "r",
        "transport": transport,
        "size": 64,
        "count": 100,
        "timeout_s": 10,
        "port": port,
        **where,
    }
    result = agent("rr", **wanted)
    assert result["sent"] == result["received"] == 100
    assert [seq for seq, _ in result["rtts"]] == list(range(1, 101))
    assert all(0 < ns < 1_000_000_000 for _, ns in result["rtts"])
    assert sum(ns for _, ns in result["rtts"]) <= result["end"] - result["start"]
    agent("rr_stop", port=port)
    time.sleep(0.3)
    with pytest.raises(Answered, match="failed"):
        agent("rr", **{**wanted, "count": 1})


def test_a_token_arrives_by_tcp_and_udp_and_another_program_is_told_apart(start: START) -> None:
    agent = start()
    for proto in ("tcp", "udp"):
        port = _free_port()
        waiting = agent.ask("listen", proto=proto, address="127.0.0.1", port=port, token="abc", timeout_s=10)
        assert until(lambda w=waiting: any(e.get("id") == w for e in agent.events))  # type: ignore[misc]
        assert agent("send", proto=proto, address="127.0.0.1", port=port, token="abc")["connected"]
        assert agent.answer(waiting)["received"]
    refused = agent("send", proto="tcp", address="127.0.0.1", port=_free_port(), token="abc")
    assert refused == {"connected": False, "error": "Connection refused"}


def test_end_of_input_stops_recorders_even_stubborn_ones_and_gives_the_lock_back(
    start: START, run: str, tmp_path: Path
) -> None:
    agent = start()
    armed(agent, run, SLEEPER, STUBBORN)
    agent.hang_up()
    assert agent.process.wait(20) == 0
    assert not marked(run)
    assert not (tmp_path / "state" / "lock.json").exists()


def test_silence_for_the_idle_time_ends_agent_and_recorders(start: START, run: str) -> None:
    agent = start("--idle", "0.8", beats=False)
    armed(agent, run, SLEEPER)
    assert agent.process.wait(10) == 0
    assert "no line for 0.8 s" in agent.event("log")["message"]
    assert not marked(run)


def test_the_deadline_of_the_lock_ends_agent_and_recorders(start: START, run: str) -> None:
    agent = start()
    agent("lock", run=run, holder="ann", ttl_s=1)
    agent("arm", run=run, recorders=[recorder("rec", SLEEPER)], deadline_s=60)
    assert agent.process.wait(10) == 0
    assert not marked(run)


def test_kill_9_of_the_agent_leaves_no_recorder_at_once(start: START, run: str) -> None:
    agent = start()
    armed(agent, run, SLEEPER, "echo armed >&2\nread -r _\n", deadline_s=60)
    assert len(marked(run)) >= 2
    agent.process.kill()
    assert until(lambda: not marked(run), 3)


def test_a_recorder_ends_by_its_own_deadline_when_nobody_stops_it(start: START, run: str) -> None:
    armed(start(), run, SLEEPER, deadline_s=1)
    assert until(lambda: not marked(run), 4)


def test_a_recorder_that_dies_before_it_is_ready_stops_the_others_and_shows_its_stderr(
    start: START, run: str
) -> None:
    agent = start()
    agent("lock", run=run, holder="ann", ttl_s=60)
    broken = recorder("broken", "echo no such event: net:x >&2\nexit 3\n")
    with pytest.raises(Answered, match=r"collector: broken ended with exit code 3 .*no such event") as caught:
        agent("arm", run=run, recorders=[recorder("good", SLEEPER), broken], deadline_s=60)
    assert caught.value.error["recorder"] == "broken"
    assert caught.value.error["exit"] == 3
    assert not marked(run)


def test_a_recorder_that_dies_while_others_are_waited_for_fails_at_once(start: START, run: str) -> None:
    agent = start()
    agent("lock", run=run, holder="ann", ttl_s=60)
    hasty = recorder("hasty", "echo armed >&2\nsleep 0.3\necho out of memory >&2\nexit 3\n")
    slow = recorder("slow", "exec sleep 60\n", ready={"file": "stderr", "match": "armed", "timeout_s": 20})
    began = time.monotonic()
    with pytest.raises(Answered, match=r"hasty ended with exit code 3 after it was ready: out of memory"):
        agent("arm", run=run, recorders=[hasty, slow], deadline_s=60)
    assert time.monotonic() - began < 10
    assert not marked(run)


def test_a_gate_that_nobody_reads_is_an_error_and_does_not_hang_the_agent(
    start: START, run: str, tmp_path: Path
) -> None:
    agent = start()
    agent("lock", run=run, holder="ann", ttl_s=60)
    os.mkfifo(tmp_path / "deaf")
    gate = {"path": str(tmp_path / "deaf"), "open": "x\n", "close": "y\n", "ack": ""}
    agent("arm", run=run, recorders=[recorder("deaf", SLEEPER, gate=gate)], deadline_s=60)
    with pytest.raises(Answered, match="gate of recorder deaf: No such device or address"):
        agent("gate", recorders=["deaf"], action="open", at=None)
    agent("stop", recorders=None)


def test_a_recorders_child_that_outlives_it_is_ended_with_it(start: START, run: str) -> None:
    agent = start()
    armed(agent, run, "(trap '' INT TERM; exec sleep 300) &\necho armed >&2\nread -r _\n")
    agent("stop", recorders=None)
    assert until(lambda: not marked(run), 3)


def test_a_recorder_that_is_never_ready_is_a_collector_error(start: START, run: str) -> None:
    agent = start()
    agent("lock", run=run, holder="ann", ttl_s=60)
    late = recorder("late", "exec sleep 60\n", ready={"file": "stdout", "match": "never", "timeout_s": 0.4})
    with pytest.raises(Answered, match=r"late was not ready after 0\.4 s"):
        agent("arm", run=run, recorders=[late], deadline_s=60)


def test_gates_move_at_the_instant_asked_for_and_wait_for_the_answer(start: START, run: str) -> None:
    script = 'echo armed >&2\nwhile read -r line <&3; do echo "$line" >>told.txt; echo ack >ack; done 3<ctl\n'
    gate = {"path": "ctl", "open": "enable\n", "close": "disable\n", "ack": "ack"}
    agent = start()
    agent("lock", run=run, holder="ann", ttl_s=60)
    spec = recorder("gated", script, gate=gate, fifos=["ctl", "ack"], outputs=["told.txt"])
    agent("arm", run=run, recorders=[spec], deadline_s=60)
    at = time.monotonic_ns() + 300_000_000
    late = []
    for action in ("open", "close", "open"):
        answer = agent("gate", recorders=["gated"], action=action, at=at)
        moved = answer["moved"][0]
        assert at <= moved["before"] <= moved["after"] <= moved["acked"]
        assert answer["late"] == answer["woke"]["before"] - at >= 0
        late.append(moved["after"] - at)
        at += 300_000_000
    assert min(late) < 20_000_000  # a busy machine may hold one of them up
    agent("stop", recorders=None)
    files = agent("pack", run=run)["files"]
    assert [file["path"] for file in files] in (["gated/told.txt.zst"], ["gated/told.txt.gz"])
    assert files[0]["raw_size"] == len("enable\ndisable\nenable\n")


def test_a_gate_that_does_not_answer_is_a_collector_error(start: START, run: str) -> None:
    agent = start()
    agent("lock", run=run, holder="ann", ttl_s=60)
    gate = {"path": "ctl", "open": "x\n", "close": "y\n", "ack": "ack"}
    script = "echo armed >&2\nread -r line <ctl\nexit 4\n"
    agent(
        "arm", run=run, recorders=[recorder("mute", script, gate=gate, fifos=["ctl", "ack"])], deadline_s=60
    )
    with pytest.raises(Answered, match="mute did not acknowledge"):
        agent("gate", recorders=["mute"], action="open", at=None)


def test_after_scripts_run_and_outputs_are_packed_once_with_their_checksum(
    start: START, run: str, tmp_path: Path
) -> None:

    agent = start()
    agent("lock", run=run, holder="ann", ttl_s=60)
    script = "trap 'echo data >raw.txt; exit 0' INT\necho armed >&2\nread -r _\n"
    spec = recorder("rec", script, outputs=["out.txt", "never.txt"])
    spec["files"]["after.sh"] = "sed s/data/DATA/ raw.txt >out.txt\n"
    spec["after"] = ["bash", "after.sh"]
    agent("arm", run=run, recorders=[spec], deadline_s=60)
    report = agent("stop", recorders=["rec"])["recorders"][0]
    assert (report["id"], report["exit"], report["after_exit"]) == ("rec", 0, 0)
    first = agent("pack", run=run)["files"]
    folder = tmp_path / "data" / run
    assert [hashlib.sha256((folder / f["path"]).read_bytes()).hexdigest() for f in first] == [
        first[0]["sha256"]
    ]
    assert agent("pack", run=run)["files"] == first
    assert json.loads((folder / "manifest.json").read_text())["missing"] == ["rec/never.txt"]
    assert folder.stat().st_mode & 0o777 == 0o700
    agent("discard", run=run)
    assert not folder.exists()
    assert not list((tmp_path / "state" / "ledger").iterdir())


def test_a_folder_among_the_outputs_is_packed_as_one_tar_once(start: START, run: str, tmp_path: Path) -> None:
    agent = start()
    agent("lock", run=run, holder="ann", ttl_s=60)
    script = "mkdir -p ctf/kernel; echo m >ctf/kernel/metadata; ln -s /etc/passwd ctf/link\n"
    script += "echo armed >&2\nread -r _\n"
    agent("arm", run=run, recorders=[recorder("rec", script, outputs=["ctf/", "gone/"])], deadline_s=60)
    agent("stop", recorders=["rec"])
    first = agent("pack", run=run)["files"]
    [entry] = first
    folder = tmp_path / "data" / run
    assert entry["path"].startswith("rec/ctf.tar.")
    with store.open_packed(folder / entry["path"]) as file, tarfile.open(fileobj=file, mode="r|") as tar:
        assert [member.name for member in tar] == ["kernel/metadata"]
    assert not (folder / "rec" / "ctf").exists()
    assert agent("pack", run=run)["files"] == first
    assert json.loads((folder / "manifest.json").read_text())["missing"] == ["rec/gone.tar"]


def test_a_signal_ends_it_like_end_of_input(start: START, run: str) -> None:
    agent = start()
    armed(agent, run, SLEEPER)
    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(10) == 0
    assert not marked(run)


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.12", "3.13"])
def test_it_runs_on_other_pythons(start: START, version: str) -> None:
    found = _python(version)
    if found is None:
        pytest.skip(f"no Python {version} on this machine")
    agent = start(python=found)
    assert agent.hello["python"].startswith(version)
    assert agent("facts")["python"].startswith(version)
    port = agent("rr_serve", run="r", netns="", address="127.0.0.1", transport="tcp", size=8)["port"]
    done = agent(
        "rr", run="r", netns="", address="127.0.0.1", port=port, transport="tcp", size=8, count=5, timeout_s=5
    )
    assert done["received"] == 5
    assert agent("bye") == {}


def _python(version: str) -> str | None:
    """An interpreter of that version: on the path, or among pyenv's."""
    pyenv = sorted(
        Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser().glob(f"versions/{version}.*/bin/python3")
    )
    return str(pyenv[-1]) if pyenv else shutil.which(f"python{version}")


def _folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def _free_port() -> int:

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def test_what_a_recorder_notes_is_told_when_it_is_armed_and_when_it_has_ended(start: START, run: str) -> None:
    agent = start()
    script = f"echo 'swarmscope note: no  kprobes' >&2; echo 'a swarmscope note: of no one' >&2\n{SLEEPER}"
    after = {"files": {"record.sh": script, "after.sh": "echo 'swarmscope note: half of it' >&2\n"}}
    agent("lock", run=run, holder="ann@desk", ttl_s=60)
    spec = recorder("one", script, after=["bash", "after.sh"], **after)
    (armed_one,) = agent("arm", run=run, recorders=[spec], deadline_s=60)["recorders"]
    assert armed_one["notes"] == ["no  kprobes"]
    (stopped,) = agent("stop", recorders=None)["recorders"]
    assert stopped["notes"] == ["no  kprobes", "half of it"]
