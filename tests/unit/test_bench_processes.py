"""How ``bench`` times processes: whole, in turn, with what ours says of itself."""

from __future__ import annotations

import sys

import pytest

from swarmscope.bench.processes import in_turn, take
from swarmscope.errors import SwarmscopeError
from swarmscope.places import shipped

SAMPLE = shipped("collectors") / "ftrace-events" / "sample" / "events.txt"


def test_a_tool_and_we_take_turns_and_we_say_what_decoding_took() -> None:
    ours = [sys.executable, "-m", "swarmscope.bench.decode", "ftrace-text", str(SAMPLE)]
    tool, mine = in_turn(["sleep", "0.05"], ours, rounds=2)
    assert len(tool.seconds) == len(mine.seconds) == 2
    assert tool.whole == tool.work >= 0.05 and tool.peak == 0
    assert 0 < mine.work < mine.whole and mine.peak > 10_000_000


def test_a_tool_that_fails_is_named_with_the_last_it_said() -> None:
    with pytest.raises(SwarmscopeError, match=r"sh -c .* ended with 3: cannot"):
        take(["sh", "-c", "echo cannot >&2; exit 3"])
