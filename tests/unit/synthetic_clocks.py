"""Clocks whose truth is known: a crystal, steering, sleeps and steps, read through snapshots and probes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from swarmscope.trace.clock_bursts import Bounds

START = 4_000_000_000_000
SECOND = 1_000_000_000
DELAY = 5_000
"""Least one-way delay of the simulated wire, ns."""


@dataclass
class Clock:
    """CLOCK_MONOTONIC and the others of one host as functions of true time (ns)."""

    offset: int = 0
    crystal: float = 0.0
    steering: list[tuple[int, float]] = field(default_factory=list)
    """(from when on, rate): what adjtimex is told."""
    hidden: list[tuple[int, int, float]] = field(default_factory=list)
    """(from, until, rate): steering that adjtimex does not show, as adjtime(3) does."""
    steps: list[tuple[int, int]] = field(default_factory=list)
    """(when, ns) of the wall clock."""
    sleeps: list[tuple[int, int]] = field(default_factory=list)
    """(from, until): MONOTONIC and RAW stand still, BOOTTIME does not."""
    pauses: list[tuple[int, int]] = field(default_factory=list)
    """(from, until): a machine that is halted from outside; no clock of it runs."""
    rounding: float = 1.5e-6
    """MONOTONIC against RAW where nothing steers."""
    width: int = 400

    def mono(self, time: int) -> int:
        return self._awake(time) + self.offset + round(self._gained(time))

    def _gained(self, time: int) -> float:
        awake = self._awake(time) - START
        gained = self.crystal * awake
        edges = [when for when, _ in self.steering] + [time]
        for (when, rate), until in zip(self.steering, edges[1:], strict=True):
            gained += rate * max(0, min(until, time) - when)
        for since, until, rate in self.hidden:
            gained += rate * max(0, min(until, time) - since)
        return gained

    def _awake(self, time: int) -> int:
        still = sum(max(0, min(b, time) - a) for a, b in [*self.sleeps, *self.pauses])
        return time - still

    def rate_told(self, time: int) -> float:
        return next((rate for when, rate in reversed(self.steering) if when <= time), 0.0)

    def snapshot(self, time: int) -> dict[str, Any]:
        mono = self.mono(time)
        slept = sum(max(0, min(b, time) - a) for a, b in self.sleeps)
        real = mono + slept + 1_700_000_000 * SECOND + sum(ns for when, ns in self.steps if when <= time)
        raw = self._awake(time) + round((self.crystal - self.rounding) * (self._awake(time) - START))
        return {
            "mono": mono,
            "boot": mono + slept,
            "real": real,
            "tai": real,
            "raw": raw,
            "width": self.width,
            "source": "tsc",
            "namespace": {},
            "adjtimex": {
                "freq": round(self.rate_told(time) * 1e6 * 65536),
                "tick": 10_000,
                "status": 64,
                "offset": 0,
            },
        }


@dataclass
class Pair:
    """A reference and a host on a wire whose queues only ever add; ``record`` is what ``run.json`` keeps."""

    reference: Clock
    host: Clock
    queue: float = 3_000.0
    asymmetry: int = 0
    seed: int = 0

    def burst(self, time: int, count: int) -> tuple[list[list[int]], int]:
        """Exchanges from ``time`` on and when they ended."""
        random, samples = np.random.default_rng([self.seed, time % 2**32]), []
        for _ in range(count):
            there = time + DELAY + self.asymmetry + int(random.exponential(self.queue))
            back = there + int(random.integers(200, 3000))
            home = back + DELAY + int(random.exponential(self.queue))
            one, other = self.reference.mono, self.host.mono
            samples.append([one(time), other(there), other(back), one(home)])
            time = home + int(random.integers(1000, 400_000))
        return samples, time

    def packets(self, seconds: float, rate: int) -> Bounds:
        """``rate`` packets a second either way, from START on, as bounds of the host's offset."""
        random = np.random.default_rng([self.seed, 5])
        count = round(seconds * rate)
        bounds = []
        for sender, receiver, floor in (
            (self.reference, self.host, DELAY + self.asymmetry),
            (self.host, self.reference, DELAY),
        ):
            times = START + random.integers(0, round(seconds * SECOND), count)
            late = floor + random.exponential(self.queue, count).astype(np.int64)
            here = times + late if receiver is self.host else times
            awake = np.ones(count, dtype=bool)
            for since, until in self.host.pauses:  # a machine that is halted stamps nothing
                awake &= (here < since) | (here > until)
            times, late = times[awake], late[awake]
            sent = np.array([sender.mono(int(t)) for t in times])
            got = np.array([receiver.mono(int(t + d)) for t, d in zip(times, late, strict=True)])
            bounds += [got, got - sent] if receiver is self.host else [sent, sent - got]
        return Bounds(*bounds)

    def records(self, seconds: list[float], *, count: int = 60) -> tuple[dict[str, Any], dict[str, Any]]:
        """The host's and the reference's record with a burst at each of ``seconds`` after START."""
        entries, others = [], []
        for moment in seconds:
            time = START + round(moment * SECOND)
            samples, end = self.burst(time + 400_000, count)
            entry = {
                "snapshot": self.host.snapshot(time + 200_000),
                "after": self.host.snapshot(end + 100_000),
            }
            entries.append({"samples": samples, "lost": 0, **entry})
            other = {
                "snapshot": self.reference.snapshot(time),
                "after": self.reference.snapshot(end + 200_000),
            }
            others.append({"samples": [], "lost": 0, **other})
        return _shape(entries), _shape(others)

    def truth(self, seconds: float, *, points: int = 801) -> tuple[np.ndarray, np.ndarray]:
        """Stamps of the host, and the reference's clock at the same true instants, over a run."""
        times = np.linspace(START, START + seconds * SECOND, points).astype(np.int64)
        times = [int(time) for time in times]
        return (
            np.array([self.host.mono(time) for time in times]),
            np.array([self.reference.mono(time) for time in times]),
        )


def _shape(entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {"start": entries[0], "middle": entries[1:-1], "end": entries[-1]}
