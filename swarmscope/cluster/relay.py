"""HTTP to a host's Unix socket through the SSH connection we already hold.

Scope: a ``requests`` adapter whose sockets are SSH channels. On each channel a few lines of standard-library
Python join the channel to the socket, as root where the login is not: the host needs no docker command, the
user no docker group, and there is one host-key rule and one sudo rule for everything.

Limits: every connection in use is one SSH session (sshd's MaxSessions, 10 by default, is shared with the
agent and SFTP), so the pool is small and callers wait for a free one.
"""

from __future__ import annotations

import contextlib
import io
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import paramiko
import urllib3.connection
import urllib3.connectionpool
from docker.transport.basehttpadapter import BaseHTTPAdapter

from swarmscope.cluster.remote import Remote
from swarmscope.cluster.shell import Command
from swarmscope.errors import RemoteFailed

if TYPE_CHECKING:
    from collections.abc import Buffer  # type: ignore[attr-defined]

DOCKER_SOCKET = "/var/run/docker.sock"
POOL_SIZE = 3
CONNECT_TIMEOUT_S = 20.0

# Says "+" once joined, so that a socket that is not there is told from an engine that hangs up. One thread a
# direction: with one for both, two full buffers would wait for each other. Standard output is polled for its
# closing, or a relay whose reader has gone would wait for the next event of a silent stream.
RELAY = """
import os,select,socket,sys,threading
s=socket.socket(socket.AF_UNIX)
try: s.connect(sys.argv[1])
except OSError as e: sys.exit(sys.argv[1]+": "+e.strerror)
def out(d):
    while d: d=d[os.write(1,d):]
def up():
    try:
        while True:
            d=os.read(0,65536)
            if not d: break
            s.sendall(d)
        s.shutdown(socket.SHUT_WR)
    except OSError: pass
try:
    out(b"+")
    threading.Thread(target=up,daemon=True).start()
    p=select.poll()
    p.register(s,select.POLLIN)
    p.register(1,0)
    while True:
        for f,e in p.poll():
            if f==1: os._exit(0)
            d=s.recv(65536)
            if not d: os._exit(0)
            out(d)
except OSError: os._exit(0)
"""


def relay_command(path: str) -> Command:
    """The command that joins its standard input and output to the Unix socket at ``path`` on the host."""
    return Command("python3", "-c", RELAY, path)


class ChannelSocket:
    """An SSH channel with the manners of a socket, as ``http.client`` and urllib3 expect them.

    Like a real socket, closing it while a file made from it is still read leaves the channel open until that
    file is closed: ``http.client`` relies on it for answers that end with the connection.
    """

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._files = 0
        self._closed = False

    def makefile(self, mode: str = "rb", *_: Any, **__: Any) -> io.BufferedReader:
        """A buffered reader; only reading is asked for by ``http.client``."""
        self._files += 1
        return io.BufferedReader(_ChannelReader(self._channel, self._file_closed), 65536)

    def _file_closed(self) -> None:
        self._files -= 1
        self._close_unused()

    def close(self) -> None:
        self._closed = True
        self._close_unused()

    def _close_unused(self) -> None:
        if self._closed and self._files <= 0:
            with contextlib.suppress(EOFError, OSError):  # the connection below may be gone already
                self._channel.close()

    def sendall(self, data: bytes, flags: int = 0) -> None:
        try:
            self._channel.sendall(data)
        except EOFError as error:  # paramiko's word for a connection that broke; sockets have another
            raise ConnectionResetError("SSH connection broke") from error

    def recv(self, size: int, flags: int = 0) -> bytes:
        return self._channel.recv(size)

    def settimeout(self, timeout: float | None) -> None:
        self._channel.settimeout(timeout)

    def gettimeout(self) -> float | None:
        return self._channel.gettimeout()

    def setsockopt(self, *_: Any) -> None:
        """TCP options mean nothing here."""

    def shutdown(self, how: int) -> None:
        """``SHUT_WR`` is the half-close: the engine sees the end of the request and can still answer."""
        self._channel.shutdown_write() if how == socket.SHUT_WR else self._channel.shutdown(how)

    def fileno(self) -> int:
        """Readable when data or the end is there: urllib3 asks whether a pooled connection was dropped."""
        return self._channel.fileno()


class _ChannelReader(io.RawIOBase):
    def __init__(self, channel: paramiko.Channel, on_close: Callable[[], None]) -> None:
        self._channel = channel
        self._on_close = on_close

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._channel.recv(len(view))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._on_close()


class _RelayConnection(urllib3.connection.HTTPConnection):
    def __init__(self, remote: Remote, path: str, timeout: float, opened: Callable[[], None]) -> None:
        super().__init__("localhost", timeout=timeout)
        self._remote = remote
        self._path = path
        self._opened = opened

    def connect(self) -> None:
        channel = self._remote.exec_channel(relay_command(self._path), sudo=True)
        channel.settimeout(CONNECT_TIMEOUT_S)
        try:
            greeting = channel.recv(1)
            if greeting != b"+":
                raise RemoteFailed(
                    f"no way to {self._path}: {_why(channel, greeting)}", hint=_hint(), host=self._remote.name
                )
        except BaseException:
            with contextlib.suppress(EOFError, OSError):
                channel.close()
            raise
        self._opened()
        channel.settimeout(self.timeout if isinstance(self.timeout, int | float) else None)
        self.sock = ChannelSocket(channel)  # a socket in all that is used of it


def _why(channel: paramiko.Channel, greeting: bytes) -> str:
    said = greeting
    with contextlib.suppress(OSError):
        for read in (channel.recv, channel.recv_stderr):
            while data := read(4096):
                said += data
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"the relay exited {channel.recv_exit_status()}"


def _hint() -> str:
    return "is dockerd running there, does sudo work without a password, and is python3 installed?"


class _RelayPool(urllib3.connectionpool.HTTPConnectionPool):
    def __init__(self, remote: Remote, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout, maxsize=POOL_SIZE, block=True)
        self._remote = remote
        self._path = path
        self._seconds = timeout
        self._counting = threading.Lock()
        self.channels = 0

    def _new_conn(self) -> _RelayConnection:
        self.num_connections += 1
        return _RelayConnection(self._remote, self._path, self._seconds, self._opened)

    def _opened(self) -> None:
        with self._counting:
            self.channels += 1


class RelayAdapter(BaseHTTPAdapter):
    """Mount it on a ``requests.Session``: every URL under its prefix goes to ``path`` on ``remote``."""

    def __init__(self, remote: Remote, path: str = DOCKER_SOCKET, *, timeout: float = 60.0) -> None:
        self._pool = _RelayPool(remote, path, timeout)
        super().__init__()

    @property
    def connections_made(self) -> int:
        """How many channels were opened so far: fewer than requests, since they are used again."""
        return self._pool.channels

    def get_connection(self, url: Any, proxies: Any = None) -> _RelayPool:
        return self._pool

    def request_url(self, request: Any, proxies: Any) -> str:
        return str(request.path_url)

    def close(self) -> None:
        super().close()
        self._pool.close()
