"""A private OpenSSH server on loopback, with keys and configuration of its own in a temporary folder."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from swarmscope.model import Host, Inventory

SSHD = shutil.which("sshd") or ("/usr/sbin/sshd" if Path("/usr/sbin/sshd").exists() else None)
USER = getpass.getuser()


@dataclass
class Server:
    """One running sshd: its port, its directory, the key that may log in."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]
    client_key: Path

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def host_key(self) -> str:
        """Type and base64, as known_hosts has them."""
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    def known(self, name: str = "") -> str:
        return f"{name or f'[127.0.0.1]:{self.port}'} {self.host_key}\n"

    def known_hosts(self) -> Path:
        path = self.folder / "known_hosts"
        path.write_text(self.known())
        return path

    def host(self, name: str = "n1", **changes: object) -> Host:
        values: dict[str, object] = {
            "name": name,
            "address": "127.0.0.1",
            "group": "managers",
            "port": self.port,
            "user": USER,
            "identity_file": self.client_key,
            **changes,
        }
        return Host(**values)  # type: ignore[arg-type]

    def sessions(self) -> list[int]:
        """The processes of this sshd's logins: its descendants called sshd or, from 9.8 on, sshd-session."""
        parents: dict[int, int] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
            except OSError:
                continue
            if name.startswith("sshd"):
                parents[int(stat.parent.name)] = int(rest.split()[1])
        return [pid for pid in parents if self.process.pid in _ancestors(pid, parents)]

    def cut(self) -> None:
        """End every login at once, as a host that goes down does."""
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        self.cut()
        self.process.kill()
        self.process.wait()


def _ancestors(pid: int, parents: dict[int, int]) -> list[int]:
    found = []
    while pid in parents:
        pid = parents[pid]
        found.append(pid)
    return found


def inventory(*hosts: Host, known_hosts: Path | None, ssh_config: Path | None = None) -> Inventory:
    return Inventory(
        path=Path("test.yml"), name="test", hosts=hosts, known_hosts=known_hosts, ssh_config=ssh_config
    )


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def make_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def start_server(folder: Path, *settings: str) -> Server:
    folder.mkdir(parents=True, exist_ok=True)
    home = folder / "home"
    home.mkdir()
    make_key(folder / "host_key")
    key = make_key(folder / "client_key")
    shutil.copy(f"{key}.pub", folder / "authorized_keys")
    port = free_port()
    lines = [
        *settings,  # sshd takes the first value it reads
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {folder}/host_key",
        f"AuthorizedKeysFile {folder}/authorized_keys",
        f"PidFile {folder}/pid",
        f"SetEnv HOME={home}",
        "StrictModes no",
        "UsePAM no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin prohibit-password",
        "Subsystem sftp internal-sftp",
        "LogLevel VERBOSE",
    ]
    (folder / "config").write_text("\n".join(lines) + "\n")
    command = [str(SSHD), "-D", "-f", str(folder / "config"), "-E", str(folder / "log")]
    if os.geteuid() == 0 and not Path("/run/sshd").is_dir():
        # sshd as root insists on /run/sshd: give it a /run of its own rather than make one for everybody.
        script = 'mount -t tmpfs tmpfs /run && mkdir /run/sshd && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", script, "sh", *command]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as sock:
            sock.settimeout(1)
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return Server(folder, port, process, key)
        if process.poll() is not None:
            break
        time.sleep(0.05)
    process.kill()
    log = folder / "log"
    raise RuntimeError(f"sshd did not start: {log.read_text() if log.exists() else 'no log'}")
