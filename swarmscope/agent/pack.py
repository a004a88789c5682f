"""Making what was recorded small and checkable before it is fetched.

Scope: every output of every recorder becomes ``<recorder>/<file>.zst`` (``.gz`` where the host has no zstd),
a folder (``ctf/``) becomes ``<recorder>/ctf.tar.zst``; the raw file is removed, and ``manifest.json`` lists
size and SHA-256 of what is to be fetched and the size it unpacks to.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from . import functions, ledger, tracefs
from .places import Places, give_to_caller
from .protocol import AgentError
from .recorder import Recorder
from .spawner import environment

MANIFEST = "manifest.json"
KALLSYMS = "kallsyms.txt"
TRACEABLE = "traceable.txt"
SURROUNDINGS = (KALLSYMS, TRACEABLE)
"""What ``kallsyms`` writes of the kernel."""
_CHUNK = 1 << 20


def pack(places: Places, run: str, recorders: list[Recorder]) -> list[dict[str, Any]]:
    """Compress the outputs of a run; ``[{"path", "size", "sha256", "raw_size", "recorder"}]``.

    May be called again: what was packed before stays listed. An output that was never written is listed
    in the manifest under ``missing``. A run that recorded nothing on this host has an empty list.
    """
    folder = places.run(run)
    if not folder.is_dir():
        return []
    done = {entry["path"]: entry for entry in _packed(folder)}
    missing = []
    wanted = [(name, "") for name in SURROUNDINGS if (folder / name).is_file()]
    wanted += [(f"{one.id}/{output}", one.id) for one in recorders for output in one.outputs]
    for path, owner in wanted:
        raw = folder / path
        if path.endswith("/"):
            path = f"{path[:-1]}.tar"
            if raw.is_dir():
                raw = _as_tar(raw, folder / path)
        if raw.is_file():
            entry = _compress(raw, run)
            entry.update({"path": str(Path(entry["path"]).relative_to(folder)), "recorder": owner})
            done[entry["path"]] = entry
        elif not any(f"{path}{suffix}" in done for suffix in (".zst", ".gz")):
            missing.append(path)
    files = sorted(done.values(), key=lambda entry: str(entry["path"]))
    partial = folder / f"{MANIFEST}.new"
    partial.write_text(
        json.dumps({"run": run, "files": files, "missing": missing}, indent=1), encoding="utf-8"
    )
    partial.replace(folder / MANIFEST)
    _give_away(folder)
    return files


def _as_tar(source: Path, target: Path) -> Path:
    """Put the files of a folder into one tar, and remove the folder."""
    with tarfile.open(target, "w") as tar:
        for path in sorted(source.rglob("*")):
            if path.is_file() and not path.is_symlink():
                tar.add(path, arcname=str(path.relative_to(source)), recursive=False)
    shutil.rmtree(source)
    return target


def _packed(folder: Path) -> list[dict[str, Any]]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return []
    return [entry for entry in manifest["files"] if (folder / entry["path"]).is_file()]


def _compress(raw: Path, run: str) -> dict[str, Any]:
    """Compress one file, remove it, and describe the result."""
    raw_size = raw.stat().st_size
    if shutil.which("zstd"):
        packed = raw.with_name(raw.name + ".zst")
        command = ["zstd", "-q", "-3", "-T1", "-f", str(raw), "-o", str(packed)]
        result = subprocess.run(command, env=environment(run), stdin=subprocess.DEVNULL, capture_output=True)
        if result.returncode:
            raise AgentError("failed", f"zstd {raw}: {result.stderr.decode(errors='replace').strip()}")
    else:
        packed = raw.with_name(raw.name + ".gz")
        with raw.open("rb") as source, gzip.open(packed, "wb", compresslevel=6) as target:
            shutil.copyfileobj(source, target, _CHUNK)
    raw.unlink()
    return {
        "path": str(packed),
        "size": packed.stat().st_size,
        "sha256": _digest(packed),
        "raw_size": raw_size,
    }


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()


def _give_away(folder: Path) -> None:
    for root, folders, names in os.walk(folder):
        for name in folders + names:
            give_to_caller(Path(root) / name)
    give_to_caller(folder)


def kallsyms(places: Places, run: str) -> int:
    """Write the kernel's text symbols, one ``name [module]`` a line, into the run's folder; how many there
    are. Beside them, in the same form, the functions that ftrace can trace, where this kernel has a function
    tracer.
    """
    ledger.note(places.state, run, {"kind": "directory", "path": str(places.run(run))})
    folder = places.make_run(run)
    names = set()
    with Path("/proc/kallsyms").open(encoding="utf-8", errors="replace") as file:
        for line in file:
            fields = line.split()
            if len(fields) >= 3 and fields[1] in "tTwW":
                names.add(" ".join(fields[2:4]))
    _write_names(folder / KALLSYMS, names)
    with contextlib.suppress(OSError):  # not there; or a locked-down kernel, which refuses to read it
        lines = tracefs.with_mounted(
            "tracefs", tracefs.TRACING, lambda root: functions.traceable(root) if root else []
        )
        if lines:
            _write_names(folder / TRACEABLE, {line for line in lines if functions.is_function(line)})
    return len(names)


def _write_names(path: Path, names: set[str]) -> None:
    path.write_text("".join(f"{name}\n" for name in sorted(names)), encoding="utf-8")
