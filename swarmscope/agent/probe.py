"""Clock probes between two agents: UDP ping-pong with four time stamps an exchange.

Scope: IPv4 and IPv6 unicast. ``t1`` sent and ``t4`` received on the asking host's CLOCK_MONOTONIC, ``t2``
received and ``t3`` sent on the answering host's. Both ends spin on a non-blocking socket while a burst lasts:
a sleeping thread wakes tens of microseconds late, and that would widen every interval (sync research, section
1.4 a).
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time

from .protocol import AgentError

ASK = struct.Struct("!4s8sI")
REPLY = struct.Struct("!4s8sIQQ")
MAGIC = b"swsP"
SPIN_NS = 2_000_000
"""After a probe the server looks for the next one this long before it sleeps again."""
LOST_AFTER_NS = 200_000_000


class ProbeServer:
    """Answers probes on one address until closed. ``port`` is chosen by the kernel."""

    def __init__(self, address: str) -> None:
        self._socket = _bound(address)
        self.port: int = self._socket.getsockname()[1]
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="probe-server", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        now = time.monotonic_ns
        spin_until = 0
        while not self._closing.is_set():
            try:
                data, peer = self._socket.recvfrom(256)
                received = now()
            except BlockingIOError:
                if now() > spin_until:
                    select.select([self._socket], [], [], 0.2)
                continue
            except OSError:
                continue  # an ICMP error of an earlier reply
            if len(data) != ASK.size:
                continue
            magic, token, number = ASK.unpack(data)
            if magic != MAGIC:
                continue
            try:
                self._socket.sendto(REPLY.pack(MAGIC, token, number, received, now()), peer)
            except OSError:
                continue
            spin_until = received + SPIN_NS

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._socket.close()


def _bound(address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.bind((address, 0))
    except OSError as error:
        sock.close()
        raise AgentError(
            "failed",
            f"cannot bind a UDP socket to {address}: {error.strerror}",
            hint="is that address on this host? see data_addr and advertise_addr in the inventory",
        ) from error
    sock.setblocking(False)
    return sock


def burst(address: str, port: int, count: int) -> tuple[list[list[int]], int]:
    """``count`` exchanges with the server at ``address``: ``[[t1, t2, t3, t4], ...]`` and how many were lost.

    Ten losses in a row end the burst: nobody answers there.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    token = os.urandom(8)
    samples: list[list[int]] = []
    lost = 0
    lost_in_a_row = 0
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((address, port))
        except OSError as error:
            raise AgentError("failed", f"no route to {address}: {error.strerror}") from error
        sock.setblocking(False)
        for number in range(count):
            if lost_in_a_row == 10:
                lost += count - number
                break
            sample = _exchange(sock, ASK.pack(MAGIC, token, number), token, number)
            if sample is None:
                lost += 1
                lost_in_a_row += 1
                continue
            lost_in_a_row = 0
            samples.append(sample)
            if number % 20 == 19:
                time.sleep(0)  # let the other threads of this agent run
    return samples, lost


def _exchange(sock: socket.socket, ask: bytes, token: bytes, number: int) -> list[int] | None:
    """One exchange, or None when its answer did not come in time."""
    now = time.monotonic_ns
    sent = now()
    try:
        sock.send(ask)
    except OSError:
        return None
    give_up = sent + LOST_AFTER_NS
    while now() < give_up:
        try:
            data = sock.recv(256)
            received = now()
        except BlockingIOError:
            continue
        except OSError:
            return None  # port unreachable
        if len(data) != REPLY.size:
            continue
        magic, back, echoed, peer_received, peer_sent = REPLY.unpack(data)
        if magic == MAGIC and back == token and echoed == number:
            return [sent, peer_received, peer_sent, received]
    return None
