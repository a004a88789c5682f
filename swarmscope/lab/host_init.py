"""PID 1 of a lab's host. Run as a program, with the standard library only: ``host_init.py NETNS FD``.

Scope: enters the host's namespaces, mounts its private tree, starts dockerd, then reaps the dead and starts
one ``sshd -i`` for each connection. The listening socket was opened by lab-up on 127.0.0.1 in the machine's
own network namespace and is handed over on FD (a Unix socket, SCM_RIGHTS): so sshd runs inside the host,
while the host needs no route to the machine. When this process dies, the kernel ends everything in its PID
namespace.

On FD, JSON lines: we say ``{"pid": N}`` (as the machine counts), lab-up answers with the host's plan once
the pid is in its ledger; no answer (lab-up was killed) means exit. Then ``{"stage": "up"}`` or ``{"error":
"..."}``. Limits: mounts are shared downwards (slave), so what the machine unmounts goes away here too.
Sources: mount_namespaces(7), pid_namespaces(7), sshd(8) -i, sysfs and devpts of the running kernel.
"""

from __future__ import annotations

import array
import ctypes
import json
import os
import resource
import selectors
import signal
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_SLAVE = 2, 4, 8, 4096, 16384, 1 << 19
MNT_DETACH = 2

RUN = "/run"
DOCKER_ROOT = "/var/lib/docker"
MACHINE_LIB = "/run/lab/machine-lib"
BINDS = (
    ("etc", "/etc"),
    ("lib", "/var/lib"),
    ("log", "/var/log"),
    ("vartmp", "/var/tmp"),
    ("home", "/home"),
    ("root", "/root"),
    ("tmp", "/tmp"),
)
"""A host's folder on disk -> where it is mounted. Relative to the working folder: the mounts may hide it."""

DISKS = (
    "9p",
    "bcachefs",
    "btrfs",
    "erofs",
    "ext2",
    "ext3",
    "ext4",
    "f2fs",
    "nfs",
    "nfs4",
    "overlay",
    "xfs",
    "zfs",
)
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}

libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Enter the namespaces, fork PID 1, tell lab-up its pid, and end; PID 1 goes on."""
    netns, control = sys.argv[1], socket.socket(fileno=int(sys.argv[2]))
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    os.umask(0o022)
    with Path("/run/netns", netns).open("rb") as file:
        _check(libc.setns(file.fileno(), CLONE_NEWNET), f"enter network namespace {netns}")
    _check(libc.unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID), "make namespaces")
    child = os.fork()
    if child:
        control.sendall(json.dumps({"pid": child}).encode() + b"\n")
        return
    os.setsid()
    plan, listener = _receive(control)
    if plan is None:
        return
    try:
        _raise_host(plan)
        dockerd = _spawn(plan["dockerd"], env={**ENVIRONMENT, **plan["mark"]}, log="/var/log/dockerd.log")
    except Exception:  # everything is told to lab-up, which is the only one who can say it to anybody
        control.sendall(json.dumps({"error": traceback.format_exc(limit=-2)}).encode() + b"\n")
        raise
    control.sendall(json.dumps({"stage": "up"}).encode() + b"\n")
    _serve(listener, control, plan["sshd"], dockerd)


def _receive(control: socket.socket) -> tuple[dict[str, Any] | None, socket.socket]:
    fds = array.array("i")
    data, ancillary, _, _ = control.recvmsg(65536, socket.CMSG_LEN(fds.itemsize))
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(payload[: fds.itemsize])
    while data and not data.endswith(b"\n"):
        more = control.recv(65536)
        if not more:
            break
        data += more
    if not data.endswith(b"\n") or not fds:
        return None, control
    os.set_inheritable(fds[0], False)
    return json.loads(data), socket.socket(fileno=fds[0])


def _raise_host(plan: dict[str, Any]) -> None:
    os.chdir(plan["folder"])
    name = plan["hostname"].encode()
    _check(libc.sethostname(name, len(name)), "set the hostname")
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    _mount("none", "/", "", MS_REC | MS_SLAVE)
    _shed_mounts(plan["folder"])
    _mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    _mount_run_and_folders()
    _mount_dev()
    _mount_sys(plan["cgroups"], plan["cgroup_version"])
    os.chdir("/")
    _set_network(plan["ip"], plan["ip_batch"])


def _shed_mounts(folder: str) -> None:
    """Detach the machine's mounts this host replaces, or must not pin (others' namespaces and containers).

    Kept: disks, /dev, and whatever the lab's folder lies on.
    """
    text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    mounts = [line.split(" ") for line in text.splitlines()]
    for fields in reversed(mounts):
        point = fields[4].encode("utf-8", "surrogateescape").decode("unicode_escape")
        kind = fields[fields.index("-") + 1]
        holds_us = point == "/" or folder == point or folder.startswith(point + "/")
        ours = kind in DISKS and not point.startswith((RUN + "/", "/var/lib/docker/", "/var/lib/containerd/"))
        if not (holds_us or ours or point == "/dev"):
            libc.umount2(os.fsencode(point), MNT_DETACH)


def _mount_run_and_folders() -> None:
    _mount("tmpfs", RUN, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    for sub, mode in (("sshd", 0o755), ("lock", 0o1777), ("lab", 0o755), ("netns", 0o755)):
        folder = Path(RUN, sub)
        folder.mkdir()
        folder.chmod(mode)
    # /var/lib is the machine's, entry by entry, except for the engine's: dockerd writes some files below
    # /var/lib/docker whatever its --data-root is
    Path(MACHINE_LIB).mkdir()
    _mount("/var/lib", MACHINE_LIB, "", MS_BIND | MS_REC)
    for entry in Path("/var/lib").iterdir():
        if entry.name not in ("docker", "containerd"):
            Path("lib", entry.name).symlink_to(f"{MACHINE_LIB}/{entry.name}")
    for source, target in BINDS:
        _mount(source, target, "", MS_BIND)


def _mount_dev() -> None:
    _mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5")
    if Path("/dev/shm").is_dir() and not Path("/dev/shm").is_symlink():
        _mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    if Path("/dev/mqueue").is_dir():
        _mount("mqueue", "/dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC)


def _mount_sys(hierarchies: list[list[str]], version: int) -> None:
    # a sysfs of this network namespace: /sys/class/net shows the host's links, not the machine's
    _mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for kind, target in (
        ("tracefs", "/sys/kernel/tracing"),
        ("debugfs", "/sys/kernel/debug"),
        ("bpf", "/sys/fs/bpf"),
    ):
        # not in every kernel, and lockdown may forbid them: doctor says what is missing
        with suppress(OSError):
            _mount(kind, target, kind, MS_NOSUID | MS_NODEV | MS_NOEXEC)
    _mount_lockdown()
    if version == 2:
        flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
        _mount("cgroup2", "/sys/fs/cgroup", "cgroup2", flags, hierarchies[0][1])
        return
    _mount("tmpfs", "/sys/fs/cgroup", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755")
    for folder, options in hierarchies:
        Path("/sys/fs/cgroup", folder).mkdir()
        _mount("cgroup", f"/sys/fs/cgroup/{folder}", "cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, options)


def _mount_lockdown() -> None:
    """Show the kernel's lockdown mode, but not AppArmor: dockerd would load its profile into the machine."""
    whole = Path(RUN, "lab/security")
    with suppress(OSError):
        whole.mkdir()
        _mount("securityfs", str(whole), "securityfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        if (whole / "lockdown").exists():
            _mount("tmpfs", "/sys/kernel/security", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755")
            Path("/sys/kernel/security/lockdown").touch()
            _mount(str(whole / "lockdown"), "/sys/kernel/security/lockdown", "", MS_BIND)
        libc.umount2(os.fsencode(whole), MNT_DETACH)
        whole.rmdir()


def _set_network(ip: str, batch: str) -> None:
    # IPv6 off: router solicitations, multicast reports and address checks would be packets in every trace
    for key, value in (("ipv6/conf/all/disable_ipv6", "1"), ("ipv6/conf/default/disable_ipv6", "1")):
        with suppress(OSError):
            Path("/proc/sys/net", key).write_text(value, encoding="utf-8")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="utf-8")
    # as Debian 13 sets it for the first namespace at boot: its ping has no capability of its own
    with suppress(OSError):
        Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 2147483647", encoding="utf-8")
    read, write = os.pipe()
    os.write(write, batch.encode())
    os.close(write)
    child = _spawn([ip, "-batch", "-"], env=ENVIRONMENT, log="/var/log/network.log", stdin=read)
    os.close(read)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise OSError(f"ip -batch: {Path('/var/log/network.log').read_text(encoding='utf-8').strip()}")


def _serve(listener: socket.socket, control: socket.socket, sshd: list[str], dockerd: int) -> None:
    """Reap, and answer connections, for as long as the host lives."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    listener.setblocking(False)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(wake_read, selectors.EVENT_READ)
    while True:
        for pid, status in _reap():
            if pid == dockerd:
                code = os.waitstatus_to_exitcode(status)
                # heard only while lab-up waits; later the host goes on without an engine, like a real one
                with suppress(OSError):
                    control.sendall(json.dumps({"error": f"dockerd ended with {code}"}).encode() + b"\n")
        for key, _ in selector.select():
            if key.fd == wake_read:
                with suppress(BlockingIOError):
                    os.read(wake_read, 4096)
                continue
            with suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.setblocking(True)
                    _spawn(
                        sshd, env=ENVIRONMENT, log="/var/log/sshd.log", stdin=connection.fileno(), reply=True
                    )


def _reap() -> list[tuple[int, int]]:
    ended = []
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended.append((pid, status))
    return ended


def _spawn(
    argv: list[str], *, env: dict[str, str], log: str, stdin: int | None = None, reply: bool = False
) -> int:
    """Start a program in its own session. ``reply``: stdin is a connection, and stdout goes there too."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_OPEN, 2, log, flags, 0o640)]
    actions.append(
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)
        if stdin is None
        else (os.POSIX_SPAWN_DUP2, stdin, 0)
    )
    actions.append((os.POSIX_SPAWN_DUP2, 0 if reply else 2, 1))
    # Python ignores SIGPIPE, and an ignored signal would stay ignored in everything started from here
    defaults = [signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD]
    return os.posix_spawn(argv[0], argv, env, file_actions=actions, setsid=True, setsigdef=defaults)


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    done = libc.mount(
        os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), data.encode()
    )
    _check(done, f"mount {kind or source} on {target}")


def _check(result: int, doing: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"could not {doing}: {os.strerror(code)}")


if __name__ == "__main__":
    main()
