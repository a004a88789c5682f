"""``python -m swarmscope.trace.compiling``: compile the decoders once, so that the first file is read as fast
as any.

Scope: every collector's sample is decoded; numba keeps what it compiled beside the modules, or where those
cannot be written in the user's cache directory. ``bootstrap.sh`` runs this after an installation. Without it,
the first file of each format takes some seconds longer.
"""

from __future__ import annotations

from swarmscope.collectors import load_all
from swarmscope.formats import FORMATS
from swarmscope.places import shipped
from swarmscope.trace import read


def compile_decoders() -> int:
    """Decode every sample; how many there were."""
    done = 0
    for collector in load_all([shipped("collectors")]).values():
        for output in collector.outputs:
            path = collector.folder / "sample" / output["file"].rstrip("/")
            if path.exists() and not FORMATS[output["format"]].aside and output["format"] != "losses-json":
                read(path)
                done += 1
    return done


if __name__ == "__main__":
    compile_decoders()
