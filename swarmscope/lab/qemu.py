"""QEMU: its version, the command line of one machine, and the disk it writes to.

Scope: texts, and one empty disk. Starts no machine. Limits: x86-64 guests; QEMU 6.0 and newer. Sources:
qemu(1), QEMU's docs/system/vm-templating (memory from a file), and what TCG's ``-cpu max`` does to guests of
QEMU 7.2 (a double fault in cmpxchg16b).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from swarmscope.errors import PreflightFailed, SwarmscopeError
from swarmscope.lab.guest import PORT_NAME
from swarmscope.lab.privileges import command, run_bound

PROGRAM = "qemu-system-x86_64"
Kind = Literal["kvm", "tcg"]

CPU: Mapping[Kind, str] = {"kvm": "host", "tcg": "max,-cx16,-la57"}
# One host thread for all of a machine's processors: with several, a guest that patched its own code (kprobes,
# function tracing) died of a breakpoint that another processor ran into half way.
ACCEL: Mapping[Kind, str] = {"kvm": "kvm", "tcg": "tcg,thread=single,tb-size=512"}

KERNEL_LINE = (
    "root=LABEL=root rw console=ttyS0 net.ifnames=0 mitigations=off apparmor=0 audit=0 "
    "loglevel=4 panic=5 systemd.show_status=auto systemd.firstboot=off systemd.condition_needs_update=0 "
    "systemd.getty_auto=no systemd.ssh_auto=no"
)

SSH_NET = "203.0.113"
"""Network between one machine and this computer (RFC 5737, for documentation): SSH comes in by it, nothing
goes out, and it collides with none of Docker's own address pools."""


@dataclass(frozen=True, slots=True)
class BootFiles:
    """What a machine boots: a disk that is never written, a kernel, an initrd; ``digest`` of all that."""

    disk: Path
    kernel: Path
    initrd: Path
    digest: str


@dataclass(frozen=True, slots=True)
class Shape:
    """A machine's hardware. ``nics``: test network cards, eth1 and up; eth0 is for SSH alone."""

    cpus: int
    memory_mb: int
    nics: int
    accelerator: Kind


def version() -> str:
    """First line of ``qemu-system-x86_64 --version``. PreflightFailed when it is not installed."""
    done = run_bound([command(PROGRAM), "--version"])
    if done.returncode or not done.stdout.strip():
        raise PreflightFailed(f"{PROGRAM} does not run: {done.stderr.strip()[-300:]}")
    return done.stdout.splitlines()[0].strip()


def quoted(path: Path) -> str:
    """A path as a value of a QEMU option, where a comma would end it."""
    return str(path).replace(",", ",,")


def ssh_address(index: int) -> str:
    """eth0's address of machine ``index`` (from 1)."""
    return f"{SSH_NET}.{10 + index}"


def command_line(
    mark: str,
    boot: BootFiles,
    shape: Shape,
    *,
    port: int,
    ssh_address: str,
    macs: Sequence[str],
    memory: str = "",
) -> list[str]:
    """The command line of a machine. Run it in its folder: disk.qcow2, qmp.sock, lab.sock, console.log.

    ``{eth1}`` .. stand for the descriptors of its test network cards, filled in by ``machines_wire``.
    ``memory`` is an option of ``-object memory-backend-file`` without id and size: memory from a file;
    ``macs`` begins with eth0's. SSH's network is restricted: QEMU opens no connection for the guest.
    """
    argv = [command(PROGRAM), "-name", mark, "-nodefaults", "-no-user-config", "-display", "none"]
    machine = "pc,memory-backend=ram" if memory else "pc"
    argv += ["-machine", machine, "-accel", ACCEL[shape.accelerator], "-cpu", CPU[shape.accelerator]]
    argv += ["-smp", str(shape.cpus), "-m", str(shape.memory_mb)]
    if memory:
        argv += ["-object", f"memory-backend-file,id=ram,size={shape.memory_mb}M,{memory}"]
    argv += ["-kernel", str(boot.kernel), "-initrd", str(boot.initrd), "-append", KERNEL_LINE]
    argv += ["-drive", "file=disk.qcow2,format=qcow2,if=none,id=root,cache=unsafe,discard=unmap"]
    argv += ["-device", "virtio-blk-pci,drive=root"]
    forward = f"hostfwd=tcp:127.0.0.1:{port}-{ssh_address}:22" if port else ""
    user = f"user,id=net0,restrict=on,ipv6=off,net={SSH_NET}.0/24,host={SSH_NET}.2,dns={SSH_NET}.3"
    argv += ["-netdev", f"{user},{forward}" if forward else user]
    argv += ["-device", f"virtio-net-pci,netdev=net0,id=eth0,mac={macs[0]},romfile="]
    for number, mac in enumerate(macs[1:], start=1):
        argv += ["-netdev", f"socket,id=net{number},fd={{eth{number}}}"]
        argv += ["-device", f"virtio-net-pci,netdev=net{number},id=eth{number},mac={mac},romfile="]
    argv += ["-chardev", "file,id=console,path=console.log", "-serial", "chardev:console"]
    argv += ["-chardev", "socket,id=qmp,path=qmp.sock,server=on,wait=off", "-mon", "chardev=qmp,mode=control"]
    argv += ["-chardev", "socket,id=lab,path=lab.sock,server=on,wait=off", "-device", "virtio-serial-pci"]
    argv += ["-device", f"virtserialport,chardev=lab,name={PORT_NAME}"]
    argv += ["-device", "virtio-rng-pci", "-device", "vmgenid,guid=auto"]
    # a machine that fails to boot must end and not try for ever; machines.py allows reboots once it is up
    argv += ["-action", "reboot=shutdown"]
    return argv


def make_overlay(disk: Path, *, on: Path) -> None:
    """Make ``disk``, a qcow2 file that holds what is written while ``on`` is only read."""
    form = "qcow2" if on.suffix == ".qcow2" else "raw"
    argv = [command("qemu-img"), "create", "-q", "-f", "qcow2", "-b", str(on), "-F", form, str(disk)]
    done = run_bound(argv)
    if done.returncode:
        raise SwarmscopeError(
            f"qemu-img could not make {disk}: {done.stderr.strip()}", hint="is the disk full?"
        )
