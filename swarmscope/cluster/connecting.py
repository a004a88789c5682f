"""From a host of the inventory to an open SSH connection, or one error that says precisely why not.

Scope: builds the Fabric connection (an ssh config is honoured: the inventory's own where it names one, else
the user's and the system's; keys of the inventory win over it), puts our host-key rule on it and on every
jump host before it, opens it, and translates what SSH says.

Limits: no passwords are asked for; ``ProxyCommand`` is started as Fabric does it, and the connection behind
it is verified like any other. ``StrictHostKeyChecking`` is not read: unknown keys are always refused.
Paramiko knows no ``Include`` in an ssh config.
"""

from __future__ import annotations

import contextlib
import errno
import getpass
import importlib
import logging
import random
import shlex
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import paramiko

from swarmscope.cluster.known_hosts import (
    SYSTEM_FILES,
    USER_FILES,
    HostKeyRejected,
    KnownHostsPolicy,
    verify_with,
)
from swarmscope.errors import HostUnreachable
from swarmscope.model import Host

KEEPALIVE_S = 5
DEAD_PEER_MS = 20_000
"""After this long without an answer to sent data the kernel gives the TCP connection up."""
ATTEMPTS = 5

# Fabric ships no types; with Any in its place the checker does not follow into its untyped code.
fabric: Any = importlib.import_module("fabric")
FabricConnection: TypeAlias = Any

# Without a handler of its own paramiko's tracebacks would reach stderr through logging's last resort.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


def build(
    host: Host, *, known_hosts: Path | None, ssh_config: Path | None, connect_timeout: float
) -> FabricConnection:
    """An unopened connection with a Config and ``connect_kwargs`` of its own.

    With ``ssh_config``, as with ``ssh -F``, that file is read and no other. Fabric writes key files into the
    dict it is given: shared, one host's key would be offered to the next.

    Raises:
        HostUnreachable: the ssh config or the identity file cannot be used.
    """
    arguments: dict[str, Any] = {
        "banner_timeout": connect_timeout,
        "auth_timeout": connect_timeout * 2,
        "channel_timeout": connect_timeout * 2,
    }
    path = None if host.identity_file is None else host.identity_file.expanduser()
    if path is not None:
        if not path.is_file():
            raise HostUnreachable(
                f"identity file {path} is not there",
                hint="correct ansible_ssh_private_key_file",
                host=host.name,
            )
        # The key is named: trying every other key first would use up the server's MaxAuthTries.
        arguments["look_for_keys"] = False
        arguments["allow_agent"] = False
    try:
        connection = fabric.Connection(
            host.address,
            user=host.user,
            port=host.port,
            config=fabric.Config(runtime_ssh_path=None if ssh_config is None else str(ssh_config)),
            connect_kwargs=arguments,
        )
    except (paramiko.ConfigParseError, ValueError, OSError) as error:
        raise HostUnreachable(
            f"{ssh_config or 'the ssh config'} cannot be used: {error}",
            hint=f"try: {ssh_words(ssh_config)} -G {host.address}",
            host=host.name,
        ) from error
    if path is not None:
        # Given to Fabric it would be one among the keys of the ssh config; the inventory's key wins.
        connection.connect_kwargs["key_filename"] = [str(path)]
    if connection.connect_timeout is None:
        connection.connect_timeout = int(connect_timeout)
    for hop in chain(connection):
        if hop is not connection:
            hop.connect_timeout = connection.connect_timeout
            hop.connect_kwargs = {**dict(hop.connect_kwargs), **_timeouts(arguments)}
        policy = KnownHostsPolicy(_files(hop, known_hosts), alias=hop.ssh_config.get("hostkeyalias", ""))
        hop.connect_kwargs.update(verify_with(hop.client, policy, host_key_name(hop)))
    return connection


def _timeouts(arguments: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in arguments.items() if key.endswith("_timeout")}


def _files(connection: FabricConnection, known_hosts: Path | None) -> tuple[Path, ...]:
    """The inventory's file alone; else those the ssh config names in place of each of OpenSSH's defaults."""
    if known_hosts is not None:
        return (known_hosts,)
    config = connection.ssh_config
    return (
        *_named_files(config.get("userknownhostsfile", ""), USER_FILES),
        *_named_files(config.get("globalknownhostsfile", ""), SYSTEM_FILES),
    )


def _named_files(value: str, default: tuple[Path, ...]) -> tuple[Path, ...]:
    # Paramiko takes the quotes off a single path, which may then hold blanks: such a path stays whole.
    if Path(value).expanduser().is_file():
        return (Path(value),)
    return tuple(Path(name.strip('"')) for name in value.split()) or default


def ssh_words(ssh_config: Path | None) -> str:
    """How the user's own ``ssh`` would be called to read the same config."""
    return "ssh" if ssh_config is None else f"ssh -F {shlex.quote(str(ssh_config))}"


def chain(connection: FabricConnection) -> Iterator[FabricConnection]:
    """The connection, then the jump hosts it goes through, nearest to the target first."""
    hop: Any = connection
    while isinstance(hop, fabric.Connection):
        yield hop
        hop = hop.gateway


def first_hop(connection: FabricConnection) -> str:
    """The machine that sees the login first: the outermost jump host, or the target itself."""
    *_, last = chain(connection)
    return str(last.host)


def host_key_name(connection: FabricConnection) -> str:
    """The name under which known_hosts files list the host."""
    return connection.host if int(connection.port) == 22 else f"[{connection.host}]:{connection.port}"


def open_connection(connection: FabricConnection, host: Host, *, ssh_config: Path | None) -> None:
    """Open it, trying again (with jitter) only where the server was too busy to greet us.

    ``ssh_config`` is the one it was built with; hints name it.

    Raises:
        HostUnreachable: with the reason and what to do about it.
    """
    for attempt in range(1, ATTEMPTS + 1):
        started = time.monotonic()
        try:
            connection.open()
            _watch(connection)
            return
        except Exception as error:
            with contextlib.suppress(EOFError, OSError):
                connection.client.close()
            waited = time.monotonic() - started
            if attempt == ATTEMPTS or not _too_busy(error, waited):
                raise _translate(error, connection, host, ssh_config) from error
        time.sleep(random.uniform(0.1, 0.3) * 2 ** (attempt - 1))


def _watch(connection: FabricConnection) -> None:
    for hop in chain(connection):
        transport = hop.transport
        transport.set_keepalive(KEEPALIVE_S)
        if isinstance(transport.sock, socket.socket):
            with contextlib.suppress(OSError):
                transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MS)


def _too_busy(error: Exception, waited: float) -> bool:
    """sshd over its MaxStartups closes the connection at once, before or instead of its banner."""
    if isinstance(error, HostKeyRejected | paramiko.AuthenticationException | paramiko.BadHostKeyException):
        return False
    if isinstance(error, ConnectionResetError | EOFError):
        return True
    return isinstance(error, paramiko.SSHException) and "banner" in str(error).lower() and waited < 3


def _translate(
    error: Exception, connection: FabricConnection, host: Host, ssh_config: Path | None
) -> HostUnreachable:
    ssh = f"{ssh_words(ssh_config)} {connection.original_host}"
    if int(connection.port) != 22:
        ssh += f" -p {connection.port}"
    reason, hint = _reason(error, connection, ssh)
    return HostUnreachable(reason, hint=hint, host=host.name)


def _reason(error: Exception, connection: FabricConnection, ssh: str) -> tuple[str, str]:
    target = f"{connection.user or getpass.getuser()}@{connection.host} port {connection.port}"
    if isinstance(error, HostKeyRejected):
        files = ", ".join(str(file) for file in error.files)
        key = f"{error.key_type} {error.fingerprint}"
        if error.reason == "unknown":
            return f"unknown host key for {error.name} ({key}), not in {files}", (
                f"run `{ssh}` once and compare the fingerprint with the host's before you accept it"
            )
        return f"{error.reason} host key for {error.name}: it offers {key}, {files} says otherwise", (
            "somebody may be in between; if the host was reinstalled: "
            f"ssh-keygen -R '{error.name}', then `{ssh}` once"
        )
    if isinstance(error, paramiko.PasswordRequiredException):
        return f"the key for {target} has a passphrase", "load it into an agent first: ssh-add"
    if isinstance(error, paramiko.AuthenticationException) or "No authentication methods" in str(error):
        return f"login as {target} was refused: {error}", f"try `{ssh}`; check ansible_user and the key"
    if isinstance(error, socket.gaierror):
        return f"name {connection.host} not found", "check ansible_host, or the Hostname in your ssh config"
    if isinstance(error, paramiko.ChannelException):
        return f"jump host {first_hop(connection)} cannot reach {target}: {error}", f"try `{ssh}`"
    if isinstance(error, TimeoutError):
        return f"{target}: no answer within {connection.connect_timeout} s", "is the host up and routed?"
    errors = getattr(error, "errors", None)
    numbers = {e.errno for e in errors.values()} if errors else {getattr(error, "errno", None)}
    if errno.ECONNREFUSED in numbers:
        return f"{target}: connection refused", "is sshd running there, and is this its port?"
    if isinstance(error, ConnectionResetError | EOFError) or "banner" in str(error).lower():
        return f"{target}: closed before it greeted ({error or 'end of file'})", (
            "no SSH server there, or one over its MaxStartups"
        )
    return f"{target}: {error or type(error).__name__}", f"try `{ssh}`"
