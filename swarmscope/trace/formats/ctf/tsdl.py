"""The metadata of a CTF 1.8 trace: its packets, and the words and declarations of its language (TSDL).

The whole declares what ``ctf.types.Metadata`` holds. A declaration that cannot be read costs itself: reading
goes on at the next line that begins one. Format: CTF 1.8.3 appendix C, and section 3 for the packets::

    magic u32 0x75d11d57 (gives the byte order)  uuid 16 bytes  checksum u32
    content_size u32  packet_size u32 (in bits)
    compression u8  encryption u8  checksum_scheme u8  major u8  minor u8

Limits: no ``typeof``, no arithmetic in constants, no compressed or encrypted metadata; CTF 2 (JSON) is
another format.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

MAGIC = 0x75D11D57
_PACKET = struct.Struct("16sIIIBBBBB")
_HEADER_BYTES = 4 + 33

_TOKEN = re.compile(
    r"(?P<blank>(?:\s+|/\*.*?\*/|//[^\n]*)+)"
    r'|(?P<string>"(?:[^"\\\n]|\\.)*")'
    r"|(?P<number>(?:0[xX][0-9a-fA-F]{1,16}|\d{1,20})[uUlL]{0,3}(?!\w))"
    r"|(?P<word>[A-Za-z_]\w*)"
    r"|(?P<sign>\.\.\.|:=|[{}\[\]()<>;:,.=*+-])"
    r"|(?P<bad>.)",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_PLAIN_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "0": "\0"}


class TsdlError(ValueError):
    """Something that is not TSDL, at ``offset`` of the metadata's text."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Token:
    """``kind``: string, number, word, sign, bad or end."""

    kind: str
    text: str
    offset: int


def is_packetised(data: bytes) -> bool:
    """Whether the metadata file is in packets, as tracers write it."""
    return data[:4] in (struct.pack("<I", MAGIC), struct.pack(">I", MAGIC))


def unpacked(data: bytes) -> tuple[str, list[tuple[int, str]]]:
    """The text of a metadata file, and what of it is damaged."""
    if not is_packetised(data):
        return data.decode("utf-8", "replace"), []
    magic = data[:4]
    order = "<" if magic == struct.pack("<I", MAGIC) else ">"
    layout = struct.Struct(order + _PACKET.format)
    parts: list[bytes] = []
    problems: list[tuple[int, str]] = []
    at = 0
    while at < len(data):
        if data[at : at + 4] != magic or len(data) < at + _HEADER_BYTES:
            problems.append((at, "no packet of metadata begins here"))
            at = data.find(magic, at + 1)
            if at < 0:
                break
            continue
        _, _, content, packet, compression, encryption, _, _, _ = layout.unpack_from(data, at + 4)
        if compression or encryption or not _HEADER_BYTES * 8 <= content <= packet or packet % 8:
            problems.append((at, "a packet of metadata with sizes or a packing that cannot be"))
            at = data.find(magic, at + 1)
            if at < 0:
                break
            continue
        if at + content // 8 > len(data):
            problems.append((len(data), "the metadata ends within a packet"))
        parts.append(data[at + _HEADER_BYTES : at + content // 8])
        at += packet // 8
    return b"".join(parts).decode("utf-8", "replace"), problems


def tokens(text: str) -> list[Token]:
    """The words of ``text``; always ends with one of kind ``end``."""
    found = [
        Token(str(match.lastgroup), match.group(), match.start())
        for match in _TOKEN.finditer(text)
        if match.lastgroup != "blank"
    ]
    return [*found, Token("end", "", len(text))]


def number(text: str) -> int:
    """An integer as C writes it."""
    digits = text.rstrip("uUlL")
    return int(digits, 8) if re.fullmatch("0[0-7]+", digits) else int(digits, 0 if digits[:1] == "0" else 10)


def unquoted(text: str) -> str:
    """The content of a string literal."""

    def value(match: re.Match[str]) -> str:
        code = match.group(1)
        if code[0] == "x" and len(code) > 1:
            return chr(int(code[1:], 16))
        if code[0] in "01234567":
            return chr(int(code, 8))
        return _PLAIN_ESCAPES.get(code, code)

    return _ESCAPE.sub(value, text[1:-1])
