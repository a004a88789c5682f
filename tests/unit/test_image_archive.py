"""Reading a Debian archive: here one made on the spot, signed by nobody and read by the real apt."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from swarmscope.errors import PreflightFailed, SwarmscopeError
from swarmscope.lab import image_archive
from swarmscope.lab.image_archive import Archive, Kernel, sources

pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs apt")

NEWER = "6.17.8+deb14-amd64"
OLDER = "6.12.107+deb13-amd64"


def stanza(name: str, version: str, *, depends: str = "", file: Path | None = None) -> str:
    body = file.read_bytes() if file else b""
    text = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: nobody\n"
    text += f"Depends: {depends}\n" if depends else ""
    pool = f"pool/{file.name}" if file else f"pool/{name}.deb"
    digest = hashlib.sha256(body).hexdigest()
    return f"{text}Filename: {pool}\nSize: {len(body)}\nSHA256: {digest}\nDescription: x\n\n"


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    root = tmp_path / "mirror"
    control = tmp_path / "deb/DEBIAN"
    control.mkdir(parents=True)
    (control / "control").write_text(
        "Package: lttng-modules-dkms\nVersion: 2.16.0-1\nArchitecture: amd64\n"
        "Maintainer: nobody\nDescription: x\n"
    )
    pool = root / "pool"
    pool.mkdir(parents=True)
    package = pool / "lttng-modules-dkms_2.16.0-1_amd64.deb"
    subprocess.run(["dpkg-deb", "--build", control.parent, package], check=True, capture_output=True)
    suites = {
        "trixie": stanza("linux-image-amd64", "6.12.107-1", depends=f"linux-image-{OLDER} (= 6.12.107-1)")
        + stanza(f"linux-image-{OLDER}", "6.12.107-1", depends="kmod, linux-base (>= 4.3)")
        + stanza("bash", "5.2"),
        "trixie-backports": stanza(
            "linux-image-amd64", "6.17.8-1~bpo13+1", depends=f"linux-image-{NEWER} (= 6.17.8-1~bpo13+1)"
        )
        + stanza("lttng-modules-dkms", "2.16.0-1", file=package),
    }
    for suite, text in suites.items():
        lists = root / "dists" / suite / "main/binary-amd64"
        lists.mkdir(parents=True)
        (lists / "Packages").write_text(text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        (root / "dists" / suite / "Release").write_text(
            f"Codename: {suite}\nSuite: {suite}\nArchitectures: amd64\nComponents: main\n"
            "Date: Thu, 01 Oct 2026 00:00:00 UTC\n"
            f"SHA256:\n {digest} {len(text)} main/binary-amd64/Packages\n"
        )

    def unsigned(suites: tuple[str, ...], *, mirror: str) -> tuple[str, ...]:
        return tuple(
            line.replace("signed-by=", "trusted=yes ignored=") for line in sources(suites, mirror=mirror)
        )

    monkeypatch.setattr(image_archive, "sources", unsigned)
    return f"file:{root}"


def opened(tmp_path: Path, mirror: str, *suites: str) -> Archive:
    archive = Archive(tmp_path / "apt", suites=suites, mirror=mirror)
    archive.update()
    return archive


def test_a_metapackage_leads_to_the_kernel_of_its_suite(tmp_path: Path, mirror: str) -> None:
    archive = opened(tmp_path, mirror, "trixie", "trixie-backports")
    older = archive.kernel("linux-image-amd64", suite="trixie")
    assert older == Kernel(release=OLDER, version="6.12.107-1")
    assert (older.image, older.headers) == (f"linux-image-{OLDER}", f"linux-headers-{OLDER}")
    newer = archive.kernel("linux-image-amd64", suite="trixie-backports")
    assert newer == Kernel(release=NEWER, version="6.17.8-1~bpo13+1")


def test_one_kernel_by_its_name_is_itself(tmp_path: Path, mirror: str) -> None:
    archive = opened(tmp_path, mirror, "trixie")
    assert archive.kernel(f"linux-image-{OLDER}", suite="trixie").release == OLDER


@pytest.mark.parametrize("package", ["bash", "linux-image-nonsense"])
def test_what_is_no_kernel_package_is_refused_by_name(tmp_path: Path, mirror: str, package: str) -> None:
    with pytest.raises(PreflightFailed, match=f"{package} is not a kernel package of Debian trixie"):
        opened(tmp_path, mirror, "trixie").kernel(package, suite="trixie")


def test_missing_packages_are_all_named(tmp_path: Path, mirror: str) -> None:
    archive = opened(tmp_path, mirror, "trixie")
    assert archive.missing(["bash", "nonsense", "linux-image-amd64", "rubbish"]) == ("nonsense", "rubbish")
    assert archive.version("nonsense") is None


def test_a_package_file_is_fetched_by_version(tmp_path: Path, mirror: str) -> None:
    archive = opened(tmp_path, mirror, "trixie-backports")
    assert archive.version("lttng-modules-dkms") == "2.16.0-1"
    file = archive.download("lttng-modules-dkms", "2.16.0-1")
    shown = subprocess.run(["dpkg-deb", "-f", file, "Version"], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "2.16.0-1"
    with pytest.raises(SwarmscopeError, match="lttng-modules-dkms 9-9 could not be fetched"):
        archive.download("lttng-modules-dkms", "9-9")


def test_a_mirror_out_of_reach_is_one_clear_error(tmp_path: Path) -> None:
    # port 9 of this machine itself: refused at once, nothing leaves
    archive = Archive(tmp_path / "apt", suites=("trixie",), mirror="http://127.0.0.1:9/debian")
    with pytest.raises(PreflightFailed, match="Debian trixie could not be fetched from http://127") as raised:
        archive.update()
    assert "\n" not in raised.value.message
    assert "http_proxy" in raised.value.hint


def test_an_unsigned_archive_is_refused(tmp_path: Path, mirror: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_archive, "sources", sources)
    with pytest.raises(PreflightFailed, match="could not be fetched"):
        opened(tmp_path, mirror, "trixie")
