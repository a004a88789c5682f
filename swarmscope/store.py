"""Run directories: the border between what touches hosts and what works offline.

A run is a directory ``runs/<id>/``::

    run.json               what was planned, what happened, what is missing (format 1)
    traffic.json           {trial: [[sequence, round trip in ns], ...]}
    raw/<host>/...         facts.json, topology.json, manifest.json and one folder per recorder, packed
    tables/<table>.parquet the trace, see ``trace.schema``
    comparison.json        the answer as data
    report.html            the answer as a page

Scope: naming, finding, atomic writing, packed files. It knows nothing of what the files mean. Files
are written beside their name and renamed, so a reader never sees half a file.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import zstandard

from swarmscope.errors import UsageError

FORMAT = 1
LAST = "last"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
GZIP_MAGIC = b"\x1f\x8b"


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` beside ``path`` and rename: the file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: object) -> None:
    """Like :func:`write_atomic`, as indented JSON."""
    write_atomic(path, (json.dumps(value, indent=1, sort_keys=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The JSON in a file of a run; ``UsageError`` naming the file and the byte where it is broken."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file", hint="run `invoke collect` first") from None
    except ValueError as error:
        at = getattr(error, "pos", 0)
        raise UsageError(
            f"{path}: not JSON at byte {at}: {error}", hint="fetch it again: `invoke collect`"
        ) from None


def open_packed(path: Path) -> BinaryIO:
    """A packed file as a readable binary stream: zstd and gzip, told by name or content, are unpacked."""
    file = path.open("rb")
    magic = file.read(4)
    file.seek(0)
    if path.suffix == ".zst" or magic == ZSTD_MAGIC:
        # The decompressor alone cannot be read line by line.
        return io.BufferedReader(zstandard.open(file, "rb", closefd=True))
    if path.suffix == ".gz" or magic[:2] == GZIP_MAGIC:
        file.close()
        return cast(BinaryIO, gzip.open(path, "rb"))
    return file


def checksum(path: Path) -> str:
    """SHA-256 of a file in hex, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def new_run_id(playbook: str, *, now: datetime | None = None) -> str:
    """``YYYYMMDD-HHMMSS-<playbook>-<4 hex>`` in UTC: sorts by time, unique enough for a team."""
    moment = now or datetime.now(timezone.utc)
    return f"{moment:%Y%m%d-%H%M%S}-{playbook}-{secrets.token_hex(2)}"


@dataclass(frozen=True, slots=True)
class Run:
    """One run's directory."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def tables(self) -> Path:
        return self.path / "tables"

    @property
    def page(self) -> Path:
        return self.path / "report.html"

    def read(self) -> dict[str, Any]:
        """``run.json``; ``UsageError`` where it is missing, broken, or of a newer format."""
        path = self.path / "run.json"
        record = read_json(path)
        if not isinstance(record, dict) or "format" not in record:
            raise UsageError(f"{path}: not a run's record: key 'format' is missing")
        if record["format"] > FORMAT:
            message = f"{path}: format {record['format']} is newer than this version reads ({FORMAT})"
            raise UsageError(message, hint="install a newer swarmscope")
        return record

    def write(self, record: Mapping[str, Any]) -> None:
        """Replace ``run.json``."""
        write_json(self.path / "run.json", dict(record))

    def raw(self, host: str) -> Path:
        return self.path / "raw" / host

    def artifact(self, host: str, relative: str) -> Path:
        """Where one artifact of a host lies; ``ValueError`` where ``relative`` would leave its folder.

        Manifests come from hosts, so their paths are not trusted.
        """
        parts = PurePosixPath(relative)
        if parts.is_absolute() or ".." in parts.parts or not parts.parts:
            raise ValueError(f"artifact path leaves the run: {relative!r}")
        return self.raw(host).joinpath(*parts.parts)

    def traffic(self) -> dict[int, list[tuple[int, int]]]:
        """Round trips per trial: ``{trial: [(sequence, ns), ...]}``."""
        pairs = read_json(self.path / "traffic.json")
        return {int(trial): [(int(seq), int(ns)) for seq, ns in rows] for trial, rows in pairs.items()}


def runs_root() -> Path:
    """``$SWARMSCOPE_RUNS``, else ``runs`` in the working directory."""
    return Path(os.environ.get("SWARMSCOPE_RUNS", "runs"))


def list_runs(root: Path) -> list[Run]:
    """All runs below ``root``, oldest first."""
    if not root.is_dir():
        return []
    found = [Run(path) for path in root.iterdir() if (path / "run.json").is_file() and not path.is_symlink()]
    return sorted(found, key=lambda run: run.id)


def create_run(root: Path, run_id: str) -> Run:
    """Make the directory of a new run; ``FileExistsError`` if the id was taken meanwhile."""
    path = root / run_id
    path.mkdir(parents=True, exist_ok=False)
    return Run(path)


def remove_run(run: Run) -> None:
    """Remove a run's directory and all that is in it."""
    shutil.rmtree(run.path)


def open_run(root: Path, which: str = LAST) -> Run:
    """The run named by ``which``: ``last``, an id, the beginning of one, or a path.

    Raises ``UsageError`` where nothing, or more than one run, answers to it.
    """
    direct = Path(which)
    if which != LAST and (direct / "run.json").is_file():
        return Run(direct.resolve())
    runs = list_runs(root)
    if not runs:
        what = "no runs" if which == LAST else f"no run {which!r}: there are none"
        raise UsageError(f"{what} in {root}", hint="record one: `invoke trace --mode overlay`")
    if which == LAST:
        return runs[-1]
    matches = [run for run in runs if run.id == which] or [run for run in runs if run.id.startswith(which)]
    if len(matches) == 1:
        return matches[0]
    if not matches:
        raise UsageError(f"no run {which!r} in {root}", hint="`invoke runs` lists them")
    raise UsageError(f"{which!r} names {len(matches)} runs: " + ", ".join(run.id for run in matches))
