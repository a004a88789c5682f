"""Captures of two hosts whose wall clocks are apart by what is known: packets put both on one clock."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from swarmscope import store
from swarmscope.trace import importing, partitions, read, relating
from swarmscope.trace.importing import Given
from tests.unit.synthetic_pcap import ethernet, ipv4, pcap

START = 1_800_000_000_000_000_000
SECOND = 1_000_000_000
SECONDS, RATE = 20, 50
FLOOR = 40_000
"""Least delay of the wire, ns; packets wait in queues besides."""


def echo(sequence: int, *, reply: bool) -> bytes:
    """A request from 10.0.0.1 to 10.0.0.2, or its reply."""
    kind = 0 if reply else 8
    packet = ipv4(1, struct.pack("!BBHHH", kind, 0, 0, 0x1234, sequence) + bytes(40), number=sequence)
    if reply:
        packet = packet[:12] + packet[16:20] + packet[12:16] + packet[20:]
    return ethernet(packet)


@dataclass
class Captured:
    """What both hosts capture of pings, and at which true times."""

    offset: int
    drift: float
    one_way: bool = False
    seed: int = 1

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        self.here: list[tuple[int, bytes]] = []
        self.there: list[tuple[int, bytes]] = []
        self.truth: list[int] = []
        """When, by the first host's clock, each packet of the second was captured."""
        for number in range(SECONDS * RATE):
            sent = START + number * SECOND // RATE
            arrived = sent + FLOOR + int(random.exponential(30_000))
            answered = arrived + int(random.integers(5_000, 50_000))
            home = answered + FLOOR + int(random.exponential(30_000))
            self._add(sent, arrived, echo(number + 1, reply=False))
            if not self.one_way:
                self._add(home, answered, echo(number + 1, reply=True))

    def _add(self, here: int, there: int, packet: bytes) -> None:
        self.here.append((here, packet))
        self.there.append((self.clock(there), packet))
        self.truth.append(there)

    def clock(self, time: int) -> int:
        """The second host's wall clock."""
        return time + self.offset + round(self.drift * (time - START))

    def written(self, folder: Path) -> tuple[Path, Path]:
        paths = folder / "here.pcap", folder / "there.pcap"
        for path, packets in zip(paths, (self.here, self.there), strict=True):
            path.write_bytes(pcap(sorted(packets), digits=9))
        return paths


def imported(folder: Path, given: list[Given]) -> tuple[store.Run, dict[str, pl.DataFrame]]:
    run = store.create_run(folder / "runs", "one")
    return run, importing.build(run, given)


@pytest.mark.parametrize(
    ("offset", "drift"), [(3 * SECOND, 2e-5), (-40_000, -9e-5), (7, 0.0), (-86_400 * SECOND, 1e-6)]
)
def test_two_captures_are_put_on_one_clock_within_the_bound(
    tmp_path: Path, offset: int, drift: float
) -> None:
    captured = Captured(offset, drift)
    here, there = captured.written(tmp_path)
    run, tables = imported(tmp_path, [Given(here, "n1"), Given(there, "n2")])
    events = tables["events"].filter(host="n2").sort("ts", maintain_order=True)
    off = np.abs(events["ts"].to_numpy() - np.sort(captured.truth))
    assert (off <= events["err"].to_numpy()).all()
    assert events["err"].max() < 60_000 and off.max() < 20_000
    assert tables["events"].filter(host="n1")["ts"].to_list() == sorted(stamp for stamp, _ in captured.here)
    assert tables["losses"].filter(what="no clock").is_empty()
    clocks = json.loads((run.tables / partitions.CLOCKS).read_text())
    assert clocks["reference"] == "n1" and set(clocks["hosts"]) == {"n1", "n2"}
    assert clocks["hosts"]["n2"]["drift_ppm"] == pytest.approx(drift * 1e6, abs=1)
    assert clocks["hosts"]["n2"]["bursts_made"] == 0


def test_which_host_is_named_first_does_not_matter_for_who_sent(tmp_path: Path) -> None:
    captured = Captured(5 * SECOND, 1e-5)
    here, there = captured.written(tmp_path)
    _, tables = imported(tmp_path, [Given(there, "n2"), Given(here, "n1")])
    events = tables["events"].filter(host="n1").sort("ts", maintain_order=True)
    truth = sorted(captured.clock(stamp) for stamp, _ in captured.here)
    assert (np.abs(events["ts"].to_numpy() - np.array(truth)) <= events["err"].to_numpy()).all()


def test_packets_of_one_direction_relate_nothing_and_that_is_said(tmp_path: Path) -> None:
    captured = Captured(5 * SECOND, 0.0, one_way=True)
    here, there = captured.written(tmp_path)
    run, tables = imported(tmp_path, [Given(here, "n1"), Given(there, "n2")])
    lost = tables["losses"].filter(what="no clock")
    assert lost["host"].to_list() == ["n1", "n2"] and "wall clock" in lost["detail"][0]
    stamps = tables["events"].filter(host="n2")["ts"].to_list()
    assert stamps == sorted(stamp for stamp, _ in captured.there)
    assert not (run.tables / partitions.CLOCKS).exists()


def test_a_third_host_without_these_packets_stays_apart(tmp_path: Path) -> None:
    here, there = Captured(2 * SECOND, 0.0).written(tmp_path)
    other = tmp_path / "other.pcap"
    other.write_bytes(pcap([(START, ethernet(ipv4(17, bytes(8))))], digits=9))
    given = [Given(here, "n1"), Given(there, "n2"), Given(other, "n3")]
    _, tables = imported(tmp_path, given)
    assert tables["losses"].filter(what="no clock")["host"].to_list() == ["n3"]


def test_each_clock_of_a_host_has_a_certificate_of_its_own(tmp_path: Path) -> None:
    here, there = (read(path) for path in Captured(2 * SECOND, 0.0).written(tmp_path))
    other = replace(there, source=replace(there.source, clock="another"))
    found = relating.related([here, there, other], ["n1", "n2", "n2"])
    assert list(found.certificates["hosts"]) == ["n1", f"n2 ({there.source.clock})", "n2 (another)"]
    assert found.losses.is_empty()
