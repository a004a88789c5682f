"""``demo``: the whole way on this machine alone, from no hosts to an answer, verb by verb.

Scope: nothing of its own; it says each command line and runs that verb, so that the same lines work
on a real cluster. The lab is removed at the end whatever happens, unless it is to be kept.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

from swarmscope import console
from swarmscope.verbs import labs, runs, swarm
from swarmscope.verbs.flags import verb

LAB = "demo"
MACHINES = "machines"
GRAPHED = "br vxlan veth nf"
"""Presets of ``function-graph`` for hosts whose times are inflated anyway."""


@verb(
    help={
        "hosts": "number of hosts in the lab",
        "lab": "what its hosts are: namespaces (seconds), or machines (QEMU, a kernel each)",
        "trials": "plain trials of each arm, instead of the playbook's",
        "keep": "leave the lab and its swarm standing, to go on with",
    }
)
def demo(c: Any, hosts: int = 2, lab: str = "namespaces", trials: int = 0, keep: bool = False) -> None:
    """Raise a lab, form a Swarm, trace the overlay against the host's path, and answer."""
    inventory = f".lab/{LAB}/inventory.yml"
    try:
        _say_and_run(c, labs.lab_up, hosts=hosts, name=LAB, **({} if lab == "namespaces" else {"kind": lab}))
        _say_and_run(c, swarm.swarm_up, inventory=inventory)
        more: dict[str, Any] = {"trials": trials} if trials else {}
        if lab == MACHINES:
            more["set"] = [f"graph={GRAPHED}"]  # a kernel of its own has the function tracer
        _say_and_run(c, runs.trace, mode="overlay", inventory=inventory, **more)
        _say_and_run(c, runs.collect)
        _say_and_run(c, runs.report)
        if keep:
            console.say(f"the lab stands: `invoke lab-down --name {LAB}` removes it")
    finally:
        if not keep:
            _say_and_run(c, labs.lab_down, name=LAB)


def _say_and_run(c: Any, task: Callable[..., None], **flags: Any) -> None:
    given = "".join(
        f" --{name.replace('_', '-')} {shlex.quote(str(one))}"
        for name, value in flags.items()
        for one in (value if isinstance(value, list) else [value])
    )
    name = str(getattr(task, "name", "")).replace("_", "-")
    console.say(f"\n$ invoke {name}{given}")
    task(c, **flags)
