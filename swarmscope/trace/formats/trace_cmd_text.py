r"""Text of ``trace-cmd report``, with or without ``-t`` (nanoseconds)::

    cpus=2
    CPU:1 [5 EVENTS DROPPED]
    n1:  ping-3114  [000]  2760.268192120: net_dev_queue:        dev=eth0 skbaddr=0xffff8ed55e53dc00 len=98
    n1:  ping-3114  [000]  2760.268346530: funcgraph_entry:      + 99.799 us  |  veth_xmit();
    n1:  ping-3114  [000]  2760.268730120: funcgraph_entry:                   |  vxlan_xmit() {
    n1:  ping-3114  [000]  2760.268910320: funcgraph_exit:       ! 180.650 us |  }

Scope: events with their stacks, calls of the graph tracer and functions of the function tracer. The names of
files and instances before a line are passed over: all is one recording. A ``}`` does not say of which
function: it ends the open call of its task and depth.

Limits: the latency format (``-l``), raw fields (``-R``) and time differences are not read; without ``-t``
stamps are microseconds (``err``), rounded.
"""

from __future__ import annotations

from typing import BinaryIO, Final

from swarmscope.trace.formats.base import Decoded, Source
from swarmscope.trace.formats.text.event_lines import EventLines

EXPECTED: Final = (
    "'cpus=2' or a line like 'ping-3114  [000]  2760.268192: net_dev_queue:        dev=eth0 ...'"
)


def decode(file: BinaryIO, source: Source) -> Decoded:
    """Events and calls of trace-cmd's text; ``TraceFileError`` where it is none."""
    return EventLines(source, 1, expected=EXPECTED).run(file)
