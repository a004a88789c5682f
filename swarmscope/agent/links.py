"""Network interfaces of a namespace: what ``ip`` says, and the offloads ``ip`` does not say.

Scope: ``ip -j -d addr show`` (iproute2 with JSON) and ioctl SIOCETHTOOL (linux/ethtool.h), so no ethtool is
needed.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import socket
import struct
import subprocess
from typing import Any

from .protocol import AgentError

_SIOCETHTOOL = 0x8946
OFFLOADS = {"tso": 0x1E, "gso": 0x23, "gro": 0x2B, "tx_csum": 0x16}
"""ETHTOOL_GTSO, ETHTOOL_GGSO, ETHTOOL_GGRO, ETHTOOL_GTXCSUM."""


def show() -> list[dict[str, Any]]:
    """The links of the calling thread's namespace, as iproute2 prints them."""
    try:
        result = subprocess.run(
            ["ip", "-j", "-d", "addr", "show"], stdin=subprocess.DEVNULL, capture_output=True
        )
    except FileNotFoundError:
        raise AgentError("missing", "no ip command on this host", hint="install iproute2") from None
    if result.returncode:
        raise AgentError("failed", f"ip addr show: {result.stderr.decode(errors='replace').strip()}")
    links = json.loads(result.stdout.decode(errors="replace") or "[]")
    return [link for link in links if link]  # iproute2 prints {} for links a filter left out


def nics() -> list[dict[str, Any]]:
    """The links in short: dev, ifindex, mtu, addresses (CIDR), kind, offloads."""
    return [
        {
            "dev": link["ifname"],
            "ifindex": link["ifindex"],
            "mtu": link["mtu"],
            "addresses": [
                f"{a['local']}/{a['prefixlen']}" for a in link.get("addr_info", []) if "local" in a
            ],
            "kind": link.get("linkinfo", {}).get(
                "info_kind", "loopback" if link.get("link_type") == "loopback" else ""
            ),
            "offloads": offloads(link["ifname"]),
        }
        for link in show()
    ]


def offloads(dev: str) -> dict[str, bool | None]:
    """Whether each of ``OFFLOADS`` is on; None where the driver does not say."""
    found: dict[str, bool | None] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for name, command in OFFLOADS.items():
            found[name] = None
            value = array.array("B", struct.pack("=II", command, 0))
            request = struct.pack("@16sP", dev.encode()[:15], value.buffer_info()[0]).ljust(40, b"\0")
            with contextlib.suppress(OSError):
                fcntl.ioctl(sock, _SIOCETHTOOL, request)
                found[name] = bool(struct.unpack("=II", value.tobytes())[1])
    return found
