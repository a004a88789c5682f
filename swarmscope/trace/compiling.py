"""``python -m swarmscope.trace.compiling``: compile the decoders once, so that the first file is read as fast
as any.

Scope: every collector's sample is decoded, and a few bytes of the formats that no collector writes; numba
keeps what it compiled beside the modules, or where those cannot be written in the user's cache directory.
``bootstrap.sh`` runs this after an installation. Without it, the first file of each format takes some seconds
longer.
"""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

from swarmscope.collectors import load_all
from swarmscope.formats import FORMATS
from swarmscope.places import shipped
from swarmscope.trace import read

_PERF_SCRIPT = b"""ping 7/7 [001] 1.000000001: net:netif_rx: dev=lo skbaddr=0xffff88816d365f00 len=84
\tffffffff81e63976 netif_rx

"""
_ECHO = bytes.fromhex(
    "ffffffffffffffffffffffff0800 4500001c0001000040010000c0000201c0000202 0800000000010001"
)
_PCAP = struct.pack("<IHHiIIIIIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1, 1, 0, len(_ECHO), len(_ECHO)) + _ECHO
OTHERS = {"perf-script": _PERF_SCRIPT, "pcap": _PCAP}
"""Recordings of formats that no collector writes."""


def compile_decoders() -> int:
    """Decode every sample; how many there were."""
    done = 0
    with tempfile.TemporaryDirectory(prefix="swarmscope-") as folder:
        for name, content in OTHERS.items():
            path = Path(folder) / name
            path.write_bytes(content)
            read(path)
            done += 1
    for collector in load_all([shipped("collectors")]).values():
        for output in collector.outputs:
            path = collector.folder / "sample" / output["file"].rstrip("/")
            if path.exists() and not FORMATS[output["format"]].aside and output["format"] != "losses-json":
                read(path)
                done += 1
    return done


if __name__ == "__main__":
    compile_decoders()
