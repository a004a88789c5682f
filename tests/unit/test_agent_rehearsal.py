"""A recorder that must have seen the traffic first: told through its pipe, awaited, named when it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from driving_agent import AgentProcess, Answered, agents, recorder

WANTED = {"fifo": "rehearsal", "match": "^chose", "timeout_s": 5}


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[Callable[..., AgentProcess]]:
    """An agent with one recorder of the given script, armed."""
    with agents(tmp_path) as start:

        def armed(script: str, rehearsal: dict[str, Any] | None) -> AgentProcess:
            agent = start()
            agent("lock", run="r1", holder="test", ttl_s=60)
            spec = recorder("one", script, fifos=["rehearsal"], rehearsal=rehearsal)
            agent("arm", run="r1", recorders=[spec], deadline_s=30)
            return agent

        yield armed


def test_it_is_told_that_traffic_flowed_and_waited_for(
    arm: Callable[..., AgentProcess], tmp_path: Path
) -> None:
    agent = arm('echo armed >&2; read -r line <rehearsal; echo "chose by $line" >&2; read -r _', WANTED)
    log = tmp_path / "data" / "r1" / "one" / "stderr.log"
    assert "chose" not in log.read_text()
    [ready] = agent("rehearsed", recorders=["one"])["recorders"]
    assert ready["id"] == "one" and ready["ready_ns"] > 0
    assert "chose by rehearsed" in log.read_text()


def test_one_that_finds_nothing_to_record_is_named_with_what_it_said(
    arm: Callable[..., AgentProcess],
) -> None:
    agent = arm('echo armed >&2; read -r _ <rehearsal; echo "error: no packet passed" >&2; exit 1', WANTED)
    with pytest.raises(
        Answered, match="one ended with exit code 1 before it was rehearsed: error: no packet"
    ):
        agent("rehearsed", recorders=["one"])


def test_one_that_wants_no_rehearsal_is_told_of_none(arm: Callable[..., AgentProcess]) -> None:
    agent = arm("echo armed >&2; read -r _", None)
    with pytest.raises(Answered, match="recorder one has no rehearsal"):
        agent("rehearsed", recorders=["one"])


def test_a_pipe_that_is_not_there_is_a_mistake_of_the_collector(arm: Callable[..., AgentProcess]) -> None:
    with pytest.raises(Answered, match="'elsewhere' is not among its fifos"):
        arm("echo armed >&2; read -r _", {**WANTED, "fifo": "elsewhere"})
