"""Request and response of a fixed size over TCP or UDP, with a time for each: the agent's own rr traffic.

Scope: one client, one connection, the next request when the response is there. Both ends run in the network
namespaces they are told; latency is CLOCK_MONOTONIC ns around send and complete receive. TCP: TCP_NODELAY.
UDP: the first 8 bytes hold a sequence number, a response that does not come within ``UDP_LOST_S`` is lost.
"""

from __future__ import annotations

import contextlib
import gc
import socket
import struct
import threading
import time
from typing import Any

from . import netns
from .protocol import AgentError

WARM_UP = 20
UDP_LOST_S = 0.5
CLOSED_WITHIN_S = 0.2
MIN_UDP_SIZE = 8
_SEQ = struct.Struct("!Q")
_WARM_UP_BASE = 1 << 32  # warm-up requests carry numbers that no counted request has


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class RrServer:
    """Answers requests of ``size`` bytes on ``address`` until closed; its socket lives in the namespace
    given.
    """

    def __init__(self, namespace: str, address: str, transport: str, size: int, *, cpu: str = "") -> None:
        self.transport = transport
        self.size = size
        self._cpu = cpu
        self._open: set[socket.socket] = set()
        self._closed = False
        self._socket = netns.inside(namespace, lambda: self._bind(address))
        self.port: int = self._socket.getsockname()[1]
        work = self._accept if transport == "tcp" else self._echo
        threading.Thread(target=work, name=f"rr-{transport}", daemon=True).start()

    def _bind(self, address: str) -> socket.socket:
        kind = socket.SOCK_STREAM if self.transport == "tcp" else socket.SOCK_DGRAM
        sock = socket.socket(_family(address), kind)
        try:
            sock.bind((address, 0))
            if self.transport == "tcp":
                sock.listen(8)
        except OSError as error:
            sock.close()
            raise AgentError(
                "failed",
                f"rr_serve: cannot bind {address}: {error.strerror}",
                hint="is that address in that namespace?",
            ) from error
        return sock

    def _accept(self) -> None:
        while not self._closed:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            self._open.add(peer)
            threading.Thread(target=self._answer, args=(peer,), name="rr-peer", daemon=True).start()

    def _answer(self, peer: socket.socket) -> None:
        netns.pin(self._cpu)
        with contextlib.suppress(OSError), peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            buffer = bytearray(self.size)
            while receive_all(peer, memoryview(buffer)):
                peer.sendall(buffer)
        self._open.discard(peer)

    def _echo(self) -> None:
        netns.pin(self._cpu)
        with self._socket as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(CLOSED_WITHIN_S))
            while not self._closed:
                with contextlib.suppress(OSError):  # nothing came, or an ICMP error of an earlier response
                    data, peer = sock.recvfrom(65535)
                    sock.sendto(data, peer)

    def close(self) -> None:
        """Stop answering: TCP at once, UDP within ``CLOSED_WITHIN_S``."""
        self._closed = True
        if self.transport == "udp":
            return
        for sock in (self._socket, *self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept or receive
        self._socket.close()


def receive_all(sock: socket.socket, view: memoryview) -> bool:
    """Fill ``view`` from the stream; False when the peer closed first."""
    while view:
        got = sock.recv_into(view)
        if not got:
            return False
        view = view[got:]
    return True


def rr(
    *,
    namespace: str,
    address: str,
    port: int,
    transport: str,
    size: int,
    count: int,
    timeout_s: float,
    cpu: str = "",
) -> dict[str, Any]:
    """Send ``count`` requests after an uncounted warm-up; ``{start, end, sent, received, rtts: [[seq, ns],
    ...]}``.

    ``seq`` counts from 1. Raises ``AgentError``: failed where no connection or no answer comes, timeout where
    ``timeout_s`` passes first.
    """
    if transport == "udp" and size < MIN_UDP_SIZE:
        raise AgentError("usage", f"rr: size must be at least {MIN_UDP_SIZE} for udp")
    exchange = _tcp if transport == "tcp" else _udp
    collecting = gc.isenabled()
    gc.disable()  # a collection in the middle of a request would be measured as network
    try:
        return netns.inside(
            namespace, lambda: exchange(address, port, size, count, time.monotonic() + timeout_s), cpu=cpu
        )
    except socket.timeout:
        raise AgentError("timeout", f"rr to {address}:{port} did not end in {timeout_s:g} s") from None
    except OSError as error:
        raise AgentError(
            "failed",
            f"rr to {address}:{port}: {error.strerror or error}",
            hint="is rr_serve still running there?",
        ) from error
    finally:
        if collecting:
            gc.enable()


def _result(start: int, count: int, rtts: list[list[int]]) -> dict[str, Any]:
    return {"start": start, "end": time.monotonic_ns(), "sent": count, "received": len(rtts), "rtts": rtts}


def _tcp(address: str, port: int, size: int, count: int, deadline: float) -> dict[str, Any]:
    now = time.monotonic_ns
    start = now()
    rtts: list[list[int]] = []
    with socket.socket(_family(address), socket.SOCK_STREAM) as sock:
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        sock.connect((address, port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Blocking from here on, with the kernel's own timeout: Python's settimeout would add a poll(2) to
        # every receive.
        sock.setblocking(True)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(deadline - time.monotonic()))
        request = bytes(size)
        view = memoryview(bytearray(size))
        for seq in range(1 - WARM_UP, count + 1):
            sent = now()
            sock.sendall(request)
            try:
                alive = receive_all(sock, view)
            except BlockingIOError:
                raise socket.timeout from None
            received = now()
            if not alive:
                raise OSError("the server closed the connection")
            if seq > 0:
                rtts.append([seq, received - sent])
            if received > deadline * 1e9:
                raise socket.timeout
    return _result(start, count, rtts)


def _udp(address: str, port: int, size: int, count: int, deadline: float) -> dict[str, Any]:
    now = time.monotonic_ns
    start = now()
    rtts: list[list[int]] = []
    with socket.socket(_family(address), socket.SOCK_DGRAM) as sock:
        sock.connect((address, port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(UDP_LOST_S))
        padding = bytes(size - _SEQ.size)
        answered = False
        for seq in range(1 - WARM_UP, count + 1):
            number = seq if seq > 0 else _WARM_UP_BASE - seq
            request = _SEQ.pack(number) + padding
            sent = now()
            sock.send(request)
            received = _await_number(sock, number, sent + int(UDP_LOST_S * 1e9), size)
            answered = answered or received is not None
            if received is not None and seq > 0:
                rtts.append([seq, received - sent])
            if seq == 0 and not answered:
                raise OSError("no response to any warm-up request")
            if now() > deadline * 1e9:
                raise socket.timeout
    return _result(start, count, rtts)


def _await_number(sock: socket.socket, number: int, give_up: int, size: int) -> int | None:
    """When the response of that number came, or None; late responses to earlier requests are passed over."""
    while time.monotonic_ns() < give_up:
        try:
            data = sock.recv(size)
            received = time.monotonic_ns()
        except BlockingIOError:
            return None
        if len(data) == size and _SEQ.unpack_from(data)[0] == number:
            return received
    return None


def _timeval(seconds: float) -> bytes:
    seconds = max(0.001, seconds)
    return struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))
