"""Runs as the workload of `perf trace -a`, which starts it once every event is open and enabled.

`perf trace` has no switch. Its events are switched here as perf itself would: by ioctl, on its own file
descriptors, of which this process takes copies (pidfd_getfd, Linux 5.6). Each line of the fifo `ctl` moves
the gate and is answered in `ack`. Stamps are of perf's own clock: what it reads beside CLOCK_MONOTONIC is
appended to `clock.txt` whenever the gate has moved, by way of a trace instance with that clock. `counted.txt`
holds how many events the kernel counted for it up to then: what is not printed of them was lost.
"""

import ctypes
import fcntl
import json
import os
import struct
import sys
import time
from pathlib import Path

ENABLE, DISABLE = 0x2400, 0x2401  # PERF_EVENT_IOC_*
PIDFD_OPEN, PIDFD_GETFD = 434, 438  # one number for every architecture since they exist
TRIES = 9
POLLS = {7, 73, 168, 271, 309, 336}  # poll and ppoll on x86-64, arm64 and riscv, 32-bit x86 and arm
READ_S = 3.0  # of the five that the agent waits for an answer

libc = ctypes.CDLL(None, use_errno=True)


def call(number, *words):
    result = libc.syscall(*(ctypes.c_long(word) for word in (number, *words)))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def events_of(pid):
    """Copies of the perf events that a process holds."""
    held = [
        int(entry.name)
        for entry in Path(f"/proc/{pid}/fd").iterdir()
        if _target(entry) == "anon_inode:[perf_event]"
    ]
    process = call(PIDFD_OPEN, pid, 0)
    return [call(PIDFD_GETFD, process, fd, 0) for fd in sorted(held)]


def _target(entry):
    try:
        return os.readlink(entry)
    except OSError:
        return ""


def wait_until_read(pid):
    """Until perf trace sleeps for want of events: those it has not read when it is told to end are lost."""
    deadline = time.monotonic() + READ_S
    while time.monotonic() < deadline:
        number = Path(f"/proc/{pid}/syscall").read_text().split()[0]
        if number.isdigit() and int(number) in POLLS:
            return
        time.sleep(0.001)


def clock_relation(stats):
    """The nearest of a few readings of perf's clock and CLOCK_MONOTONIC at once; nanoseconds.

    The instance shows whole microseconds, cut off: the true reading lies up to one of them later.
    """
    readings = []
    for _ in range(TRIES):
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        text = os.pread(stats, 4096, 0).decode()
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        seconds, micros = text.partition("now ts:")[2].split()[0].split(".")
        perf = int(seconds) * 1_000_000_000 + int(micros) * 1000 + 500
        readings.append((after - before, before, perf))
    width, before, perf = min(readings)
    middle = before + width // 2
    return {"monotonic_ns": middle, "perf_less_monotonic_ns": perf - middle, "error_ns": width // 2 + 500}


def main():
    try:
        events = events_of(os.getppid())
    except OSError as problem:
        sys.exit(
            f"error: the events of perf trace cannot be switched (that takes Linux 5.6): {problem.strerror}"
        )
    stats = os.open(sys.argv[1], os.O_RDONLY)

    def switch(request):
        for event in events:
            fcntl.ioctl(event, request, 0)

    def note():
        # The count comes first in whatever else a read of an event gives.
        count = sum(struct.unpack_from("=Q", os.read(event, 64))[0] for event in events)
        Path("counted.txt").write_text(f"{count}\n", encoding="utf-8")
        with Path("clock.txt").open("a", encoding="utf-8") as clocks:
            print(json.dumps(clock_relation(stats)), file=clocks)

    with Path("ctl").open("rb", buffering=0) as ctl, Path("ack").open("wb", buffering=0) as ack:
        try:
            switch(DISABLE)
            note()
            print("swarmscope armed", file=sys.stderr, flush=True)
            for line in ctl:
                if line == b"open\n":
                    switch(ENABLE)
                    ack.write(b"ok\n")
                    note()
                else:
                    switch(DISABLE)
                    wait_until_read(os.getppid())
                    note()
                    ack.write(b"ok\n")  # after that the end may come at once
        except KeyboardInterrupt:  # perf trace got it too, and writes out what it has
            switch(DISABLE)
            note()


main()
