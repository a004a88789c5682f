"""The switch between machines as a process of its own, with small programs in place of QEMU."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swarmscope.lab.machines_starting import Wire
from swarmscope.lab.machines_wire import BACKLOG, LARGEST_FRAME, Network, Port
from swarmscope.lab.record import start_ticks

A, B, C = b"\x52\x54\x00\x00\x01\x01", b"\x52\x54\x00\x00\x01\x02", b"\x52\x54\x00\x00\x01\x03"
BROADCAST = b"\xff" * 6
Plug = Callable[[int], list[tuple[Port, socket.socket]]]
IDLE = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]


def frame(to: bytes, by: bytes, body: bytes = b"") -> bytes:
    whole = to + by + b"\x08\x00" + body
    return len(whole).to_bytes(4, "big") + whole


@pytest.fixture
def plugged() -> Iterator[Plug]:
    """``plugged(n)``: one network with n ports, and the machines' ends of them."""
    open_: list[socket.socket] = []

    def plug(count: int) -> list[tuple[Port, socket.socket]]:
        network, made = Network(), []
        for _ in range(count):
            ours, theirs = socket.socketpair()
            theirs.settimeout(0.2)
            open_.extend((ours, theirs))
            made.append((Port(network, ours), theirs))
        return made

    yield plug
    for end in open_:
        end.close()


def move(ports: list[tuple[Port, socket.socket]]) -> None:
    for port, _ in ports:
        assert port.read()
    for port, _ in ports:
        assert port.write()


def received(end: socket.socket) -> bytes:
    try:
        return end.recv(1 << 20)
    except TimeoutError:
        return b""


def test_a_broadcast_reaches_all_others_and_never_its_sender(plugged: Plug) -> None:
    ports = plugged(3)
    ports[0][1].sendall(frame(BROADCAST, A, b"who has"))
    move(ports)
    assert [received(end) for _, end in ports] == [b"", *[frame(BROADCAST, A, b"who has")] * 2]


def test_an_address_that_was_seen_gets_its_frames_alone(plugged: Plug) -> None:
    ports = plugged(3)
    ports[1][1].sendall(frame(BROADCAST, B))
    move(ports)
    for _, end in ports:
        received(end)
    ports[0][1].sendall(frame(B, A, b"hello"))
    move(ports)
    assert [received(end) for _, end in ports] == [b"", frame(B, A, b"hello"), b""]


def test_an_address_that_moved_is_found_at_its_new_port(plugged: Plug) -> None:
    ports = plugged(3)
    for place in (1, 2):
        ports[place][1].sendall(frame(BROADCAST, B))
        move(ports)
    for _, end in ports:
        received(end)
    ports[0][1].sendall(frame(B, A))
    move(ports)
    assert [received(end) for _, end in ports] == [b"", b"", frame(B, A)]


def test_frames_arrive_whole_however_they_were_cut(plugged: Plug) -> None:
    ports = plugged(2)
    text = b"".join(frame(BROADCAST, A, bytes([n]) * 1400) for n in range(5))
    for place in range(0, len(text), 999):
        ports[0][1].sendall(text[place : place + 999])
        move(ports)
    assert received(ports[1][1]) == text


def test_a_machine_that_does_not_read_loses_whole_frames_and_holds_up_nobody(plugged: Plug) -> None:
    ports = plugged(3)
    one = frame(BROADCAST, A, b"x" * 60000)
    for _ in range(40):
        ports[0][1].sendall(one)
        move(ports)
        assert received(ports[2][1])
    slow = ports[1][0]
    assert len(slow.waiting) <= BACKLOG
    text = bytearray()
    while data := received(ports[1][1]):
        text += data
        slow.write()
    assert len(text) % len(one) == 0
    assert len(text) < 40 * len(one)


def test_a_stream_out_of_step_is_given_up(plugged: Plug) -> None:
    ports = plugged(2)
    ports[0][1].sendall((LARGEST_FRAME + 1).to_bytes(4, "big") + b"junk")
    assert not ports[0][0].read()


def test_networks_are_apart() -> None:
    one, two = Network(), Network()
    pairs = [socket.socketpair() for _ in range(2)]
    try:
        Port(one, pairs[0][0])
        other = Port(two, pairs[1][0])
        one.forward(frame(BROADCAST, A), one.ports[0])
        assert other.waiting == b""
    finally:
        for pair in pairs:
            for end in pair:
                end.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "state.json").write_text("{}")
    for name in ("n1", "n2"):
        (tmp_path / name).mkdir()
    return tmp_path


def gone(pids: list[int], *, patience_s: float = 8.0) -> bool:
    deadline = time.monotonic() + patience_s
    while any(start_ticks(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def launched(wire: Wire, folder: Path) -> list[int]:
    pids = wire.launch([(n, folder / n, IDLE) for n in ("n1", "n2")], nics=1)
    assert all(start_ticks(pid) for pid in pids.values())
    for pid in pids.values():
        # setpriv becomes the program once it has asked the kernel to end it with the switch
        while Path(f"/proc/{pid}/comm").read_text().strip() == "setpriv":
            time.sleep(0.01)
    return [*pids.values()]


def test_machines_end_with_a_lab_up_that_did_not_say_stand(folder: Path) -> None:
    wire = Wire(folder, "mark")
    pids = launched(wire, folder)
    wire.close()
    assert gone([*pids, wire.pid])


def test_machines_that_stand_go_on_until_their_folder_goes(folder: Path) -> None:
    wire = Wire(folder, "mark")
    pids = launched(wire, folder)
    wire.stand()
    time.sleep(0.3)
    assert all(start_ticks(pid) for pid in pids)
    (folder / "state.json").unlink()
    assert gone([*pids, wire.pid])


def test_machines_end_with_a_killed_switch(folder: Path) -> None:
    wire = Wire(folder, "mark")
    pids = launched(wire, folder)
    wire.stand()
    os.kill(wire.pid, signal.SIGKILL)
    assert gone(pids)


def test_the_switch_ends_with_its_last_machine(folder: Path) -> None:
    wire = Wire(folder, "mark")
    pids = launched(wire, folder)
    wire.stand()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert gone([wire.pid])


def test_two_programs_talk_over_the_switch(folder: Path) -> None:
    one, two = frame(BROADCAST, A, b"ping"), frame(A, B, b"pong")
    says = "import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); "
    asks = f"{says}import time; time.sleep(0.5); s.sendall({one!r}); open('got', 'wb').write(s.recv(99))"
    answers = f"{says}got = s.recv(99); s.sendall({two!r}); open('got', 'wb').write(got)"
    python = [sys.executable, "-I", "-S", "-c"]
    wire = Wire(folder, "mark")
    wire.launch(
        [
            ("n1", folder / "n1", [*python, asks, "{eth1}"]),
            ("n2", folder / "n2", [*python, answers, "{eth1}"]),
        ],
        nics=1,
    )
    assert gone([wire.pid])
    wire.close()
    assert (folder / "n2/got").read_bytes() == one
    assert (folder / "n1/got").read_bytes() == two
