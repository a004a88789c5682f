"""Which accelerator QEMU's machines can have here: tried, and not assumed.

Scope: KVM if it runs a boot sector to its end, with the processor that machines get, else emulation, and why.
The answer of a trial is kept in the user's cache for as long as this computer is up, because a KVM that hangs
costs seconds each time. Limits: x86-64.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from swarmscope.lab.image import cache_folder
from swarmscope.lab.privileges import command
from swarmscope.lab.qemu import CPU, PROGRAM, Kind, quoted
from swarmscope.lab.record import boot_id, write_atomic

# mov al, 42; mov dx, 0xf4; out dx, al; hlt: QEMU ends with code 42 * 2 + 1 when a CPU really ran this
BOOT_SECTOR = (b"\xb0\x2a\xba\xf4\x00\xee\xf4").ljust(510, b"\0") + b"\x55\xaa"
TRIAL_CODE = 42 * 2 + 1
TRIAL_S = 3.0
"""KVM needs tenths of a second; one that is emulated itself was seen to take 4 to 8 s, or not to end."""

KVM = Path("/dev/kvm")


@dataclass(frozen=True, slots=True)
class Accelerator:
    """What runs the machines' instructions; ``why`` says why not KVM, empty with KVM."""

    kind: Kind
    why: str = ""


def find(*, qemu_version: str, kvm: Path = KVM) -> Accelerator:
    """KVM if a boot sector run by it comes to its end, else emulation.

    A device node may be there that cannot be opened, or that opens and then runs nothing, or not with the
    processor that machines get.
    """
    if not kvm.exists():
        return Accelerator("tcg", f"no {kvm}")
    if not os.access(kvm, os.R_OK | os.W_OK):
        return Accelerator("tcg", f"this user may not open {kvm}")
    tried = {"boot": boot_id(), "qemu": qemu_version, "device": str(kvm), "cpu": CPU["kvm"]}
    kept = cache_folder() / "accelerator.json"
    with suppress(OSError, ValueError, KeyError):
        known = json.loads(kept.read_text(encoding="utf-8"))
        if known["tried"] == tried:
            return Accelerator(known["kind"], known["why"])
    why = attempt("kvm")
    found = Accelerator("tcg", f"{kvm} is there, but {why}") if why else Accelerator("kvm")
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(kept, json.dumps({"tried": tried, "kind": found.kind, "why": found.why}) + "\n")
    return found


def attempt(kind: Kind) -> str:
    """Run a boot sector under an accelerator; why that failed, empty when it worked."""
    with tempfile.TemporaryDirectory(prefix="swarmscope-") as folder:
        disk = Path(folder, "boot.raw")
        disk.write_bytes(BOOT_SECTOR.ljust(64 * 1024, b"\0"))
        argv = [command(PROGRAM), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        argv += ["-machine", "pc", "-accel", kind, "-cpu", CPU[kind], "-m", "16"]
        argv += ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]
        argv += ["-drive", f"file={quoted(disk)},format=raw,if=ide"]
        guard = [command("setpriv"), "--pdeathsig", "KILL"]
        try:
            done = subprocess.run(
                [*guard, *argv],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=TRIAL_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"nothing it ran came to its end in {TRIAL_S:.0f} s"
    if done.returncode == TRIAL_CODE:
        return ""
    words = done.stderr.strip().splitlines()
    return words[-1].removeprefix(f"{PROGRAM}: ") if words else f"QEMU ended with code {done.returncode}"
