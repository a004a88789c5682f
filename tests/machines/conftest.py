"""One lab of two machines for all tests of this folder, raised once and taken down whatever happens."""

from __future__ import annotations

import atexit
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from swarmscope.errors import PreflightFailed, SwarmscopeError
from swarmscope.lab import image, machines
from swarmscope.lab.image_trees import require_tools
from swarmscope.lab.machines_raising import MachineOptions
from swarmscope.lab.privileges import MACHINE_COMMANDS, missing_commands
from swarmscope.lab.status import LabStatus

# an image of one's own instead of the cached one, for work on the image itself
OWN_IMAGE = os.environ.get("MACHINES_IMAGE", "")


PATIENCE_S = 3000
"""For one test with its fixtures: the first one waits for an image, a snapshot and two machines."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(PATIENCE_S))


def why_no_machines() -> str:
    """Why this computer cannot raise machines; empty when it can."""
    if missing := missing_commands(MACHINE_COMMANDS):
        return f"a lab of machines needs {', '.join(missing)}"
    if OWN_IMAGE or image.find(image.ImageOptions()) is not None:
        return ""
    try:
        require_tools()
    except PreflightFailed as problem:
        return str(problem)
    return ""


@dataclass(frozen=True)
class Machines:
    """A standing lab of machines n1 and n2: leave it as you found it."""

    lab: LabStatus
    root: Path
    options: MachineOptions

    def ssh(
        self, host: str, command: str, *, timeout_s: float = 300, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command on a machine as its login user, with the real ssh client."""
        done = subprocess.run(
            ["ssh", "-F", str(self.lab.ssh_config), host, command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert not check or done.returncode == 0, (host, command, done.returncode, done.stdout, done.stderr)
        return done

    def asked(self, host: str, command: str) -> str:
        """What a command prints."""
        return self.ssh(host, command).stdout.strip()

    @property
    def hosts(self) -> list[str]:
        return [host.name for host in self.lab.hosts]

    def as_root(self, host: str, script: str, *, timeout_s: float = 300) -> str:
        """What a bash script prints that root runs on a machine."""
        argv = ["ssh", "-F", str(self.lab.ssh_config), host, "sudo bash -s"]
        done = subprocess.run(
            argv, input=script, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        assert done.returncode == 0, (host, script, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def put(self, host: str, local: Path, remote: str) -> None:
        """Copy a file or folder into a folder made for it on a machine."""
        self.ssh(host, f"mkdir -p {remote}")
        argv = ["scp", "-q", "-r", "-F", str(self.lab.ssh_config), str(local), f"{host}:{remote}/"]
        subprocess.run(argv, stdin=subprocess.DEVNULL, check=True, timeout=300)


@pytest.fixture(scope="session")
def machine_options() -> MachineOptions:
    if reason := why_no_machines():
        pytest.skip(reason)
    return MachineOptions(image_folder=Path(OWN_IMAGE) if OWN_IMAGE else None)


@pytest.fixture(scope="session")
def machines_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder for labs of machines."""
    return tmp_path_factory.mktemp("machines")


@pytest.fixture(scope="session", name="machines")
def standing_machines(machine_options: MachineOptions, machines_root: Path) -> Iterator[Machines]:
    """A lab of two machines, n1 and n2, shared by all tests: leave it as you found it."""
    name = f"m{os.getpid() % 10_000_000}"

    def remove() -> None:
        with suppress(SwarmscopeError):
            machines.down(name, root=machines_root)

    # also when pytest is stopped in a way that skips fixtures' ends
    atexit.register(remove)
    try:
        lab = machines.up(name, 2, root=machines_root, options=machine_options, say=lambda _: None)
        yield Machines(lab, machines_root, machine_options)
    finally:
        remove()
        atexit.unregister(remove)
