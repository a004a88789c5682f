"""Building an image into a folder: packages, LTTng's modules at the same time, settings, disk.

Scope: the steps and their times. Where the result is kept, and whether it has to be built, is ``image``'s.
Limits: needs a Debian mirror and some minutes. That all packages are there is checked before any is fetched.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from swarmscope.errors import PreflightFailed
from swarmscope.lab import guest
from swarmscope.lab.image_archive import Archive, Kernel, sources
from swarmscope.lab.image_modules import LttngModules, modules_for
from swarmscope.lab.image_recipe import (
    KEPT,
    LEFT_OUT,
    LOGIN,
    PACKAGES,
    SUITE,
    ImageOptions,
    overlay_tar,
)  # fmt: skip
from swarmscope.lab.image_trees import Workshop

DISK, KERNEL, INITRD, ABOUT = "disk.qcow2", "vmlinuz", "initrd", "about.json"


def build(
    folder: Path, *, options: ImageOptions, scratch: Path, modules: Path, say: Callable[[str], None]
) -> None:
    """Build everything of an image into ``folder``; ``modules`` is where built LTTng modules are kept.

    Raises PreflightFailed when the mirror is out of reach or has not all packages, SwarmscopeError when a
    step fails; the log of all steps is ``folder/build.log``.
    """
    seconds: dict[str, float] = {}
    # what the digest was made of: a minute from now somebody may have edited it
    overlay = scratch / "overlay.tar"
    overlay.write_bytes(overlay_tar())
    overlay.chmod(0o644)
    shop = Workshop(scratch=scratch, log=folder / "build.log", stop=threading.Event())
    suites = tuple(dict.fromkeys((SUITE, options.kernel_suite)))
    lines = sources(suites, mirror=options.mirror)
    with _timed("lists", seconds):
        kernel = _look_up(Archive(scratch / "apt", suites=suites, mirror=options.mirror), options)
    say(f"building the image: Debian 13, kernel {kernel.release}; once, some minutes")
    tree = scratch / "root"

    def build_modules() -> LttngModules | None:
        if not options.lttng:
            return None
        with _timed("lttng", seconds):
            return modules_for(
                kernel, shop, cache=modules, mirror=options.mirror, kernel_sources=lines, say=say
            )

    with ThreadPoolExecutor(max_workers=1) as beside:
        # one waits for the network while the other computes
        lttng_to_be = beside.submit(build_modules)
        try:
            with _timed("packages", seconds):
                rules = [f"path-exclude={p}" for p in LEFT_OUT] + [f"path-include={p}" for p in KEPT]
                packages = (kernel.image, *PACKAGES)
                shop.make_tree(tree, packages=packages, sources=lines, suite=SUITE, rules=rules)
            lttng = lttng_to_be.result()
        except BaseException:
            shop.stop.set()
            raise
    with _timed("settings", seconds):
        tars = [overlay] if lttng is None else [overlay, shop.open_copy(lttng.tar, "lttng.tar")]
        for tar in tars:
            # /lib and /bin are links in Debian: into them, not over them
            shop.beside("tar", "-x", "--keep-directory-symlink", "-C", str(tree), "-f", str(tar))
        user, uid = LOGIN
        shop.inside(tree, "sh", "/tmp/recipe/finish.sh", kernel.release, user, str(uid), *guest.UNITS)
    with _timed("disk", seconds):
        for name in (KERNEL, INITRD):
            shutil.copyfile(tree / "boot" / name, folder / name)
        # the kernel mounts its own over it; without root these would be plain files
        shop.beside("find", str(tree / "dev"), "-mindepth", "1", "-delete")
        shop.make_disk(tree, folder / DISK, size_gib=options.size_gib)
    about = {
        "summary": _summary(kernel, lttng),
        "kernel": asdict(kernel),
        "lttng_modules": None if lttng is None else {"suite": lttng.suite, "version": lttng.version},
        "packages": _packages(tree),
        "options": asdict(options),
        "built": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": {step: round(value, 1) for step, value in seconds.items()},
    }
    (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _look_up(archive: Archive, options: ImageOptions) -> Kernel:
    archive.update()
    missing = archive.missing(list(PACKAGES))
    if missing:
        raise PreflightFailed(
            f"Debian {SUITE} at {options.mirror} has no package {', '.join(missing)}",
            hint="is the mirror complete?",
        )
    return archive.kernel(options.kernel_package, suite=options.kernel_suite)


def _packages(tree: Path) -> dict[str, str]:
    argv = ["dpkg-query", f"--admindir={tree}/var/lib/dpkg", "-W", "-f", "${Package} ${Version}\n"]
    listed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return dict(line.split(" ", 1) for line in listed.splitlines())


def _summary(kernel: Kernel, lttng: LttngModules | None) -> str:
    modules = f"LTTng modules {lttng.version} of {lttng.suite}" if lttng else "no LTTng modules"
    return f"Debian 13, kernel {kernel.release} ({kernel.version}), {modules}"


@contextmanager
def _timed(step: str, seconds: dict[str, float]) -> Iterator[None]:
    start = time.monotonic()
    try:
        yield
    finally:
        seconds[step] = time.monotonic() - start
