r"""Text of tracefs ``trace`` (or ``trace_pipe``) with ``trace_clock`` mono::

    # entries-in-buffer/entries-written: 351/3628   #P:2
    ##### CPU 1 buffer started ####
    CPU:0 [LOST 1638 EVENTS]
        ping-9920    [000] b.s2.  1735.910611: netif_rx: dev=port2 skbaddr=ffff888102441000 len=84
        ping-9920    [000] b.s2.  1735.910611: <stack trace>
     => __netif_rx
        ping-9920    [000] b.s2.  1735.910615: ip_rcv <-__netif_receive_skb

With or without the columns of the thread group (``record-tgid``) and of flags (``irq-info``). What the
function tracer wrote becomes ``calls`` without a duration, parent the caller. User stacks stand above the
kernel's, outermost.

Stamps are whole microseconds, printed rounded or cut depending on the kernel: the true time lies within
1000 ns of them either way, which ``err`` says. Names have no system: it comes from the host's list of
tracepoints, else from a table of known ones. Hashed addresses (option ``hash-ptr``) cannot be joined
with anything and become null, with a record in ``losses``. A file cut between two lines of the very last
stack shows it short: nothing marks a stack's end.
"""

from __future__ import annotations

from typing import BinaryIO, Final

from swarmscope.trace.formats.base import Decoded, Source
from swarmscope.trace.formats.text.event_lines import EventLines

EXPECTED: Final = (
    "'# tracer: ...' or a line like 'ping-7342 [001] b....  1574.043573: net_dev_queue: dev=eth0 ...'"
)


def decode(file: BinaryIO, source: Source) -> Decoded:
    """Events (and stacks, if recorded) of a trace file; ``TraceFileError`` where it is none."""
    return EventLines(source, 0, expected=EXPECTED).run(file)
