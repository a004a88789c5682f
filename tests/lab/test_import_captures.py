"""Captures that tcpdump made on two hosts of a lab, imported: their packets relate the hosts' clocks."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from raising import Ssh

from swarmscope import inventory, store
from swarmscope.lab.status import LabStatus
from swarmscope.trace import importing, partitions
from swarmscope.trace.importing import Given

PINGS = 100


def _capture(lab: LabStatus, host: str, interface: str, into: Path) -> subprocess.Popen[bytes]:
    """tcpdump on a host, its packets in a file here; ready when it says so."""
    command = f"exec sudo tcpdump -i {interface} -U -w - --time-stamp-precision=nano -c {2 * PINGS} icmp"
    argv = ["ssh", "-F", str(lab.ssh_config), host, command]
    with into.open("wb") as sink:
        made = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.PIPE)
    assert made.stderr is not None
    said = [made.stderr.readline()]
    while said[-1] and b"listening on" not in said[-1]:
        said.append(made.stderr.readline())
    assert said[-1], b"".join(said)
    return made


@pytest.mark.parametrize("interface", ["any", "the device"])
def test_captures_of_two_hosts_are_put_on_one_clock(
    lab: LabStatus, ssh: Ssh, tmp_path: Path, interface: str
) -> None:
    if shutil.which("tcpdump") is None:
        pytest.skip("tcpdump is not installed")
    peer = inventory.load(lab.inventory).host("n2").data_path_addr
    if interface != "any":
        interface = ssh("n1", f"ip -o route get {peer}").stdout.split(" dev ")[1].split()[0]
    paths = {host: tmp_path / f"{host}.pcap" for host in ("n1", "n2")}
    made = [_capture(lab, host, interface, path) for host, path in paths.items()]
    pinged = ssh("n1", f"ping -q -n -c {PINGS} -i 0.02 {peer}")
    assert f"{PINGS} received" in pinged.stdout, pinged.stdout
    for one in made:
        assert one.wait(30) == 0
        assert one.stderr is not None
        one.stderr.close()
    run = store.create_run(tmp_path / "runs", "captures")
    tables = importing.build(run, [Given(path, host) for host, path in paths.items()])
    assert tables["losses"].filter(what="no clock").is_empty()
    # The hosts share this machine's wall clock: the truth is that n2's stamps need no change.
    found = json.loads((run.tables / partitions.CLOCKS).read_text())["hosts"]["n2"]
    assert found["packets"]["used"] > PINGS and found["bound_ns"] < 5_000_000
    recorded = partitions.read(run.tables, "events").filter(host="n2")
    alone = store.create_run(tmp_path / "runs", "alone")
    stamps = importing.build(alone, [Given(paths["n2"], "n2")])["events"]["ts"]
    off = np.abs(recorded["ts"].to_numpy() - stamps.to_numpy())
    assert (off <= recorded["err"].to_numpy()).all(), int(off.max())
