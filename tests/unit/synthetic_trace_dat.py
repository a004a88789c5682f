"""Files of trace-cmd made by hand, for what is recorded elsewhere: guests, zlib, big-endian hosts."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence

import zstandard

MAGIC = b"\x17\x08\x44tracing"
Formats = Mapping[str, Sequence[str]]


class TraceDat:
    """What a file is made of; ``version6`` and ``version7`` make it."""

    def __init__(
        self,
        header_page: str,
        formats: Formats,
        pages: Mapping[str, Mapping[int, bytes]],
        *,
        kallsyms: bytes = b"",
        cmdlines: bytes = b"",
        options: Sequence[tuple[int, bytes]] = (),
        page_size: int = 4096,
        big: bool = False,
    ) -> None:
        self.header_page = header_page
        self.formats = formats
        self.pages = pages  # by instance (top level: empty name) and CPU
        self.kallsyms = kallsyms
        self.cmdlines = cmdlines
        self.options = list(options)
        self.page_size = page_size
        self.order = ">" if big else "<"

    def pack(self, form: str, *values: int) -> bytes:
        """Numbers in the file's byte order."""
        return struct.pack(self.order + form, *values)

    def _sized(self, text: bytes, form: str = "Q") -> bytes:
        return self.pack(form, len(text)) + text

    def _headers(self) -> bytes:
        page = self._sized(self.header_page.encode())
        return b"header_page\0" + page + b"header_event\0" + self._sized(b"# compressed entry header\n")

    def _ftrace(self) -> bytes:
        texts = self.formats.get("ftrace", ())
        return self.pack("I", len(texts)) + b"".join(self._sized(text.encode()) for text in texts)

    def _events(self) -> bytes:
        systems = {name: texts for name, texts in self.formats.items() if name != "ftrace"}
        whole = self.pack("I", len(systems))
        for name, texts in systems.items():
            whole += name.encode() + b"\0" + self.pack("I", len(texts))
            whole += b"".join(self._sized(text.encode()) for text in texts)
        return whole

    def _start(self, version: int) -> bytes:
        return MAGIC + b"%d\0" % version + bytes([self.order == ">", 8]) + self.pack("I", self.page_size)

    def version6(self) -> bytes:
        """A file of version 6."""
        head = self._start(6) + self._headers() + self._ftrace() + self._events()
        head += self._sized(self.kallsyms, "I") + self._sized(b"", "I") + self._sized(self.cmdlines)
        cpus = max((cpu + 1 for pages in self.pages.values() for cpu in pages), default=1)
        clock = b"local [mono]\0"
        options = [*self.options, (4, clock)]
        instances = [name for name in self.pages if name]
        size = len(head) + 4 + 10 + sum(6 + len(data) for _, data in options)
        size += sum(6 + 8 + len(name) + 1 for name in instances) + 2
        table = 10 + 16 * cpus
        first = size + table + 8 + len(clock)  # of the instances' tables
        at = -(-(first + table * len(instances)) // self.page_size) * self.page_size
        body, tables = b"", {}
        for name in ["", *instances]:
            rows = b""
            for cpu in range(cpus):
                data = self.pages.get(name, {}).get(cpu, b"")
                rows += self.pack("QQ", at + len(body) if data else 0, len(data))
                body += data.ljust(-(-len(data) // self.page_size) * self.page_size, b"\0")
            tables[name] = b"flyrecord\0" + rows
        head += self.pack("I", cpus) + b"options  \0"
        for number, data in options:
            head += self.pack("HI", number, len(data)) + data
        for count, name in enumerate(instances):
            data = self.pack("Q", first + table * count) + name.encode() + b"\0"
            head += self.pack("HI", 3, len(data)) + data
        head += self.pack("H", 0) + tables[""] + self._sized(clock)
        head += b"".join(tables[name] for name in instances)
        return head.ljust(at, b"\0") + body

    def version7(self, compression: str = "none", *, chunk: int = 2) -> bytes:
        """A file of version 7; trace data in chunks of that many pages where it is compressed."""
        start = self._start(7) + compression.encode() + b"\0" + b"1.0\0"
        whole = start + bytes(8)
        options = list(self.options)
        parts = [
            (16, self._headers()),
            (17, self._ftrace()),
            (18, self._events()),
            (19, self._sized(self.kallsyms, "I")),
            (21, self._sized(self.cmdlines)),
        ]
        for section, content in parts:
            options.append((section, self.pack("Q", len(whole))))
            whole += self._section(section, content, compression)
        for name, pages in self.pages.items():
            begin = len(whole)
            whole += self.pack("HHIQ", 3, int(compression != "none"), 0, 0)
            rows = b""
            for cpu, data in pages.items():
                if compression == "none":
                    whole = whole.ljust(-(-len(whole) // self.page_size) * self.page_size, b"\0")
                    stored = data
                else:
                    step = chunk * self.page_size
                    pieces = [data[at : at + step] for at in range(0, len(data), step)]
                    stored = self.pack("I", len(pieces))
                    stored += b"".join(self._block(piece, compression) for piece in pieces)
                rows += self.pack("IQQ", cpu, len(whole), len(stored) if data else 0)
                whole += stored
            content = self.pack("Q", begin) + name.encode() + b"\0mono\0"
            options.append((3, content + self.pack("II", self.page_size, len(pages)) + rows))
        place = len(whole)
        content = b"".join(self.pack("HI", number, len(data)) + data for number, data in options)
        whole += self._section(0, content + self.pack("HIQ", 0, 8, 0), "none")
        return start + self.pack("Q", place) + whole[len(start) + 8 :]

    def _section(self, section: int, content: bytes, compression: str) -> bytes:
        stored = content if compression == "none" else self._block(content, compression)
        return self.pack("HHIQ", section, int(compression != "none"), 0, len(stored)) + stored

    def _block(self, data: bytes, compression: str) -> bytes:
        packed = zlib.compress(data) if compression == "zlib" else zstandard.compress(data)
        return self.pack("II", len(packed), len(data)) + packed
