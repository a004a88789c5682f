"""The collector perf-trace on a machine with a newer kernel and perf than this computer may have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from recording_on import Lab, Machine, machine

SENT, SIZE = 5, 200
REQUEST = r'^ *(\d+)\.(\d{3}) ping/\d+ net:net_dev_queue\(skbaddr: 0x[0-9a-f]+, len: 242, name: "%s"\)$'


@pytest.fixture(scope="module")
def on(machines: Lab) -> Iterator[Machine]:
    with machine(machines.root) as made:
        yield made


def test_the_packets_of_the_open_gate_are_printed_once_each_on_a_clock_that_is_related_to_the_monotonic_one(
    on: Machine,
) -> None:
    instances = on.root("ls /sys/kernel/tracing/instances")
    on.arm({"perf-trace": {}})
    on.ping(2, SIZE)
    opened = on.gate("open", "perf-trace")
    on.ping(SENT, SIZE)
    closed = on.gate("close", "perf-trace")
    on.ping(2, SIZE)
    on.stop()
    lines = on.root(f"cat {on.folder}/perf-trace/perf-trace.txt").splitlines()
    request = re.compile(REQUEST % re.escape(on.device))
    found = [match for match in map(request.match, lines) if match]
    stamps = [(int(match[1]) * 1000 + int(match[2])) * 1000 for match in found]
    assert len(stamps) == SENT
    assert on.losses("perf-trace") == {"lost_events": 0}
    clock = json.loads(next(line for line in reversed(lines) if line.startswith("# clock "))[8:])
    shift, error = clock["perf_less_monotonic_ns"], clock["error_ns"] + 1000
    assert opened[0]["before"] - error <= min(stamps) - shift
    assert max(stamps) - shift <= closed[0]["acked"] + error
    assert on.root("ls /sys/kernel/tracing/instances") == instances
