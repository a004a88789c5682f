"""What all tests share: markers by folder, and an environment without the caller's swarmscope settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER_MARKERS = {"ssh": "ssh", "lab": "lab"}
HERE = Path(__file__).parent


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
