"""The loss counters every collector writes: a flat JSON object of name -> count, zeros included.

Zeros are kept: "nothing was lost" is an answer, a missing row is none.
"""

from __future__ import annotations

import json
from typing import BinaryIO

from swarmscope.trace.formats.base import Decoded, LossLog, Source, read_all, wrong_format

EXPECTED = 'a JSON object of counts like {"overrun": 0}'
MOST = 1 << 62


def decode(file: BinaryIO, source: Source) -> Decoded:
    """The ``losses`` of a file; ``TraceFileError`` where it is not a JSON object."""
    log = LossLog(source)
    data = read_all(file, log)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise wrong_format(
            source, getattr(error, "pos", 0), expected=EXPECTED, found=data[getattr(error, "pos", 0) :]
        ) from None
    if not isinstance(value, dict):
        raise wrong_format(source, 0, expected=EXPECTED, found=data)
    for name, count in value.items():
        if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < MOST:
            log.add(name, count)
        else:
            log.damage(0, f"{name!r} is not a count")
    return Decoded({"losses": log.frame()})
