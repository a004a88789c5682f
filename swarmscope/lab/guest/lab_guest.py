"""Gives a machine of a lab its identity. Runs inside the machine, as root, with the standard library only.

Scope: a server on the virtio-serial port ``org.swarmscope.lab``. JSON lines in, JSON lines out:

- ``{"op": "hello"}`` -> ``{"op": "hello", "named": false}``: it listens;
- ``{"op": "warm", "commands": [...]}``: start sshd and Docker, run the commands, stop and forget it all:
  their files are then in memory, where a snapshot keeps them;
- ``{"op": "identity", ...}``: become that machine; answers in stages ``named``, ``ssh``, ``docker``;
- ``{"op": "status"}``: whether sshd and Docker answer now.

An identity is kept on the machine's disk, so that the machine is the same one after a reboot.

A resumed machine shares all of its memory's content with its siblings. What would show is replaced: the
kernel's random numbers (random(4) RNDADDENTROPY, RNDRESEEDCRNG), the boot id (a file bound over it, as
systemd-nspawn does), machine id, host name, MAC addresses, wall clock; journald, which holds the old ids, is
started anew, and Docker starts only now. Limits: CLOCK_MONOTONIC and the kernel's address layout stay those
of the snapshot.
"""

from __future__ import annotations

import array
import base64
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

PORT = Path("/dev/virtio-ports/org.swarmscope.lab")
RUN = Path("/run/swarmscope-lab")
GATE = RUN / "named"
KEPT = Path("/var/lib/swarmscope-lab/identity.json")
BOOT_ID = "/proc/sys/kernel/random/boot_id"
CARDS_S = 60
DOCKER = ("docker.service", "docker.socket", "containerd.service")
DOCKER_FOLDERS = ("/var/lib/docker", "/var/lib/containerd")
RNDADDENTROPY, RNDRESEEDCRNG = 0x40085203, 0x5207
MS_RDONLY, MS_REMOUNT, MS_BIND = 1, 32, 4096
NO_NAME_SERVER = "# no name server: a machine reaches nobody outside its lab\n"
USER, USER_ID = "scope", 1000

Message = dict[str, Any]


def main() -> None:
    os.umask(0o022)
    RUN.mkdir(exist_ok=True)
    if KEPT.exists() and not GATE.exists():
        become(json.loads(KEPT.read_text(encoding="utf-8")), after_reboot=True)
    deadline = time.monotonic() + 60
    while not PORT.exists():
        if time.monotonic() > deadline:
            raise SystemExit(f"no port {PORT}: not a machine of a lab")
        time.sleep(0.1)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
    port = os.open(PORT, os.O_RDWR)
    fcntl.fcntl(port, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(port, fcntl.F_SETFL, fcntl.fcntl(port, fcntl.F_GETFL) | os.O_ASYNC)
    serve(port)


def serve(port: int) -> None:
    received = b""
    while True:
        data = os.read(port, 65536)
        if not data:
            # Nobody at the other end. The port signals when somebody is: polling would show in recordings.
            signal.sigtimedwait([signal.SIGIO], 60)
            continue
        received += data
        while b"\n" in received:
            line, _, received = received.partition(b"\n")
            message: Message = {}
            with suppress(ValueError):
                message = json.loads(line)
            try:
                answer(port, message)
            except Exception:  # whatever it is: lab-up is the one who can tell somebody
                say(port, message, error=traceback.format_exc(limit=-3))


def say(port: int, message: Message, **more: Any) -> None:
    text = json.dumps({"op": message.get("op", ""), "id": message.get("id", 0), **more})
    os.write(port, text.encode() + b"\n")


def answer(port: int, message: Message) -> None:
    op = message.get("op")
    if op == "hello":
        say(port, message, named=GATE.exists())
    elif op == "status":
        say(port, message, ssh=ssh_answers(), docker=docker_answers())
    elif op == "warm":
        warm(message["commands"])
        say(port, message, stage="warm")
    elif op == "identity":
        become(message, after_reboot=False)
        say(port, message, stage="named")
        systemctl("start", "ssh.service")
        say(port, message, stage="ssh")
        systemctl("start", "docker.service")
        wait_for_docker()
        say(port, message, stage="docker")
    elif op is not None:
        say(port, message, error=f"unknown op {op!r}")


def become(identity: Message, *, after_reboot: bool) -> None:
    """Be the machine that ``identity`` describes. ``after_reboot``: what is on disk is in place already."""
    reseed(base64.b64decode(identity["seed"]) + os.urandom(32))
    if not after_reboot:
        time.clock_settime_ns(time.CLOCK_REALTIME, int(identity["wall_ns"]))
        write_files(identity)
        if identity["boot_id"]:
            replace_boot_id(identity["boot_id"])
    socket.sethostname(identity["hostname"])
    set_links(identity["nics"])
    if not after_reboot:
        KEPT.parent.mkdir(parents=True, exist_ok=True)
        put(KEPT, json.dumps({**identity, "boot_id": ""}), mode=0o600)
    GATE.touch()
    if after_reboot:
        systemctl("--no-block", "start", "ssh.service", "docker.service")
    elif identity["boot_id"]:
        systemctl("--no-block", "restart", "systemd-journald.service")


def reseed(seed: bytes) -> None:
    request = array.array("i", [len(seed) * 8, len(seed)]).tobytes() + seed
    with Path("/dev/urandom").open("wb", buffering=0) as random:
        fcntl.ioctl(random, RNDADDENTROPY, request)
        fcntl.ioctl(random, RNDRESEEDCRNG)


def write_files(identity: Message) -> None:
    name = identity["hostname"]
    put(Path("/etc/hostname"), f"{name}\n")
    put(Path("/etc/machine-id"), f"{identity['machine_id']}\n", mode=0o444)
    put(Path("/etc/hosts"), identity["hosts"])
    for old in Path("/etc/ssh").glob("ssh_host_*"):
        old.unlink()
    put(Path("/etc/ssh/ssh_host_ed25519_key"), identity["host_key"], mode=0o600)
    put(Path("/etc/ssh/ssh_host_ed25519_key.pub"), identity["host_key_public"])
    put(Path("/etc/resolv.conf"), NO_NAME_SERVER)
    forget_docker()
    make_user()
    ssh = Path("/home") / USER / ".ssh"
    ssh.mkdir(mode=0o700, exist_ok=True)
    put(ssh / "authorized_keys", f"{identity['login']}\n", mode=0o600)
    for path in (ssh, ssh / "authorized_keys"):
        os.chown(path, USER_ID, USER_ID)


def make_user() -> None:
    """The login user, written as lines: useradd takes a second of an emulated machine's time."""
    home = Path("/home") / USER
    lines = {
        "passwd": f"{USER}:x:{USER_ID}:{USER_ID}:lab user:{home}:/bin/bash",
        "group": f"{USER}:x:{USER_ID}:",
        "shadow": f"{USER}:*:19000:0:99999:7:::",
    }
    for file, line in lines.items():
        path = Path("/etc", file)
        text = path.read_text(encoding="utf-8")
        if f"\n{USER}:" not in text:
            put(path, text + line + "\n", mode=path.stat().st_mode & 0o777)
    if not home.exists():
        shutil.copytree("/etc/skel", home)
        for path in (home, *home.rglob("*")):
            os.chown(path, USER_ID, USER_ID)


def replace_boot_id(boot_id: str) -> None:
    file = RUN / "boot_id"
    put(file, f"{boot_id}\n", mode=0o444)
    libc = ctypes.CDLL(None, use_errno=True)
    for flags in (MS_BIND, MS_BIND | MS_REMOUNT | MS_RDONLY):
        if libc.mount(str(file).encode(), BOOT_ID.encode(), None, flags, None):
            raise OSError(ctypes.get_errno(), "cannot mount over", BOOT_ID)


def set_links(nics: list[Message]) -> None:
    wait_for_cards([nic["name"] for nic in nics])
    lines = ["link set lo up"]
    for nic in nics:
        name = nic["name"]
        lines += [
            f"link set {name} down",
            f"link set {name} address {nic['mac']}",
            f"addr replace {nic['address']} brd + dev {name}",
            f"link set {name} up",
        ]
    subprocess.run(
        ["ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True, env=environment()
    )


def wait_for_cards(names: list[str]) -> None:
    """Until udev has loaded their driver: a machine that boots may be asked before that."""
    deadline = time.monotonic() + CARDS_S
    while not all(Path("/sys/class/net", name).exists() for name in names):
        if time.monotonic() > deadline:
            found = " ".join(sorted(path.name for path in Path("/sys/class/net").iterdir()))
            raise OSError(f"no network card {' or '.join(names)} within {CARDS_S} s; there is {found}")
        time.sleep(0.05)


def warm(commands: list[str]) -> None:
    """Bring the files of everything that runs later into memory, then be as if nothing had run."""
    # sudo asks for the address of its own host, and would wait for a name server that is not there
    put(Path("/etc/hosts"), f"127.0.0.1 localhost {socket.gethostname()}\n")
    put(Path("/etc/resolv.conf"), NO_NAME_SERVER)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/etc/ssh/ssh_host_ed25519_key")
    make_user()
    GATE.touch()
    systemctl("start", "ssh.service", "docker.service")
    wait_for_docker()
    for command in commands:
        run("runuser", "-u", USER, "--", "bash", "-lc", command)
    GATE.unlink()
    systemctl("stop", "ssh.service", *DOCKER)
    for old in Path("/etc/ssh").glob("ssh_host_*"):
        old.unlink()
    run("ip", "link", "del", "docker0")
    forget_docker()
    os.sync()


def forget_docker() -> None:
    """Docker's ids and networks are made anew at its next start. Not called while it runs."""
    for folder in DOCKER_FOLDERS:
        with suppress(FileNotFoundError):
            for child in Path(folder).iterdir():
                shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()


def put(path: Path, text: str, *, mode: int = 0o644) -> None:
    if path.is_symlink():
        path.unlink()
    beside = path.with_name(path.name + ".new")
    beside.write_text(text, encoding="utf-8")
    beside.chmod(mode)
    beside.replace(path)


def environment() -> dict[str, str]:
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}


def run(*argv: str) -> None:
    """Run something whose failure does not matter; it is in the journal."""
    subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False, env=environment())


def systemctl(*arguments: str) -> None:
    subprocess.run(["systemctl", *arguments], stdin=subprocess.DEVNULL, check=True, env=environment())


def ssh_answers() -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", 22), timeout=2) as connection:
        return connection.recv(64).startswith(b"SSH-2.0")
    return False


def docker_answers() -> bool:
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(2)
        connection.connect("/run/docker.sock")
        connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
        return b" 200 " in connection.recv(256).split(b"\r\n")[0] + b" "
    return False


def wait_for_docker(*, patience_s: float = 120.0) -> None:
    deadline = time.monotonic() + patience_s
    while not docker_answers():
        if time.monotonic() > deadline:
            raise TimeoutError(f"dockerd does not answer after {patience_s:.0f} s")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
