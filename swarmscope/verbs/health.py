"""The verbs about the hosts' health: ``doctor`` says what would go wrong, ``sweep`` removes what went wrong.

Scope: flags in, one call into the package, an answer printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from swarmscope import console
from swarmscope.cluster import sweeping
from swarmscope.cluster.agents import Agents
from swarmscope.cluster.doctor import examine
from swarmscope.cluster.doctor_checks import Check
from swarmscope.cluster.fleet import Fleet
from swarmscope.cluster.sweeping import Found, Leftover
from swarmscope.collectors import load_all
from swarmscope.errors import PartialResult, PreflightFailed
from swarmscope.verbs.flags import hosts_for, verb

EVERYWHERE = "all"
STATUSES = ("fail", "warn", "ok")
COLLECTOR = "collector "


@verb
def doctor(
    c: Any, inventory: str = "", limit: Sequence[str] = (), timeout: float = 10.0, json: bool = False
) -> None:
    """Check every host and every path between them; exit 3 where something needed fails."""
    del c
    hosts = hosts_for(inventory, limit)
    console.note(f"examining {len(hosts.hosts)} hosts …")
    checks = examine(hosts, load_all(), connect_timeout=timeout)
    failed = [check for check in checks if check.status == "fail" and check.needed]
    if json:
        console.emit({"ok": not failed, "checks": checks})
    else:
        console.show(diagnosis(checks, [host.name for host in hosts.hosts]))
    if failed:
        names = ", ".join(dict.fromkeys(check.host for check in failed))
        count = f"{len(failed)} needed check{'s fail' if len(failed) > 1 else ' fails'}"
        raise PreflightFailed(f"{count} on {names}", hint=failed[0].hint or "see the list above")


def diagnosis(checks: Sequence[Check], hosts: Sequence[str]) -> RenderableType:
    """The checks as a table: a line that several hosts share is written once, with its hint below it."""
    shared: dict[tuple[str, str, str, str], list[str]] = {}
    listed = list(_collectors_in_a_line(checks))
    for check in listed:
        shared.setdefault((check.name, check.status, check.message, check.hint), []).append(check.host)
    order = list(dict.fromkeys(check.name for check in listed))
    rows = []
    for (name, status, message, hint), where in sorted(
        shared.items(), key=lambda item: order.index(item[0][0])
    ):
        said = Text(console.clean(message))
        if hint and status != "ok":
            said.append(f"\n{console.clean(hint)}", style="dim")
        everywhere = len(hosts) > 1 and set(where) == set(hosts)
        rows.append((console.mark(status), name, EVERYWHERE if everywhere else " ".join(where), said))
    counts = {status: sum(check.status == status for check in checks) for status in STATUSES}
    needed = any(check.status == "fail" and check.needed for check in checks)
    verdict = Text("" if needed else "nothing that a run needs is missing", style="dim")
    summary = Text.assemble(*_counted(counts), verdict)
    return Group(console.table("", ("", "check", "hosts", "found"), rows), summary)


def _collectors_in_a_line(checks: Sequence[Check]) -> Iterator[Check]:
    """The collectors that can run in one check of each host, at the place of its first; the rest as it is."""
    able: dict[str, list[str]] = {}
    for check in checks:
        if check.status == "ok" and check.name.startswith(COLLECTOR):
            able.setdefault(check.host, []).append(check.name.removeprefix(COLLECTOR))
    for check in checks:
        if check.status != "ok" or not check.name.startswith(COLLECTOR):
            yield check
        elif check.host in able:
            names = able.pop(check.host)
            yield Check(check.host, "collectors", "ok", f"can run: {', '.join(names)}")


def _counted(counts: Mapping[str, int]) -> Iterable[Text]:
    for status, count in counts.items():
        if count:
            yield Text(f"{count} {status}  ", style=console.STATUS_STYLES[status])


@verb
def sweep(
    c: Any,
    inventory: str = "",
    limit: Sequence[str] = (),
    dry_run: bool = False,
    timeout: float = 10.0,
    json: bool = False,
) -> None:
    """Remove what interrupted runs left on the hosts: only what is marked ours; live runs are spared."""
    del c
    hosts = hosts_for(inventory, limit)
    with Fleet(hosts, connect_timeout=timeout) as fleet:
        if len(fleet.unreachable) == len(hosts.hosts):
            fleet.require_all()
        with Agents(fleet) as agents:
            names = list(agents.links)
            found = fleet.each(lambda r: sweeping.find(r, agents[r.name]), names, timeout=180).require()
            if not dry_run:
                swept = fleet.each(
                    lambda r: sweeping.remove(r, agents[r.name], found[r.name].items), names, timeout=300
                ).require()
                found = {name: Found(tuple(swept[name]), f.live, f.docker) for name, f in found.items()}
        unreachable = {name: error.message for name, error in fleet.unreachable.items()}
    if json:
        console.emit({"dry_run": dry_run, "hosts": found, "unreachable": unreachable})
    else:
        console.show(swept_table(found, dry_run=dry_run))
    _complain(found, unreachable)


def swept_table(found: Mapping[str, Found], *, dry_run: bool) -> RenderableType:
    """What was found on each host and what became of it."""
    parts: list[RenderableType] = []
    for name, host in found.items():
        if host.live:
            run, holder, since = (host.live.get(key, "?") for key in ("run", "holder", "since"))
            parts.append(Text(console.clean(f"{name}: spared run {run} of {holder}, going on since {since}")))
    rows = [
        (name, item.kind, item.run or "?", item.detail, _fate(item, dry_run=dry_run))
        for name, host in found.items()
        for item in host.items
    ]
    if rows:
        parts.append(console.table("", ("host", "kind", "run", "what", ""), rows))
    else:
        parts.append(Text("nothing left over"))
    return Group(*parts)


def _fate(item: Leftover, *, dry_run: bool) -> Text:
    if item.why_kept:
        return Text(console.clean(f"kept: {item.why_kept}"), style="yellow")
    return Text("would be removed" if dry_run else "removed", style="dim" if dry_run else "green")


def _complain(found: Mapping[str, Found], unreachable: Mapping[str, str]) -> None:
    """Exit 4 where some host could not be swept whole."""
    reasons = [f"{name}: {why}" for name, why in unreachable.items()]
    reasons += [
        f"{name}: containers not looked at: {host.docker}" for name, host in found.items() if host.docker
    ]
    reasons += [
        f"{name}: {item.kind} {item.id} kept: {item.why_kept}"
        for name, host in found.items()
        for item in host.items
        if item.why_kept
    ]
    if reasons:
        raise PartialResult("\n".join(reasons), hint="run `invoke sweep` again when that is mended")
