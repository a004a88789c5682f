r"""Text of ``perf script``, with the columns it prints by default or that ``-F`` asks for.

One block an event; with call chains an empty line ends it::

    ping  7342/7342  [001]  1574.043594926: net:net_dev_queue: dev=eth0 skbaddr=0xffff888102448a00 len=98
    \tffffffff81eb9559 __traceiter_net_dev_queue
    \tffffffff81e63976 __dev_queue_xmit

    ping 14399 33861.385705:     250000 cpu-clock:
    \t           153e0 update_active+0x270 (/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2)

Columns in perf's order (``builtin-script.c``): ``comm``, ``pid/tid`` or one of both, ``[cpu]``, ``misc``,
``tod``, ``time`` in micro- or nanoseconds, ``period``, ``event``, ``trace``, then ``ip sym dso`` on the
line itself or as a call chain below it, with ``symoff``, ``srcline``, ``(inlined)``. Any of them may be
missing; which are there is found from the lines (``layouts``) and may differ between events. ``pid`` is the
thread's id where both are printed, as in the other collectors. Stacks are printed innermost first and kept
outermost first.

Without ``time``, ``ts`` is 0 and a row of ``losses`` says so; stamps in microseconds are cut by perf, which
``err`` says. What perf lost is in the text only with ``--show-lost-events``; other records
(``--show-mmap-events`` ...) are passed over, as are comments. A block cut off at the end of the file keeps
its event where the header line is whole, never its stack.

Limits: not the latency format (``-L``), branch stacks with instructions (``brstackinsn``), nor Intel PT's
indented calls. A comm with a newline in it breaks its line, which is damage.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from swarmscope.trace.formats.base import Decoded, Source, joined
from swarmscope.trace.formats.perf_script import layouts
from swarmscope.trace.formats.perf_script.reader import Reader

__all__ = ["batches", "decode", "looks_like"]


def decode(file: BinaryIO, source: Source) -> Decoded:
    """Events, stacks and frames of a ``perf script`` text; ``TraceFileError`` where it holds no event."""
    return joined(batches(file, source))


def batches(file: BinaryIO, source: Source) -> Iterator[Decoded]:
    """The same piece by piece, in as much memory however long the text is.

    ``stacks`` and ``frames`` are those not seen before; ``losses`` are in the last one.
    """
    yield from Reader(source).batches(file)


def looks_like(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is such a text: most of its lines are headers of one layout.

    ftrace's lines fit too, as those of a comm that ends with the number; their events have no system.
    """
    return layouts.likely(head)
