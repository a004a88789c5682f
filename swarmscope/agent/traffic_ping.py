"""Echo requests with the host's own ``ping``, inside any network namespace.

Scope: iputils ping, IPv4 and IPv6. Its times have 1 us resolution below 1 ms, 10 us below 10 ms, 0.1 ms below
100 ms. Output read: ``64 bytes from 198.18.0.2: icmp_seq=1 ttl=64 time=0.061 ms`` and the statistics line.
As root its socket is raw in every namespace (see ``_as_elsewhere``); another user has no choice.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import time
from typing import Any

from . import libc, netns
from .protocol import AgentError
from .spawner import environment

_REPLY = re.compile(r"icmp_seq=(\d+) .*?time=([0-9.]+) ms(?P<again> \(DUP!\))?")
_STATISTICS = re.compile(r"^(\d+) packets transmitted, (\d+) received", re.MULTILINE)
MAX_COUNT = 65535
"""Sequence numbers are 16 bits: more would repeat within one trial."""
GID_OUTSIDE_ANY_RANGE = 4294967294
"""A group that no net.ipv4.ping_group_range can hold: the kernel ends ranges at 2147483647 (GID_T_MAX of
net/ipv4/sysctl_net_ipv4.c).
"""


def parse(text: str) -> tuple[int, list[list[int]], int]:
    """How many were sent, ``[[seq, rtt_ns], ...]`` of first replies in order of arrival, and how many
    duplicates came.
    """
    seen = set()
    rtts = []
    duplicates = 0
    for found in _REPLY.finditer(text):
        seq = int(found.group(1))
        if found.group("again") or seq in seen:
            duplicates += 1
            continue
        seen.add(seq)
        rtts.append([seq, nanoseconds(found.group(2))])
    statistics = _STATISTICS.search(text)
    sent = int(statistics.group(1)) if statistics else len(rtts)
    return sent, rtts, duplicates


def nanoseconds(milliseconds: str) -> int:
    """Decimal milliseconds to integer nanoseconds, without a float in between."""
    whole, _, fraction = milliseconds.partition(".")
    return int(whole) * 1_000_000 + int((fraction + "000000")[:6])


def ping(
    *,
    run: str,
    namespace: str,
    address: str,
    count: int,
    size: int,
    interval_us: int,
    timeout_s: float,
    cpu: str = "",
) -> dict[str, Any]:
    """Send ``count`` requests of ``size`` bytes; ``{start, end, sent, received, duplicates, rtts}``.

    ``start`` and ``end`` are CLOCK_MONOTONIC ns around the whole command. Raises ``AgentError``: failed where
    ping could not send at all, timeout where it did not end.
    """
    argv = ["ping", "-n", "-c", str(count), "-i", f"{interval_us / 1e6:.6f}", "-s", str(size)]
    argv += ["-W", "1", "-w", str(math.ceil(timeout_s)), address]
    start, end, code, out, err = netns.inside(namespace, lambda: _run(argv, run, timeout_s + 2), cpu=cpu)
    sent, rtts, duplicates = parse(out)
    if code not in (0, 1) or not sent:
        reason = (err or out).strip().splitlines()
        raise AgentError(
            "failed",
            f"ping {address}: {reason[-1] if reason else f'exit code {code}'}",
            hint="look at the address and its route in that namespace",
        )
    return {
        "start": start,
        "end": end,
        "sent": sent,
        "received": len(rtts),
        "duplicates": duplicates,
        "rtts": rtts,
    }


def _run(argv: list[str], run: str, timeout_s: float) -> tuple[int, int, int, str, str]:
    start = time.monotonic_ns()
    try:
        # The forking thread lives until the command ends, so its death signal means the agent was killed.
        result = subprocess.run(
            argv,
            env=environment(run),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            preexec_fn=_as_elsewhere,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise AgentError("missing", "no ping on this host", hint="install iputils-ping") from None
    except subprocess.TimeoutExpired:
        raise AgentError("timeout", f"{' '.join(argv)} did not end in {timeout_s:g} s") from None
    except subprocess.SubprocessError as error:
        raise AgentError(
            "failed",
            f"ping cannot run as group {GID_OUTSIDE_ANY_RANGE}: {error}",
            hint="run the agent outside user namespaces: pings of both arms must use the same kind of socket",
        ) from error
    end = time.monotonic_ns()
    out = result.stdout.decode(errors="replace")
    return start, end, result.returncode, out, result.stderr.decode(errors="replace")


def _as_elsewhere() -> None:
    """Between fork and exec: end with the agent, and give ping the same kind of socket in every namespace.

    iputils takes a datagram socket (SOCK_DGRAM, IPPROTO_ICMP) where ping_group_range allows its group, and a
    raw one elsewhere. Docker allows all groups in a container, and a host often none, so ping itself would
    bring functions (ping_v4_sendmsg for raw_sendmsg) that the network did not. A group outside every range
    has it fall back to raw, which root may open, everywhere.
    """
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(GID_OUTSIDE_ANY_RANGE)
    libc.end_with_parent()  # last: the kernel forgets the wish when a process changes its group
