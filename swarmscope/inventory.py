"""The hosts: an Ansible-readable YAML file -> ``model.Inventory``, with every mistake reported at once.

Scope: reading and checking. ``--limit`` patterns are in ``selection``; where SSH will really connect (the
user's ssh config included) is in ``cluster.route``. Shape::

    all:
      vars: {ansible_user: lab}               # for all hosts; a group's vars win, a host's own keys win most
      children:
        managers: {hosts: {n1: {data_addr: 198.51.100.1}}}
        workers:  {vars: {...}, hosts: {n2: {data_addr: 198.51.100.2}}}

Limits: IPv4 only (the agent's filters read IPv4 headers); no Jinja2, no host ranges, no nested groups.
Ansible's other ``ansible_*`` variables are accepted and listed by ``invoke hosts -v``, but mean nothing here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Any, Final, Literal

from swarmscope.model import Host, Inventory, LabInfo
from swarmscope.selection import select
from swarmscope.yamlsource import Findings, Value, did_you_mean, dotted, parse, read_text

__all__ = ["GROUPS", "HOST_KEYS", "IGNORED", "load", "select"]

GROUPS: Final = ("managers", "workers")
HOST_KEYS: Final = {
    "ansible_host": "address",
    "ansible_port": "port",
    "ansible_user": "user",
    "ansible_ssh_private_key_file": "identity_file",
    "ansible_become": "become",
    "advertise_addr": "advertise_addr",
    "data_addr": "data_addr",
}
"""Key of the file -> field of ``model.Host``."""
FILE_KEYS: Final = ("swarmscope_known_hosts", "swarmscope_ssh_config", "swarmscope_lab")
"""Keys for the whole file: only in ``all.vars``."""
RESERVED_NAMES: Final = ("all", "managers", "workers", "first", "second")
IGNORED: Final = "ignored: "
"""Prefix in ``Host.origin`` of a variable that is Ansible's alone."""

# Ansible's own connection variables that look like a misspelt one of ours.
_ANSIBLE_LOOKALIKES: Final = (
    "ansible_ssh_host",
    "ansible_ssh_port",
    "ansible_ssh_user",
    "ansible_ssh_pass",
    "ansible_private_key_file",
    "ansible_become_user",
    "ansible_become_pass",
    "ansible_become_exe",
)
_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_ADDRESS: Final = re.compile(r"[A-Za-z0-9:]([A-Za-z0-9._:%-]*[A-Za-z0-9])?")
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]*\$?")
_WORDS: Final = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


@dataclass(frozen=True, slots=True)
class _Setting:
    """A checked value with the place it came from."""

    value: Any
    line: int
    key: str


def load(path: Path) -> Inventory:
    """The inventory in ``path``. Raises ``InvalidFile`` with all mistakes, ``UsageError`` where it cannot be
    read.

    Hosts come managers first, then workers, each group in file order.
    """
    findings = Findings(path)
    text = read_text(path, findings, what="inventory")
    root = parse(text, findings) if text is not None else None
    inventory = _Reading(path, findings).inventory(root) if root is not None else None
    findings.raise_any(hint="inventory/example.yml shows every key")
    if inventory is None:
        raise AssertionError("an inventory without mistakes was not read")
    return inventory


class _Reading:
    """One pass over one file. Goes on after a mistake; the result counts only where there was none."""

    def __init__(self, path: Path, findings: Findings) -> None:
        self._path = path
        self._findings = findings

    def inventory(self, root: Value) -> Inventory | None:
        top = self._mapping(root, "", ("all",))
        if "all" not in top:
            self._findings.add(
                root.line, "", "no group 'all': hosts belong under all.children.managers.hosts"
            )
            return None
        everything = self._mapping(top["all"], "all", ("vars", "hosts", "children"))
        if "hosts" in everything:
            self._findings.add(
                everything["hosts"].line,
                "all.hosts",
                "a host needs a group: all.children.managers or .workers",
            )
        variables = self._mapping(everything.get("vars"), "all.vars")
        whole = {key: value for key, value in variables.items() if key in FILE_KEYS}
        shared = self._settings({k: v for k, v in variables.items() if k not in FILE_KEYS}, "all.vars")
        children = self._mapping(everything.get("children"), "all.children", GROUPS)
        if "managers" not in children:
            line = everything["children"].line if "children" in everything else top["all"].line
            self._findings.add(
                line, "all.children", "no group 'managers': a swarm needs at least one manager"
            )
        hosts: list[Host] = []
        seen: dict[str, int] = {}
        settings: list[tuple[str, dict[str, _Setting]]] = []
        for group in GROUPS:
            if group in children:
                for name, own in self._group(group, children[group], shared, seen):
                    hosts.append(self._host(name, group, own))
                    settings.append((name, own))
        self._unique(settings)
        lab = self._lab(whole.get("swarmscope_lab"))
        return Inventory(
            path=self._path,
            name=lab.name if lab else self._path.stem,
            hosts=tuple(hosts),
            known_hosts=self._file(whole.get("swarmscope_known_hosts"), "all.vars.swarmscope_known_hosts"),
            ssh_config=self._file(whole.get("swarmscope_ssh_config"), "all.vars.swarmscope_ssh_config"),
            lab=lab,
        )

    def _group(
        self, group: str, value: Value, shared: Mapping[str, _Setting], seen: dict[str, int]
    ) -> list[tuple[str, dict[str, _Setting]]]:
        where = f"all.children.{group}"
        entries = self._mapping(value, where, ("vars", "hosts"))
        variables = self._settings(self._mapping(entries.get("vars"), f"{where}.vars"), f"{where}.vars")
        hosts = entries.get("hosts")
        if value.data in (None, {}) or (value.entries and (hosts is None or hosts.data in (None, {}))):
            self._findings.add(value.line, where, "the group has no hosts")
        found = []
        for name, host in self._mapping(hosts, f"{where}.hosts").items():
            key = dotted(f"{where}.hosts", name)
            if not _NAME.fullmatch(name):
                self._findings.add(
                    host.line, key, "a host name has letters, digits, '.', '_', '-' (63 at most)"
                )
            elif name in RESERVED_NAMES:
                self._findings.add(
                    host.line, key, f"{name!r} has a meaning of its own; choose another host name"
                )
            if name in seen:
                self._findings.add(host.line, key, f"host is listed twice, first in line {seen[name]}")
                continue
            seen[name] = host.line
            own = self._settings(self._mapping(host, key), key)
            base = {"address": _Setting(name, host.line, key)}
            found.append((name, {**base, **shared, **variables, **own}))
        return found

    def _host(self, name: str, group: str, settings: Mapping[str, _Setting]) -> Host:
        values = {key: s.value for key, s in settings.items() if not key.startswith(IGNORED)}
        origin = {key: f"{self._path.name}:{s.line}" for key, s in settings.items()}
        if (
            origin["address"]
            and settings["address"].value == name
            and "ansible_host" not in settings["address"].key
        ):
            origin["address"] = "the host's name"
        self._derive_addresses(values, origin)
        return Host(
            name=name,
            address=values["address"],
            group=_group_name(group),
            port=values.get("port"),
            user=values.get("user"),
            identity_file=values.get("identity_file"),
            advertise_addr=values.get("advertise_addr", ""),
            data_addr=values.get("data_addr", ""),
            become=values.get("become", True),
            origin=origin,
        )

    @staticmethod
    def _derive_addresses(values: dict[str, Any], origin: dict[str, str]) -> None:
        """Fill the data and the advertise address from each other, else from an IPv4 ``ansible_host``."""
        if not (values.get("data_addr") or values.get("advertise_addr")):
            problem = _address_problem(values["address"])
            if not problem:
                values["data_addr"] = values["address"]
                origin["data_addr"] = "ansible_host"
        for key, other in (("data_addr", "advertise_addr"), ("advertise_addr", "data_addr")):
            if not values.get(key) and values.get(other):
                values[key] = values[other]
                origin[key] = other

    def _unique(self, hosts: list[tuple[str, dict[str, _Setting]]]) -> None:
        """Two hosts must not be one: same SSH address and port, or an address of the swarm used twice."""
        dialled: dict[tuple[str, int], str] = {}
        addresses: dict[str, str] = {}
        for name, settings in hosts:
            address = settings["address"]
            port = settings["port"].value if "port" in settings else None
            if isinstance(address.value, str):
                first = dialled.setdefault((address.value.lower(), port or 22), name)
                if first != name:
                    self._findings.add(
                        address.line,
                        address.key,
                        f"same address and port as host {first} ({address.value}:{port or 22})",
                    )
            for key in ("data_addr", "advertise_addr"):
                if key in settings and settings[key].value:
                    first = addresses.setdefault(settings[key].value, name)
                    if first != name:
                        self._findings.add(
                            settings[key].line,
                            settings[key].key,
                            f"{settings[key].value} is already used by {first}",
                        )

    def _mapping(self, value: Value | None, where: str, known: tuple[str, ...] = ()) -> Mapping[str, Value]:
        """The entries of ``value``; empty for nothing. Notes anything else, and keys that are not
        ``known``.
        """
        if value is None or value.data is None:
            return {}
        entries = value.entries
        if entries is None:
            self._findings.add(value.line, where, f"must be a mapping, not {value.kind}")
            return {}
        if known:
            self._findings.unknown_keys(entries, known, where=where)
        return entries

    def _settings(self, entries: Mapping[str, Value], where: str) -> dict[str, _Setting]:
        """Checked settings by ``model.Host`` field; a wrong value is noted and left out."""
        settings: dict[str, _Setting] = {}
        for key, value in entries.items():
            place = dotted(where, key)
            if key in HOST_KEYS:
                problem, checked = _check(key, value, self._path)
                if problem:
                    self._findings.add(value.line, place, problem)
                else:
                    settings[HOST_KEYS[key]] = _Setting(checked, value.line, place)
            elif key in FILE_KEYS:
                self._findings.add(value.line, place, "is for the whole file: it belongs in all.vars")
            elif key.startswith("ansible_") and not _misspelt(key):
                settings[IGNORED + key] = _Setting(None, value.line, place)
            else:
                self._findings.add(value.line, place, f"unknown key{did_you_mean(key, HOST_KEYS)}")
        return settings

    def _file(self, value: Value | None, where: str) -> Path | None:
        if value is None or value.data is None:
            return None
        if not isinstance(value.data, str):
            self._findings.add(value.line, where, f"must be a path, not {value.kind}")
            return None
        path = _relative(value.data, self._path)
        if not path.is_file():
            self._findings.add(value.line, where, f"no such file: {path}")
        return path

    def _lab(self, value: Value | None) -> LabInfo | None:
        where = "all.vars.swarmscope_lab"
        entries = self._mapping(value, where, ("name", "kind", "wire_netns", "accelerator"))
        if value is None or value.entries is None:
            return None
        name, kind = (entries[k].data if k in entries else None for k in ("name", "kind"))
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            self._findings.add(value.line_at(["name"]), f"{where}.name", "must be the lab's name")
            name = "?"
        if kind not in ("namespaces", "machines"):
            self._findings.add(value.line_at(["kind"]), f"{where}.kind", "must be namespaces or machines")
        wire = entries["wire_netns"].plain() if "wire_netns" in entries else []
        if not (isinstance(wire, list) and all(type(n) is int and n > 0 for n in wire)):
            self._findings.add(
                value.line_at(["wire_netns"]), f"{where}.wire_netns", "must be a list of inode numbers"
            )
            wire = []
        accelerator = entries["accelerator"].data if "accelerator" in entries else ""
        if accelerator not in ("", "kvm", "tcg"):
            self._findings.add(value.line_at(["accelerator"]), f"{where}.accelerator", "must be kvm or tcg")
        return LabInfo(
            name=name,
            kind="machines" if kind == "machines" else "namespaces",
            wire_netns=tuple(wire),
            accelerator="kvm" if accelerator == "kvm" else "tcg" if accelerator == "tcg" else "",
        )


def _misspelt(key: str) -> bool:
    """Whether an ``ansible_*`` variable that is not read here looks like one that is."""
    near = difflib.get_close_matches(key, HOST_KEYS, n=1, cutoff=0.88)
    return bool(near) and key not in _ANSIBLE_LOOKALIKES


def _group_name(group: str) -> Literal["managers", "workers"]:
    return "managers" if group == "managers" else "workers"


def _relative(text: str, inventory: Path) -> Path:
    """A path of the file: ``~`` is the user's home, relative ones start at the inventory's directory."""
    path = Path(text).expanduser()
    return path if path.is_absolute() else inventory.parent / path


def _address_problem(text: object) -> str:
    """Why ``text`` cannot be a host's address in the swarm; empty where it can."""
    try:
        address = IPv4Address(text) if isinstance(text, str) else None
    except AddressValueError:
        address = None
    if address is None:
        return f"must be an IPv4 address without prefix length, not {text!r}"
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        return f"{address} cannot be reached from another host"
    return ""


def _check(key: str, value: Value, inventory: Path) -> tuple[str, Any]:
    """(what is wrong with the value, or "" · the value as ``model.Host`` wants it)."""
    data = value.data
    if isinstance(data, str) and "{{" in data:
        return "templates are not rendered in an inventory; write the value", None
    if key in ("advertise_addr", "data_addr"):
        return _address_problem(data), data
    if key == "ansible_port":
        number = int(data) if isinstance(data, str) and data.isdecimal() else data
        fits = type(number) is int and 0 < number < 65536
        return ("" if fits else f"must be a port from 1 to 65535, not {data!r}"), number
    if key == "ansible_become":
        truth = _WORDS.get(data.lower()) if isinstance(data, str) else data
        return ("" if isinstance(truth, bool) else f"must be true or false, not {data!r}"), truth
    if not isinstance(data, str):
        return f"must be text, not {value.kind}", None
    if key == "ansible_ssh_private_key_file":
        path = _relative(data, inventory)
        return ("" if path.is_file() else f"no such file: {path}"), path
    pattern = _ADDRESS if key == "ansible_host" else _USER
    what = "a name or an address" if key == "ansible_host" else "a user name"
    return ("" if pattern.fullmatch(data) else f"must be {what}, not {data!r}"), data
