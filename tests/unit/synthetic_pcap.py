"""Captures made by hand, pcap and pcapng, of either byte order; what tcpdump prints of a capture, as rows."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

needs_tcpdump = pytest.mark.skipif(shutil.which("tcpdump") is None, reason="tcpdump is not installed")
TCPDUMP = ("tcpdump", "-nn", "-tt", "-e", "-v", "-S", "--time-stamp-precision=nano", "-r")


def ipv4(protocol: int, payload: bytes, *, number: int = 7, fragment: int = 0) -> bytes:
    """A packet from 10.0.0.1 to 10.0.0.2."""
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), number, fragment, 64, protocol, 0)
    return head + bytes((10, 0, 0, 1, 10, 0, 0, 2)) + payload


def icmp(sequence: int) -> bytes:
    return ipv4(1, struct.pack("!BBHHH", 8, 0, 0, 0x1234, sequence) + bytes(40))


def udp(payload: bytes = b"", *, target: int = 6) -> bytes:
    return ipv4(17, struct.pack("!HHHH", 5, target, 8 + len(payload), 0) + payload)


def vxlan(inner: bytes, *, port: int = 4789) -> bytes:
    return udp(struct.pack("!BxxxI", 8, 4097 << 8) + ethernet(inner), target=port)


def ethernet(packet: bytes, *, tags: bytes = b"", kind: int = 0x0800) -> bytes:
    return bytes(12) + tags + struct.pack("!H", kind) + packet


def pcap(
    packets: list[tuple[int, bytes]], *, order: str = "<", digits: int = 6, link: int = 1, snap: int = 262144
) -> bytes:
    """A savefile; stamps in nanoseconds."""
    magic = 0xA1B2C3D4 if digits == 6 else 0xA1B23C4D
    parts = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snap, link)]
    for stamp, data in packets:
        seconds, fraction = divmod(stamp, 1_000_000_000)
        fraction //= 10 ** (9 - digits)
        kept = data[:snap]
        parts += [struct.pack(order + "IIII", seconds, fraction, len(kept), len(data)), kept]
    return b"".join(parts)


@dataclass
class Pcapng:
    """Blocks one after the other."""

    order: str = "<"
    parts: list[bytes] = field(default_factory=list)

    def block(self, kind: int, content: bytes) -> Pcapng:
        content += bytes(-len(content) % 4)
        length = struct.pack(self.order + "I", 12 + len(content))
        self.parts.append(struct.pack(self.order + "I", kind) + length + content + length)
        return self

    def options(self, options: dict[int, bytes]) -> bytes:
        found = b"".join(
            struct.pack(self.order + "HH", code, len(value)) + value + bytes(-len(value) % 4)
            for code, value in options.items()
        )
        return found + bytes(4) if options else b""

    def section(self, options: dict[int, bytes] | None = None) -> Pcapng:
        head = struct.pack(self.order + "IHHq", 0x1A2B3C4D, 1, 0, -1)
        return self.block(0x0A0D0D0A, head + self.options(options or {}))

    def interface(self, *, link: int = 1, snap: int = 0, options: dict[int, bytes] | None = None) -> Pcapng:
        return self.block(1, struct.pack(self.order + "HHI", link, 0, snap) + self.options(options or {}))

    def packet(
        self,
        ticks: int,
        data: bytes,
        *,
        interface: int = 0,
        length: int | None = None,
        options: dict[int, bytes] | None = None,
    ) -> Pcapng:
        wire = len(data) if length is None else length
        head = struct.pack(self.order + "IIIII", interface, ticks >> 32, ticks & 0xFFFFFFFF, len(data), wire)
        return self.block(6, head + data + bytes(-len(data) % 4) + self.options(options or {}))

    def old_packet(self, ticks: int, data: bytes, *, interface: int = 0, drops: int = 0) -> Pcapng:
        head = struct.pack(
            self.order + "HHIIII", interface, drops, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data)
        )
        return self.block(2, head + data)

    def simple(self, data: bytes) -> Pcapng:
        return self.block(3, struct.pack(self.order + "I", len(data)) + data)

    def statistics(self, interface: int, options: dict[int, bytes]) -> Pcapng:
        return self.block(5, struct.pack(self.order + "III", interface, 0, 0) + self.options(options))

    @property
    def data(self) -> bytes:
        return b"".join(self.parts)


@dataclass(frozen=True)
class Printed:
    """A packet as tcpdump prints it. ``key`` has no sequence number where tcpdump shows none."""

    stamp: int
    ethertype: int
    length: int
    ifindex: int | None
    outer: bool
    vni: int | None
    key: str


def printed(capture: Path) -> str:
    """What the tcpdump that is installed here prints."""
    command = ["nice", "-n", "19", *TCPDUMP, str(capture)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]
    return done.stdout


_PACKET = re.compile(r"^(\d+)\.(\d{9}) (.*?ethertype [^(]*\(0x(\w+)\), length (\d+): )", re.MULTILINE)
_IP = re.compile(
    r"[^\n]*?\(tos [^\n]*?id (\d+), offset (\d+), [^\n]*?proto (\w+) \(\d+\)[^\n]*\n\s+(\S+) > (\S+): "
)


def rows(text: str) -> list[Printed]:
    """The packets in the output of ``TCPDUMP``, in the order of their stamps."""
    found = []
    starts = list(_PACKET.finditer(text))
    for number, match in enumerate(starts):
        end = starts[number + 1].start() if number + 1 < len(starts) else len(text)
        body = text[match.end() : end]
        ifindex = re.search(r"ifindex (\d+)", match[3])
        outer = re.search(r"VXLAN, flags \[I\] \(0x08\), vni (\d+)\n", body)
        if outer:
            body = body[outer.end() :]
        found.append(
            Printed(
                stamp=int(match[1]) * 1_000_000_000 + int(match[2]),
                ethertype=int(match[4], 16),
                length=int(match[5]),
                ifindex=int(ifindex[1]) if ifindex else None,
                outer=outer is not None,
                vni=int(outer[1]) if outer else None,
                key=_key(body),
            )
        )
    return sorted(found, key=lambda row: row.stamp)


def _key(body: str) -> str:
    ip = _IP.match(body)
    if not ip or ip[2] != "0":
        return ""
    rest = body[ip.end() :]
    if echo := re.match(r"ICMP echo (request|reply), id (\d+), seq (\d+)", rest):
        return f"icmp:{ip[4]}>{ip[5]}:{echo[2]}:{echo[3]}:{8 if echo[1] == 'request' else 0}"
    if ip[3] not in ("TCP", "UDP"):
        return ""
    (source, port), (target, other) = (end.rsplit(".", 1) for end in ip.group(4, 5))
    ends = f"{ip[3].lower()}:{source}:{port}>{target}:{other}:{ip[1]}"
    sequence = re.match(r"Flags \S+ (?:cksum [^)]*\), )?seq (\d+)", rest)
    return f"{ends}:{sequence[1]}" if sequence else ends
