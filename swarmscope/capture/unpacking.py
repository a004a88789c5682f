"""Artifacts as their own tool wants them: ``trace.dat`` for KernelShark, a folder for Trace Compass.

Scope: after a pull, each packed artifact of such a format is unpacked once beside the packed file. That one
stays: it is what the manifest's checksum is of. What a tar from a host says of paths, links and owners is not
trusted.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import zstandard

from swarmscope.errors import TraceFileError
from swarmscope.formats import FORMATS, packed_names
from swarmscope.store import Run, open_packed


def unpack(run: Run) -> list[Path]:
    """Unpack what is here and not unpacked yet; the new files and folders.

    Raises ``TraceFileError`` naming the artifact that cannot be unpacked; those before it stay.
    """
    made = []
    for packed, target, folder in _waiting(run):
        beside = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            _extract(packed, beside) if folder else _copy(packed, beside)
            beside.replace(target)
        except (OSError, EOFError, zlib.error, zstandard.ZstdError, tarfile.TarError) as error:
            raise TraceFileError(
                f"{packed}: cannot be unpacked: {error}",
                hint="fetch it again: delete it, then `invoke collect`",
            ) from error
        finally:
            if beside.is_dir():
                shutil.rmtree(beside)
            beside.unlink(missing_ok=True)
        made.append(target)
    return made


def _waiting(run: Run) -> Iterator[tuple[Path, Path, bool]]:
    """(packed file, what it is to become, whether that is a folder)."""
    for host, recorders in run.read()["recorders"].items():
        for recorder in recorders:
            for output in recorder["outputs"]:
                known = FORMATS.get(output["format"])
                target = run.artifact(host, f"{recorder['id']}/{output['file'].rstrip('/')}")
                if known is None or not known.unpacked or target.exists():
                    continue
                for name in packed_names(output["file"])[:2]:
                    packed = run.artifact(host, f"{recorder['id']}/{name}")
                    if packed.is_file():
                        yield packed, target, output["file"].endswith("/")


def _copy(packed: Path, target: Path) -> None:
    with packed.open("rb") as file, target.open("xb") as sink:
        if packed.suffix != ".zst":
            with open_packed(packed) as source:
                shutil.copyfileobj(source, sink, 1 << 20)
            return
        # Its stream reader takes a file cut off in the middle for one that ends there.
        unpacker = zstandard.ZstdDecompressor().decompressobj()
        while piece := file.read(1 << 20):
            sink.write(unpacker.decompress(piece))
        if not unpacker.eof:
            raise EOFError("it ends in the middle")


def _extract(packed: Path, target: Path) -> None:
    """Regular files only, below ``target``; anything else in the tar was not put there by our agent."""
    target.mkdir()
    with open_packed(packed) as source, tarfile.open(fileobj=source, mode="r|") as tar:
        for member in tar:
            name = PurePosixPath(member.name)
            content = tar.extractfile(member) if member.isreg() else None
            if content is None or name.is_absolute() or ".." in name.parts:
                raise tarfile.ReadError(f"{member.name!r} is not a plain file inside the folder")
            path = target.joinpath(*name.parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as sink:
                shutil.copyfileobj(content, sink, 1 << 20)
