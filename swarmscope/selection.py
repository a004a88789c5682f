"""``--limit``: which hosts of an inventory are meant.

Scope: patterns as Ansible reads them. ``n1``, ``n*``, ``n[12]``, a group (``managers``, ``workers``,
``all``); several joined by ``,`` or ``:``; ``&group`` keeps only hosts that are also there; ``!n3`` leaves
out. Order does not matter: first everything named, then every ``&``, then every ``!``. Only exclusions means:
all but these.

Limits: no regular expressions (``~``) and no ``group[0:2]`` slices.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from swarmscope.errors import UsageError
from swarmscope.model import Inventory
from swarmscope.yamlsource import did_you_mean


def select(inventory: Inventory, patterns: Sequence[str]) -> Inventory:
    """``inventory`` with only the hosts that ``patterns`` mean, still in file order; all of them for no
    pattern.

    Raises ``UsageError`` for a pattern that matches nothing, and where no host is left.
    """
    # A backslash before ! is what shells with history expansion make people write.
    words = [word.replace("\\!", "!") for text in patterns for word in re.split(r"[,:\s]+", text) if word]
    if not words:
        return inventory
    named = [w for w in words if w[0] not in "!&"]
    chosen = _union(inventory, named) if named else {h.name for h in inventory.hosts}
    for word in words:
        if word[0] == "&":
            chosen &= _matching(inventory, word[1:])
    for word in words:
        if word[0] == "!":
            chosen -= _matching(inventory, word[1:])
    if not chosen:
        raise UsageError(
            f"--limit {','.join(patterns)!r} leaves no host",
            hint=f"hosts are {', '.join(h.name for h in inventory.hosts)}",
        )
    return replace(inventory, hosts=tuple(h for h in inventory.hosts if h.name in chosen))


def _union(inventory: Inventory, patterns: Iterable[str]) -> set[str]:
    return set[str]().union(*(_matching(inventory, pattern) for pattern in patterns))


def _matching(inventory: Inventory, pattern: str) -> set[str]:
    """Names of the hosts that one pattern without its sign matches; an existing but empty group matches
    none.
    """
    groups = {
        "all": {h.name for h in inventory.hosts},
        "managers": {h.name for h in inventory.managers},
        "workers": {h.name for h in inventory.workers},
    }
    if pattern in groups:
        return groups[pattern]
    found = {h.name for h in inventory.hosts if fnmatchcase(h.name, pattern)}
    if not found:
        known = [*groups, *(h.name for h in inventory.hosts)]
        raise UsageError(
            f"--limit: {pattern!r} is no host and no group{did_you_mean(pattern, known)}",
            hint="`invoke hosts` lists them",
        )
    return found
