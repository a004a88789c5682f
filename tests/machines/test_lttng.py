"""The collector lttng on a machine: babeltrace2 reads all of it, and LTTng is as it was before."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from driving_agent import until
from recording_on import Lab, Machine, machine

from swarmscope.errors import SwarmscopeError

SENT, SIZE = 5, 200
"""Echo requests while the gate is open; their length tells them from all others."""
STATE = """
ps -eo comm=,args= | grep -E '^lttng' | sort
lttng --no-sessiond list 2>&1
find /var/run/lttng 2>/dev/null | sort
ls /sys/kernel/tracing/instances
"""
REQUEST = re.compile(r"net_dev_queue: .*len = 242, .*_icmp.*transport_header = \{ \{ type = 8,")
REPLY = re.compile(r"net_if_receive_skb: .*len = 228, .*tot_len = 228, .*protocol = \( \"_icmp\"")
"""Known by the IP header alone: what LTTng shows behind it of a received ICMP packet is memory from elsewhere
(``trace.formats.ctf.packet_keys``), zeros by chance as often as not.
"""


# The consumer that a running daemon starts for its first session stays with it.
WARM = """
lttng create warm --output=/tmp/swarmscope-warm && lttng enable-event --kernel --session=warm net_dev_queue
lttng destroy warm; rm -rf /tmp/swarmscope-warm
"""


@pytest.fixture(scope="module")
def on(machines: Lab) -> Iterator[Machine]:
    with machine(machines.root) as made:
        yield made


@pytest.fixture(params=["a daemon of its own", "the machine's daemon"])
def daemon(request: pytest.FixtureRequest, on: Machine) -> Iterator[None]:
    """With and without a session daemon that runs already; the machine gets back what it had."""
    runs = "lttng --no-sessiond list >/dev/null 2>&1"
    had = on.root(f"{runs} && echo yes || true").strip() == "yes"
    want = request.param == "the machine's daemon"
    verbs = {True: "start", False: "stop"}
    if want != had:
        on.root(f"systemctl {verbs[want]} lttng-sessiond")
    try:
        assert until(lambda: on.root(f"{runs} && echo True || echo False").strip() == str(want), 60)
        if want:
            on.root(WARM)
        yield
    finally:
        if want != had:
            on.root(f"systemctl {verbs[had]} lttng-sessiond")


def _listed(on: Machine) -> str:
    return on.root("lttng --no-sessiond list 2>&1 || true")


def test_babeltrace2_reads_all_of_it_and_shows_the_packets_of_the_open_gate_with_their_headers(
    on: Machine, daemon: None
) -> None:
    before = on.root(STATE)
    on.arm({"lttng": {"events": ["net_*", "irq_softirq_*"], "syscalls": ["sendto", "sendmsg"]}})
    on.ping(2, SIZE)
    opened = on.gate("open", "lttng")
    on.ping(SENT, SIZE)
    closed = on.gate("close", "lttng")
    on.ping(2, SIZE)
    on.stop()
    trace = f"{on.folder}/lttng/ctf"
    text = on.root(f"babeltrace2 {trace} 2>&1")
    assert not re.search(r"(?i)^(warning|error)", text, re.MULTILINE), text[:2000]
    requests = [line for line in text.splitlines() if REQUEST.search(line)]
    assert len(requests) == SENT
    assert all(
        re.search(r'vtid = \d+, vpid = \d+, procname = "ping", prio = 20 \}', line) for line in requests
    )
    assert len([line for line in text.splitlines() if REPLY.search(line)]) == SENT
    assert "syscall_entry_sendto:" in text
    assert "irq_softirq_entry:" in text
    assert on.losses("lttng") == {"discarded_events": 0, "lost_packets": 0}
    # Stamped with CLOCK_MONOTONIC, between the agent's own readings of it.
    cycles = on.root(f"babeltrace2 --clock-cycles {trace} | grep -o '^.[0-9]*'").replace("[", "").split()
    assert opened[0]["before"] <= int(cycles[0]) <= int(cycles[-1]) <= closed[0]["acked"]
    assert on.root(STATE) == before


def test_after_kill_9_of_the_agent_nothing_of_it_is_left(machines: Lab, daemon: None) -> None:
    with machine(machines.root) as victim:
        before = victim.root(STATE)
        victim.arm({"lttng": {}}, deadline_s=120)
        assert victim.run in _listed(victim)
        victim.gate("open", "lttng")
        victim.root(f"kill -9 {victim.agent.hello['pid']}")
        gone = f"grep -lsz SWARMSCOPE_RUN={victim.run} /proc/[0-9]*/environ | grep -v self || true"
        assert until(lambda: not victim.root(gone).split(), 120)
        assert victim.root(STATE) == before


@pytest.mark.parametrize(
    ("options", "name"),
    [({"events": ["net_*", "nat_*"]}, "nat_*"), ({"syscalls": ["sendto", "sendfrom"]}, "sendfrom")],
)
def test_a_name_that_lttng_does_not_know_is_said_and_not_taken_for_silence(
    on: Machine, options: dict[str, list[str]], name: str
) -> None:
    before = on.root(STATE)
    with pytest.raises(SwarmscopeError, match=re.escape(f"named {name} here")):
        on.arm({"lttng": options})
    assert on.root(STATE) == before
