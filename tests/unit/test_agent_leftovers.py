"""The agent as a process: one run at a time on a host, and removing what a run left."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from driving_agent import AgentProcess, Answered, agents, recorder

from swarmscope.agent import processes

START = Callable[..., AgentProcess]
SLEEPER = "echo armed >&2\nexec sleep 300\n"


def test_a_second_run_is_told_who_holds_the_host_and_since_when(start: START, run: str) -> None:
    first, second = start(), start()
    first("lock", run=run, holder="ann@desk", ttl_s=60)
    with pytest.raises(Answered) as caught:
        second("lock", run="other", holder="bob@desk", ttl_s=60)
    holder = caught.value.error["holder"]
    assert caught.value.error["kind"] == "locked"
    assert (holder["run"], holder["holder"], holder["host"]) == (run, "ann@desk", "n1")
    assert holder["since"] <= holder["expires"]
    first("unlock", run=run)
    second("lock", run="other", holder="bob@desk", ttl_s=60)


def test_the_lock_of_a_killed_agent_is_taken_over(start: START, run: str) -> None:
    first, second = start(), start()
    first("lock", run="dead", holder="ann", ttl_s=600)
    first.process.kill()
    first.process.wait()
    items = second("leftovers", active=[])["items"]
    assert [item["kind"] for item in items if item["run"] == "dead"] == ["lock"]
    second("lock", run=run, holder="bob", ttl_s=60)


def test_arming_needs_the_lock(start: START) -> None:
    with pytest.raises(Answered, match="usage: arm: run r9 does not hold n1"):
        start()("arm", run="r9", recorders=[recorder("rec", SLEEPER)], deadline_s=10)


def test_what_was_recorded_when_the_controller_died_is_packed_and_can_be_fetched(
    start: START, run: str, tmp_path: Path
) -> None:
    agent = start()
    agent("lock", run=run, holder="ann", ttl_s=60)
    script = "trap 'echo data >raw.txt; exit 0' INT\necho armed >&2\nread -r _\n"
    agent("arm", run=run, recorders=[recorder("rec", script, outputs=["raw.txt"])], deadline_s=60)
    agent.hang_up()
    agent.process.wait(20)
    assert len(start()("pack", run=run)["files"]) == 1


def test_sweep_removes_what_is_marked_and_spares_what_is_not(start: START, run: str, tmp_path: Path) -> None:
    agent = start()
    planted = {**os.environ, "SWARMSCOPE_RUN": run}
    ours = subprocess.Popen(["sleep", "300"], env=planted, start_new_session=True)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SWARMSCOPE")}
    theirs = subprocess.Popen(["sleep", "300"], env=clean, start_new_session=True)
    (tmp_path / "data" / run / "rec").mkdir(parents=True)
    try:
        mine = lambda items: [item for item in items if item["run"] == run]  # noqa: E731
        assert mine(agent("leftovers", active=[run])["items"]) == []
        items = mine(agent("leftovers", active=[])["items"])
        assert sorted(item["kind"] for item in items) == ["directory", "process"]
        foreign = {"kind": "process", "id": f"{theirs.pid}:{processes.start_time(theirs.pid)}", "run": run}
        reused = {"kind": "process", "id": f"{ours.pid}:1", "run": run}
        swept = agent("sweep", items=[*items, foreign, {"kind": "house", "id": "x", "run": run}])
        assert {item["kind"] for item in swept["removed"]} == {"directory", "process"}
        assert [item["why"] for item in swept["kept"]] == [
            "it does not carry our mark",
            "unknown kind 'house'",
        ]
        assert agent("sweep", items=[reused])["kept"] == []
        ours.wait(5)
        assert theirs.poll() is None
        assert not (tmp_path / "data" / run).exists()
    finally:
        for process in (ours, theirs):
            process.kill()
            process.wait()


def test_a_packed_run_waits_to_be_collected_for_a_week(start: START, run: str, tmp_path: Path) -> None:
    agent = start()
    folder = _folder(tmp_path / "data" / run)
    (folder / "manifest.json").write_text('{"files": []}')
    assert [item for item in agent("leftovers", active=[])["items"] if item["run"] == run] == []
    old = time.time() - 8 * 86400
    os.utime(folder / "manifest.json", (old, old))
    items = [item for item in agent("leftovers", active=[])["items"] if item["run"] == run]
    assert items[0]["detail"] == "packed 8 days ago and not collected"


def test_an_agent_that_hangs_is_a_leftover_and_one_that_is_spoken_to_is_not(
    start: START, tmp_path: Path
) -> None:
    hanging, agent = start("--idle", "600", beats=False), start()

    def pids() -> list[int]:
        found = agent("leftovers", active=[])["items"]
        return [int(item["id"].split(":")[0]) for item in found if item["kind"] == "process"]

    assert hanging.hello["pid"] not in pids()
    old = time.time() - 60
    os.utime(tmp_path / "state" / "agents" / str(hanging.hello["pid"]), (old, old))
    assert hanging.hello["pid"] in pids()
    assert agent.hello["pid"] not in pids()


def test_an_agent_removes_the_notes_of_killed_ones_and_no_others(start: START, tmp_path: Path) -> None:
    killed, living = start(), start()
    killed.process.kill()
    killed.process.wait(10)
    latest = start()
    latest("clocks")
    left = {int(note.name) for note in (tmp_path / "state" / "agents").iterdir()}
    assert left == {living.hello["pid"], latest.hello["pid"]}


def test_a_state_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    (_folder(tmp_path / "elsewhere") / "x").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "elsewhere")
    with agents(tmp_path) as start_agent:
        agent = start_agent(beats=False)
        assert agent.process.wait(10) == 1
        assert "belongs to another user" in agent.event("log")["message"]


def _folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path
