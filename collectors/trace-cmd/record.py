"""Records functions and events, and lets trace-cmd make its trace.dat of the buffer.

``trace-cmd record`` opens its buffer itself as soon as it is started, and has no gate: so the buffer is made
and opened as in function-graph, and ``trace-cmd extract`` reads it.
"""

import subprocess
import sys
from pathlib import Path

import arming

FILE = "trace.dat"


def save(buffer, about, config):
    """``trace-cmd extract`` takes the events out of the buffer, and may remove its instance."""
    where = ["-B", buffer.path.name] if buffer.own else ["-t"]
    command = [config["trace_cmd"], "extract", *where, "-o", FILE]
    with Path("extract.log").open("wb") as log:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    if done.returncode or not Path(FILE).exists():
        last = Path("extract.log").read_text(errors="replace").strip().rpartition("\n")[2]
        raise OSError(f"trace-cmd extract ended with {done.returncode}: {last}")


if __name__ == "__main__":
    sys.exit(arming.main(save))
