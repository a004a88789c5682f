"""The raw artifacts of a run: what is there, how each is to be read, and what is missing.

Scope: ``raw/<host>/`` of one run, through ``store``. Whatever is missing or cannot be read is noted in
``losses`` and skipped; nothing here raises for it.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import zstandard

from swarmscope import store
from swarmscope.errors import TraceFileError, UsageError
from swarmscope.formats import FORMATS, packed_names
from swarmscope.trace import formats, symbols
from swarmscope.trace.formats import fields


@dataclass(frozen=True, slots=True)
class Output:
    """One file that a recorder should have left, and how to read it."""

    host: str
    recorder: Mapping[str, Any]
    file: str
    format: str
    clock: str
    optional: bool = False
    copy_of: str = ""
    """Another output with the same recording: this one is read only where that one is missing."""

    @property
    def collector(self) -> str:
        return str(self.recorder.get("collector") or self.recorder.get("id"))


class Artifacts:
    """Reads the raw files of ``run``. ``losses`` collects (host, collector, what, count, detail)."""

    def __init__(self, run: store.Run) -> None:
        self.store = run
        self.record = run.read()
        self.losses: list[tuple[str, str, str, int, str]] = []
        self.hosts = [str(h["name"]) for h in (self.record.get("inventory") or {}).get("hosts") or ()]
        self.kernels = {
            str(host): str(boot)
            for boot, kernel in (self.record.get("kernels") or {}).items()
            for host in kernel.get("hosts") or ()
        }
        """Host to boot id."""
        self.clocks: dict[str, Any] = self.record.get("clocks") or {}
        lab = (self.record.get("inventory") or {}).get("lab") or {}
        self.wire = [int(inode) for inode in lab.get("wire_netns") or ()]
        self.missing = [str(host) for host in self.record.get("missing") or ()]
        self.facts = {host: self.raw_json(host, "facts.json") for host in self.hosts}
        self.topologies = {host: self.raw_json(host, "topology.json") for host in self.hosts}
        for host in self.missing:
            self.lose(host, "", "missing host", detail="its data was not collected")

    def lose(self, host: str, collector: str, what: str, *, count: int = 1, detail: str = "") -> None:
        """Note something lost; ends up in the ``losses`` table."""
        self.losses.append((host, collector, what, count, detail))

    def raw_json(self, host: str, name: str) -> dict[str, Any]:
        """A host's JSON file; empty where it is missing, broken, or no object."""
        path = self.store.raw(host) / name
        if not path.is_file():
            if host not in self.missing:
                self.lose(host, "", "missing file", detail=name)
            return {}
        try:
            value = store.read_json(path)
        except UsageError as error:
            self.lose(host, "", "unreadable file", detail=str(error))
            return {}
        return value if isinstance(value, dict) else {}

    def _find(self, host: str, relative: str) -> Path | None:
        """Where an artifact lies: unpacked, if its own tool wants it so, else packed."""
        unpacked = self.store.artifact(host, relative.rstrip("/"))
        if unpacked.exists():
            return unpacked
        for name in packed_names(relative):
            path = self.store.artifact(host, name)
            if path.is_file() and not relative.endswith("/"):
                return path
        return None

    def outputs(self) -> Iterator[Output]:
        for host, recorders in (self.record.get("recorders") or {}).items():
            for recorder in recorders:
                for item in recorder.get("outputs") or ():
                    yield Output(
                        str(host),
                        recorder,
                        str(item["file"]),
                        str(item["format"]),
                        str(item.get("clock") or ""),
                        bool(item.get("optional")),
                        str(item.get("copy_of") or ""),
                    )

    def for_tools(self) -> list[tuple[Output, Path]]:
        """Artifacts that lie here as their own tool wants them, each with the path at which it opens them."""
        found = [(one, self._find(one.host, f"{one.recorder['id']}/{one.file}")) for one in self.outputs()]
        return [
            (one, path)
            for one, path in found
            if path and one.format in FORMATS and FORMATS[one.format].unpacked
        ]

    def _modules(self, host: str) -> dict[str, str]:
        path = self._find(host, "kallsyms.txt")
        return symbols.read_kallsyms(io.BytesIO(self._read(host, path))) if path else {}

    def _beside(self, output: Output) -> bytes:
        """The symbols with their addresses that lie beside a recording; empty where there are none."""
        names = [
            item["file"] for item in output.recorder.get("outputs") or () if item["format"] == "kallsyms"
        ]
        if output.format != "perf-data" or not names:
            return b""
        path = self._find(output.host, f"{output.recorder['id']}/{names[0]}")
        return self._read(output.host, path) if path else b""

    def _read(self, host: str, path: Path) -> bytes:
        try:
            with store.open_packed(path) as file:
                return file.read()
        except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
            self.lose(host, "", "unreadable file", detail=f"{path.name}: {error}")
            return b""

    def decode(self, output: Output) -> Iterator[formats.Decoded]:
        """What is in an artifact, batch by batch; nothing where it is missing or not to be read."""
        relative = f"{output.recorder['id']}/{output.file}"
        path = self._find(output.host, relative)
        if path is None:
            if not output.optional:
                self.lose(output.host, output.collector, "missing file", detail=relative)
            return
        if output.format in FORMATS and FORMATS[output.format].aside:
            return
        if output.copy_of and self._find(output.host, f"{output.recorder['id']}/{output.copy_of}"):
            return
        try:
            yield from formats.batches(output.format, path, self._source(output, relative))
        except TraceFileError as error:
            self.lose(output.host, output.collector, "unreadable file", detail=error.message)

    def headers(self, output: Output) -> pl.DataFrame | None:
        """The packets that an LTTng trace has headers of, as ``hops``; None where there is no such trace."""
        relative = f"{output.recorder['id']}/{output.file}"
        path = self._find(output.host, relative)
        if output.format != "ctf" or path is None:
            return None
        from swarmscope.trace.formats.ctf import packet_keys  # compiled code: for who has such a trace

        try:
            return packet_keys.decode(path, self._source(output, relative))
        except TraceFileError:
            return None  # said where the events were read

    def _source(self, output: Output, relative: str) -> formats.Source:
        facts = self.facts.get(output.host) or {}
        boot_offset, boot_error = self._boot(output.host)
        flow = self.record.get("flow") or {}
        return formats.Source(
            f"{output.host}/{relative}",
            host=output.host,
            kernel=self.kernels.get(output.host, ""),
            collector=output.collector,
            arm=str(output.recorder.get("arm") or ""),
            clock="boottime" if output.clock == "boottime" else "monotonic",
            boot_offset=boot_offset,
            boot_error=boot_error,
            byteorder="big" if facts.get("byteorder") == "big" else "little",
            vxlan_port=int(flow.get("vxlan_port") or 4789),
            modules=self._modules(output.host) if output.format in ("perf-script", "ftrace-text") else {},
            kallsyms=self._beside(output),
            tracepoints=fields.by_name(facts.get("tracepoints") or ()),
        )

    def _boot(self, host: str) -> tuple[int, int]:
        """(boot - mono, its error) of a host; the change between start and end widens the error."""
        record = (self.clocks.get("hosts") or {}).get(host) or {}
        shots = [(record.get(end) or {}).get("snapshot") or {} for end in ("start", "end")]
        offsets = [
            (int(s["boot"]) - int(s["mono"]), int(s.get("width") or 0))
            for s in shots
            if "boot" in s and "mono" in s
        ]
        if not offsets:
            return 0, 0
        values = [value for value, _ in offsets]
        return values[0], max(width for _, width in offsets) + max(values) - min(values)
