"""The bpftrace programs on newer releases than this machine's, as far as an older one can tell.

bpftrace 0.23 (Debian 13) refuses what 0.17 (Debian 12) lets pass, and reports failed map writes unasked, each
by waking up user space. 0.17 reports them with ``-k``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_recording import INNER_SERVER, SHIPPED, Pair, Recording
from driving_agent import agents

REPORTS_UNASKED = (0, 23)


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[Recording]:
    if os.geteuid() != 0:
        pytest.skip("needs root: makes network namespaces")
    if not shutil.which("bpftrace"):
        pytest.skip("no bpftrace on this machine")
    pair = Pair()
    try:
        with agents(tmp_path) as start:
            made = Recording(start(), pair, tmp_path)
            yield made
            made.agent.end()
    finally:
        pair.remove()


def test_no_program_writes_or_deletes_what_the_kernel_refuses(recording: Recording) -> None:
    tool = recording.facts["tools"]["bpftrace"]
    if tuple(int(part) for part in tool["version"].split(".")[:2]) < REPORTS_UNASKED:
        tool["path"] += " -k"
    recording.arm("bpftrace-latency", "skb-path")
    recording.gate("open")
    recording.ping()
    recording.ping(5, INNER_SERVER)
    recording.rr(5)
    recording.gate("close")
    recording.stop()
    histograms = recording.text("bpftrace-latency/histograms.json")
    hops = recording.text("skb-path/hops.json")
    assert '"@ns"' in histograms
    assert '"@hop"' in hops
    assert "helper_error" not in histograms + hops


def test_the_map_of_packets_is_written_before_it_is_read_in_the_text_of_the_program() -> None:
    program = (SHIPPED / "bpftrace-latency" / "latency.bt.j2").read_text(encoding="utf-8")
    assert 0 < program.index("@last[(uint64)0] = (") < program.index("= @last[")


def test_functions_that_cannot_be_timed_are_named_and_the_steps_between_tracepoints_remain(
    recording: Recording,
) -> None:
    wanted = {"functions": "vxlan_xmit no_such_function", "from": "net_rx_action", "to": "ip_rcv"}
    recording.arm("bpftrace-latency", bpftrace_latency=wanted)
    (armed,) = recording.armed
    notes = " / ".join(armed["notes"])
    assert "no_such_function" in notes
    if not recording.facts["kprobes"]:
        assert armed["notes"] == [
            "this kernel has no kprobes: not timed: vxlan_xmit no_such_function net_rx_action ip_rcv;"
            " steps between tracepoints are"
        ]
    recording.gate("open")
    recording.ping()
    recording.gate("close")
    recording.stop()
    assert '"@ns"' in recording.text("bpftrace-latency/histograms.json")
    assert recording.losses("bpftrace-latency") == {"map_full": 0, "unfinished": 0}
