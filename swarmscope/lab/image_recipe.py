"""What the machines lab's disk image is made of: packages, settings, what is left out, and why.

Scope: data, the files laid over the root file system, and the digest that names an image. Builds nothing
(``image_build``), and knows no versions: those are of the day it was built and go into its ``about.json``.
Limits: Debian 13 on amd64.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from swarmscope.lab import guest
from swarmscope.lab.ssh_files import USER

FORMAT = 1
"""Counts up when an image of the same recipe would come out differently because this code changed."""

SUITE = "trixie"
RECIPE = Path(__file__).parent / "recipe"
LOGIN = (USER, 1000)
"""The login user and its uid; the name is the same as on the hosts of the namespace lab."""


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """What a user may choose about the image.

    ``kernel_package`` is a metapackage (``linux-image-amd64``, ``linux-image-cloud-amd64``) or one kernel
    (``linux-image-6.12.48+deb13-amd64``); ``kernel_suite`` is where it comes from, when that is not Debian 13
    itself (``trixie-backports``, ``sid``). ``mirror`` does not change what an image is, only where its
    packages are fetched.
    """

    kernel_package: str = "linux-image-amd64"
    kernel_suite: str = SUITE
    lttng: bool = True
    size_gib: int = 8
    mirror: str = "http://deb.debian.org/debian"


PACKAGES: Mapping[str, str] = {
    # a system that boots
    "systemd-sysv": "the first process",
    "udev": "names devices as on users' machines",
    "dbus": "runc asks systemd for control groups over it",
    "kmod": "loads modules",
    "passwd": "makes the login user",
    "procps": "sysctl, ps",
    "iproute2": "links, namespaces, bridges",
    "iputils-ping": "traffic: ping",
    "ethtool": "offloads are read with it",
    "busybox-static": "the initrd, and the root file system of the containers under test",
    "zstd": "artifacts are packed with it",
    "ca-certificates": "what people expect of a machine",
    # reached and driven as any host
    "openssh-server": "the way in",
    "sudo": "the login user is not root, as on users' machines",
    "python3": "runs the agent",
    # the cluster under test
    "docker.io": "the engine",
    "docker-cli": "its command line, a package of its own since Debian 13",
    "iptables": "Docker's rules",
    # recorders
    "linux-perf": "perf-record, perf-stat, perf-trace",
    "bpftrace": "bpftrace-latency, skb-path",
    "trace-cmd": "trace-cmd",
    "lttng-tools": "lttng: session daemon and command line",
    "babeltrace2": "lttng: reads CTF",
    "tcpdump": "to look at the wire",
    # traffic
    "iperf3": "traffic: iperf3",
    "netcat-openbsd": "traffic: nc-tcp, nc-udp",
    "telnet": "traffic: telnet",
    "curl": "traffic: http",
}

LEFT_OUT = (
    "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/doc/*",
    # Debian's initrd tools come as a dependency of the kernel; the image has an initrd of its own
    "/etc/kernel/*",
    *(f"*/lib/modules/*/kernel/{part}/*" for part in (
        "sound", "arch/x86/kvm", "net/bluetooth", "net/mac80211", "net/wireless", "net/nfc",
        *(f"drivers/{name}" for name in (
            "accel", "ata", "bluetooth", "comedi", "cpufreq", "gpu", "hid", "hwmon", "i2c", "iio",
            "infiniband", "input", "isdn", "leds", "media", "message", "mmc", "mtd", "nfc", "parport",
            "pcmcia", "platform", "power", "scsi", "staging", "target", "thermal", "usb", "video", "net/can",
            "net/ethernet", "net/hamradio", "net/usb", "net/wan", "net/wireless",
        )),
    )),
)  # fmt: skip
"""Paths that dpkg does not unpack: texts, and drivers of hardware that no lab machine has. The second half
also saves boot time: udev loads no driver that is not there."""

KEPT = ("/usr/share/doc/*/copyright", "/usr/share/locale/locale.alias")

MASKED_UNITS = (
    # waits for devices that never come, and times out under emulation
    "systemd-udev-settle.service",
    # the machines' clocks are the lab's own: tests step and slew them
    "systemd-timesyncd.service",
    # work that a fresh image does not need, tens of seconds of an emulated CPU together
    "ldconfig.service", "systemd-journal-catalog-update.service", "systemd-update-done.service",
    "systemd-hwdb-update.service", "systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount",
    "proc-sys-fs-binfmt_misc.mount", "systemd-pstore.service", "modprobe@efi_pstore.service",
    "modprobe@drm.service", "modprobe@fuse.service", "sys-fs-fuse-connections.mount",
    "modprobe@configfs.service", "sys-kernel-config.mount", "systemd-udev-load-credentials.service",
    "systemd-random-seed.service", "systemd-journal-flush.service", "e2scrub_reap.service",
    # nobody logs in on the console, and no seat has to be watched
    "getty.target", "systemd-logind.service", "console-setup.service", "keyboard-setup.service",
    # must not wake up in the middle of a measurement
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer",
    "man-db.timer", "systemd-tmpfiles-clean.timer",
)  # fmt: skip

MASKED_GENERATORS = (
    "getty", "ssh", "gpt-auto", "hibernate-resume", "tpm2", "system-update", "rc-local", "sysv", "bless-boot",
    "cryptsetup", "veritysetup", "integritysetup", "import", "debug", "factory-reset",
)  # fmt: skip
"""Programs that systemd starts at every boot to find units for things that no lab machine has."""

SETTINGS: Mapping[str, tuple[int, str]] = {
    "etc/hostname": (0o644, "machine\n"),
    "etc/hosts": (0o644, "127.0.0.1 localhost\n"),
    # no name is ever looked up: machines have no way out
    "etc/resolv.conf": (0o644, ""),
    "etc/fstab": (0o644, "# the initrd mounts the root\n"),
    "etc/systemd/journald.conf.d/lab.conf": (0o644, "[Journal]\nStorage=volatile\nRuntimeMaxUse=32M\n"),
    "etc/systemd/system.conf.d/lab.conf": (
        0o644,
        # the default of 90 s is meant for real CPUs
        "[Manager]\nDefaultTimeoutStartSec=300s\nDefaultDeviceTimeoutSec=300s\nDefaultTimeoutStopSec=30s\n",
    ),
    "etc/docker/daemon.json": (0o644, '{"storage-driver": "overlay2"}\n'),
    "etc/modprobe.d/lab.conf": (
        0o644,
        "".join(f"blacklist {name}\n" for name in ("floppy", "pcspkr", "ppdev", "parport_pc", "i6300esb")),
    ),
}


def scripts() -> Mapping[str, str]:
    """The recipe's shell scripts: name -> text."""
    return {
        path.name: path.read_text(encoding="utf-8") for path in sorted(RECIPE.iterdir()) if path.is_file()
    }


def digest(options: ImageOptions) -> str:
    """The name of the image that ``options`` ask for: 16 hexadecimal digits of all that goes into it."""
    chosen = {key: value for key, value in asdict(options).items() if key != "mirror"}
    files = {p: (mode, hashlib.sha256(body).hexdigest()) for p, (mode, body) in sorted(guest.files().items())}
    recipe = [
        FORMAT, SUITE, LOGIN, chosen, sorted(PACKAGES), LEFT_OUT, KEPT, MASKED_UNITS, MASKED_GENERATORS,
        SETTINGS, scripts(), files, sorted(guest.UNITS),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def overlay_tar() -> bytes:
    """A tar of everything that is laid over the packages: settings, masks, the guest's files, the scripts.

    The guest's files come last: they win over a setting of the same path.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, (mode, text) in SETTINGS.items():
            _add_file(tar, path, mode=mode, body=text.encode())
        for path in masks():
            link = tarfile.TarInfo(path)
            link.type, link.linkname = tarfile.SYMTYPE, "/dev/null"
            tar.addfile(link)
        for name, text in scripts().items():
            _add_file(tar, f"tmp/recipe/{name}", mode=0o755, body=text.encode())
        for path, (mode, body) in sorted(guest.files().items()):
            _add_file(tar, path.lstrip("/"), mode=mode, body=body)
    return buffer.getvalue()


def masks() -> Sequence[str]:
    """Paths in the image that become links to /dev/null."""
    units = [f"etc/systemd/system/{unit}" for unit in MASKED_UNITS]
    return units + [f"etc/systemd/system-generators/systemd-{name}-generator" for name in MASKED_GENERATORS]


def _add_file(tar: tarfile.TarFile, path: str, *, mode: int, body: bytes) -> None:
    info = tarfile.TarInfo(path)
    info.mode, info.size = mode, len(body)
    tar.addfile(info, io.BytesIO(body))
