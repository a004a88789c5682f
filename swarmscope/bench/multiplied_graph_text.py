"""A function_graph text repeated to any number of bytes, with stamps that go on.

Scope: text with the column of absolute time (``funcgraph-abstime``), as the collector records it: each
repetition is later by as long as the recording took. The header stands once.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

PAUSE: Final = 1_000
"""Microseconds between two repetitions."""
PIECE: Final = 1 << 22
_STAMP = re.compile(rb"^ *(\d+)\.(\d{6})(?= \|  )", re.MULTILINE)


def multiply(file: Path, target: Path, *, size: int) -> int:
    """Write the text in ``file`` to ``target``, repeated to at least ``size`` bytes; how often."""
    text = file.read_bytes()
    lines = text.splitlines(keepends=True)
    header = b"".join(line for line in lines if line.startswith(b"#"))
    body = b"".join(line for line in lines if not line.startswith(b"#"))
    stamps = [int(seconds) * 1_000_000 + int(micros) for seconds, micros in _STAMP.findall(body)]
    if not stamps:
        raise ValueError(f"{file} has no column of absolute time")
    span = max(stamps) - min(stamps) + PAUSE
    form = _STAMP.sub(b"%5d.%06d", body.replace(b"%", b"%%"))
    many = written = 0
    with target.open("wb") as out:
        out.write(header)
        written = len(header)
        while written < size:
            pieces, held = [], 0
            while held < PIECE and written + held < size:
                shifted = [part for stamp in stamps for part in divmod(stamp + many * span, 1_000_000)]
                pieces.append(form % tuple(shifted))
                held += len(pieces[-1])
                many += 1
            out.write(b"".join(pieces))
            written += held
    return many
