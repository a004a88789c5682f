"""How a host of the inventory will be reached, and which file said so, without connecting.

Scope: reads the connection that would be opened (``connecting.build``), so that what is shown is what is
used: the inventory's keys, then the ssh config (the inventory's ``swarmscope_ssh_config``, else the user's),
then defaults. Limits: nothing is resolved by DNS, and a ``ProxyCommand`` is shown, not started.
"""

from __future__ import annotations

from dataclasses import dataclass

from swarmscope.cluster.connecting import chain
from swarmscope.cluster.remote import Remote
from swarmscope.model import Host, Inventory

SSH_CONFIG = "your ssh config"
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and where it came from; an empty value: none, SSH's own ways apply."""

    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Route:
    """What SSH will do for one host."""

    address: Setting
    port: Setting
    user: Setting
    identity: Setting
    proxyjump: Setting


def resolve(host: Host, inventory: Inventory) -> Route:
    """The route to ``host``. Raises ``HostUnreachable`` where the ssh config or the key file cannot be
    used.
    """
    connection = Remote(host, inventory).connection
    config = connection.ssh_config
    source = SSH_CONFIG if inventory.ssh_config is None else str(inventory.ssh_config)

    def setting(value: object, field: str, key: str) -> Setting:
        if getattr(host, field, None) is not None and field in host.origin:
            return Setting(str(value), host.origin[field])
        return Setting(str(value), source if key in config else DEFAULT)

    address = Setting(str(connection.host), host.origin.get("address", DEFAULT))
    if connection.host != host.address:
        address = Setting(str(connection.host), f"{source}, for {host.address}")
    keys = connection.connect_kwargs.get("key_filename") or ()
    identity = ", ".join([keys] if isinstance(keys, str) else keys)
    hops = [f"{hop.user}@{hop.host}:{hop.port}" for hop in chain(connection) if hop is not connection]
    command = str(config.get("proxycommand", ""))
    jump = Setting(" < ".join(hops) or command, source if hops or command else DEFAULT)
    return Route(
        address=address,
        port=setting(connection.port, "port", "port"),
        user=setting(connection.user, "user", "user"),
        identity=setting(identity, "identity_file", "identityfile"),
        proxyjump=jump,
    )
