"""From raw artifacts to tables: decode, align clocks, name roles, attribute events to packets.

Pure and offline: everything here works from files with no host, no root and no network. ``tables.build`` is
the entrance for a run, ``read`` for one file of whatever format (in a notebook, say); ``schema`` defines what
comes out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swarmscope.trace.reading import Trace, read

__all__ = ["Trace", "read"]


def __getattr__(name: str) -> Any:
    # Decoders are loaded by who reads a trace, not by who only asks for the schema.
    if name in __all__:
        from swarmscope.trace import reading

        return getattr(reading, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
