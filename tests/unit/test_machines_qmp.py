"""The control protocol, spoken with a real socket whose other end is scripted."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from swarmscope.errors import SwarmscopeError
from swarmscope.lab.qmp import Lines, Qmp, connect_unix

GREETING = {"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": ["oob"]}}
Answer = Callable[[dict[str, Any]], list[dict[str, Any]]]
Serve = Callable[[Answer], Path]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """``serve(answer)``: a socket that greets, and answers every command with what ``answer`` says."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    threads: list[threading.Thread] = []

    def start(answer: Answer) -> Path:
        folder = tmp_path / ("long" * 40)
        folder.mkdir()
        here = os.open(folder, os.O_PATH)
        listener.bind(f"/proc/self/fd/{here}/qmp.sock")
        os.close(here)
        listener.listen(1)
        threads.append(threading.Thread(target=converse, args=(answer,), daemon=True))
        threads[0].start()
        return folder / "qmp.sock"

    def converse(answer: Answer) -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection, connection.makefile("rwb") as file:
                file.write(json.dumps(GREETING).encode() + b"\r\n")
                file.flush()
                for line in file:
                    for message in answer(json.loads(line)):
                        file.write(json.dumps(message).encode() + b"\r\n")
                    file.flush()

    yield start
    listener.close()


def obedient(command: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"return": {"asked": command["execute"], **command["arguments"]}, "id": command["id"]}]


def test_a_socket_is_reached_however_long_its_path_is(serve: Serve) -> None:
    path = serve(obedient)
    assert len(str(path)) > 108
    with Qmp(path, host="n1", patience_s=5) as control:
        assert control.execute("query-status") == {"asked": "query-status"}


def test_events_and_answers_to_others_are_read_past(serve: Serve) -> None:
    def noisy(command: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"event": "RESUME", "timestamp": {}}, {"return": {}, "id": -1}, *obedient(command)]

    with Qmp(serve(noisy), host="n1", patience_s=5) as control:
        assert control.execute("set_link", name="eth0", up=False) == {
            "asked": "set_link",
            "name": "eth0",
            "up": False,
        }


def test_a_refusal_is_told_in_qemus_own_words(serve: Serve) -> None:
    def unwilling(command: dict[str, Any]) -> list[dict[str, Any]]:
        if command["execute"] == "qmp_capabilities":
            return obedient(command)
        return [
            {"error": {"class": "DeviceNotFound", "desc": "Device 'eth9' not found"}, "id": command["id"]}
        ]

    wanted = "n2: QEMU refused set_link: Device 'eth9' not found"
    with (
        Qmp(serve(unwilling), host="n2", patience_s=5) as control,
        pytest.raises(SwarmscopeError, match=wanted),
    ):
        control.execute("set_link", name="eth9", up=False)


def test_hyphens_of_argument_names_are_written_as_underscores_here(serve: Serve) -> None:
    with Qmp(serve(obedient), host="n1", patience_s=5) as control:
        assert control.execute("migrate-set-parameters", max_bandwidth=1)["max-bandwidth"] == 1


def test_a_machine_that_says_nothing_is_an_error_and_not_a_wait_for_ever(serve: Serve) -> None:
    def silent(command: dict[str, Any]) -> list[dict[str, Any]]:
        return obedient(command) if command["execute"] == "qmp_capabilities" else []

    wanted = "n1: the machine's QEMU does not answer"
    with Qmp(serve(silent), host="n1", patience_s=5) as control, pytest.raises(SwarmscopeError, match=wanted):
        control.execute("query-status", patience_s=0.2)


def test_a_socket_that_is_not_there_is_waited_for_and_then_an_error(tmp_path: Path) -> None:
    with pytest.raises(SwarmscopeError, match="does not answer"):
        Qmp(tmp_path / "qmp.sock", host="n1", patience_s=0.1)


def test_a_failed_move_of_a_machine_says_why(serve: Serve) -> None:
    def broken(command: dict[str, Any]) -> list[dict[str, Any]]:
        if command["execute"] == "query-migrate":
            return [{"return": {"status": "failed", "error-desc": "no such file"}, "id": command["id"]}]
        return obedient(command)

    wanted = "no such file"
    with Qmp(serve(broken), host="n1", patience_s=5) as control, pytest.raises(SwarmscopeError, match=wanted):
        control.wait_for_migration(patience_s=5)


def test_noise_on_a_serial_line_is_passed_over(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b'd": 1}\n[1, 2]\n{"stage": "named"}\n{"sta')
        assert Lines(ours).receive(threading.TIMEOUT_MAX) == {"stage": "named"}


def open_sockets() -> set[str]:
    """Sockets of this process, by inode: those of other tests may be closed at any time."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(str(entry.readlink()))
    return {target for target in found if target.startswith("socket:")}


def test_connecting_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    before = open_sockets()
    with pytest.raises(FileNotFoundError):
        connect_unix(tmp_path / "none.sock", patience_s=0.1)
    assert open_sockets() <= before
