"""Captures that tcpdump made: every packet is what tcpdump prints of it."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import time
from pathlib import Path

import polars as pl
import pytest
from synthetic_pcap import Printed, needs_tcpdump, printed, rows

from swarmscope.errors import TraceFileError
from swarmscope.trace import schema
from swarmscope.trace.formats import pcap
from swarmscope.trace.formats.base import Decoded, Source

GOLDEN = Path(__file__).parents[1] / "golden" / "pcap"
NAMES = ("veth0.pcap", "any.pcap", "cooked.pcap", "veth0.pcapng")
COUNTS = {"veth0.pcap": 25, "any.pcap": 78, "cooked.pcap": 80, "veth0.pcapng": 25}


def decoded(path: Path) -> Decoded:
    with path.open("rb") as file:
        return pcap.decode(file, Source(f"capture/{path.name}", kernel="boot", collector="pcap"))


def assert_same(found: Decoded, wanted: list[Printed]) -> None:
    hops, events = found["hops"], found["events"]
    assert len(hops) == len(events) == len(wanted)
    assert hops["ts"].to_list() == events["ts"].to_list() == [row.stamp for row in wanted]
    assert hops["len"].to_list() == events["len"].to_list() == [row.length for row in wanted]
    assert hops["ifindex"].to_list() == events["ifindex"].to_list() == [row.ifindex for row in wanted]
    assert events["proto"].to_list() == [row.ethertype for row in wanted]
    assert hops["outer"].to_list() == [row.outer for row in wanted]
    assert hops["vni"].to_list() == [row.vni for row in wanted]
    for key, row in zip(hops["key"], wanted, strict=True):
        # Of a segment without data, tcpdump shows no sequence number.
        assert key == row.key or (row.key.count(":") == 4 and key.rpartition(":")[0] == row.key)


@pytest.mark.parametrize("name", NAMES)
def test_every_packet_is_what_tcpdump_printed(name: str) -> None:
    wanted = rows(gzip.decompress((GOLDEN / f"{name}.tcpdump.txt.gz").read_bytes()).decode())
    assert len(wanted) == COUNTS[name]
    assert_same(decoded(GOLDEN / name), wanted)


@needs_tcpdump
@pytest.mark.parametrize("name", NAMES)
def test_the_tcpdump_here_prints_the_same(name: str) -> None:
    assert_same(decoded(GOLDEN / name), rows(printed(GOLDEN / name)))


@needs_tcpdump
@pytest.mark.skipif(os.geteuid() != 0, reason="recording packets needs root")
@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed")
@pytest.mark.parametrize("options", [["-i", "lo"], ["-i", "any", "--time-stamp-precision=nano"]])
def test_a_capture_made_now_is_what_tcpdump_prints_of_it(tmp_path: Path, options: list[str]) -> None:
    capture, said = tmp_path / "now.pcap", tmp_path / "said"
    tcpdump = " ".join(["tcpdump", *options, "-U", "--immediate-mode", "-Z", "root", "-w", str(capture)])
    script = f"""
        ip link set lo up
        {tcpdump} 2>{said} & pid=$!
        for i in $(seq 200); do grep -q listening {said} && break; sleep 0.05; done
        ping -q -c 3 -i 0.01 127.0.0.1
        sleep 0.5; kill -INT $pid; wait $pid
    """
    subprocess.run(["unshare", "-n", "sh", "-c", script], check=False, capture_output=True, timeout=60)
    found = decoded(capture)
    assert_same(found, rows(printed(capture)))
    assert len(found["hops"].filter(pl.col("key").str.starts_with("icmp:127.0.0.1>127.0.0.1:"))) >= 4
    assert abs(int(found["hops"]["ts"][0]) - time.time_ns()) < 3_600_000_000_000


def test_tables_are_whole_and_say_that_the_clock_is_another_one() -> None:
    found = decoded(GOLDEN / "veth0.pcap")
    assert found["hops"].schema == schema.empty("hops").schema
    assert found["events"].schema == schema.empty("events").schema
    for table in ("hops", "events"):
        assert set(found[table]["event"]) == {"pcap:packet"}
        assert set(found[table]["dev"]) == {"veth0"}
        assert set(found[table]["kernel"]) == {"boot"}
        assert set(found[table]["err"]) == {1000}
        assert found[table]["netns"].null_count() == 25
    losses = found["losses"].select("what", "count", "detail").rows()
    assert losses == [("other clock", 25, "stamps are the wall clock's (CLOCK_REALTIME)")]


def test_the_hosts_own_clock_moves_no_stamp() -> None:
    source = Source("veth0.pcap", clock="boottime", boot_offset=10**12, boot_error=500)
    with (GOLDEN / "veth0.pcap").open("rb") as file:
        found = pcap.decode(file, source)["hops"]
    assert found["ts"].equals(decoded(GOLDEN / "veth0.pcap")["hops"]["ts"])


def test_the_overlays_port_is_the_sources() -> None:
    with (GOLDEN / "veth0.pcap").open("rb") as file:
        hops = pcap.decode(file, Source("veth0.pcap", vxlan_port=8472))["hops"]
    assert not hops["outer"].any()
    assert hops["vni"].null_count() == len(hops)
    assert hops.filter(pl.col("key").str.contains(">192.168.7.2:4789:")).height > 5


@pytest.mark.parametrize("name", NAMES)
def test_a_capture_is_known_by_its_first_bytes(name: str) -> None:
    head = (GOLDEN / name).read_bytes()[:12]
    assert pcap.looks_like(head)
    assert not pcap.looks_like(head[1:])
    assert not pcap.looks_like(b"")


@pytest.mark.parametrize(
    "content", [b"\n\r\r\n\0\0\0\x1c\0\0\0\0", b"PERFILE2" + bytes(40), b"\0" * 30, b"x"]
)
def test_a_file_that_is_no_capture_is_refused(content: bytes) -> None:
    with pytest.raises(TraceFileError, match="expected a packet capture"):
        pcap.decode(io.BytesIO(content), Source("x.pcap"))
