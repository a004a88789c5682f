"""Clocks wrong by a known offset and drift: on hosts of a lab, an agent that reads a bent clock."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from raising import Ssh

from swarmscope import inventory
from swarmscope.cluster.agents import build_agent
from swarmscope.lab.status import LabStatus
from swarmscope.trace import clock

AGENT = f"/tmp/swarmscope-test-{os.getpid()}.pyz"
BURSTS, COUNT, PAUSE_S = 6, 100, 0.5
BENT = """
import sys, time
true = time.monotonic_ns
offset, ppb = int(sys.argv[2]), int(sys.argv[3])
time.monotonic_ns = lambda: (now := true()) + now * ppb // 10**9 + offset
from agent.probe import ProbeServer
server = ProbeServer(sys.argv[1])
print(server.port, flush=True)
sys.stdin.read()
server.close()
"""
ASKING = """
import json, sys
from agent.probe import burst
print(json.dumps(burst(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
"""


def _command(program: str, *words: object) -> str:
    return shlex.join(["env", f"PYTHONPATH={AGENT}", "python3", "-c", program, *map(str, words)])


@pytest.fixture(scope="module", autouse=True)
def the_agent(lab: LabStatus, ssh: Ssh) -> Iterator[None]:
    """The agent's own code, on both hosts."""
    for host in ("n1", "n2"):
        put = ["ssh", "-F", str(lab.ssh_config), host, f"cat > {AGENT}"]
        subprocess.run(put, input=build_agent(), check=True, timeout=60)
    yield
    for host in ("n1", "n2"):
        ssh(host, f"rm {AGENT}")


def _bursts(lab: LabStatus, ssh: Ssh, offset: int, ppb: int) -> list[dict[str, Any]]:
    """Bursts from n1 to an agent's probe server on n2 that reads a clock bent as far as crystals are."""
    address = inventory.load(lab.inventory).host("n2").data_path_addr
    serving = ["ssh", "-F", str(lab.ssh_config), "n2", _command(BENT, address, offset, ppb)]
    with subprocess.Popen(serving, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None and server.stdin is not None
        port = int(server.stdout.readline())
        made = []
        for _ in range(BURSTS):
            done = ssh("n1", _command(ASKING, address, port, COUNT))
            assert done.returncode == 0, done.stderr
            samples, lost = json.loads(done.stdout)
            made.append({"samples": samples, "lost": lost})
            time.sleep(PAUSE_S)
        server.stdin.close()
    return made


# Drifts that two crystals may have (clock.MAX_RATE); more is steering, which snapshots would show.
@pytest.mark.parametrize(("offset", "ppb"), [(3_700_000_000, 40_000), (-40_000_000_000, -80_000)])
def test_the_fit_finds_a_clock_that_was_bent_on_the_way_to_the_agent(
    lab: LabStatus, ssh: Ssh, offset: int, ppb: int
) -> None:
    made = _bursts(lab, ssh, offset, ppb)
    record = {"start": made[0], "middle": made[1:-1], "end": made[-1]}
    found = clock.align("n2", record, reference="n1", reference_record={}, same_kernel=False)
    assert found is not None
    truth = np.linspace(made[0]["samples"][0][0], made[-1]["samples"][-1][3], 501).astype(np.int64)
    seen = truth + (truth.astype(object) * ppb // 10**9).astype(np.int64) + offset
    moved, bound = found.to_reference(seen)
    beyond = np.abs(moved - truth) - bound
    assert (beyond <= 0).all(), f"{int(beyond.max())} ns beyond the bound"
    assert int(bound.max()) < 500_000
    # Such a bound tells the drift: with the offset alone times would lie outside of it.
    straight = seen - (seen[0] - truth[0])
    assert (np.abs(straight - truth) > bound).any()
