"""The image's cache and recipe: names, what is laid over, found, refused. Nothing is built here."""

from __future__ import annotations

import fcntl
import io
import json
import os
import tarfile
import threading
from pathlib import Path

import pytest

from swarmscope.errors import PreflightFailed, SwarmscopeError, UsageError
from swarmscope.lab import guest, image, image_build, image_recipe, image_trees
from swarmscope.lab.image import ImageOptions
from swarmscope.lab.image_recipe import PACKAGES, digest, overlay_tar
from swarmscope.lab.image_trees import Workshop, telling_line


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "swarmscope"


def put_image(cache: Path, name: str, *, modules: str | None = "2.16") -> Path:
    """An image as ``ensure`` leaves it, without the content."""
    folder = cache / "images" / name
    folder.mkdir(parents=True)
    for file in ("disk.qcow2", "vmlinuz", "initrd"):
        (folder / file).write_text("x")
    (folder / "about.json").write_text(
        json.dumps({"summary": "Debian 13, kernel 6", "lttng_modules": modules})
    )
    return folder


def silent(text: str) -> None:
    pass


def test_a_digest_names_the_recipe_and_not_the_mirror() -> None:
    base = digest(ImageOptions())
    assert digest(ImageOptions(mirror="http://elsewhere/debian")) == base
    others = {
        digest(ImageOptions(kernel_package="linux-image-cloud-amd64")),
        digest(ImageOptions(kernel_suite="trixie-backports")),
        digest(ImageOptions(lttng=False)),
        digest(ImageOptions(size_gib=9)),
    }
    assert len(others | {base}) == 5


def test_a_changed_guest_file_or_script_is_another_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = digest(ImageOptions())
    changed = {**guest.files(), "/etc/motd": (0o644, b"hello\n")}
    with monkeypatch.context() as patch:
        patch.setattr(guest, "files", lambda: changed)
        assert digest(ImageOptions()) != base
    for name, text in image_recipe.scripts().items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(image_recipe, "RECIPE", tmp_path)
    assert digest(ImageOptions()) == base
    (tmp_path / "init").write_text("#!/bin/sh\n")
    assert digest(ImageOptions()) != base


def test_every_package_says_what_it_is_for() -> None:
    assert [name for name, why in PACKAGES.items() if len(why) < 4] == []


def test_the_overlay_holds_settings_masks_and_guest_files_as_roots() -> None:
    with tarfile.open(fileobj=io.BytesIO(overlay_tar())) as tar:
        members = {m.name: m for m in tar.getmembers()}
        for path, (mode, body) in guest.files().items():
            member = members[path.lstrip("/")]
            taken = tar.extractfile(member)
            assert taken is not None
            assert (member.mode, taken.read()) == (mode, body)
    masked = members["etc/systemd/system/systemd-udev-settle.service"]
    assert masked.issym()
    assert masked.linkname == "/dev/null"
    assert {(m.uid, m.gid) for m in members.values()} == {(0, 0)}
    assert not any(name.startswith("/") or ".." in name for name in members)


def test_guest_files_do_not_collide_with_a_mask() -> None:
    assert {path.lstrip("/") for path in guest.files()} & set(image_recipe.masks()) == set()


def test_an_image_in_the_cache_is_found_without_any_tool(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put_image(cache, digest(ImageOptions()))
    monkeypatch.setattr(image_trees, "SYSTEM_PATH", "/nonexistent")
    found = image.ensure(ImageOptions(), say=silent)
    assert (found.folder, found.version) == (folder, "Debian 13, kernel 6")
    assert found.about()["summary"] == found.version


def test_an_image_without_lttng_says_so_every_time(cache: Path) -> None:
    put_image(cache, digest(ImageOptions()), modules=None)
    put_image(cache, digest(ImageOptions(lttng=False)), modules=None)
    told: list[str] = []
    image.ensure(ImageOptions(lttng=False), say=told.append)
    assert told == []
    for _ in range(2):
        image.ensure(ImageOptions(), say=told.append)
    assert len(told) == 2
    assert "no LTTng modules" in told[0]


@pytest.mark.parametrize("lost", ["disk.qcow2", "vmlinuz", "initrd", "about.json"])
def test_an_image_without_one_of_its_files_is_not_found(cache: Path, lost: str) -> None:
    folder = put_image(cache, digest(ImageOptions()))
    assert image.find(ImageOptions()) is not None
    (folder / lost).unlink()
    assert image.find(ImageOptions()) is None
    assert image.images() == ()


def test_a_half_built_image_is_not_listed_and_its_leftovers_go(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leftover = put_image(cache, f"{digest(ImageOptions())}.new")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    stale = tmp_path / f"tmp/swarmscope-image-{os.geteuid()}-killed"
    stale.mkdir()
    assert image.images() == ()
    seen: list[bool] = []

    def build(folder: Path, **_: object) -> None:
        seen.extend([(leftover / "disk.qcow2").exists(), stale.exists()])
        (folder / "build.log").write_text("E: the reason\n")
        raise SwarmscopeError("a step failed")

    monkeypatch.setattr(image_build, "build", build)
    monkeypatch.setattr(image, "require_tools", lambda: None)
    with pytest.raises(SwarmscopeError, match="a step failed") as raised:
        image.ensure(ImageOptions(), say=silent)
    assert seen == [False, False]
    kept = cache / f"images/{digest(ImageOptions())}.failed.log"
    assert str(kept) in raised.value.hint
    assert kept.read_text() == "E: the reason\n"
    assert not leftover.exists()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_two_builders_build_once(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(image, "require_tools", lambda: None)
    name = digest(ImageOptions())
    builds: list[Path] = []
    first_is_in = threading.Event()
    second_waits = threading.Event()

    def build(folder: Path, **_: object) -> None:
        builds.append(folder)
        first_is_in.set()
        assert second_waits.wait(10)
        made = put_image(tmp_path / "made", name)
        for file in made.iterdir():
            file.rename(folder / file.name)

    monkeypatch.setattr(image_build, "build", build)
    found: list[image.Image] = []
    first = threading.Thread(target=lambda: found.append(image.ensure(ImageOptions(), say=silent)))
    first.start()
    assert first_is_in.wait(10)
    told: list[str] = []

    def say(text: str) -> None:
        told.append(text)
        second_waits.set()

    found.append(image.ensure(ImageOptions(), say=say))
    first.join(10)
    assert told == ["another build of an image is under way: waiting for it"]
    assert len(builds) == 1
    assert found[0] == found[1]
    # nobody holds the lock afterwards
    with (cache / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_images_are_listed_and_removed_by_name(cache: Path) -> None:
    put_image(cache, "0123456789abcdef")
    put_image(cache, "fedcba9876543210")
    image.remove("0123456789abcdef")
    assert [i.digest for i in image.images()] == ["fedcba9876543210"]
    assert not (cache / "images/0123456789abcdef").exists()
    with pytest.raises(UsageError, match="no image 0123456789abcdef") as raised:
        image.remove("0123456789abcdef")
    assert raised.value.hint == "there are: fedcba9876543210"


def test_what_is_missing_is_named_at_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_trees, "SYSTEM_PATH", "/nonexistent")
    with pytest.raises(PreflightFailed, match="mmdebstrap") as raised:
        image.ensure(ImageOptions(), say=silent)
    assert "qemu-img" in raised.value.message
    assert "mmdebstrap" in raised.value.hint
    assert "qemu-utils" in raised.value.hint
    assert not cache.exists()


def test_too_little_room_is_said_before_anything_is_fetched(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(image, "require_tools", lambda: None)
    monkeypatch.setattr(image, "SCRATCH_BYTES", 1 << 60)
    with pytest.raises(PreflightFailed, match=r"needs \d+ GiB in"):
        image.ensure(ImageOptions(), say=silent)
    assert image.images() == ()


def test_under_sudo_the_cache_is_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid():
        pytest.skip("what sudo sets counts for root only")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("SUDO_UID", "65534")
    assert image.cache_folder() == Path("/nonexistent/.cache/swarmscope")
    monkeypatch.delenv("SUDO_UID")
    assert image.cache_folder() == Path.home() / ".cache/swarmscope"


def test_a_failed_step_ends_in_its_tools_first_complaint(tmp_path: Path) -> None:
    shop = Workshop(scratch=tmp_path, log=tmp_path / "log", stop=threading.Event())
    shop.beside("true")
    with pytest.raises(SwarmscopeError, match="running sh failed: E: Unable to locate package nonsense"):
        shop.beside(
            "sh", "-c", "echo fetching; echo 'E: Unable to locate package nonsense'; echo more; exit 100"
        )
    assert "fetching" in (tmp_path / "log").read_text()


def test_a_step_ends_when_the_build_is_stopped(tmp_path: Path) -> None:
    shop = Workshop(scratch=tmp_path, log=tmp_path / "log", stop=threading.Event())
    threading.Timer(0.3, shop.stop.set).start()
    with pytest.raises(SwarmscopeError, match="running sleep failed"):
        shop.beside("sleep", "60")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("a\n\nb\n", "b"),
        ("  x.c:3:1: error: no such thing\nmake: *** [all] Error 2\n", "x.c:3:1: error: no such thing"),
        ("I: running\nE: first\nE: second\n", "E: first"),
    ],
)
def test_the_telling_line_is_the_first_error_or_the_end(text: str, line: str) -> None:
    assert telling_line(text) == line
