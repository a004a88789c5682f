"""What a lab's machine has inside: the files that an image takes over, and the units to enable.

Scope: paths, modes and texts. ``lab_guest.py`` beside this file is the program; it gives a machine its
identity when ``lab-up`` sends one. Until then sshd and Docker are held back by a condition of their units,
so an image can be booted once, kept as a snapshot, and become any number of different machines.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

UNITS = ("swarmscope-lab.service",)
"""systemd units to enable in the image."""

PORT_NAME = "org.swarmscope.lab"
"""The virtio-serial port over which a machine is spoken to."""

GATE = "/run/swarmscope-lab/named"
"""Exists once a machine has its identity. What must not run before is conditional on it."""

UNWANTED = (
    "apt-daily.service",
    "apt-daily.timer",
    "apt-daily-upgrade.service",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "logrotate.timer",
    "man-db.timer",
    "sshd-keygen.service",
)
"""Never run here: what a clock set forward by days would start at once, and keys that nobody asked for."""

GATED = ("containerd.service", "docker.service", "docker.socket", "ssh.service", "ssh.socket")

UNIT = """\
[Unit]
Description=Identity of this machine of a swarmscope lab
DefaultDependencies=no
After=local-fs.target systemd-udevd.service dbus.socket
Before=shutdown.target
Conflicts=shutdown.target

[Service]
ExecStart=/usr/bin/python3 -I -B /usr/local/lib/swarmscope/lab_guest.py
Restart=on-failure
RestartSec=2
StandardOutput=journal+console
StandardError=journal+console
KillMode=process

[Install]
WantedBy=multi-user.target
"""

GATE_CONDITION = f"[Unit]\nConditionPathExists={GATE}\n"
NEVER = "[Unit]\nConditionPathExists=/nonexistent\n"

SSHD = """\
# a machine of a lab: its key comes with its identity, its users have keys only
HostKey /etc/ssh/ssh_host_ed25519_key
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
UsePAM no
UseDNS no
PrintMotd no
PrintLastLog no
X11Forwarding no
MaxStartups 100
MaxSessions 100
"""

# Link-local IPv6 would talk on its own account (router solicitations, multicast reports) in every recording.
SYSCTL = """\
net.ipv6.conf.all.disable_ipv6 = 1
net.ipv6.conf.default.disable_ipv6 = 1
net.ipv4.ip_forward = 1
"""


def files() -> Mapping[str, tuple[int, bytes]]:
    """Path in the machine -> (mode, content). Folders on the way are 0755; everything is root's."""
    program = Path(__file__).with_name("lab_guest.py").read_bytes()
    texts = {
        "/etc/systemd/system/swarmscope-lab.service": UNIT,
        "/etc/ssh/sshd_config.d/10-swarmscope-lab.conf": SSHD,
        "/etc/sysctl.d/90-swarmscope-lab.conf": SYSCTL,
        **{f"/etc/systemd/system/{unit}.d/swarmscope-lab.conf": GATE_CONDITION for unit in GATED},
        **{f"/etc/systemd/system/{unit}.d/swarmscope-lab.conf": NEVER for unit in UNWANTED},
    }
    return {
        "/usr/local/lib/swarmscope/lab_guest.py": (0o755, program),
        **{path: (0o644, text.encode()) for path, text in texts.items()},
        "/etc/sudoers.d/swarmscope-lab": (0o440, b"scope ALL=(ALL:ALL) NOPASSWD: ALL\n"),
    }
