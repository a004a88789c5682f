"""A container image made from a static busybox: no registry, no build, a few hundred kilobytes.

Scope: pure; bytes in, tar bytes out (``Engine.import_image`` takes them). Same busybox, same tar.
"""

from __future__ import annotations

import io
import tarfile

APPLETS = (
    "sh", "ash", "cat", "date", "dd", "echo", "env", "false", "hostname", "httpd", "id", "ifconfig", "ip",
    "kill", "ls", "mkdir", "mount", "nc", "netstat", "ping", "ping6", "ps", "rm", "route", "sleep", "telnet",
    "test", "timeout", "top", "traceroute", "true", "udhcpc", "uname", "wget", "which", "yes",
)  # fmt: skip
FOLDERS = ("bin", "dev", "etc", "proc", "root", "sys", "tmp")
_FILES = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": b"root:x:0:\n",
}


def busybox_image(busybox: bytes) -> bytes:
    """A root file system as a tar: ``/bin/busybox``, a link per applet, and what a runtime mounts on."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for folder in FOLDERS:
            entry = tarfile.TarInfo(folder)
            entry.type = tarfile.DIRTYPE
            entry.mode = 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        for name, data in {"bin/busybox": busybox, **_FILES}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            entry.mode = 0o755 if name.startswith("bin/") else 0o644
            tar.addfile(entry, io.BytesIO(data))
        for applet in APPLETS:
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type = tarfile.SYMTYPE
            entry.linkname = "busybox"
            tar.addfile(entry)
    return out.getvalue()
