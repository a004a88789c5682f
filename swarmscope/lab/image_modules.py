"""LTTng's kernel modules for one kernel of the archive, built in a root of their own and kept.

Scope: which package to build from, building it, the cache. Debian 13's own lttng-modules-dkms does not build
against its newest kernel, and such a break comes with a point release at any time; so there is an order of
places to try, and the first package that builds is taken. LTTng's modules and tools talk over a stable
interface: newer modules work with Debian 13's lttng-tools.
Limits: an image can be without them; the lttng collector is then not there, everything else is.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from swarmscope.errors import SwarmscopeError
from swarmscope.lab.image_archive import Archive, Kernel
from swarmscope.lab.image_recipe import RECIPE, SUITE
from swarmscope.lab.image_trees import Workshop

PACKAGE = "lttng-modules-dkms"
CANDIDATES = ("forky", "trixie", "trixie-backports", "sid")
"""Suites in the order in which their package is tried. forky's is known to build with Debian 13's kernel 6.12
and trixie's is known not to; should forky's move on to something that does not, trixie's may be mended."""

SCRIPT, TAR = "modules.sh", "modules.tar"
TOOLCHAIN = ("make", "dpkg")
"""Beside the headers, which bring the compiler that made the kernel."""


@dataclass(frozen=True, slots=True)
class LttngModules:
    """Built modules: ``tar`` is laid over a root file system; ``suite`` and ``version`` say from what."""

    tar: Path
    suite: str
    version: str


def modules_for(
    kernel: Kernel,
    shop: Workshop,
    *,
    cache: Path,
    mirror: str,
    kernel_sources: Sequence[str],
    say: Callable[[str], None],
) -> LttngModules | None:
    """LTTng's modules for ``kernel``, from ``cache`` or built; None when no candidate builds.

    ``kernel_sources`` are the lines of the sources.list that have the kernel's headers. Raises
    SwarmscopeError when the toolchain or a package cannot be had: that says nothing about what builds.
    """
    script = (RECIPE / SCRIPT).read_bytes()
    tools: Path | None = None
    tried: set[str] = set()
    for suite in CANDIDATES:
        archive = Archive(shop.scratch / f"apt-{suite}", suites=(suite,), mirror=mirror)
        try:
            archive.update()
        except SwarmscopeError as error:
            say(f"LTTng modules: {error}")
            continue
        version = archive.version(PACKAGE)
        if version is None or version in tried:
            continue
        tried.add(version)
        kept = cache / f"{kernel.release}_{version}_{hashlib.sha256(script).hexdigest()[:8]}"
        if (kept / TAR).exists():
            return LttngModules(tar=kept / TAR, suite=suite, version=version)
        attempt = replace(shop, log=shop.scratch / f"lttng-{suite}.log")
        package = archive.download(PACKAGE, version)
        tools = tools or _toolchain(kernel, shop, kernel_sources=kernel_sources)
        say(f"LTTng modules: building {version} of {suite} for {kernel.release}")
        try:
            tar = _build(tools, package, kernel, shop=attempt)
        except SwarmscopeError as error:
            if shop.stop.is_set():
                raise
            cache.mkdir(parents=True, exist_ok=True)
            failed = Path(shutil.copyfile(attempt.log, cache / f"{kept.name}.failed.log"))
            say(f"LTTng modules: {version} of {suite} does not build: {error} (all of it: {failed})")
            continue
        _keep(tar, attempt.log, kept, facts={"suite": suite, "version": version, "kernel": kernel.version})
        return LttngModules(tar=kept / TAR, suite=suite, version=version)
    return None


def _toolchain(kernel: Kernel, shop: Workshop, *, kernel_sources: Sequence[str]) -> Path:
    tree = shop.scratch / "tools"
    rules = [f"path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]
    packages = (kernel.headers, *TOOLCHAIN)
    shop.make_tree(tree, packages=packages, sources=kernel_sources, suite=SUITE, rules=rules)
    return tree


def _build(tools: Path, package: Path, kernel: Kernel, *, shop: Workshop) -> Path:
    shop.beside("mkdir", "-p", str(tools / "build"))
    for file, name in ((package, "lttng.deb"), (RECIPE / SCRIPT, SCRIPT)):
        shop.beside("cp", str(shop.open_copy(file, name)), str(tools / "build" / name))
    shop.inside(tools, "sh", f"/build/{SCRIPT}", kernel.release, str(os.cpu_count() or 1))
    tar = shop.scratch / TAR
    with tarfile.open(tar, "w") as packed:
        packed.add(tools / "build/modules", arcname=".", filter=_as_root)
    return tar


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = 0o755 if member.isdir() else 0o644
    return member


def _keep(tar: Path, log: Path, kept: Path, *, facts: dict[str, str]) -> None:
    beside = kept.with_name(f"{kept.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    shutil.copyfile(tar, beside / TAR)
    shutil.copyfile(log, beside / "build.log")
    (beside / "about.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(kept, ignore_errors=True)
    beside.replace(kept)
