"""A real lab of two hosts, raised once for all tests of this folder, and a place to raise others."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from raising import Labs, Ssh, why_no_lab

from swarmscope.lab.status import LabStatus


@pytest.fixture(scope="session")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labs]:
    """A place to raise labs of one's own."""
    if reason := why_no_lab():
        pytest.skip(reason)
    made = Labs(tmp_path_factory.mktemp("labs"))
    yield made
    made.remove_all()


@pytest.fixture(scope="session")
def lab(labs: Labs) -> LabStatus:
    """A standing lab of two hosts, n1 and n2, shared by all tests: leave it as you found it."""
    return labs.up(2)


@pytest.fixture(scope="session")
def ssh(lab: LabStatus) -> Ssh:
    """``ssh("n1", "hostname")``: run a shell command on a host of ``lab`` with the real ssh client."""

    def run(host: str, command: str, *, config: Path = lab.ssh_config) -> subprocess.CompletedProcess[str]:
        argv = ["ssh", "-F", str(config), host, command]
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )

    return run
