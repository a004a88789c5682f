"""Nothing is left to compile for who reads a first file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

GOLDEN = Path(__file__).parent.parent / "golden"
FILES = {
    "perf_data": "*.data.zst",
    "perf_script": "*.txt",
    "perf_trace": "*.txt",
    "trace_dat": "*.dat",
    "ftrace_text": "*.txt",
    "pcap": "*.pcap*[gp]",
    "ctf": "overlay",
    "pages": "ping",
}
PROGRAM = """
import gc, json, sys
from numba.core.dispatcher import Dispatcher
from swarmscope.trace import read
from swarmscope.trace.compiling import compile_decoders

def loaded():
    found = (one for one in gc.get_objects() if isinstance(one, Dispatcher))
    return {f"{one.py_func.__module__}.{one.py_func.__name__}": len(one.overloads) for one in found}

compile_decoders()
before = loaded()
rows = {path: read(path).events.height for path in sys.argv[1:]}
later = [name for name, count in loaded().items() if count > before.get(name, 0)]
print(json.dumps([rows, later]))
"""


def test_decoders_compiled_at_installation_read_every_format_without_compiling_more() -> None:
    # What reading loads besides, from a cache or compiled anew, was not loaded at the installation.
    paths = [str(path) for folder, names in FILES.items() for path in sorted((GOLDEN / folder).glob(names))]
    assert len(paths) > 20
    done = subprocess.run([sys.executable, "-c", PROGRAM, *paths], capture_output=True, text=True, check=True)
    rows, later = json.loads(done.stdout)
    assert later == []
    assert sum(rows.values()) > 1000
