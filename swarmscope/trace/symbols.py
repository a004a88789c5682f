"""Kernel symbol names: grouping without the compiler's suffixes, modules, the list of what a kernel has.

Scope: names only. A suffix like ``.isra.0`` names a variant of the function, ``.part.0`` and ``.cold``
name a piece of it: good for grouping stacks, wrong for counting calls, so the raw name is always kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

USER = "[user]"
"""Module of frames outside the kernel."""
UNKNOWN = "[unknown]"
"""What perf prints for an address without a symbol."""

SUFFIXES = r"(?:\.(?:isra|part|constprop|cold|llvm|lto_priv|clone)(?:\.[0-9a-fA-F]+)?)+$"
"""What the compiler adds to a name, as a regular expression."""

_SUFFIX = re.compile(SUFFIXES)
_MODULE = re.compile(r"\s+\(?\[([^\[\]\s]+)\](?:\+0x[0-9a-f]+)?\)?$")
_FILE = re.compile(
    r"\s+\(((?:/|anon_inode:|memfd:)[^()]*(?:\(deleted\))?|inlined|deleted|unknown|\[unknown\])\)$"
)
_OBJECT = re.compile(r"/([^/]+)\.ko(?:\.(?:xz|gz|zst|debug))?$")
_OFFSET = re.compile(r"\+0x[0-9a-fA-F]+(?:/0x[0-9a-fA-F]+)?$")


def group(symbol: str) -> str:
    """``symbol`` without ``.isra .part .constprop .cold .llvm`` and their numbers."""
    return _SUFFIX.sub("", symbol) or symbol


def split(raw: str) -> tuple[str, str]:
    """A printed frame as (grouped symbol, module): ``foo.isra.0+0x12/0x30 [vxlan]`` -> ``foo``, ``vxlan``.

    The module is empty for the kernel itself and where the text names none.
    """
    name, module = raw, ""
    while match := _FILE.search(name):
        name = name[: match.start()]
        if file := _OBJECT.search(match.group(1)):
            module = file.group(1).replace("-", "_")
    if match := _MODULE.search(name):
        name, module = name[: match.start()], match.group(1)
        if module.startswith(("kernel", "guest.kernel", "unknown")):
            module = ""
    return group(_OFFSET.sub("", name)) or raw, module


def read_kallsyms(lines: Iterable[bytes]) -> dict[str, str]:
    """The agent's symbol list, one ``name`` or ``name [module]`` a line, as name -> module.

    A name with more than one owner gets the empty module: it cannot be told which one ran.
    """
    modules: dict[str, str] = {}
    for line in lines:
        name, _, rest = line.strip().partition(b" ")
        if not name:
            continue
        module = rest.strip().strip(b"[]").decode("utf-8", "replace")
        key = name.decode("utf-8", "replace")
        if modules.setdefault(key, module) != module:
            modules[key] = ""
    return modules
