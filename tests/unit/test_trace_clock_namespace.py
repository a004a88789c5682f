"""Two real processes, one of them in a time namespace: the probes find the offset that was given to it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from swarmscope.agent import probe
from swarmscope.trace import clock

OFFSET_S = 86_461
SERVER = """
import sys
from swarmscope.agent.probe import ProbeServer
server = ProbeServer("127.0.0.1")
print(server.port, flush=True)
sys.stdin.read()
server.close()
"""


def _command() -> list[str]:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a time namespace needs root and unshare")
    command = ["unshare", "--time", "--monotonic", str(OFFSET_S), sys.executable, "-c"]
    if subprocess.run([*command, ""], capture_output=True, check=False).returncode:
        pytest.skip("unshare makes no time namespace here")
    return command


def test_probes_find_the_offset_of_a_time_namespace_within_their_bound() -> None:
    with subprocess.Popen(
        [*_command(), SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None and server.stdin is not None
        port = int(server.stdout.readline())
        made = [probe.burst("127.0.0.1", port, 100) for _ in range(3)]
        server.stdin.close()
    entries = [{"samples": samples, "lost": lost} for samples, lost in made]
    record = {"start": entries[0], "middle": entries[1:-1], "end": entries[-1]}
    found = clock.align("n2", record, reference="n1", reference_record={}, same_kernel=False)
    assert found is not None
    truth = np.linspace(made[0][0][0][0], made[-1][0][-1][3], 101).astype(np.int64)
    moved, bound = found.to_reference(truth + OFFSET_S * 10**9)
    error = np.abs(moved - truth)
    assert (error <= bound).all(), f"{int((error - bound).max())} ns beyond the bound"
    assert bound.max() < OFFSET_S * 10**9 / 1000
