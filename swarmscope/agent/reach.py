"""What gets through between two hosts: packet sizes, TCP and UDP ports, VXLAN.

Scope: one side listens for a token, the other sends it. A UDP port that is taken (the kernel's own VXLAN
socket) is watched with a packet socket instead: what counts is that the packet arrives at this host. IPv4 for
packet sockets and VXLAN; the VXLAN header follows RFC 7348 with a VNI no Swarm hands out.
"""

from __future__ import annotations

import contextlib
import errno
import re
import select
import socket
import struct
import subprocess
import time
from typing import Any, Callable

from . import netns
from .protocol import AgentError

IP_ICMP_HEADERS = 28
PROBE_VNI = 0xFFFFFE
_ETH_P_IP = 0x0800
_LOCAL_EXPERIMENT = 0x88B5  # IEEE 802 local experimental ethertype: no stack acts on it
_PING_MTU = re.compile(r"mtu ?[=:] ?(\d+)")


def path_mtu(address: str, namespace: str, low: int, high: int) -> int:
    """The largest IPv4 packet in ``low..high`` that is answered with don't-fragment set; 0 when none is."""

    def passes(packet: int) -> tuple[bool, int]:
        payload = max(0, packet - IP_ICMP_HEADERS)
        argv = ["ping", "-n", "-M", "do", "-c", "2", "-i", "0.2", "-W", "1", "-s", str(payload), address]
        try:
            result = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, env={"LC_ALL": "C", "PATH": _PATH}
            )
        except FileNotFoundError:
            raise AgentError("missing", "no ping on this host", hint="install iputils-ping") from None
        told = _PING_MTU.search((result.stdout + result.stderr).decode(errors="replace"))
        return result.returncode == 0, int(told.group(1)) if told else 0

    return netns.inside(namespace, lambda: largest(passes, low, high))


_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def largest(passes: Callable[[int], tuple[bool, int]], low: int, high: int) -> int:
    """Bisect for the largest size that passes; ``passes`` also returns a size it was told (0: none), tried
    next.
    """
    ok, told = passes(high)
    if ok:
        return high
    if not passes(low)[0]:
        return 0
    good, bad = low, high  # good passes, bad does not
    while bad - good > 1:
        was_told = good < told < bad
        guess = told if was_told else (good + bad) // 2
        ok, now_told = passes(guess)
        if ok:
            good = guess
        else:
            bad = guess
        told = now_told or (guess + 1 if ok and was_told else 0)  # one more than the told size settles it
    return good


def listen(
    proto: str, address: str, port: int, token: str, timeout_s: float, started: Callable[[], None]
) -> dict[str, Any]:
    """Wait until ``token`` arrives at the port: ``{"bound", "received", "via"}``; calls ``started`` when
    listening.

    ``bound`` is False where another program has the port; UDP is then watched with a packet socket.
    """
    wanted = token.encode()
    until = time.monotonic() + timeout_s
    kind = socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind))
        if proto == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound = True
        try:
            sock.bind((address, port))
            if proto == "tcp":
                sock.listen(4)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise AgentError("failed", f"listen on {address}:{port}/{proto}: {error.strerror}") from error
            bound = False
        if not bound and proto == "tcp":
            return {"bound": False, "received": False, "via": "socket"}
        if not bound:
            sock = stack.enter_context(
                socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP))
            )
        started()
        if proto == "tcp":
            return {"bound": True, "received": _tcp_token(sock, wanted, until), "via": "socket"}
        received = _datagram_token(sock, wanted, until, None if bound else port)
    return {"bound": bound, "received": received, "via": "socket" if bound else "packet socket"}


def _tcp_token(sock: socket.socket, token: bytes, until: float) -> bool:
    while True:
        left = until - time.monotonic()
        if left <= 0 or not select.select([sock], [], [], left)[0]:
            return False
        peer, _ = sock.accept()
        with peer, contextlib.suppress(OSError):
            peer.settimeout(max(0.1, min(2.0, until - time.monotonic())))
            data = b""
            while len(data) < len(token):
                chunk = peer.recv(4096)
                if not chunk:
                    break
                data += chunk
            if data == token:
                peer.sendall(token)  # the sender learns that it reached this agent and nobody else
                return True


def _datagram_token(sock: socket.socket, token: bytes, until: float, port: int | None) -> bool:
    """Wait for a datagram with the token; with ``port``, ``sock`` sees whole IPv4 packets of all ports."""
    while True:
        left = until - time.monotonic()
        if left <= 0 or not select.select([sock], [], [], left)[0]:
            return False
        data = sock.recv(65535)
        if token in (data if port is None else udp_payload(data, port)):
            return True


def udp_payload(packet: bytes, port: int) -> bytes:
    """The payload of an IPv4 UDP packet to ``port``; empty for any other packet."""
    if len(packet) < 28 or packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_UDP:
        return b""
    header = (packet[0] & 15) * 4
    if len(packet) < header + 8 or struct.unpack_from("!H", packet, header + 2)[0] != port:
        return b""
    return packet[header + 8 :]


def vxlan_datagram(token: bytes) -> bytes:
    """A VXLAN header (valid-VNI flag) and an Ethernet frame that carries the token."""
    ethernet = (
        b"\x02\x00\x00\x00\x00\x02" + b"\x02\x00\x00\x00\x00\x01" + struct.pack("!H", _LOCAL_EXPERIMENT)
    )
    return struct.pack("!II", 0x08000000, PROBE_VNI << 8) + ethernet + token.ljust(46, b"\0")


def send(proto: str, address: str, port: int, token: str, timeout_s: float = 3.0) -> dict[str, Any]:
    """Send the token: ``{"connected", "error"}``. TCP counts as connected when the token came back.

    A datagram is sent three times; whether it arrived only the listener knows.
    """
    data = token.encode()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        if proto == "tcp":
            with socket.create_connection((address, port), timeout=timeout_s) as sock:
                sock.sendall(data)
                back = sock.recv(len(data))
            return {
                "connected": True,
                "error": "" if back == data else "another program answers on that port",
            }
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            for _ in range(3):
                sock.sendto(vxlan_datagram(data) if proto == "vxlan" else data, (address, port))
                time.sleep(0.05)
    except OSError as error:
        return {"connected": False, "error": str(error.strerror or error)}
    return {"connected": True, "error": ""}
