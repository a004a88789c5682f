"""What a lab has on disk: its folder, the ledger of everything made, and the machine-wide claim of its name.

Scope: paths, atomic files, locks, process identity. Creates no namespace, link or process; the modules that
do write their ledger entry here *before* they create the thing, so that a ledger cut off anywhere still
names everything there can be. Limits: entries are valid for one boot; after a reboot only files are left.

On disk, all under ``<root>/.lab/<name>/``: ``state.json`` (the ledger), ``inventory.yml``, ``ssh_config``,
``known_hosts``, ``id_ed25519``, ``hosts/<host>/`` (root only: the private folders of that host).
``/run/swarmscope-labs/<name>.json`` says which folder holds a name, and which subnet it uses.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swarmscope.errors import LockHeld, Refused, UsageError

FORMAT = 1
CLAIMS = Path("/run/swarmscope-labs")
MAX_HOSTS = 200
"""Addresses 198.18.K.10 and up: more than 200 hosts do not fit the lab's /24."""


@dataclass(frozen=True, slots=True)
class LabPaths:
    """Where everything of one lab lies. ``folder`` is absolute."""

    name: str
    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / "state.json"

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory.yml"

    @property
    def ssh_config(self) -> Path:
        return self.folder / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def key(self) -> Path:
        return self.folder / "id_ed25519"

    @property
    def claim(self) -> Path:
        return CLAIMS / f"{self.name}.json"

    def host(self, host: str) -> Path:
        return self.folder / "hosts" / host

    @property
    def switch_netns(self) -> str:
        return f"swarmscope-{self.name}-switch"

    def netns(self, host: str) -> str:
        return f"swarmscope-{self.name}-{host}"

    def cgroup(self, host: str) -> str:
        return f"swarmscope.{self.name}.{host}"


def lab_paths(root: Path, name: str) -> LabPaths:
    """The paths of lab ``name`` of the project at ``root``.

    Raises UsageError for a name that is not 1 to 12 of ``a-z 0-9 -``, beginning with a letter or digit.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,11}", name):
        raise UsageError(
            f"lab name {name!r} cannot be used",
            hint="1 to 12 characters of a-z, 0-9 and '-', beginning with a letter or a digit",
        )
    return LabPaths(name=name, folder=root.resolve() / ".lab" / name)


def host_names(count: int) -> tuple[str, ...]:
    """``n1`` .. ``nN``. Raises UsageError for a count that no lab can have."""
    if not 1 <= count <= MAX_HOSTS:
        raise UsageError(f"a lab of {count} hosts cannot be raised", hint=f"--hosts takes 1 to {MAX_HOSTS}")
    return tuple(f"n{i}" for i in range(1, count + 1))


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def start_ticks(pid: int) -> int | None:
    """Start time of a live process in clock ticks since boot, field 22 of proc(5) stat; None when it is gone.

    A pid alone says nothing after the process ended: together with this it is an identity for one boot.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # comm is in parentheses and may itself hold spaces and parentheses
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def command_words(pid: int) -> tuple[str, ...]:
    """The command line of a process; empty when it is gone, or nothing is known of it."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ()
    return tuple(word.decode("utf-8", errors="replace") for word in line.split(b"\0"))


def write_atomic(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write beside ``path`` and rename: a reader, or a crash, sees the old text or the new, never a part."""
    beside = path.with_name(path.name + ".new")
    with suppress(FileNotFoundError):
        beside.unlink()
    with os.fdopen(
        os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8"
    ) as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
    beside.replace(path)


@dataclass(slots=True)
class Ledger:
    """``state.json``: facts of the lab and the list of what was, or was about to be, created."""

    path: Path
    facts: dict[str, Any] = field(default_factory=dict)
    entries: list[dict[str, Any]] = field(default_factory=list)

    def add(self, *entries: Mapping[str, Any]) -> None:
        """Record things about to be created; on disk before this returns."""
        self.entries.extend(dict(e) for e in entries)
        self.save()

    def save(self) -> None:
        body = {"format": FORMAT, **self.facts, "entries": self.entries}
        write_atomic(self.path, json.dumps(body, indent=1) + "\n")

    def of(self, kind: str) -> Iterator[dict[str, Any]]:
        return (e for e in self.entries if e["kind"] == kind)


def read_ledger(path: Path) -> Ledger | None:
    """The ledger at ``path``; None when there is none. Raises Refused for a file that is not one of ours."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        if body.pop("format") != FORMAT:
            raise KeyError("format")
        entries = body.pop("entries")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise Refused(
            f"{path} is not a lab's ledger that this version can read",
            hint="nothing was touched; look at the file, and remove the lab with the version that raised it",
        ) from error
    return Ledger(path=path, facts=body, entries=entries)


def lab_names(root: Path) -> tuple[str, ...]:
    """Names of the labs, whole or broken, below ``root/.lab``."""
    return tuple(sorted(p.parent.name for p in (root.resolve() / ".lab").glob("*/state.json")))


def kind_of(ledger: Ledger) -> str:
    """``namespaces`` or ``machines``. A ledger without a kind is of a time when there was but one."""
    return str(ledger.facts.get("kind", "namespaces"))


def refuse_other_kind(paths: LabPaths, ledger: Ledger, kind: str) -> None:
    """Raise Refused when the lab that stands is not of ``kind``."""
    if kind_of(ledger) != kind:
        raise Refused(
            f"lab {paths.name} in {paths.folder} already stands, of {kind_of(ledger)} and not of {kind}",
            hint=f"use another --name, or run `invoke lab-down --name {paths.name}` first",
        )


@contextmanager
def locked(paths: LabPaths, *, create: bool) -> Iterator[bool]:
    """Hold the lab's folder against a second lab-up or lab-down. Yields False when there is no folder.

    The lock is on the folder itself (flock), so it goes with a killed holder and leaves no file behind.
    Raises LockHeld when another process holds it.
    """
    fd = _lock_folder(paths, create=create)
    if fd is None:
        yield False
        return
    try:
        yield True
    finally:
        os.close(fd)


def _lock_folder(paths: LabPaths, *, create: bool) -> int | None:
    while True:
        if create:
            paths.folder.mkdir(parents=True, exist_ok=True)
        try:
            fd = os.open(paths.folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(fd)
            raise LockHeld(
                f"lab {paths.name}: another lab-up or lab-down is working on {paths.folder}",
                hint="wait until it has ended, then run this again",
            ) from error
        # a lab-down that just ended may have removed the folder between our open and our lock
        if paths.folder.exists() and os.path.samestat(os.fstat(fd), paths.folder.stat()):
            return fd
        os.close(fd)


def claim_name(paths: LabPaths, ledger: Ledger) -> int:
    """Reserve the lab's name and a subnet on this machine; returns K of 198.18.K.0/24.

    Namespace names are machine-wide, so a lab of this name in another folder is refused.
    """
    CLAIMS.mkdir(mode=0o755, exist_ok=True)
    fd = os.open(CLAIMS, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        claims = dict(read_claims())
        other = claims.pop(paths.name, None)
        if other is not None and other["folder"] != str(paths.folder):
            raise Refused(
                f"a lab named {paths.name} already stands on this machine, in {other['folder']}",
                hint=f"use another --name, or run `invoke lab-down --name {paths.name}` there",
            )
        taken = {c["subnet"] for c in claims.values()}
        subnet = next((k for k in range(256) if k not in taken), None)
        if subnet is None:
            raise Refused("all 256 lab subnets of 198.18.0.0/16 are in use", hint="take a lab down first")
        ledger.add({"kind": "claim", "path": str(paths.claim)})
        write_atomic(paths.claim, json.dumps({"folder": str(paths.folder), "subnet": subnet}) + "\n")
        return subnet
    finally:
        os.close(fd)


def read_claims() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every lab on this machine, from any project folder: its name, and where it lies."""
    for path in sorted(CLAIMS.glob("*.json")):
        with suppress(FileNotFoundError, ValueError):
            yield path.stem, json.loads(path.read_text(encoding="utf-8"))


def drop_claim(paths: LabPaths) -> None:
    """Give the name back, if this folder holds it; the folder of claims goes with the last one."""
    with suppress(FileNotFoundError, ValueError):
        if json.loads(paths.claim.read_text(encoding="utf-8"))["folder"] == str(paths.folder):
            paths.claim.unlink()
    with suppress(OSError):
        CLAIMS.rmdir()


def remove_folder(paths: LabPaths) -> None:
    """Remove the lab's folder, ledger last, and ``.lab`` when it is empty.

    The ledger goes last so that an interrupted removal can be taken up again.
    """
    for child in sorted(paths.folder.iterdir(), key=lambda p: p == paths.state):
        if child.is_dir() and not child.is_symlink():
            _remove_tree(child)
        else:
            child.unlink()
    paths.folder.rmdir()
    with suppress(OSError):
        paths.folder.parent.rmdir()


def _remove_tree(folder: Path, *, patience_s: float = 3.0) -> None:
    # a killed lab-up's last copy may still be writing for a moment: then a folder is not empty after all
    deadline = time.monotonic() + patience_s
    while True:
        try:
            shutil.rmtree(folder)
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def give_to_user(paths: Sequence[Path]) -> None:
    """Hand files to the person behind sudo, so that ssh and editors can use them; plain root keeps them."""
    uid, gid = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if os.geteuid() == 0 and uid.isdigit() and gid.isdigit():
        for path in paths:
            os.chown(path, int(uid), int(gid), follow_symlinks=False)
