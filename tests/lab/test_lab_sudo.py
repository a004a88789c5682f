"""A user who is not root raises a lab through sudo: tried on a host of a lab, where there is such a user."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from raising import Ssh

import swarmscope
from swarmscope.lab.status import LabStatus

PYTHON = "PYTHONPATH=~/code PYTHONDONTWRITEBYTECODE=1 python3 -m swarmscope.lab"


@pytest.fixture
def code_on_n1(lab: LabStatus, ssh: Ssh, tmp_path: Path) -> str:
    """The package and what it needs, in the home folder of n1's user; returns the command to call it."""
    if ssh("n1", "python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))'").returncode:
        pytest.skip("the machine's own python3 is not there or older than 3.10")
    for module in (swarmscope, yaml):
        source = Path(str(module.__file__)).parent
        shutil.copytree(
            source, tmp_path / "code" / source.name, ignore=shutil.ignore_patterns("*.pyc", "*.so")
        )
    argv = ["scp", "-q", "-r", "-F", str(lab.ssh_config), str(tmp_path / "code"), "n1:"]
    subprocess.run(argv, check=True, capture_output=True)
    return PYTHON


def test_a_lab_raised_through_sudo_belongs_to_the_user_and_comes_down(ssh: Ssh, code_on_n1: str) -> None:
    before = ssh("n1", "ip netns; ls -A").stdout
    up = ssh("n1", f"{code_on_n1} up inner --hosts 1 --root ~")
    try:
        answer = json.loads(up.stdout)
        assert answer["result"]["ready"] is True, up.stdout + up.stderr
        owners = ssh("n1", "stat -c '%U %a %n' .lab .lab/inner .lab/inner/*").stdout.splitlines()
        assert {line for line in owners if not line.startswith("scope ")} == {"root 700 .lab/inner/hosts"}
        assert "scope 600 .lab/inner/id_ed25519" in owners
        assert ssh("n1", "ssh -F .lab/inner/ssh_config n1 whoami").stdout == "scope\n"
        refused = ssh("n1", f"{code_on_n1} up inner --hosts 2 --root ~")
        assert refused.returncode == 7, "the exit code of the run as root comes through"
        assert json.loads(refused.stdout)["error"]["kind"] == "Refused"
    finally:
        down = ssh("n1", f"{code_on_n1} down inner --root ~")
    assert "error" not in json.loads(down.stdout)
    assert ssh("n1", "ip netns; ls -A").stdout == before
    assert ssh("n1", "rm -r code").returncode == 0
