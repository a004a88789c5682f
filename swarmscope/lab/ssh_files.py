"""The files that lead into a lab: keys, known_hosts, an ssh_config for people, the inventory for us.

Scope: one ed25519 login key a lab, one host key a host, and the texts. Reachability itself (a port on
127.0.0.1 in the machine's own namespace) is made by ``namespaces``. Limits: key login only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from swarmscope.errors import SwarmscopeError
from swarmscope.lab.privileges import command, run_bound
from swarmscope.lab.record import LabPaths, write_atomic

USER = "scope"


@dataclass(frozen=True, slots=True)
class LabHost:
    """A host of a lab as its users see it. ``port`` is on 127.0.0.1 of this machine."""

    name: str
    address: str
    port: int


def make_key(path: Path, *, comment: str) -> str:
    """Make an ed25519 key pair without passphrase at ``path``; returns its public ``ssh-ed25519 AAAA...``."""
    path.unlink(missing_ok=True)
    argv = [command("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
    done = run_bound(argv)
    if done.returncode:
        raise SwarmscopeError(f"ssh-keygen could not make {path}: {done.stderr.strip()}")
    public = path.with_name(path.name + ".pub")
    return " ".join(public.read_text(encoding="ascii").split()[:2])


def known_hosts(hosts: Sequence[LabHost], host_keys: Sequence[str]) -> str:
    return "".join(f"[127.0.0.1]:{h.port} {k}\n" for h, k in zip(hosts, host_keys, strict=True))


def ssh_config(paths: LabPaths, hosts: Sequence[LabHost]) -> str:
    """A config for ``ssh -F FILE n1``. Complete in itself: nothing of the user's own config applies."""
    text = f"# written by `invoke lab-up`; use it as: ssh -F {paths.ssh_config} {hosts[0].name}\n"
    for host in hosts:
        text += f"\nHost {host.name}\n    HostName 127.0.0.1\n    Port {host.port}\n"
    return text + (
        f"\nHost *\n    User {USER}\n"
        f'    IdentityFile "{paths.key}"\n    IdentitiesOnly yes\n    IdentityAgent none\n'
        f'    UserKnownHostsFile "{paths.known_hosts}"\n    GlobalKnownHostsFile /dev/null\n'
        "    StrictHostKeyChecking yes\n    BatchMode yes\n    LogLevel ERROR\n"
    )


def inventory(paths: LabPaths, hosts: Sequence[LabHost], *, lab: Mapping[str, object]) -> str:
    """The inventory: the first host is the manager, the others are workers. ``lab``: as ``model.LabInfo``."""

    def entry(host: LabHost) -> dict[str, object]:
        return {
            "ansible_host": "127.0.0.1",
            "ansible_port": host.port,
            "data_addr": host.address,
            "advertise_addr": host.address,
        }

    tree = {
        "all": {
            "vars": {
                "ansible_user": USER,
                "ansible_ssh_private_key_file": str(paths.key),
                "swarmscope_known_hosts": str(paths.known_hosts),
                "swarmscope_ssh_config": str(paths.ssh_config),
                "swarmscope_lab": {"name": paths.name, **lab},
            },
            "children": {
                "managers": {"hosts": {h.name: entry(h) for h in hosts[:1]}},
                "workers": {"hosts": {h.name: entry(h) for h in hosts[1:]}},
            },
        }
    }
    text = yaml.safe_dump(tree, sort_keys=False, default_flow_style=None, width=1000)
    return f"# written by `invoke lab-up`; removed by `invoke lab-down`\n{text}"


def write_ways_in(
    paths: LabPaths, hosts: Sequence[LabHost], host_keys: Sequence[str], *, lab: Mapping[str, object]
) -> tuple[Path, ...]:
    """Write all three files; returns them, for handing over to the user."""
    write_atomic(paths.known_hosts, known_hosts(hosts, host_keys))
    write_atomic(paths.ssh_config, ssh_config(paths, hosts))
    write_atomic(paths.inventory, inventory(paths, hosts, lab=lab))
    return paths.known_hosts, paths.ssh_config, paths.inventory
