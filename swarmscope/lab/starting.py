"""Starting a lab's hosts side by side, and waiting until each one answers.

Scope: one listening socket and one ``host_init`` process a host, the handshake that gets its pid into the
ledger before it makes anything, and readiness: SSH answers and the Docker API answers. Single-threaded:
every wait is one ``select`` over all hosts. Limits: says nothing of Swarm; that is ``cluster``.
"""

from __future__ import annotations

import array
import json
import select
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swarmscope.errors import PreflightFailed, SwarmscopeError
from swarmscope.lab import cgroups, host_init, switch
from swarmscope.lab.host_files import sshd_path
from swarmscope.lab.privileges import command, run_bound
from swarmscope.lab.record import LabPaths, Ledger, start_ticks
from swarmscope.lab.ssh_files import LabHost

PATIENCE_S = 90.0
"""Longest wait for all hosts together; a healthy machine needs a few seconds."""


@dataclass(slots=True)
class Starting:
    """A host on its way up: our end of its control socket, and what is known so far."""

    host: LabHost
    listener: socket.socket
    control: socket.socket
    pid: int = 0
    received: bytes = b""
    up: bool = False
    messages: list[dict[str, Any]] = field(default_factory=list)


def open_listener() -> socket.socket:
    """A socket listening on a free port of 127.0.0.1, in this process's (the machine's) network namespace."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


def start_all(
    paths: LabPaths, ledger: Ledger, listeners: Mapping[LabHost, socket.socket], layout: cgroups.CgroupLayout
) -> None:
    """Start every host and return when all are ready.

    Raises PreflightFailed when the machine does not let us, SwarmscopeError when a host does not come up;
    what was started is in the ledger then, and is the caller's to remove.
    """
    deadline = time.monotonic() + PATIENCE_S
    starting = [_launch(paths, host, listener) for host, listener in listeners.items()]
    try:
        for one in starting:
            one.pid = int(_next_message(paths, one, deadline)["pid"])
        ledger.add(*_process_entries(starting))
        for one in starting:
            cgroups.adopt(layout, paths.cgroup(one.host.name), one.pid)
            _send_plan(one, plan(paths, one.host, layout))
        for one in starting:
            while not one.up:
                one.up = _next_message(paths, one, deadline).get("stage") == "up"
        _wait_until_answering(paths, starting, deadline)
    finally:
        for one in starting:
            one.control.close()


def plan(paths: LabPaths, host: LabHost, layout: cgroups.CgroupLayout) -> dict[str, Any]:
    """What ``host_init`` is told: names, mounts, and the two programs it runs."""
    folder = paths.host(host.name)
    return {
        "hostname": host.name,
        "folder": str(folder),
        "cgroups": [[h.mountpoint.name, h.options] for h in layout.hierarchies],
        "cgroup_version": layout.version,
        "ip": command("ip"),
        "ip_batch": switch.host_batch(host.address),
        "mark": {"SWARMSCOPE_LAB": f"{paths.name}/{host.name}"},
        "dockerd": [
            command("dockerd"),
            "--host=unix:///run/docker.sock",
            f"--data-root={host_init.DOCKER_ROOT}",
            "--exec-root=/run/docker",
            "--pidfile=/run/docker.pid",
            f"--storage-driver={storage_driver(folder / 'lib/docker')}",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            f"--cgroup-parent=/{paths.cgroup(host.name)}",
            "--live-restore=false",
        ],
        "sshd": [sshd_path(), "-i", "-f", "/etc/ssh/sshd_config", "-E", "/var/log/sshd.log"],
    }


def storage_driver(folder: Path) -> str:
    """``overlay2`` where a test mount on ``folder``'s file system works, else ``vfs`` (slow, anywhere)."""
    parts = [folder / f".try-{name}" for name in ("lower", "upper", "work", "merged")]
    for part in parts:
        part.mkdir(exist_ok=True)
    lower, upper, work, merged = (part.name for part in parts)
    # in a mount namespace of its own: the mount cannot outlive the test
    argv = [command("unshare"), "--mount", "mount", "-t", "overlay", "swarmscope-try"]
    argv += ["-o", f"lowerdir={lower},upperdir={upper},workdir={work}", merged]
    works = run_bound(argv, cwd=folder).returncode == 0
    for part in parts:
        for inner in part.glob("*"):
            inner.rmdir()
        part.rmdir()
    return "overlay2" if works else "vfs"


def docker_answers(pid: int, *, timeout_s: float = 2.0) -> bool:
    """Whether the engine of the host whose PID 1 is ``pid`` answers ``/_ping``. Needs root."""
    # /proc/PID/root leads into the host's own mounts
    return _ask_engine(f"/proc/{pid}/root/run/docker.sock", timeout_s)


def ssh_answers(port: int, *, timeout_s: float = 2.0) -> bool:
    """Whether an SSH server greets on 127.0.0.1:``port``."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        return connection.recv(64).startswith(b"SSH-2.0")
    return False


def _ask_engine(path: str, timeout_s: float) -> bool:
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect(path)
        connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
        return b" 200 " in connection.recv(256).split(b"\r\n")[0] + b" "
    return False


def _launch(paths: LabPaths, host: LabHost, listener: socket.socket) -> Starting:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    log = paths.host(host.name) / "init.log"
    with theirs, log.open("ab") as output:
        # -I -S: the standard library alone, whatever the environment; its own session: it outlives lab-up
        subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                "-B",
                host_init.__file__,
                paths.netns(host.name),
                str(theirs.fileno()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env={**host_init.ENVIRONMENT, "SWARMSCOPE_LAB": f"{paths.name}/{host.name}"},
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
    return Starting(host=host, listener=listener, control=ours)


def _process_entries(starting: Sequence[Starting]) -> list[dict[str, Any]]:
    entries = []
    for one in starting:
        ticks = start_ticks(one.pid)
        if ticks is None:
            raise SwarmscopeError("the host's first process ended at once", host=one.host.name)
        entries.append({"kind": "process", "host": one.host.name, "pid": one.pid, "start": ticks})
    return entries


def _send_plan(one: Starting, facts: Mapping[str, Any]) -> None:
    fds = array.array("i", [one.listener.fileno()])
    text = json.dumps(facts).encode() + b"\n"
    one.control.sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    # the host holds it now: when its PID 1 dies, the port is closed
    one.listener.close()


def _next_message(paths: LabPaths, one: Starting, deadline: float) -> dict[str, Any]:
    while b"\n" not in one.received:
        one.control.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            data = one.control.recv(65536)
        except TimeoutError:
            raise _failed(paths, one, "it did not come up in time") from None
        if not data:
            raise _failed(paths, one, "its first process ended")
        one.received += data
    line, _, one.received = one.received.partition(b"\n")
    message: dict[str, Any] = json.loads(line)
    if "error" in message:
        raise _failed(paths, one, str(message["error"]).strip())
    return message


def _wait_until_answering(paths: LabPaths, starting: Sequence[Starting], deadline: float) -> None:
    waiting = list(starting)
    while waiting:
        ready, _, _ = select.select([one.control for one in waiting], [], [], 0.1)
        for one in waiting:
            if one.control in ready:
                _next_message(paths, one, deadline)
        waiting = [one for one in waiting if not (docker_answers(one.pid) and ssh_answers(one.host.port))]
        if waiting and time.monotonic() > deadline:
            raise _failed(paths, waiting[0], "SSH or the Docker API did not answer in time")


def _failed(paths: LabPaths, one: Starting, why: str) -> SwarmscopeError:
    """The error, with the end of the logs: they go away with the lab."""
    tails = []
    for log in (paths.host(one.host.name) / "init.log", paths.host(one.host.name) / "log" / "dockerd.log"):
        with suppress(OSError):
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-6:]
            tails += [f"  {log.name}: {line}" for line in lines]
    message = "\n".join([why, *tails])
    if "Operation not permitted" in message:
        return PreflightFailed(
            message,
            hint="a lab needs a real machine or VM, or a container that runs --privileged",
            host=one.host.name,
        )
    return SwarmscopeError(
        message, hint="the lab was taken down again; the log lines above say why", host=one.host.name
    )


def close_all(listeners: Sequence[socket.socket]) -> None:
    for listener in listeners:
        with suppress(OSError):
            listener.close()


def is_running(entry: Mapping[str, Any]) -> bool:
    """Whether the process of a ledger entry still is that process."""
    return start_ticks(int(entry["pid"])) == int(entry["start"])
