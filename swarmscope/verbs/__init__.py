"""The verbs, flat: ``invoke swarm-up``, ``swarmscope swarm-up``.

Scope: puts the tasks of the modules here into one Invoke collection. Each module is thin: flags in, one call
into the package, an answer printed. Their names must not repeat between modules (Invoke refuses).
"""

from __future__ import annotations

from types import ModuleType

from invoke.collection import Collection
from invoke.tasks import Task

import swarmscope.starting  # noqa: F401
from swarmscope.verbs import bench, demo, develop, files, health, inspect, labs, runs, swarm


def collection(*modules: ModuleType) -> Collection:
    """All tasks that ``modules`` define, in one flat collection; underscores in their names become dashes."""
    result = Collection()
    for module in modules:
        for item in vars(module).values():
            if isinstance(item, Task) and item.__module__ == module.__name__:
                result.add_task(item)
    return result


namespace = collection(labs, swarm, inspect, health, runs, files, demo, bench, develop)
