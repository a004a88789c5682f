"""``python -m swarmscope.lab``: one lab operation, answered as one JSON object on stdout.

Scope: what ``privileges.run_as_root`` calls through sudo. The answer is ``{"result": ...}`` or ``{"error":
...}``; the exit code is the error's. People use ``invoke lab-up``.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from swarmscope.errors import Interrupted, SwarmscopeError
from swarmscope.lab import namespaces
from swarmscope.lab.privileges import describe
from swarmscope.lab.status import status_to_json


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m swarmscope.lab", description="raise and remove a lab")
    parser.add_argument("operation", choices=["up", "down", "status"])
    parser.add_argument("name")
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--root", type=Path, required=True, help="the project folder that holds .lab")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    try:
        answer, code = {"result": _run(arguments)}, 0
    except SwarmscopeError as error:
        answer, code = {"error": describe(error)}, error.exit_code
    sys.stdout.write(json.dumps(answer) + "\n")
    return code


def _run(arguments: argparse.Namespace) -> Any:
    if arguments.operation == "up":
        return status_to_json(namespaces.up(arguments.name, arguments.hosts, root=arguments.root))
    if arguments.operation == "down":
        return list(namespaces.down(arguments.name, root=arguments.root))
    found = namespaces.status(arguments.name, root=arguments.root)
    return None if found is None else status_to_json(found)


def _stop(number: int, _frame: FrameType | None) -> None:
    raise Interrupted(f"stopped by {signal.Signals(number).name}", hint="what was made is removed again")


if __name__ == "__main__":
    sys.exit(main())
