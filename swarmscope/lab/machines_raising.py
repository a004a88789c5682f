"""The way from no machines to a lab of them: what is made in which order, and what is in the ledger first.

Scope: one lab, from its empty folder to machines that answer, out of a snapshot or by a plain boot. What was
made is the caller's to remove after an error. The machines belong to ``machines_wire``, which ends with us
until it is told to stand: a lab-up that is killed leaves files, no processes.
"""

from __future__ import annotations

import hashlib
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from swarmscope.errors import PreflightFailed, SwarmscopeError, UsageError
from swarmscope.lab import accelerator, image, qemu, snapshot
from swarmscope.lab.machines_identity import MAX_NICS, Machine, identity, machines
from swarmscope.lab.machines_starting import Guest, Wire, side_by_side, watcher, with_logs
from swarmscope.lab.privileges import command
from swarmscope.lab.qemu import BootFiles, Shape
from swarmscope.lab.qmp import Qmp
from swarmscope.lab.record import LabPaths, Ledger, boot_id, give_to_user, start_ticks
from swarmscope.lab.snapshot import Snapshot
from swarmscope.lab.ssh_files import make_key, write_ways_in

KIND = "machines"
BOOT_S, STAGE_S = 900.0, 300.0
"""Longest waits for a boot, and for SSH or Docker to start. Emulated, on a busy computer: it is patience for
machines that are slow, not for those that failed; they end and are noticed."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class MachineOptions:
    """What machines a lab has. ``nics``: test networks; ``cold``: boot, use and make no snapshot.

    ``image_folder``: an image of one's own (disk.qcow2, vmlinuz, initrd) instead of the cached one.
    """

    cpus: int = 2
    memory_mb: int = 2048
    nics: int = 1
    kernel_package: str = "linux-image-amd64"
    image_folder: Path | None = None
    cold: bool = False

    def check(self) -> None:
        """Raise UsageError for numbers that no machine can have."""
        for flag, value, least, most in (
            ("--cpus", self.cpus, 1, 64),
            ("--memory", self.memory_mb, 768, 1 << 20),
            ("--nics", self.nics, 1, MAX_NICS),
        ):
            if not least <= value <= most:
                raise UsageError(f"{flag} {value} cannot be", hint=f"{least} to {most}")

    def to_json(self) -> dict[str, Any]:
        facts = asdict(self)
        facts["image_folder"] = str(self.image_folder or "")
        return facts

    def differences(self, standing: Mapping[str, Any]) -> str:
        """How the machines that stand are different, for people; empty when they are not."""
        mine = {k: v for k, v in self.to_json().items() if k != "cold"}
        return ", ".join(
            f"{k} {standing.get(k)} and not {v}" for k, v in mine.items() if standing.get(k) != v
        )


def raise_lab(paths: LabPaths, hosts: Sequence[str], options: MachineOptions, *, say: Say) -> None:
    """Raise the lab; return when every machine answers by SSH with its own key, and its dockerd too."""
    mark = f"swarmscope-{paths.name}-{secrets.token_hex(8)}"
    facts = {"name": paths.name, "kind": KIND, "boot_id": boot_id(), "complete": False, "hosts": []}
    ledger = Ledger(path=paths.state, facts={**facts, "options": options.to_json(), "mark": mark, "cut": {}})
    ledger.save()
    version = qemu.version()
    found = accelerator.find(qemu_version=version)
    say("machines run on KVM" if found.kind == "kvm" else f"machines are emulated, and slow: {found.why}")
    _require_memory(len(hosts), options)
    boot = boot_files(options, say)
    shape = Shape(options.cpus, options.memory_mb, options.nics, found.kind)
    kept = None if options.cold else _snapshot(boot, shape, version, say)
    reserved = [_reserve_port() for _ in hosts]
    try:
        ports = [s.getsockname()[1] for s in reserved]
        made = machines(paths.folder, hosts, ports, nics=options.nics)
        ledger.facts["accelerator"] = found.kind
        ledger.facts["hosts"] = [asdict(m.host) for m in made]
        ledger.save()
        raising = Raising(paths, ledger, boot, shape, made, mark)
        written = raising.make_files()
        raising.start_or_boot(kept, say)
        slowest = {stage: max(s[stage] for s in raising.seconds.values()) for stage in ("ssh", "docker")}
        say(f"SSH was there after {slowest['ssh']:.0f} s, Docker after {slowest['docker']:.0f} s")
    finally:
        for one in reserved:
            one.close()
    give_to_user([paths.folder.parent, *written, paths.folder, *paths.folder.rglob("*")])


class Raising:
    """One lab on its way up."""

    def __init__(
        self,
        paths: LabPaths,
        ledger: Ledger,
        boot: BootFiles,
        shape: Shape,
        made: Sequence[Machine],
        mark: str,
    ) -> None:
        self.paths, self.ledger, self.boot, self.shape = paths, ledger, boot, shape
        self.machines, self.mark = made, mark
        self.login = ""
        self.seconds: dict[str, dict[str, float]] = {}
        self.keys: dict[str, str] = {}

    def make_files(self) -> tuple[Path, ...]:
        """Keys, folders and the files that lead in: all there is to know before anything runs."""
        self.login = make_key(self.paths.key, comment=f"swarmscope lab {self.paths.name}")
        for machine in self.machines:
            machine.folder.mkdir(mode=0o700, parents=True)
            self.keys[machine.name] = make_key(_host_key(machine), comment=f"root@{machine.name}")
        hosts = [m.host for m in self.machines]
        info = {"kind": KIND, "wire_netns": [], "accelerator": self.shape.accelerator}
        return write_ways_in(self.paths, hosts, [self.keys[m.name] for m in self.machines], lab=info)

    def start_or_boot(self, kept: Snapshot | None, say: Say) -> None:
        """Start the machines from the snapshot; boot them when there is none, or when that fails."""
        if kept is not None:
            try:
                self.start(kept)
            except SwarmscopeError as error:
                say(f"the snapshot in {kept.folder} did not start ({error}): booting without it")
            else:
                return
        self.start(None)

    def start(self, kept: Snapshot | None) -> None:
        for machine in self.machines:
            disk = machine.folder / "disk.qcow2"
            disk.unlink(missing_ok=True)
            qemu.make_overlay(disk, on=kept.disk if kept else self.boot.disk)
        self.ledger.entries = []
        began = time.monotonic()
        wire = Wire(self.paths.folder, self.mark)
        try:
            # it makes nothing before it is told to, so it is in the ledger before anything else runs
            self._record("", wire.pid)
            plan = [(m.name, m.folder, self._command_line(m, kept)) for m in self.machines]
            pids = wire.launch(plan, nics=self.shape.nics)
            self.ledger.entries += [_entry(m.name, pids[m.name], self.mark) for m in self.machines]
            self.ledger.save()
            stop = threading.Event()
            side_by_side(self.machines, lambda m: self._bring_up(m, pids[m.name], kept, stop, began), stop)
            self.ledger.facts["complete"] = True
            self.ledger.facts["from_snapshot"] = kept is not None
            self.ledger.facts["seconds"] = self.seconds
            self.ledger.save()
            wire.stand()
        except BaseException:
            wire.close()
            raise

    def _command_line(self, machine: Machine, kept: Snapshot | None) -> list[str]:
        argv = qemu.command_line(
            self.mark,
            self.boot,
            self.shape,
            port=machine.port,
            ssh_address=machine.addresses[0],
            macs=machine.macs,
            memory=kept.memory if kept else "",
        )
        return [*argv, "-S", "-incoming", "defer"] if kept else argv

    def _bring_up(
        self, machine: Machine, pid: int, kept: Snapshot | None, stop: threading.Event, began: float
    ) -> None:
        seconds = self.seconds[machine.name] = {}
        alive = watcher(machine.name, pid, stop)
        try:
            with Qmp(machine.folder / "qmp.sock", host=machine.name) as control:
                if kept:
                    kept.resume(control)
                with Guest(machine.folder, host=machine.name, alive=alive) as guest:
                    guest.wait_until_listening(patience_s=STAGE_S if kept else BOOT_S)
                    guest.send(self._identity(machine, resumed=kept is not None))
                    for stage in ("named", "ssh", "docker"):
                        guest.wait_for_stage(stage, patience_s=STAGE_S)
                        seconds[stage] = round(time.monotonic() - began, 1)
                # it is up: from here on a reboot is the user's, and the machine comes back as itself
                control.execute("set-action", reboot="reset")
            self._log_in(machine)
            seconds["login"] = round(time.monotonic() - began, 1)
        except SwarmscopeError as error:
            raise with_logs(error, machine.folder) from error

    def _identity(self, machine: Machine, *, resumed: bool) -> dict[str, Any]:
        return identity(
            machine,
            self.machines,
            host_key=_host_key(machine).read_text(encoding="ascii"),
            host_key_public=self.keys[machine.name] + "\n",
            login=self.login,
            resumed=resumed,
        )

    def _log_in(self, machine: Machine) -> None:
        """Go in as users do: the ssh client, the host's own key, and Docker asked by the login user."""
        argv = [command("ssh"), "-F", str(self.paths.ssh_config), "-o", "ConnectTimeout=60", machine.name]
        argv.append("sudo -n docker version --format '{{.Server.Version}}'")
        try:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=STAGE_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise SwarmscopeError("SSH or Docker did not answer in time", host=machine.name) from None
        if done.returncode:
            why = (done.stderr or done.stdout).strip()
            raise SwarmscopeError(f"it came up, but not for SSH and Docker: {why}", host=machine.name)

    def _record(self, host: str, pid: int) -> None:
        self.ledger.add(_entry(host, pid, self.mark))


def _entry(host: str, pid: int, mark: str) -> dict[str, Any]:
    start = start_ticks(pid)
    if start is None:
        raise SwarmscopeError("a process of the lab ended at once", host=host)
    return {"kind": "process", "host": host, "pid": pid, "start": start, "mark": mark}


def _host_key(machine: Machine) -> Path:
    return machine.folder / "ssh_host_ed25519_key"


def _reserve_port() -> socket.socket:
    """A port of 127.0.0.1 that nobody else is given meanwhile; QEMU may listen on it all the same."""
    reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved


def _require_memory(hosts: int, options: MachineOptions) -> None:
    """Machines that do not fit into memory get each other killed. They rarely use all that they have."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    free_mb = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) // 1024
    wanted_mb = hosts * options.memory_mb * 3 // 4
    if wanted_mb > free_mb:
        raise PreflightFailed(
            f"{hosts} machines with {options.memory_mb} MiB each do not fit: {free_mb} MiB are available",
            hint="fewer --hosts or less --memory",
        )


def boot_files(options: MachineOptions, say: Say) -> BootFiles:
    """What machines of ``options`` boot. Builds the image when the cache has none (``image.ensure``)."""
    if options.image_folder is None:
        found = image.ensure(image.ImageOptions(kernel_package=options.kernel_package), say=say)
        return BootFiles(found.disk, found.kernel, found.initrd, found.digest)
    folder = options.image_folder.resolve()
    disks = [p for p in (folder / "disk.qcow2", folder / "disk.raw") if p.is_file()]
    if not (disks and (folder / "vmlinuz").is_file() and (folder / "initrd").is_file()):
        raise UsageError(
            f"no image in {folder}", hint="it needs disk.qcow2 (or disk.raw), vmlinuz and initrd"
        )
    stats = [p.stat() for p in (disks[0], folder / "vmlinuz", folder / "initrd")]
    name = hashlib.sha256(repr([(s.st_ino, s.st_size, s.st_mtime_ns) for s in stats]).encode()).hexdigest()
    return BootFiles(disks[0], folder / "vmlinuz", folder / "initrd", name)


def _snapshot(boot: BootFiles, shape: Shape, version: str, say: Say) -> Snapshot | None:
    began = time.monotonic()
    try:
        kept = snapshot.ensure(boot, shape, qemu_version=version, say=say)
    except (SwarmscopeError, OSError) as error:
        say(f"no snapshot could be made, so the machines boot: {error}")
        return None
    if time.monotonic() - began > 5:
        say(f"the snapshot was made in {time.monotonic() - began:.0f} s")
    return kept
