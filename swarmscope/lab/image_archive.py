"""Debian's package lists, read without touching this machine's own: which versions an image would be made of.

Scope: a private apt folder with its own sources, `apt-get update`, look-ups, and fetching one package. Works
for any user. Signatures are checked against Debian's archive keys as always. Limits: amd64, component main.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

from swarmscope.errors import PreflightFailed, SwarmscopeError
from swarmscope.lab.privileges import SYSTEM_PATH

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def sources(suites: Sequence[str], *, mirror: str) -> tuple[str, ...]:
    """Lines of a sources.list, for apt and mmdebstrap alike."""
    # a mirror that stands still (a snapshot, a cache without a way out) is as good a lab as any
    options = f"signed-by={KEYRING} arch=amd64 check-valid-until=no"
    return tuple(f"deb [{options}] {mirror} {suite} main" for suite in suites)


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel of the archive. ``release`` is what `uname -r` will say; packages are named by it."""

    release: str
    version: str

    @property
    def image(self) -> str:
        return f"linux-image-{self.release}"

    @property
    def headers(self) -> str:
        return f"linux-headers-{self.release}"


class Archive:
    """Package lists of some suites, in ``folder`` and nowhere else."""

    def __init__(self, folder: Path, *, suites: Sequence[str], mirror: str) -> None:
        self.suites = tuple(suites)
        self.mirror = mirror
        self.folder = folder

    def update(self) -> None:
        """Fetch the lists. Raises PreflightFailed when the mirror cannot be reached or has no such suite."""
        for sub in ("etc/preferences.d", "lists/partial", "cache/archives/partial"):
            (self.folder / sub).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        (self.folder / "sources.list").write_text("\n".join(sources(self.suites, mirror=self.mirror)) + "\n")
        (self.folder / "apt.conf").write_text(self._configuration())
        done = self._apt("apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update")
        if done.returncode:
            names = ", ".join(self.suites)
            raise PreflightFailed(
                f"the package lists of Debian {names} could not be fetched from {self.mirror}: {_why(done)}",
                hint="building the image of a lab of machines needs a Debian mirror once; behind a proxy, "
                "set http_proxy",
            )

    def missing(self, names: Collection[str]) -> tuple[str, ...]:
        """Those of ``names`` that are no packages of these suites."""
        shown = self._apt("apt-cache", "--no-all-versions", "show", *names).stdout
        there = set(re.findall(r"^Package: (\S+)$", shown, flags=re.MULTILINE))
        return tuple(name for name in names if name not in there)

    def kernel(self, package: str, *, suite: str) -> Kernel:
        """The kernel that ``package`` stands for in ``suite``. Raises PreflightFailed when there is none."""
        shown = self._apt("apt-cache", "show", f"{package}/{suite}").stdout or ""
        stanza = shown.partition("\n\n")[0]
        named = re.search(r"^Package: linux-image-(\d\S*)$", stanza, flags=re.MULTILINE) or re.search(
            r"^Depends:.*?\blinux-image-(\d[^\s,(|]*)", stanza, flags=re.MULTILINE
        )
        version = re.search(r"^Version: (\S+)$", stanza, flags=re.MULTILINE)
        if named is None or version is None:
            raise PreflightFailed(
                f"{package} is not a kernel package of Debian {suite}",
                hint="for example linux-image-amd64, or linux-image-cloud-amd64",
            )
        return Kernel(release=named[1], version=version[1])

    def version(self, package: str) -> str | None:
        shown = self._apt("apt-cache", "--no-all-versions", "show", package).stdout
        found = re.search(r"^Version: (\S+)$", shown, flags=re.MULTILINE)
        return found[1] if found else None

    def download(self, package: str, version: str) -> Path:
        """Fetch one package file into the folder; its checksum is that of the signed lists."""
        done = self._apt("apt-get", "-q", "download", f"{package}={version}")
        files = sorted(self.folder.glob(f"{package}_*.deb"))
        if done.returncode or not files:
            raise SwarmscopeError(
                f"{package} {version} could not be fetched from {self.mirror}: {_why(done)}"
            )
        return files[-1]

    def _configuration(self) -> str:
        here = self.folder
        return (
            f'Dir "{here}/";\nDir::State "{here}/";\nDir::State::Lists "{here}/lists/";\n'
            f'Dir::State::status "{here}/status";\nDir::Cache "{here}/cache/";\nDir::Etc "{here}/etc/";\n'
            f'Dir::Etc::sourcelist "{here}/sources.list";\nDir::Etc::sourceparts "-";\n'
            'Dir::Bin::methods "/usr/lib/apt/methods/";\n'
            'APT::Architecture "amd64";\nAPT::Architectures { "amd64"; };\nAcquire::Languages "none";\n'
            # as root apt would drop to a user who cannot enter a private folder
            'APT::Sandbox::User "root";\nAcquire::Retries "3";\nAcquire::http::Timeout "30";\n'
        )

    def _apt(self, *argv: str) -> CompletedProcess[str]:
        # the machine's own configuration is left out by the folder that apt.conf moves everything to
        return subprocess.run(
            ["env", f"APT_CONFIG={self.folder}/apt.conf", f"PATH={SYSTEM_PATH}", "LC_ALL=C.UTF-8", *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=self.folder,
            check=False,
        )


def _why(done: CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if line.startswith(("E:", "W:"))]
    return lines[0][2:].strip() if lines else done.stderr.strip()[-300:] or f"exit {done.returncode}"
