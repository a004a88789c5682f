"""How long a command takes, and whether one is so many times as quick as another.

Scope: whole processes, from their start to their end: what a user waits for, imports included, by the wall
clock. Two commands take turns, so that a machine that slows down slows both; each finds what it reads in
memory (``warm``), so that nobody waits for the disk. The peak is what a process says
of itself in its last line (``peak``, see ``bench.decode``): what the kernel tells a parent holds the parent's
own memory too.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import monotonic

from swarmscope.errors import SwarmscopeError


@dataclass(frozen=True, slots=True)
class Taken:
    """One command: seconds of each of its turns, as it took and as it says of its work alone; its largest
    peak.

    ``working`` is what a process of ours spent on decoding, the first call's loading of compiled code with
    it, but not the start of the interpreter; of others it is the same as ``seconds``. ``peak`` in bytes, 0:
    not said.
    """

    seconds: tuple[float, ...]
    working: tuple[float, ...]
    peak: int = 0

    @property
    def whole(self) -> float:
        """Median of the whole process."""
        return median(self.seconds)

    @property
    def work(self) -> float:
        """Median of its work."""
        return median(self.working)


def take(command: Sequence[str]) -> Taken:
    """Run it once, its output thrown away; ``SwarmscopeError`` where it fails."""
    seconds = _run(command, subprocess.DEVNULL)
    return Taken((seconds,), (seconds,))


def take_ours(command: Sequence[str]) -> Taken:
    """The same of a command whose output is one line of JSON with its ``peak`` and ``seconds``."""
    with tempfile.TemporaryFile() as out:
        seconds = _run(command, out.fileno())
        out.seek(0)
        said = json.loads(out.read())
        return Taken((seconds,), (float(said["seconds"]),), int(said["peak"]))


def in_turn(
    tool: Sequence[str], ours: Sequence[str], *, rounds: int, reads: Sequence[Path] = ()
) -> tuple[Taken, Taken]:
    """Both commands ``rounds`` times, one after the other; ``reads``: files and folders that they read."""
    theirs, mine = [], []
    for _ in range(rounds):
        warm(reads)
        theirs.append(take(tool))
        warm(reads)
        mine.append(take_ours(ours))
    return together(theirs), together(mine)


def warm(paths: Sequence[Path]) -> None:
    """Read files, and all files of folders, so that the kernel has them in memory."""
    room = bytearray(1 << 22)
    for path in paths:
        for file in path.rglob("*") if path.is_dir() else (path,):
            if file.is_file():
                with file.open("rb", buffering=0) as data:
                    while data.readinto(room):
                        pass


def together(turns: Sequence[Taken]) -> Taken:
    """Several turns of one command as one."""
    whole, work = ([getattr(one, name)[0] for one in turns] for name in ("seconds", "working"))
    return Taken(tuple(whole), tuple(work), max(one.peak for one in turns))


def _run(command: Sequence[str], out: int) -> float:
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    started = monotonic()
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, env=environment, check=False
    )
    seconds = monotonic() - started
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise SwarmscopeError(f"{' '.join(command)} ended with {done.returncode}: {' '.join(last)}")
    return seconds
