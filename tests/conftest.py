"""What all tests share: markers by folder, none of the caller's settings, and real agents to talk to."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from driving_agent import AgentProcess, agents, marked, until

from swarmscope.agent import processes

FOLDER_MARKERS = {"ssh": "ssh", "lab": "lab", "machines": "machines"}
HERE = Path(__file__).parent

# How long one example takes says more about what else runs on the machine than about the code.
hypothesis.settings.register_profile("swarmscope", deadline=None)
hypothesis.settings.load_profile("swarmscope")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their folder, so that ``-m 'not lab'`` works without a line in every file.

    A test in lab/ that carries ``browser`` works from files and needs no lab.
    """
    for item in items:
        folder = item.path.parent
        marker = FOLDER_MARKERS.get(folder.name) if folder.parent == HERE else None
        if marker and not (marker == "lab" and item.get_closest_marker("browser")):
            item.add_marker(marker)


@pytest.fixture(autouse=True)
def no_settings_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flags may be given as SWARMSCOPE_<FLAG>: none of the caller's may change what a test does."""
    for name in [n for n in os.environ if n.startswith("SWARMSCOPE_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., AgentProcess]]:
    """``start()``: an agent as a process of its own; all that a test starts share one state and are ended."""
    with agents(tmp_path) as starter:
        yield starter


@pytest.fixture
def run() -> Iterator[str]:
    """A run id of this test alone; nothing marked with it may be left at the end."""
    name = f"test-{os.getpid()}-{time.monotonic_ns()}"
    yield name
    assert until(lambda: not marked(name)), [processes.command_line(pid) for pid in marked(name)]
