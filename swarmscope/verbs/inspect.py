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
from swarmscope.cluster.route import Route, Setting, resolve
from swarmscope.collectors import Collector
from swarmscope.errors import UsageError
from swarmscope.inventory import IGNORED
from swarmscope.model import Host, Inventory
from swarmscope.report.wording import size
from swarmscope.verbs.flags import hosts_for, verb


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
    if json:
        console.emit(shown)
    elif name:
        console.show(_collector_card(known[name]))
    else:
        rows = [(one.name, one.cost, ", ".join(one.options), one.summary) for one in shown.values()]
        console.show(console.table("", ("collector", "cost", "options", "records"), rows))
        console.note("one in full: invoke collectors --name perf-record")


def _collector_card(collector: Collector) -> RenderableType:
    needs = collector.needs
    head = console.columns(
        {
            "collector": collector.name,
            "records": collector.summary,
            "cost": collector.cost,
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
        "arms": f"{playbook.get('subject', '?')} against {playbook.get('baseline', '?')}",
        "hosts": " ".join(names),
        "fetched": size(pulled) if pulled else "",
        "notes": "; ".join([*notes, *map(str, record.get("notes") or ())]),
    }
