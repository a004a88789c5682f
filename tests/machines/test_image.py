"""The image that machines boot from, as it was really built: looked at from outside, with debugfs.

Uses the image in the cache; builds it when there is none, which takes minutes and serves all other tests too.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmscope import console
from swarmscope.collectors import load_all
from swarmscope.errors import PreflightFailed
from swarmscope.lab import guest
from swarmscope.lab.image import Image, ImageOptions, ensure
from swarmscope.lab.image_recipe import MASKED_UNITS, PACKAGES
from swarmscope.lab.privileges import SYSTEM_PATH

pytestmark = pytest.mark.timeout(1800)
FOLDERS = ("usr/bin", "usr/sbin")
TRAFFIC = ("ping", "iperf3", "nc", "telnet", "curl", "busybox")


@pytest.fixture(scope="module")
def image() -> Image:
    try:
        return ensure(ImageOptions(), say=console.say)
    except PreflightFailed as error:
        pytest.skip(f"no image, and none can be built here: {error}")


class Disk:
    """The image's root file system, read by debugfs without mounting it."""

    def __init__(self, raw: Path) -> None:
        self.raw = raw

    def ask(self, request: str) -> str:
        debugfs = shutil.which("debugfs", path=SYSTEM_PATH)
        assert debugfs is not None
        argv = [debugfs, "-R", request, str(self.raw)]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        return done.stdout

    def names(self, folder: str) -> set[str]:
        return {
            line.split("/")[5] for line in self.ask(f"ls -p /{folder}").splitlines() if line.count("/") > 5
        }

    def text(self, path: str) -> str:
        return self.ask(f"cat /{path.lstrip('/')}")


@pytest.fixture(scope="module")
def disk(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    raw = tmp_path_factory.mktemp("image") / "disk.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(image.disk), str(raw)], check=True)
    yield Disk(raw)
    raw.unlink()


def test_it_has_a_kernel_an_initrd_and_a_disk_labelled_root(image: Image, disk: Disk) -> None:
    # Linux/x86 boot protocol: "HdrS" at 0x202
    assert image.kernel.read_bytes()[0x202:0x206] == b"HdrS"
    assert image.initrd.read_bytes()[:6] == b"070701"
    assert re.search(r"volume name:\s+root$", disk.ask("show_super_stats -h"), flags=re.MULTILINE)


def test_its_initrd_has_the_way_to_the_disk(image: Image, tmp_path: Path) -> None:
    subprocess.run(
        ["busybox", "cpio", "-i", "-d"],
        stdin=image.initrd.open("rb"),
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    order = (tmp_path / "modules").read_text().split()
    assert {f.name for f in (tmp_path / "lib").iterdir()} == set(order)
    assert order.index("jbd2.ko") < order.index("ext4.ko")
    assert (tmp_path / "bin/sh").resolve().name == "busybox"
    # decompressed already: busybox's insmod reads plain ELF
    assert {(tmp_path / "lib" / name).read_bytes()[:4] for name in order} == {b"\x7fELF"}


def test_about_names_every_package_with_its_version(image: Image) -> None:
    about = image.about()
    assert set(PACKAGES) - set(about["packages"]) == set()
    assert all(about["packages"].values())
    assert about["kernel"]["release"] in image.version
    assert set(about["seconds"]) == {"lists", "packages", "lttng", "settings", "disk"}


def test_every_command_of_the_collectors_and_the_traffic_is_there(disk: Disk) -> None:
    there = {name for folder in FOLDERS for name in disk.names(folder)}
    wanted = {c for collector in load_all().values() for c in collector.needs.commands}
    assert {*wanted, *TRAFFIC, "sudo", "dockerd", "docker", "sshd", "ip", "tcpdump", "zstd"} - there == set()


def test_lttng_has_modules_for_exactly_this_kernel(image: Image, disk: Disk) -> None:
    about = image.about()
    assert about["lttng_modules"] is not None, "no candidate of image_modules.CANDIDATES builds any more"
    release = about["kernel"]["release"]
    modules = disk.names(f"usr/lib/modules/{release}/updates/dkms")
    assert {"lttng-tracer.ko", "lttng-probe-net.ko", "lttng-probe-skb.ko", "lttng-probe-sched.ko"} <= modules
    assert disk.names("usr/lib/modules") - {".", ".."} == {release}
    assert "updates/dkms/lttng-tracer.ko:" in disk.text(f"usr/lib/modules/{release}/modules.dep")


def test_what_the_guest_brings_is_in_place_and_enabled(disk: Disk) -> None:
    for path, (mode, body) in guest.files().items():
        facts = disk.ask(f"stat {path}")
        assert re.search(rf"Mode:\s+0*{mode:o}\s", facts), path
        assert re.search(r"User:\s+0\s+Group:\s+0\s", facts), path
        assert disk.text(path) == body.decode(), path
    enabled = {
        n
        for t in ("multi-user", "sysinit", "basic")
        for n in disk.names(f"etc/systemd/system/{t}.target.wants")
    }
    assert set(guest.UNITS) <= enabled
    assert "docker.service" in enabled


def test_nothing_wakes_up_by_itself_and_nothing_is_the_same_on_two_machines(disk: Disk) -> None:
    for unit in MASKED_UNITS:
        assert "/dev/null" in disk.ask(f"stat /etc/systemd/system/{unit}"), unit
    assert [name for name in disk.names("etc/ssh") if name.startswith("ssh_host_")] == []
    assert disk.text("etc/machine-id") == ""
    assert disk.names("var/lib/apt/lists") - {".", "..", "lock", "partial"} == set()


def test_docker_stores_on_overlay2_and_the_login_user_has_no_password(disk: Disk) -> None:
    assert json.loads(disk.text("etc/docker/daemon.json"))["storage-driver"] == "overlay2"
    assert re.search(r"^scope:\*:", disk.text("etc/shadow"), flags=re.MULTILINE)
    assert re.search(r"^scope:x:1000:1000:", disk.text("etc/passwd"), flags=re.MULTILINE)


def test_the_second_time_it_is_found_at_once(image: Image) -> None:
    told: list[str] = []
    assert ensure(ImageOptions(), say=told.append) == image
    assert told == []
