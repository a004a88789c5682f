"""The gate of an LTTng session: a line of the fifo `ctl` starts or stops it, the answer goes to `ack`.

By the library that `lttng` itself uses: a call takes as long as the session daemon does, without the start
of a program each time. Stopping does not wait until all data is on the disk.
"""

import contextlib
import ctypes
import sys
from pathlib import Path

session = sys.argv[1].encode()
lttng = ctypes.CDLL("liblttng-ctl.so.0")
lttng.lttng_strerror.restype = ctypes.c_char_p


def move(line):
    """Start or stop; empty, or what LTTng says went wrong."""
    done = (lttng.lttng_start_tracing if line == b"open\n" else lttng.lttng_stop_tracing_no_wait)(session)
    return "" if done >= 0 else lttng.lttng_strerror(done).decode(errors="replace")


def main():
    with Path("ctl").open("rb", buffering=0) as ctl, Path("ack").open("wb", buffering=0) as ack:
        print("swarmscope armed", file=sys.stderr, flush=True)
        for line in ctl:
            problem = move(line)
            if problem:
                sys.exit(f"error: LTTng session {sys.argv[1]}: {line.decode().strip()}: {problem}")
            ack.write(b"ok\n")


with contextlib.suppress(KeyboardInterrupt):
    main()
