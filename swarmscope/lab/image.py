"""The disk image that machines of a lab boot from: found in the user's cache, or built there once.

Scope: the cache. ``image_recipe`` says what is in an image, ``image_build`` builds it. An image is named by a
digest of its recipe, so a changed recipe is a new image and a running lab keeps its own. Limits: amd64; one
build at a time.

On disk, in ``$XDG_CACHE_HOME or ~/.cache``/swarmscope/: ``images/<digest>/`` with ``disk.qcow2``,
``vmlinuz``, ``initrd``, ``about.json``, ``build.log``; ``lttng-modules/<kernel>_<version>_<recipe>/``;
``build.lock``. Under sudo it is the cache of the person who called it.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import pwd
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarmscope.errors import PreflightFailed, SwarmscopeError, UsageError
from swarmscope.lab import image_build
from swarmscope.lab.image_recipe import ImageOptions, digest
from swarmscope.lab.image_trees import require_tools, scratch_folder
from swarmscope.lab.record import give_to_user

__all__ = ["Image", "ImageOptions", "cache_folder", "ensure", "find", "images", "remove"]

SCRATCH_BYTES = 4 << 30
CACHE_BYTES = 2 << 30
"""Free room that a build needs where it works, and where it puts the result."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image in the cache. ``disk`` is a qcow2, to be used as a backing file and never written: it holds an
    ext4 labelled ``root`` on the whole disk. ``version`` is for people."""

    folder: Path
    disk: Path
    kernel: Path
    initrd: Path
    version: str
    digest: str

    def about(self) -> Mapping[str, Any]:
        """What it is made of: kernel, packages, versions, LTTng modules (or None), seconds of each step."""
        body: dict[str, Any] = json.loads((self.folder / image_build.ABOUT).read_text(encoding="utf-8"))
        return body


def ensure(options: ImageOptions, *, say: Callable[[str], None]) -> Image:
    """The image that ``options`` ask for; built when the cache has none, which takes minutes.

    ``say`` is told what is going on. Raises PreflightFailed for what this machine lacks (tools, room, a
    mirror), SwarmscopeError when a step of the build fails; half-built images are never found by anybody.
    """
    found = find(options)
    if found is not None:
        _say_what_is_missing(found, options, say=say)
        return found
    if platform.machine() != "x86_64":
        raise PreflightFailed(f"machines are x86_64, and this is {platform.machine()}: no image for it")
    require_tools()
    with _building(say):
        image = find(options) or _build(options, say=say)
    _say_what_is_missing(image, options, say=say)
    return image


def find(options: ImageOptions) -> Image | None:
    """The image that ``options`` ask for if it is in the cache; builds nothing."""
    return _read(_images() / digest(options))


def images() -> tuple[Image, ...]:
    """Every image in the cache, the newest last."""
    if not _images().is_dir():
        return ()
    found = (_read(folder) for folder in _images().iterdir() if len(folder.name) == 16)
    return tuple(sorted((i for i in found if i is not None), key=lambda i: i.disk.stat().st_mtime))


def remove(digest: str) -> None:
    """Remove one image from the cache. Machines that run on it keep it open; they cannot be started again."""
    image = next((i for i in images() if i.digest == digest), None)
    if image is None:
        names = ", ".join(i.digest for i in images()) or "none"
        raise UsageError(f"no image {digest} in {_images()}", hint=f"there are: {names}")
    # out of sight in one step: nobody finds half of it
    gone = image.folder.with_name(f"{digest}.gone")
    image.folder.rename(gone)
    shutil.rmtree(gone)


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME`` or ``~/.cache``, of the person behind sudo where there is one."""
    caller = os.environ.get("SUDO_UID", "") if os.geteuid() == 0 else ""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "swarmscope"
    if caller.isdigit():
        return Path(pwd.getpwuid(int(caller)).pw_dir) / ".cache/swarmscope"
    return Path.home() / ".cache/swarmscope"


def _say_what_is_missing(image: Image, options: ImageOptions, *, say: Callable[[str], None]) -> None:
    if options.lttng and image.about().get("lttng_modules") is None:
        say(
            f"the machines' image has no LTTng modules, so no lttng collector: no known package built for "
            f"its kernel (remove {image.folder} to try again)"
        )


def _images() -> Path:
    return cache_folder() / "images"


def _read(folder: Path) -> Image | None:
    try:
        about = json.loads((folder / image_build.ABOUT).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    image = Image(
        folder=folder,
        disk=folder / image_build.DISK,
        kernel=folder / image_build.KERNEL,
        initrd=folder / image_build.INITRD,
        version=about["summary"],
        digest=folder.name,
    )
    return image if all(p.is_file() for p in (image.disk, image.kernel, image.initrd)) else None


def _build(options: ImageOptions, *, say: Callable[[str], None]) -> Image:
    name = digest(options)
    beside = _images() / f"{name}.new"
    with scratch_folder() as scratch:
        _require_room(scratch, SCRATCH_BYTES)
        _require_room(_images(), CACHE_BYTES)
        beside.mkdir(parents=True)
        try:
            image_build.build(
                beside, options=options, scratch=scratch, modules=cache_folder() / "lttng-modules", say=say
            )
        except SwarmscopeError as error:
            kept = _images() / f"{name}.failed.log"
            if (beside / "build.log").exists():
                (beside / "build.log").replace(kept)
                error.hint = error.hint or f"everything the tools said is in {kept}"
            raise
        finally:
            _hand_over()
            if not (beside / image_build.ABOUT).exists():
                shutil.rmtree(beside, ignore_errors=True)
    shutil.rmtree(_images() / name, ignore_errors=True)
    beside.rename(_images() / name)
    others = [i for i in images() if i.digest != name]
    if others:
        say(f"images of other recipes are kept in {_images()}: {', '.join(i.digest for i in others)}")
    image = _read(_images() / name)
    if image is None:
        raise SwarmscopeError(f"the image in {_images() / name} is incomplete just after it was built")
    return image


@contextmanager
def _building(say: Callable[[str], None]) -> Iterator[None]:
    """Be the only build of this cache. Leftovers of one that was killed are removed."""
    _images().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "build.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build of an image is under way: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in (*_images().glob("*.new"), *_images().glob("*.gone")):
            shutil.rmtree(leftover, ignore_errors=True)
        yield


def _require_room(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise PreflightFailed(
            f"building the image needs {wanted >> 30} GiB in {folder}; free are {free / (1 << 30):.1f}",
            hint="free some room; TMPDIR and XDG_CACHE_HOME choose other places",
        )


def _hand_over() -> None:
    cache = cache_folder()
    give_to_user([cache.parent, cache, *cache.rglob("*")])
