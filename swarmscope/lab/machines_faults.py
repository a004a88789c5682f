"""Faults for a machine of a lab: its network cables pulled, or the machine stopped in its tracks.

Scope: ``cut``, ``heal``, ``pause``, ``resume`` of one machine, and whether it is paused. What is cut is in
the lab's ledger, before it is done, because QEMU cannot be asked. Limits: a cable is in or out: no loss, no
delay; a paused machine's clock stands still and is behind afterwards, as with a suspended one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from swarmscope.errors import Refused, SwarmscopeError, UsageError
from swarmscope.lab.qmp import Qmp
from swarmscope.lab.record import LabPaths, Ledger, boot_id, kind_of, lab_paths, locked, read_ledger


def cut(name: str, host: str, *, root: Path, nics: Sequence[str] = ()) -> tuple[str, ...]:
    """Pull the cables of ``nics`` (``eth0`` is SSH's; all of them when none is named); returns those pulled.

    The machine sees its links go down. Raises UsageError for a host or card that is not there, Refused for a
    lab that is not of machines or a machine that does not run.
    """
    with _machine(name, host, root) as (paths, ledger):
        wanted = _cards(ledger, host, nics)
        pulled = dict(ledger.facts.get("cut", {}))
        pulled[host] = sorted({*pulled.get(host, ()), *wanted})
        ledger.facts["cut"] = pulled
        ledger.save()
        _set_links(paths, host, wanted, up=False)
    return wanted


def heal(name: str, host: str, *, root: Path, nics: Sequence[str] = ()) -> tuple[str, ...]:
    """Put the cables of ``nics`` (all when none is named) back in; returns them. Raises as ``cut``."""
    with _machine(name, host, root) as (paths, ledger):
        wanted = _cards(ledger, host, nics)
        _set_links(paths, host, wanted, up=True)
        pulled = dict(ledger.facts.get("cut", {}))
        left = sorted(set(pulled.pop(host, ())) - set(wanted))
        ledger.facts["cut"] = {**pulled, host: left} if left else pulled
        ledger.save()
    return wanted


def pause(name: str, host: str, *, root: Path) -> None:
    """Stop a machine's processors; what is sent to it meanwhile waits or is lost. Raises as ``cut``."""
    with _machine(name, host, root) as (paths, _), _control(paths, host) as control:
        control.execute("stop")


def resume(name: str, host: str, *, root: Path) -> None:
    """Let a paused machine go on. Raises as ``cut``."""
    with _machine(name, host, root) as (paths, _), _control(paths, host) as control:
        control.execute("cont")


def is_paused(folder: Path, host: str) -> bool:
    """Whether the machine in ``folder`` is paused; False also for one that cannot be asked."""
    with suppress(SwarmscopeError), Qmp(folder / "qmp.sock", host=host, patience_s=3.0) as control:
        return bool(control.execute("query-status", patience_s=3.0).get("status") == "paused")
    return False


@contextmanager
def _machine(name: str, host: str, root: Path) -> Iterator[tuple[LabPaths, Ledger]]:
    paths = lab_paths(root, name)
    if not paths.state.exists():
        raise UsageError(
            f"no lab {name} below {root / '.lab'}", hint="`invoke lab-status` shows those there are"
        )
    with locked(paths, create=False):
        ledger = read_ledger(paths.state)
        if ledger is None:
            raise UsageError(f"no lab {name} below {root / '.lab'}")
        if kind_of(ledger) != "machines":
            raise Refused(
                f"lab {name} is of namespaces: its hosts' SSH comes through this computer's loopback, and its"
                " processes are this computer's, so a host can be neither cut off nor stopped whole",
                hint="`invoke lab-up --kind machines` raises a lab whose hosts can",
            )
        hosts = [h["name"] for h in ledger.facts.get("hosts", [])]
        if host not in hosts:
            raise UsageError(f"lab {name} has no host {host}", hint=f"it has {', '.join(hosts)}")
        if ledger.facts.get("boot_id") != boot_id():
            raise Refused(f"lab {name} is of before this computer's last boot", hint="invoke lab-down first")
        yield paths, ledger


def _cards(ledger: Ledger, host: str, nics: Sequence[str]) -> tuple[str, ...]:
    there = [f"eth{i}" for i in range(int(ledger.facts["options"]["nics"]) + 1)]
    unknown = [nic for nic in nics if nic not in there]
    if unknown:
        raise UsageError(f"{host} has no network card {unknown[0]}", hint=f"it has {', '.join(there)}")
    return tuple(nics or there)


def _set_links(paths: LabPaths, host: str, nics: Sequence[str], *, up: bool) -> None:
    with _control(paths, host) as control:
        for nic in nics:
            control.execute("set_link", name=nic, up=up)


def _control(paths: LabPaths, host: str) -> Qmp:
    return Qmp(paths.folder / "machines" / host / "qmp.sock", host=host)
