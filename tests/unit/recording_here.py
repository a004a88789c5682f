"""Recordings of this machine's own kernel: trace instances, and trace-cmd where it can record.

A kernel whose function tracer is off refuses writes to some files that trace-cmd always writes; in a mount
namespace of its own, stand-ins take them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

TRACEFS = Path("/sys/kernel/tracing")
STAND_INS = ("set_ftrace_filter", "set_ftrace_notrace", "set_ftrace_pid", "set_graph_function")
PING = ["ping", "-q", "-c", "20", "-i", "0.002", "127.0.0.1"]


def need(*tools: str) -> None:
    """Skip the test where a tool, tracefs or root is missing."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed here: {' '.join(missing)}")
    if os.geteuid() or not (TRACEFS / "instances").is_dir():
        pytest.skip("needs root and tracefs")


@contextlib.contextmanager
def instance(name: str, *, buffer_kb: int = 1024) -> Iterator[Path]:
    """A trace instance on the monotonic clock that nobody else has, gone afterwards."""
    path = TRACEFS / "instances" / f"test.{os.getpid()}.{name}"
    path.mkdir()
    try:
        (path / "trace_clock").write_text("mono")
        (path / "buffer_size_kb").write_text(str(buffer_kb))
        (path / "options/hash-ptr").write_text("0")
        yield path
    finally:
        with contextlib.suppress(OSError):
            (path / "tracing_on").write_text("0")
        with contextlib.suppress(OSError):
            path.rmdir()


def ping(count: int = 20) -> None:
    """Some packets over loopback."""
    subprocess.run(["ping", "-q", "-f", "-c", str(count), "127.0.0.1"], check=True, capture_output=True)


def save_pages(source: Path, target: Path, systems: Sequence[str]) -> None:
    """What ``trace_pipe_raw`` gives of an instance, as the collector leaves it. Empties the buffer."""
    for cpu in sorted((source / "per_cpu").iterdir()):
        fd = os.open(cpu / "trace_pipe_raw", os.O_RDONLY | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError), (target / f"{cpu.name}.raw").open("wb") as file:
            while page := os.read(fd, 1 << 16):
                file.write(page)
        os.close(fd)
    for name in ("header_page", "header_event"):
        (target / name).write_bytes((TRACEFS / "events" / name).read_bytes())
    for system in systems:
        for layout in (TRACEFS / "events" / system).glob("*/format"):
            (target / "formats" / system).mkdir(parents=True, exist_ok=True)
            (target / "formats" / system / layout.parent.name).write_bytes(layout.read_bytes())
    (target / "saved_cmdlines").write_bytes((TRACEFS / "saved_cmdlines").read_bytes())
    (target / "kallsyms").write_bytes(Path("/proc/kallsyms").read_bytes())


def trace_cmd(*arguments: str) -> None:
    """Run trace-cmd, with stand-ins where this kernel has no function tracer."""
    script = (
        "d=$(mktemp -d); echo 1 > $d/1; "
        + "".join(
            f"[ -e {TRACEFS / name} ] && : > $d/{name} && mount --bind $d/{name} {TRACEFS / name}; "
            for name in STAND_INS
        )
        + 'mount --bind $d/1 /proc/sys/kernel/ftrace_enabled; "$@"; c=$?; '
        "umount /proc/sys/kernel/ftrace_enabled; "
        + "".join(f"umount {TRACEFS / name}; " for name in STAND_INS)
        + "rm -r $d; exit $c"
    )
    # Where tracing of functions was turned off for good, the kernel still lists the tracer.
    refused = _refuses(Path("/proc/sys/kernel/ftrace_enabled"))
    wrapped = ["unshare", "-m", "sh", "-c", script, "sh"] if refused else []
    done = subprocess.run([*wrapped, "trace-cmd", *arguments], capture_output=True, text=True, timeout=120)
    if done.returncode:
        pytest.skip(f"trace-cmd cannot record here: {done.stderr.strip()[-200:]}")


def _refuses(switch: Path) -> bool:
    try:
        switch.write_text(switch.read_text())
    except OSError:
        return True
    return False
