"""A machine booted once and kept: every later one starts from its memory, in seconds, also emulated.

Scope: one snapshot for each image, QEMU, processor and shape of machine, made by booting a machine up to
where it waits for its identity, with everything that runs later already in memory. Kept in the user's cache
beside the images: ``memory`` (the machine's RAM as a file; machines map it copy-on-write and so share what
they do not change), ``state`` (its devices), ``disk.qcow2`` (what it wrote, on top of the image's disk). No
machine writes to any of them. Limits: only for the QEMU, processor and accelerator it was made with, which
are in its key; all machines begin with the same CLOCK_MONOTONIC and kernel addresses. Source: QEMU's
docs/system/vm-templating.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shlex
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from swarmscope.errors import SwarmscopeError
from swarmscope.lab import machines_identity, qemu
from swarmscope.lab.image import cache_folder
from swarmscope.lab.machines_starting import Guest, Wire, watcher, with_logs
from swarmscope.lab.qemu import BootFiles, Shape
from swarmscope.lab.qmp import Qmp
from swarmscope.lab.record import give_to_user

FORMAT = 1
KEEP = 4
"""Snapshots kept; with a new one, those longest unused go. One is about a gigabyte."""
BOOT_S, WARM_S, MOVE_S = 900.0, 900.0, 300.0

WARM_COMMANDS = (
    "timeout 200 systemctl is-system-running --wait",
    "sudo -n docker version",
    "sudo -n docker info",
    "sudo -n python3 -c 'import asyncio, ctypes, json, selectors, subprocess, zipfile'",
    "sudo -n perf --version",
    "sudo -n perf record -q -o /dev/null -a -e net:net_dev_queue --call-graph fp sleep 0.1",
    "sudo -n bpftrace -e 'BEGIN { exit(); }'",
    "sudo -n trace-cmd --version",
    "lttng --version",
    "sudo -n ip -json -details link",
    "busybox true",
)
"""Run once before the snapshot, so that their files are in its memory."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot on disk."""

    folder: Path

    @property
    def disk(self) -> Path:
        return self.folder / "disk.qcow2"

    @property
    def memory(self) -> str:
        """The option of ``qemu.command_line``: copy-on-write, so the file is never changed."""
        return f"mem-path={qemu.quoted(self.folder / 'memory')},share=off"

    def resume(self, control: Qmp) -> None:
        """Fill a machine started with ``-incoming defer``, and let it run."""
        _ignore_shared(control)
        control.execute("migrate-incoming", uri=f"exec:cat {shlex.quote(str(self.folder / 'state'))}")
        control.wait_for_migration(patience_s=MOVE_S)
        control.execute("cont")


def key(boot: BootFiles, shape: Shape, *, qemu_version: str, cpu_model: str) -> str:
    """The name of the snapshot that fits: 16 hex digits of everything that its content depends on."""
    facts = {
        "format": FORMAT,
        "image": boot.digest,
        "disk": str(boot.disk),
        "shape": asdict(shape),
        "qemu": qemu_version,
        "processor": cpu_model,
        "cpu": qemu.CPU[shape.accelerator],
        "kernel_line": qemu.KERNEL_LINE,
        "warm": WARM_COMMANDS,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def processor() -> str:
    """This computer's processor, by what a guest may be shown of it."""
    wanted = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags")
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    return "\n".join(line for line in lines if line.partition("\t")[0].strip() in wanted)


def ensure(boot: BootFiles, shape: Shape, *, qemu_version: str, say: Callable[[str], None]) -> Snapshot:
    """The snapshot for machines of this kind, made now if there is none.

    Raises SwarmscopeError, OSError when it cannot be made: machines can be booted without it.
    """
    name = key(boot, shape, qemu_version=qemu_version, cpu_model=processor())
    top = cache_folder() / "snapshots"
    top.mkdir(parents=True, exist_ok=True)
    kept = Snapshot(top / name)
    if (kept.folder / "about.json").exists():
        os.utime(kept.folder)
        return kept
    with _locked(top, say):
        if not (kept.folder / "about.json").exists():
            for left in top.glob(".making-*"):
                shutil.rmtree(left, ignore_errors=True)
            say("making a snapshot of a booted machine, once: later labs start from it")
            _make(kept, boot, shape)
            _prune(top, kept)
    return kept


@contextmanager
def _locked(top: Path, say: Callable[[str], None]) -> Iterator[None]:
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another lab-up that is making a snapshot in {top}")
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _make(kept: Snapshot, boot: BootFiles, shape: Shape) -> None:
    began = time.monotonic()
    making = Path(tempfile.mkdtemp(prefix=".making-", dir=kept.folder.parent))
    mark = f"swarmscope-snapshot-{kept.folder.name}"
    try:
        # the wire ends when this goes
        (making / "state.json").write_text("{}", encoding="utf-8")
        qemu.make_overlay(making / "disk.qcow2", on=boot.disk)
        one = machines_identity.machines(making, ["n1"], [0], nics=shape.nics)[0]
        argv = qemu.command_line(
            mark,
            boot,
            shape,
            port=0,
            ssh_address=one.addresses[0],
            macs=one.macs,
            memory="mem-path=memory,share=on",
        )
        wire = Wire(making, mark)
        try:
            pid = wire.launch([("snapshot", making, argv)], nics=shape.nics)["snapshot"]
            _boot_and_save(making, pid)
        except SwarmscopeError as error:
            raise with_logs(error, making) from error
        finally:
            wire.close()
        for leftover in ("state.json", "console.log", "qemu.log", "wire.log", "qmp.sock", "lab.sock"):
            (making / leftover).unlink(missing_ok=True)
        for name in ("disk.qcow2", "memory", "state"):
            _sync(making / name)
        about = {"image": boot.digest, "shape": asdict(shape), "seconds": round(time.monotonic() - began, 1)}
        (making / "about.json").write_text(json.dumps(about) + "\n", encoding="utf-8")
        making.rename(kept.folder)
        give_to_user([kept.folder.parent, kept.folder, *kept.folder.iterdir()])
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _boot_and_save(making: Path, pid: int) -> None:
    alive = watcher("snapshot", pid, threading.Event())
    with Qmp(making / "qmp.sock", host="snapshot") as control:
        with Guest(making, host="snapshot", alive=alive) as guest:
            guest.wait_until_listening(patience_s=BOOT_S)
            guest.send({"op": "warm", "commands": WARM_COMMANDS})
            guest.wait_for_stage("warm", patience_s=WARM_S)
        control.execute("stop")
        _ignore_shared(control)
        control.execute("migrate-set-parameters", max_bandwidth=1 << 40)
        control.execute("migrate", uri="exec:cat > state")
        control.wait_for_migration(patience_s=MOVE_S)
        control.execute("quit")


def _ignore_shared(control: Qmp) -> None:
    # memory that lies in a file stays there, and is not copied into the state
    control.execute(
        "migrate-set-capabilities", capabilities=[{"capability": "x-ignore-shared", "state": True}]
    )


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _prune(top: Path, newest: Snapshot) -> None:
    """Remove the snapshots longest unused. Machines that run keep theirs open: nothing happens to them."""
    others = [p for p in top.iterdir() if p.is_dir() and not p.name.startswith(".") and p != newest.folder]
    with suppress(OSError):
        for old in sorted(others, key=lambda p: p.stat().st_mtime, reverse=True)[KEEP - 1 :]:
            shutil.rmtree(old)
