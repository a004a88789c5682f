"""The switch between a lab's machines, and the parent of their QEMU processes. A program of its own, with
the standard library only: ``machines_wire.py FD MARK FOLDER``.

Scope: one learning switch for each test network (eth1, eth2, ...) over socket pairs that only it and the
machines hold: no packet can leave the computer, nobody else can listen in, nothing needs root. Every machine
dies with this process (PDEATHSIG), and this process ends when lab-up ends without having said ``stand``, when
the lab's folder goes, or when all machines have ended: nothing of a lab outlives it.

On FD, JSON lines: lab-up sends ``{"machines": [{"name", "argv", "folder"}], "nics": N}`` once our pid is in
its ledger; we answer ``{"pids": {name: pid}}`` or ``{"error": "..."}``; ``{"stand": true}`` lets us go on
without lab-up. Limits: a frame for a machine that does not read (paused, slow) is dropped when 1 MiB waits
for it, as a switch does. A multicast socket (QEMU's own way) would need no process, but hands every machine
its own frames back and every other user of the computer all of them. Framing: QEMU's net/socket.c, a 32-bit
big-endian length before each frame.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

LARGEST_FRAME = 128 * 1024
"""More than any frame has; a length beyond it means that the stream is out of step."""
BACKLOG = 1 << 20
ADDRESSES = 4096
LOOK_S = 1.0


class Port:
    """One machine's end of one test network."""

    def __init__(self, network: Network, end: socket.socket) -> None:
        self.network, self.end = network, end
        self.received, self.waiting = bytearray(), bytearray()
        end.setblocking(False)
        network.ports.append(self)

    def read(self) -> bool:
        """Take what is there and hand on whole frames. False when the machine is gone."""
        try:
            data = self.end.recv(1 << 18)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        self.received += data
        place = 0
        while len(self.received) - place >= 4:
            end = place + 4 + int.from_bytes(self.received[place : place + 4], "big")
            if end - place > LARGEST_FRAME:
                return False
            if end > len(self.received):
                break
            self.network.forward(bytes(self.received[place:end]), self)
            place = end
        del self.received[:place]
        return True

    def put(self, framed: bytes) -> None:
        # a whole frame or none: half a one would put the stream out of step
        if len(self.waiting) + len(framed) <= BACKLOG:
            self.waiting += framed

    def write(self) -> bool:
        with suppress(BlockingIOError, InterruptedError):
            try:
                while self.waiting:
                    del self.waiting[: self.end.send(self.waiting)]
            except (BrokenPipeError, ConnectionError):
                return False
        return True


class Network:
    """One test network: its ports, and behind which of them an address was last seen."""

    def __init__(self) -> None:
        self.ports: list[Port] = []
        self.seen: dict[bytes, Port] = {}

    def forward(self, framed: bytes, source: Port) -> None:
        """Hand on one frame, its length in front. Frames without both addresses are dropped."""
        if len(framed) < 4 + 14:
            return
        to, by = framed[4:10], framed[10:16]
        if not by[0] & 1 and (by in self.seen or len(self.seen) < ADDRESSES):
            self.seen[by] = source
        known = None if to[0] & 1 else self.seen.get(to)
        for port in [known] if known else self.ports:
            if port is not source:
                port.put(framed)

    def drop(self, port: Port) -> None:
        self.ports.remove(port)
        self.seen = {address: other for address, other in self.seen.items() if other is not port}


class Wire:
    """Everything this process holds: lab-up's line, the networks, the machines."""

    def __init__(self, control: socket.socket, folder: str) -> None:
        self.control: socket.socket | None = control
        self.state = Path(folder, "state.json")
        self.poll = selectors.DefaultSelector()
        self.machines: dict[int, subprocess.Popen[bytes]] = {}
        self.ports: list[Port] = []

    def start(self, plan: dict[str, Any]) -> dict[str, int]:
        networks = [Network() for _ in range(plan["nics"])]
        pids = {}
        for machine in plan["machines"]:
            pairs = [socket.socketpair() for _ in networks]
            names = {f"eth{i}": str(theirs.fileno()) for i, (_, theirs) in enumerate(pairs, start=1)}
            argv = [_filled(word, names) for word in machine["argv"]]
            with Path(machine["folder"], "qemu.log").open("ab") as log:
                process = subprocess.Popen(
                    argv,
                    cwd=machine["folder"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[theirs.fileno() for _, theirs in pairs],
                )
            pids[machine["name"]] = process.pid
            watch = os.pidfd_open(process.pid)
            self.machines[watch] = process
            self.poll.register(watch, selectors.EVENT_READ)
            for network, (ours, theirs) in zip(networks, pairs, strict=True):
                theirs.close()
                self.ports.append(Port(network, ours))
                self.poll.register(ours, selectors.EVENT_READ, self.ports[-1])
        return pids

    def serve(self, control: socket.socket) -> None:
        self.poll.register(control, selectors.EVENT_READ)
        while self.machines and self.state.exists():
            for key, events in self.poll.select(LOOK_S):
                if isinstance(key.data, Port):
                    alive = key.data.read() if events & selectors.EVENT_READ else True
                    if not alive:
                        self.unplug(key.data)
                elif key.fileobj is self.control:
                    if not self.stand(control):
                        return
                else:
                    self.bury(key.fd)
            self.flush()

    def stand(self, control: socket.socket) -> bool:
        """Whether lab-up said to go on; it ended otherwise, or was killed, and so do we."""
        text = control.recv(4096)
        self.poll.unregister(control)
        control.close()
        self.control = None
        return b'"stand"' in text

    def bury(self, watch: int) -> None:
        self.poll.unregister(watch)
        os.close(watch)
        self.machines.pop(watch).wait()

    def unplug(self, port: Port) -> None:
        self.poll.unregister(port.end)
        self.ports.remove(port)
        port.network.drop(port)
        port.end.close()

    def flush(self) -> None:
        for port in list(self.ports):
            before = bool(self.poll.get_key(port.end).events & selectors.EVENT_WRITE)
            if not port.waiting and not before:
                continue
            if not port.write():
                self.unplug(port)
            elif bool(port.waiting) != before:
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if port.waiting else 0)
                self.poll.modify(port.end, events, port)

    def end(self) -> None:
        for process in self.machines.values():
            process.kill()
        for process in self.machines.values():
            process.wait()


def _filled(word: str, names: dict[str, str]) -> str:
    for name, number in names.items():
        word = word.replace(f"{{{name}}}", number)
    return word


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    # Ctrl-C is for lab-up, which tells us what becomes of the lab by saying "stand" or by closing
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    with control.makefile("rb") as lines:
        plan = lines.readline()
    if not plan.endswith(b"\n"):
        return
    wire = Wire(control, sys.argv[3])
    try:
        try:
            answer: dict[str, Any] = {"pids": wire.start(json.loads(plan))}
        except OSError as error:
            answer = {"error": str(error)}
        control.sendall(json.dumps(answer).encode() + b"\n")
        if "pids" in answer:
            wire.serve(control)
    finally:
        wire.end()


if __name__ == "__main__":
    main()
