"""The recorders of one host: armed together, opened and closed together, stopped for sure.

Scope: a recorder is ready when it says so, never after a sleep. When one of a set fails, all of the set are
stopped.
"""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from . import gates, ledger, recorder
from .places import Places
from .protocol import AgentError
from .recorder import POLL_S, Recorder
from .spawner import Spawner

STOPPED_WELL = (0, -2, 130)
"""Exit codes after an interrupt: handled, passed on as the signal, passed on by a shell."""


class Recorders:
    """All recorders that this agent ever armed, by id; stopped ones stay known for ``pack``."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._spawner: Spawner | None = None
        self._known: dict[tuple[str, str], Recorder] = {}
        self._running: dict[str, Recorder] = {}
        self._lock = threading.Lock()

    @property
    def spawner(self) -> Spawner:
        with self._lock:
            if self._spawner is None:
                self._spawner = Spawner()
            return self._spawner

    def of_run(self, run: str) -> list[Recorder]:
        return [known for known in self._known.values() if known.run == run]

    def running(self) -> list[str]:
        return list(self._running)

    def arm(self, run: str, specs: list[dict[str, Any]], deadline_s: float) -> list[dict[str, Any]]:
        """Start recorders and wait until every one is ready: ``[{"id", "pid", "ready_ns", "notes"}]``.

        Raises ``AgentError`` of kind ``collector`` (with ``recorder``, ``exit`` and ``tail``) when one ends
        or is not ready in time; all of this call are stopped then.
        """
        ledger.note(self._places.state, run, {"kind": "directory", "path": str(self._places.run(run))})
        folder = self._places.make_run(run)
        wanted = [recorder.parse(spec, run, folder) for spec in specs]
        for one in wanted:
            if one.id in self._running:
                raise AgentError("usage", f"recorder {one.id} runs already", hint="stop it first")
        begun: list[Recorder] = []
        try:
            for one in wanted:
                begun.append(one)  # first: what fails half way has pipes to close
                one.prepare(self._places)
            for one in wanted:
                one.start(self._places, self.spawner, deadline_s)
                self._known[run, one.id] = self._running[one.id] = one
            said = [(one, one.ready_match, one.ready_timeout_s) for one in wanted]
            return _await(said, "was not ready", "ready")
        except BaseException:
            _each(begun, Recorder.stop)
            for one in begun:
                self._running.pop(one.id, None)
                one.close()
            raise

    def rehearsed(self, ids: list[str]) -> list[dict[str, Any]]:
        """Tell recorders with a rehearsal that it is over, and wait until each has made of it what it needs.

        Returns and raises as ``arm``, but stops nothing.
        """
        chosen = [self._find(name) for name in ids]
        told = [(one, one.end_rehearsal()) for one in chosen]
        said = [(one, rehearsal.match, rehearsal.timeout_s) for one, rehearsal in told]
        return _await(said, "made nothing of its rehearsal", "rehearsed")

    def gate(self, ids: list[str], action: str, at: int | None) -> dict[str, Any]:
        """See ``gates.move``."""
        return gates.move([self._find(name) for name in ids], action, at, self.spawner)

    def stop(self, ids: list[str] | None) -> list[dict[str, Any]]:
        """Stop the named recorders (None: all) side by side, then run their ``after`` scripts."""
        chosen = list(self._running.values()) if ids is None else [self._find(name) for name in ids]
        reports: list[dict[str, Any]] = _each(chosen, Recorder.stop)
        for one in chosen:
            self._running.pop(one.id, None)
        afters = _each(chosen, lambda one: one.run_after(self.spawner))
        for index, one in enumerate(chosen):
            report, code = reports[index], afters[index]
            if code is not None:
                report["after_exit"] = code
            report["notes"] = one.notes()
            report["tail"] = one.tail() if report["exit"] not in STOPPED_WELL or code else ""
        return reports

    def _find(self, name: str) -> Recorder:
        try:
            return self._running[name]
        except KeyError:
            raise AgentError("missing", f"no recorder {name!r} runs here", hint="arm it first") from None


def _each(chosen: list[Recorder], work: Any) -> list[Any]:
    if not chosen:
        return []
    with ThreadPoolExecutor(len(chosen)) as pool:
        return list(pool.map(work, chosen))


def _await(
    wanted: list[tuple[Recorder, re.Pattern[str], float]], late: str, what: str
) -> list[dict[str, Any]]:
    """Wait until each recorder has said its line, or has had its seconds for it."""
    began = time.monotonic()
    done: dict[str, int] = {}
    while len(done) < len(wanted):
        for one, match, timeout_s in wanted:
            # Also of one that was ready: it may die while the others are waited for.
            if one.has_ended():
                code = one.process.returncode if one.process else None
                when = f"after it was {what}" if one.id in done else f"before it was {what}"
                raise _failure(one, f"ended with exit code {code} {when}", code)
            if one.id in done:
                continue
            if one.has_said(match):
                done[one.id] = time.monotonic_ns()
            elif time.monotonic() - began > timeout_s:
                raise _failure(one, f"{late} after {timeout_s:g} s", None)
        time.sleep(POLL_S)
    return [
        {"id": one.id, "pid": one.pid, "ready_ns": done[one.id], "notes": one.notes()} for one, _, _ in wanted
    ]


def _failure(one: Recorder, what: str, code: int | None) -> AgentError:
    message = f"{one.id} {what}: {one.reason() or 'it wrote nothing'}"
    return AgentError("collector", message, recorder=one.id, exit=code, tail=one.tail())
