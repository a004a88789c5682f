"""The verbs that only look: ``hosts``, ``collectors``, ``runs``. None of them connects to a host.

Scope: flags in, one call into the package, an answer printed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from swarmscope import collectors as catalogue
from swarmscope import console, store
from swarmscope.bench import kept
from swarmscope.bench.kept import Kept
from swarmscope.cluster.route import Route, Setting, resolve
from swarmscope.collectors import Collector
from swarmscope.errors import UsageError
from swarmscope.inventory import IGNORED
from swarmscope.model import Host, Inventory
from swarmscope.report.wording import interval, size, times
from swarmscope.trace import importing
from swarmscope.verbs.flags import hosts_for, verb

NOT_MEASURED = "not measured here: invoke bench perturbation"


@verb(help={"verbose": "also say where each value came from, and which variables are not used"})
def hosts(
    c: Any, inventory: str = "", limit: Sequence[str] = (), verbose: bool = False, json: bool = False
) -> None:
    """The hosts as they will be reached: the inventory with your ssh config worked in."""
    del c
    chosen = hosts_for(inventory, limit)
    routes = {host.name: resolve(host, chosen) for host in chosen.hosts}
    if json:
        console.emit(_hosts_document(chosen, routes))
        return
    rows = [
        (
            host.name,
            host.group,
            f"{r.user.value}@{r.address.value}:{r.port.value}",
            host.advertise_addr or "not set",
            host.data_addr or "not set",
            r.identity.value or "agent, ~/.ssh",
            r.proxyjump.value,
        )
        for host, r in ((host, routes[host.name]) for host in chosen.hosts)
    ]
    headers = ["host", "group", "ssh", "advertise", "data", "identity", "jump"]
    if not any(row[-1] for row in rows):
        headers, rows = headers[:-1], [row[:-1] for row in rows]  # type: ignore[misc]
    parts: list[RenderableType] = [console.table(f"{chosen.name} ({chosen.path})", headers, rows)]
    if verbose:
        for host in chosen.hosts:
            parts += [Text(), _origins(host, routes[host.name])]
    console.show(Group(*parts))


def _origins(host: Host, route: Route) -> RenderableType:
    """Each value of one host with the file that gave it; then what Ansible may use and swarmscope does
    not.
    """
    values: dict[str, Setting] = {
        "address": route.address,
        "port": route.port,
        "user": route.user,
        "identity": route.identity,
        "jump": route.proxyjump,
        "advertise": Setting(host.advertise_addr, host.origin.get("advertise_addr", "")),
        "data": Setting(host.data_addr, host.origin.get("data_addr", "")),
    }
    rows = [(name, setting.value, setting.origin) for name, setting in values.items() if setting.value]
    rows += [
        (key.removeprefix(IGNORED), Text("not used", style="dim"), origin)  # type: ignore[misc]
        for key, origin in host.origin.items()
        if key.startswith(IGNORED)
    ]
    return console.table(host.name, ("key", "value", "from"), rows)


def _hosts_document(inventory: Inventory, routes: Mapping[str, Route]) -> dict[str, Any]:
    return {
        "inventory": inventory.name,
        "path": inventory.path,
        "lab": inventory.lab,
        "hosts": [
            {
                "name": host.name,
                "group": host.group,
                "advertise_addr": host.advertise_addr,
                "data_addr": host.data_addr,
                "ssh": asdict(routes[host.name]),
                "origin": host.origin,
            }
            for host in inventory.hosts
        ],
    }


@verb(help={"name": "only this collector, with its options and needs"})
def collectors(c: Any, name: str = "", json: bool = False) -> None:
    """The collectors there are: what each records, at what cost, with which options."""
    del c
    known = catalogue.load_all()
    if name and name not in known:
        raise UsageError(f"no collector {name!r}", hint=f"there are: {', '.join(known)}")
    shown = {name: known[name]} if name else known
    here = kept.load()
    if json:
        console.emit({one.name: {**asdict(one), "here": _ratio(one.name, here)} for one in shown.values()})
    elif name:
        console.show(_collector_card(known[name], here))
    else:
        rows = [
            (one.name, one.cost, _cost_here(one.name, here), ", ".join(one.options), one.summary)
            for one in shown.values()
        ]
        console.show(console.table("", ("collector", "cost", "cost here", "options", "records"), rows))
        console.note(_where_measured(here))
        console.note("one in full: invoke collectors --name perf-record")


def _ratio(name: str, here: Kept | None) -> Mapping[str, Any] | None:
    return asdict(here.overall[name]) if here and name in here.overall else None


def _cost_here(name: str, here: Kept | None) -> str:
    """How many times the bare round trip one takes while it records, as measured on this machine."""
    return times(here.overall[name]) if here and name in here.overall else "not measured"


def cost_in_full(name: str, here: Kept | None) -> str:
    """The same with its interval; or why there is no number."""
    if here and name in here.overall:
        return f"{times(here.overall[name])} {interval(here.overall[name])} of the bare round trip"
    if here and name in here.left_out:
        return f"not measured: {here.left_out[name]}"
    return NOT_MEASURED


def _where_measured(here: Kept | None) -> str:
    if here is None:
        return f"cost here: {NOT_MEASURED}"
    lab = f"a lab of {here.lab}" if here.lab else "hosts of your own"
    return f"cost here: round trips while it records over bare ones, {lab}, kernel {here.kernel}, {here.date}"


def _collector_card(collector: Collector, here: Kept | None) -> RenderableType:
    needs = collector.needs
    head = console.columns(
        {
            "collector": collector.name,
            "records": collector.summary,
            "cost": collector.cost,
            "cost here": cost_in_full(collector.name, here),
            "runs": "once for each kernel" if collector.scope == "kernel" else "on every host",
            "needs": ", ".join([*needs.commands, *needs.tracepoints, *needs.features]),
            "outputs": ", ".join(output["file"] for output in collector.outputs),
            "folder": collector.folder,
        }
    )
    rows = [(name, str(option.default), option.help) for name, option in collector.options.items()]
    return Group(head, console.table("", ("option", "default", "meaning"), rows)) if rows else head


@verb
def runs(c: Any, json: bool = False) -> None:
    """The runs recorded here, oldest first, with what became of them."""
    del c
    root = store.runs_root()
    listed = []
    for run in store.list_runs(root):
        try:
            record = run.read()
        except UsageError as problem:
            console.warn(str(problem))
            continue
        listed.append({"id": run.id, "path": str(run.path), **_run_line(record)})
    if json:
        console.emit(listed)
    elif not listed:
        console.say(f"no runs in {root}; record one: invoke trace --mode overlay")
    else:
        columns = {"run": "id", "state": "state", "arms": "arms", "hosts": "hosts", "fetched": "fetched"}
        if any(entry["notes"] for entry in listed):
            columns["notes"] = "notes"
        rows = [[str(entry[key]) for key in columns.values()] for entry in listed]
        console.show(console.table("", list(columns), rows))


def _run_line(record: Mapping[str, Any]) -> dict[str, str]:
    """What a list says of a run; a record of an unfinished run may lack any of it."""
    playbook = record.get("playbook") or {}
    names = [host.get("name", "?") for host in (record.get("inventory") or {}).get("hosts") or ()]
    missing = record.get("missing") or []
    pulled = int((record.get("bytes") or {}).get("pulled") or 0)
    notes = [f"without {', '.join(missing)}"] if missing else []
    return {
        "state": str(record.get("state", "?")),
        "arms": f"{len(record['files'])} files"
        if importing.imported(record)
        else f"{playbook.get('subject', '?')} against {playbook.get('baseline', '?')}",
        "hosts": " ".join(names),
        "fetched": size(pulled) if pulled else "",
        "notes": "; ".join([*notes, *map(str, record.get("notes") or ())]),
    }
