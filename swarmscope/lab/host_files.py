"""The folders of one host on disk, before it starts: its own /etc above all.

Scope: a copy of the machine's /etc without what is the machine's own (keys, passwords, Docker's settings),
with the host's own identity, one login user and an sshd_config. ``host_init`` mounts these folders over the
machine's. Limits: /usr, /var/lib and /opt stay the machine's; a lab is for traffic, not a wall against its
users.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from swarmscope.errors import SwarmscopeError
from swarmscope.lab.privileges import SYSTEM_PATH, command, run_bound
from swarmscope.lab.ssh_files import USER, make_key

USER_ID = 59818
"""Uid and gid of the login user: away from people's (1000 up) and from systemd's dynamic ranges."""

MODES: Mapping[str, int] = {
    "etc": 0o755,
    "home": 0o755,
    "lib": 0o755,
    "lib/docker": 0o711,
    "log": 0o755,
    "root": 0o700,
    "tmp": 0o1777,
    "vartmp": 0o1777,
}
"""A host's folders; ``host_init.BINDS`` says where each is mounted."""

NOT_COPIED = (
    "NetworkManager", "cni", "containerd", "docker", "environment", "group", "group-", "gshadow", "gshadow-",
    "hostname", "hosts", "krb5.keytab", "letsencrypt", "machine-id", "netplan", "passwd", "passwd-",
    ".pwd.lock", "resolv.conf", "security/limits.d", "shadow", "shadow-", "ssh", "ssl/private",
    "subgid-", "subuid-", "sudo.conf", "sudo_logsrvd.conf", "sudoers", "sudoers.d", "wireguard",
)  # fmt: skip
"""Below /etc: the machine's secrets, and settings that would shape a host's sshd, sudo or dockerd."""


def copy_base(base: Path) -> None:
    """Copy the machine's /etc to ``base/etc`` once; hosts copy that.

    Files of one machine's /etc can come and go while they are copied, so a complaint of ``cp`` alone is no
    error.
    """
    base.mkdir(parents=True, exist_ok=True)
    etc = base / "etc"
    run_bound(["cp", "-a", "/etc", str(etc)])
    if not (etc / "ld.so.cache").exists() and not (etc / "alternatives").exists():
        raise SwarmscopeError(f"could not copy /etc to {etc}", hint="is the disk full?")
    for name in NOT_COPIED:
        _remove(etc / name)


def make_host_folders(base: Path, folder: Path, *, name: str, peers: Mapping[str, str], login: str) -> str:
    """Make the folders of host ``name``; returns its public host key.

    ``peers`` maps every host of the lab to its address, ``login`` is the public key that may log in.
    """
    folder.mkdir(parents=True, exist_ok=True)
    copied = run_bound(["cp", "-a", str(base / "etc"), str(folder / "etc")])
    if copied.returncode:
        why = copied.stderr.strip()
        raise SwarmscopeError(f"could not copy /etc: {why}", hint="is the disk full?", host=name)
    for sub, mode in MODES.items():
        (folder / sub).mkdir(exist_ok=True)
        (folder / sub).chmod(mode)
    etc = folder / "etc"
    for path, text in _identity(name, peers).items():
        _write(etc / path, text)
    _make_user(etc, folder / "home" / USER, login)
    for sub in ("ssh", "sudoers.d"):
        (etc / sub).mkdir()
    _write(etc / "ssh/sshd_config", SSHD_CONFIG.format(user=USER))
    _write(etc / "sudoers", SUDOERS.format(path=SYSTEM_PATH), mode=0o440)
    _write(etc / "sudoers.d/scope", f"{USER} ALL=(ALL:ALL) NOPASSWD: ALL\n", mode=0o440)
    (etc / "pam.d").mkdir(exist_ok=True)
    _write(etc / "pam.d/sudo", PAM_SUDO)
    return make_key(etc / "ssh/ssh_host_ed25519_key", comment=f"root@{name}")


def _identity(name: str, peers: Mapping[str, str]) -> dict[str, str]:
    lines = [f"{address} {peer}" for peer, address in peers.items()]
    return {
        "hostname": f"{name}\n",
        "hosts": "\n".join(["127.0.0.1 localhost", "::1 localhost ip6-localhost", *lines]) + "\n",
        "machine-id": f"{uuid.uuid4().hex}\n",
        # a host reaches nobody outside its lab; asking a name server would only be slow
        "resolv.conf": "# no name server: a lab's host reaches its lab only\n",
        "nsswitch.conf": NSSWITCH,
        "environment": "",
    }


def _make_user(etc: Path, home: Path, login: str) -> None:
    machine = Path("/etc")
    passwd = [line for line in _lines(machine / "passwd") if _is_system(line)]
    group = [line for line in _lines(machine / "group") if _is_system(line)]
    passwd.append(f"{USER}:x:{USER_ID}:{USER_ID}:lab user:/home/{USER}:/bin/bash")
    group.append(f"{USER}:x:{USER_ID}:")
    names = [line.partition(":")[0] for line in passwd]
    groups = [line.partition(":")[0] for line in group]
    _write(etc / "passwd", "\n".join(passwd) + "\n")
    _write(etc / "group", "\n".join(group) + "\n")
    # '*': no password fits, and unlike '!' sshd does not take the account for a locked one
    _write(etc / "shadow", "".join(f"{n}:*:19000:0:99999:7:::\n" for n in names), mode=0o640)
    _write(etc / "gshadow", "".join(f"{g}:*::\n" for g in groups), mode=0o640)
    ssh = home / ".ssh"
    ssh.mkdir(parents=True)
    skeleton = Path("/etc/skel")
    if skeleton.is_dir():
        shutil.copytree(skeleton, home, symlinks=True, dirs_exist_ok=True)
    _write(ssh / "authorized_keys", f"{login} lab\n", mode=0o600)
    ssh.chmod(0o700)
    for path in (home, *home.rglob("*")):
        os.chown(path, USER_ID, USER_ID, follow_symlinks=False)


def _is_system(line: str) -> bool:
    fields = line.split(":")
    return len(fields) > 2 and fields[2].isdigit() and (int(fields[2]) < 1000 or int(fields[2]) == 65534)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()


def _write(path: Path, text: str, *, mode: int = 0o644) -> None:
    # replaced, not written through: the copy may be a link that leads out, to the machine's own file
    _remove(path)
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    path.chmod(mode)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sshd_path() -> str:
    """sshd must be called by its full path: it starts itself again for each session."""
    return command("sshd")


SSHD_CONFIG = """\
# this host of the lab; sshd is started once a connection by the host's PID 1
HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile .ssh/authorized_keys
AllowUsers {user}
PermitRootLogin no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PrintMotd no
PrintLastLog no
X11Forwarding no
Subsystem sftp internal-sftp
"""

SUDOERS = """\
Defaults env_reset
Defaults secure_path="{path}"
root ALL=(ALL:ALL) ALL
@includedir /etc/sudoers.d
"""

PAM_SUDO = """\
# the key was asked for at login; the machine's own PAM stack (directories, sessions) has no place here
auth required pam_permit.so
account required pam_permit.so
session required pam_permit.so
"""

NSSWITCH = """\
passwd: files
group: files
shadow: files
gshadow: files
hosts: files
networks: files
protocols: files
services: files
ethers: files
rpc: files
"""
