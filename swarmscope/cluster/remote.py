"""One host over SSH: run a command, move a file, open a channel.

Scope: wraps one Fabric connection and one SFTP client. Library errors end here: a host that cannot be
reached is ``HostUnreachable``, one that went away is ``HostLost``, a command that failed is ``RemoteFailed``.

Limits: commands read no terminal and get none. A command that timed out goes on running on the host, since
SSH has no signal that arrives; what must end carries a deadline of its own.
"""

from __future__ import annotations

import contextlib
import io
import posixpath
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import invoke.exceptions
import paramiko

from swarmscope.cluster import connecting
from swarmscope.cluster.shell import Command
from swarmscope.errors import HostLost, RemoteFailed
from swarmscope.model import Host, Inventory

CONNECT_TIMEOUT_S = 10.0
_PREFETCH = 64


class RemoteTimeout(RemoteFailed):
    """No answer in time. The process on the host may still be running."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended: its exit code (never -1: that is ``HostLost``) and what it wrote."""

    exited: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        return self.exited == 0


class Remote:
    """A host. Open it before several threads use it; runs and channels may then go in parallel
    (OpenSSH allows 10 at once by default), file transfers take turns.
    """

    def __init__(
        self, host: Host, inventory: Inventory, *, connect_timeout: float = CONNECT_TIMEOUT_S
    ) -> None:
        self.host = host
        self.connection: connecting.FabricConnection = connecting.build(
            host,
            known_hosts=inventory.known_hosts,
            ssh_config=inventory.ssh_config,
            connect_timeout=connect_timeout,
        )
        self._ssh_config = inventory.ssh_config
        self._connect_timeout = connect_timeout
        self._opened = False
        self._root: bool | None = None
        self._lock = threading.Lock()
        self._files = threading.Lock()

    @property
    def name(self) -> str:
        return self.host.name

    @property
    def first_hop(self) -> str:
        """Where the login arrives first; logins in flight are limited per such machine."""
        return connecting.first_hop(self.connection)

    @property
    def is_open(self) -> bool:
        return bool(self.connection.is_connected)

    def open(self) -> None:
        """Log in, once. Raises ``HostUnreachable``; ``HostLost`` where it was open and went away."""
        with self._lock:
            if self.is_open:
                return
            if self._opened:
                raise self._lost("connection closed")
            connecting.open_connection(self.connection, self.host, ssh_config=self._ssh_config)
            self._opened = True

    def close(self) -> None:
        """Close it and its jump hosts. Nothing that runs on the host is stopped by this."""
        for hop in connecting.chain(self.connection):
            with contextlib.suppress(Exception):
                hop.close()

    def __enter__(self) -> Remote:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_root(self) -> bool:
        """Whether the login itself is root (asked once)."""
        if self._root is None:
            self._root = self.run(Command("id", "-u"), check=True).stdout.strip() == "0"
        return self._root

    def privileged(self, command: Command) -> Command:
        """``command`` as root: unchanged for a root login or a host with ``become: false``, else by sudo."""
        return command.sudo() if self.host.become and not self.is_root else command

    def run(
        self,
        command: Command,
        *,
        timeout: float = 60.0,
        sudo: bool = False,
        input: bytes | None = None,
        check: bool = False,
    ) -> Result:
        """Run it and wait. ``timeout`` in seconds; ``input`` goes to its standard input, else that is empty.

        Raises:
            RemoteTimeout: it may still be running on the host.
            HostLost: the connection broke; what it did is unknown.
            RemoteFailed: only with ``check``: it exited with another code than 0.
        """
        self.open()
        command = self.privileged(command) if sudo else command
        if input is None:
            result = self._run(command, timeout)
        else:
            result = self._run_with_input(command, timeout, input)
        if result.exited == -1:
            raise self._lost(f"connection broke while `{command}` ran")
        if check and not result.ok:
            said = (result.stderr or result.stdout).strip().splitlines()
            raise RemoteFailed(
                f"`{command}` exited {result.exited}" + (f": {said[-1]}" if said else ""), host=self.name
            )
        return result

    def _run(self, command: Command, timeout: float) -> Result:
        started = time.monotonic()
        with self._translated(f"`{command}`"):
            try:
                ended = self.connection.run(
                    command.render(),
                    hide=True,
                    warn=True,
                    pty=False,
                    in_stream=False,
                    timeout=timeout,
                    encoding="utf-8",
                    env={},
                )
            except invoke.exceptions.CommandTimedOut as error:
                raise self._timeout(command, timeout) from error
            if ended.exited == -1 and self.is_open and time.monotonic() - started >= timeout:
                # Invoke asks whether its timer still runs, which it does while it closes the channel.
                raise self._timeout(command, timeout)
            return Result(ended.exited, ended.stdout, ended.stderr)

    def _run_with_input(self, command: Command, timeout: float, data: bytes) -> Result:
        # Invoke feeds standard input byte by byte with a pause between: unusable for more than a password.
        channel = self.exec_channel(command)
        err = io.BytesIO()
        with contextlib.closing(channel), self._translated(f"`{command}`"):
            channel.settimeout(timeout)
            reader = threading.Thread(target=_drain, args=(channel, err), daemon=True)
            reader.start()
            try:
                with contextlib.suppress(OSError):  # it may end without reading all of its input
                    channel.sendall(data)
                channel.shutdown_write()
                out = b"".join(iter(lambda: channel.recv(65536), b""))
                reader.join(timeout)
                if not channel.status_event.wait(timeout):
                    raise self._timeout(command, timeout)
            except TimeoutError as error:
                raise self._timeout(command, timeout) from error
            return Result(
                channel.recv_exit_status(),
                out.decode(errors="replace"),
                err.getvalue().decode(errors="replace"),
            )

    def exec_channel(self, command: Command, *, sudo: bool = False) -> paramiko.Channel:
        """Start it on a channel of its own, without a terminal; the caller reads, writes and closes it."""
        self.open()
        command = self.privileged(command) if sudo else command
        with self._translated(f"`{command}`"):
            channel: paramiko.Channel = self.connection.transport.open_session(timeout=self._connect_timeout)
            channel.exec_command(command.render())
            return channel

    def put_bytes(self, data: bytes, remote_path: str, *, mode: int = 0o600) -> None:
        """Write a file as the login user; a reader sees the old one or the whole new one.

        Missing folders are made, for the user alone. ``~/`` and relative paths mean the home directory.
        """
        self.open()
        path = remote_path.removeprefix("~/")
        part = f"{path}.{secrets.token_hex(4)}.part"
        with self._files, self._translated(f"writing {remote_path}"):
            sftp = self.connection.sftp()
            _make_folders(sftp, posixpath.dirname(path))
            try:
                with sftp.open(part, "wbx") as file:
                    file.chmod(mode)
                    file.set_pipelined(True)
                    file.write(data)
                size = sftp.stat(part).st_size
                if size != len(data):
                    raise OSError(f"{size} of {len(data)} bytes arrived")
                sftp.posix_rename(part, path)
            except Exception:
                with contextlib.suppress(Exception):
                    sftp.remove(part)
                raise

    def get(self, remote_path: str, local_path: Path) -> int:
        """Fetch a file; ``local_path`` appears only when it is whole. Returns its size in bytes."""
        self.open()
        part = local_path.with_name(f"{local_path.name}.{secrets.token_hex(4)}.part")
        with self._files, self._translated(f"reading {remote_path}"):
            sftp = self.connection.sftp()
            try:
                with part.open("wb") as file:
                    size = sftp.getfo(
                        remote_path.removeprefix("~/"), file, max_concurrent_prefetch_requests=_PREFETCH
                    )
                part.replace(local_path)
            finally:
                part.unlink(missing_ok=True)
        return int(size)

    @contextlib.contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        """The one place where a library's error becomes ours."""
        try:
            yield
        except RemoteFailed:
            raise
        except paramiko.ChannelException as error:
            raise RemoteFailed(
                f"{doing}: the server opens no further session: {error}",
                hint="too many sessions at once (sshd's MaxSessions)",
                host=self.name,
            ) from error
        except (OSError, paramiko.SSHException, EOFError, invoke.exceptions.ThreadException) as error:
            if not self.is_open or isinstance(error, EOFError | ConnectionError):
                raise self._lost(f"connection broke while {doing}") from error
            raise RemoteFailed(f"{doing}: {error or type(error).__name__}", host=self.name) from error

    def _timeout(self, command: Command, timeout: float) -> RemoteTimeout:
        return RemoteTimeout(
            f"`{command}` did not end within {timeout:g} s; it may still be running there", host=self.name
        )

    def _lost(self, message: str) -> HostLost:
        return HostLost(message, hint="what ran there stops by itself at its deadline", host=self.name)


def _drain(channel: paramiko.Channel, into: io.BytesIO) -> None:
    with contextlib.suppress(OSError):
        for data in iter(lambda: channel.recv_stderr(65536), b""):
            into.write(data)


def _make_folders(sftp: paramiko.SFTPClient, folder: str) -> None:
    if folder in ("", "/", "."):
        return
    try:
        sftp.stat(folder)
    except FileNotFoundError:
        _make_folders(sftp, posixpath.dirname(folder))
        with contextlib.suppress(OSError):  # another thread or run may have made it just now
            sftp.mkdir(folder, 0o700)
