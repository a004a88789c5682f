"""Kernel addresses to symbols: the text of /proc/kallsyms of the boot that was recorded.

Which symbol an address belongs to is perf's choice (tools/perf/util/symbol.c): functions and data, from one
address to the next; of several at one address the one that the kernel lists last. What KSYMBOL records
name (BPF programs come and go) stands before the list. Where neither knows an address, the modules' places in
the recording say at least which module it is in. Limits: a list without addresses (kptr_restrict) names
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from swarmscope.trace import symbols
from swarmscope.trace.formats.base import LossLog
from swarmscope.trace.formats.perf_data.header import Described
from swarmscope.trace.formats.perf_data.scan import Records
from swarmscope.trace.formats.perf_data.stream import Loaded, kernel_maps, loaded_symbols
from swarmscope.trace.formats.perf_data.symbol_lines import lines

NO_SYMBOL = -1
PAGE = 4096
_ANCHORS = (b"_text", b"_stext")


@dataclass(frozen=True, slots=True)
class KernelSymbols:
    """Symbols by address; the name of each is in ``text``."""

    start: npt.NDArray[np.uint64]
    end: npt.NDArray[np.uint64]
    name_at: npt.NDArray[np.int64]
    text: bytes
    anchors: Mapping[bytes, int]
    """Where ``_text`` and ``_stext`` are."""

    @classmethod
    def parse(cls, text: bytes) -> KernelSymbols:
        """The text of /proc/kallsyms; lines that are none are passed over."""
        text = text if text.endswith(b"\n") else text + b"\n"
        start, name_at, owned = lines(np.frombuffer(text, np.uint8))
        order = np.argsort(start, kind="stable")
        start = start[order]
        last = np.append(start[1:] != start[:-1], True) if len(start) else np.zeros(0, np.bool_)
        order, start = order[last], start[last]
        inside = owned[order]
        following = np.append(start[1:], start[-1:])
        # The last of the kernel's, or of the modules', reaches to the end of the page behind its own.
        brink = np.append(inside[1:] != inside[:-1], True)[: len(start)]
        rounded = (start + np.uint64(2 * PAGE - 1)) & ~np.uint64(PAGE - 1)
        end = np.where(brink, rounded, following)
        return cls(start, end, name_at[order], text, _anchors(text))

    def name(self, row: int) -> tuple[str, str]:
        """Name and module (empty: the kernel itself) of a row."""
        at = int(self.name_at[row])
        name, _, rest = self.text[at : self.text.index(b"\n", at)].replace(b"\t", b" ").partition(b" ")
        return name.decode("utf-8", "replace"), rest.strip().strip(b"[]").decode("utf-8", "replace")

    def of_boot(self, name: bytes, address: int) -> bool:
        """Whether this is the list of a kernel that has ``name`` there: each boot may put it elsewhere."""
        return not address or self.anchors.get(name, address) == address


def _anchors(text: bytes) -> dict[bytes, int]:
    found = {}
    for name in _ANCHORS:
        end = text.rfind(b" " + name + b"\n")
        words = text[text.rfind(b"\n", 0, max(end, 0)) + 1 : max(end, 0)].split()
        try:
            found[name] = int(words[0], 16) if words else 0
        except ValueError:
            continue
    return {name: address for name, address in found.items() if address}


NOTHING = KernelSymbols(np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64), b"", {})


class Lookup:
    """Symbols of a recording: what it loaded, then the kernel's list, then in which module an address is."""

    def __init__(
        self, listed: KernelSymbols, loaded: Sequence[Loaded] = (), *, modules: Sequence[Loaded] = ()
    ) -> None:
        self._listed = listed
        self._loaded = loaded
        self._modules = modules
        self._nameless = len(listed.start) + len(loaded)
        """From this row on an address has a module and no name."""

    def rows(self, addresses: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """A row for each address, to be handed to ``name``; ``NO_SYMBOL`` where there is none."""
        listed = self._listed
        found = np.searchsorted(listed.start, addresses, side="right") - 1
        inside = found >= 0
        inside[inside] = addresses[inside] < listed.end[found[inside]]
        found = np.where(inside, found, NO_SYMBOL)
        for row, module in enumerate(self._modules, start=self._nameless):
            found[module.holds(addresses) & (found == NO_SYMBOL)] = row
        for row, symbol in enumerate(self._loaded, start=len(listed.start)):
            found[symbol.holds(addresses)] = row
        return found

    def unnamed(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which rows have no name."""
        nameless: npt.NDArray[np.bool_] = (rows == NO_SYMBOL) | (rows >= self._nameless)
        return nameless

    def name(self, row: int) -> tuple[str, str]:
        """Name and module of a row."""
        if row == NO_SYMBOL:
            return symbols.UNKNOWN, ""
        if row >= self._nameless:
            return symbols.UNKNOWN, self._modules[row - self._nameless].module
        if row >= len(self._listed.start):
            symbol = self._loaded[row - len(self._listed.start)]
            return symbol.name, symbol.module
        return self._listed.name(row)


class Symbolizer:
    """The symbols of one file, as its batches tell of them."""

    def __init__(self, kallsyms: bytes | KernelSymbols | None, log: LossLog) -> None:
        self._given = kallsyms
        self._log = log
        self._listed: KernelSymbols | None = None
        self._loaded: list[Loaded] = []
        self._modules: list[Loaded] = []
        self._anchored = False

    def add(self, described: Described, data: npt.NDArray[np.uint8], records: Records) -> None:
        """Learn from records. A list of another boot is not used from where that is told."""
        name, address, modules = kernel_maps(described, data, records)
        if not self._anchored and address:
            self._anchored = True
            if not self._list(described).of_boot(name, address):
                self._note("of another boot: it is not used")
                self._listed = NOTHING
        self._loaded += loaded_symbols(described, data, records)
        self._modules += modules

    def lookup(self, described: Described) -> Lookup:
        """What is known by now."""
        return Lookup(self._list(described), self._loaded, modules=self._modules)

    def _list(self, described: Described) -> KernelSymbols:
        """The list that was given, else the one that older perf put into the file."""
        if self._listed is None:
            given = self._given or described.kallsyms or NOTHING
            self._listed = KernelSymbols.parse(given) if isinstance(given, bytes) else given
            if given is not NOTHING and not len(self._listed.start):
                self._note("without addresses (kptr_restrict)")
        return self._listed

    def _note(self, what: str) -> None:
        self._log.add("symbols", 1, detail=f"the list of symbols is {what}")
