"""The programs a host has: path, version, whether its busybox is static, whether LTTng has its modules.

Scope: looked up in the usual system folders as well as PATH, because sudo may give a short one.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

from .protocol import AgentError

SEARCH = os.pathsep.join(
    [
        os.environ.get("PATH", ""),
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ]
)
VERSION_ARGUMENT = {
    "perf": "--version",
    "bpftrace": "--version",
    "trace-cmd": "-v",
    "ip": "-V",
    "ping": "-V",
    "busybox": "",
    "timeout": "--version",
    "zstd": "--version",
    "lttng": "--version",
    "lttng-sessiond": "--version",
}
_VERSION = re.compile(r"(?<!\w)v?(\d+\.\d[\w.+-]*)|-(\d+\.\d[\w.+-]*)")
_IPUTILS = re.compile(r"iputils[ -]s?(\S+)")
_PT_INTERP = 3


def inventory() -> dict[str, dict[str, Any] | None]:
    """``{tool: {path, version} or None}``; busybox also says ``static``."""
    found: dict[str, dict[str, Any] | None] = {}
    for name, argument in VERSION_ARGUMENT.items():
        path = shutil.which(name, path=SEARCH)
        if path is None:
            found[name] = None
            continue
        found[name] = {"path": path, "version": version(path, argument)}
        if name == "busybox":
            found[name] = {"path": path, "version": version(path, argument), "static": is_static(Path(path))}
    return found


def version(path: str, argument: str) -> str:
    """The version a tool states, without its name; empty where it states none in 5 seconds."""
    try:
        result = subprocess.run(
            [path, argument] if argument else [path], stdin=subprocess.DEVNULL, capture_output=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    text = (result.stdout or result.stderr).decode(errors="replace").strip()
    return parse_version(text)


def parse_version(text: str) -> str:
    """The version in the first line with a number of what a tool printed."""
    found = _IPUTILS.search(text) or _VERSION.search(text)
    return next(group for group in found.groups() if group).rstrip(",.") if found else ""


def has_lttng_modules() -> bool:
    """Whether the running kernel has LTTng's tracer: loaded, or to be loaded by its session daemon."""
    if Path("/sys/module/lttng_tracer").exists():
        return True
    folder = Path("/lib/modules") / os.uname().release
    listed = [folder / name for name in ("modules.dep", "modules.builtin")]
    return any(b"/lttng-tracer.ko" in path.read_bytes() for path in listed if path.is_file())


def is_static(path: Path) -> bool:
    """Whether an ELF file names no interpreter (elf(5)); False for anything else."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
            if head[:4] != b"\x7fELF" or len(head) < 64:
                return False
            wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
            offset = struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28)[0]
            size, count = struct.unpack_from(order + "HH", head, 54 if wide else 42)
            file.seek(offset)
            headers = file.read(size * count)
    except OSError:
        return False
    kinds = [
        struct.unpack_from(order + "I", headers, index * size)[0] for index in range(len(headers) // size)
    ]
    return bool(kinds) and _PT_INTERP not in kinds


def read_busybox() -> dict[str, str]:
    """A static busybox of this host: ``{"base64", "arch"}``; ``AgentError`` (missing) where there is none."""
    for folder in SEARCH.split(os.pathsep):
        path = Path(folder or ".") / "busybox"
        if folder and is_static(path):
            return {"base64": base64.b64encode(path.read_bytes()).decode("ascii"), "arch": os.uname().machine}
    raise AgentError("missing", "no static busybox on this host", hint="install busybox-static")
