"""HTTP over an SSH channel to a real Unix-socket server: the transport of the Docker SDK."""

from __future__ import annotations

import http.server
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from private_sshd import Server, inventory

from swarmscope.cluster.relay import ChannelSocket, RelayAdapter, relay_command
from swarmscope.cluster.remote import Remote
from swarmscope.errors import RemoteFailed


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/slow":
            time.sleep(3)
        if self.path == "/stream":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for number in range(3):
                self.wfile.write(b"2\r\n%d\n\r\n" % number)
                time.sleep(0.3)
            self.wfile.write(b"0\r\n\r\n")
            return
        if self.path == "/until-close":
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"x" * 300_000)
            return
        self._answer(self.path.encode())
        if self.path == "/hang-up":
            self.close_connection = True

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"]))[::-1])

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def address_string(self) -> str:
        return "unix"


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@pytest.fixture
def unix_server(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "engine.sock"
    with UnixServer(str(path), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield path
        server.shutdown()


@pytest.fixture
def remote(shared_server: Server) -> Iterator[Remote]:
    host = shared_server.host(become=False)
    with Remote(host, inventory(known_hosts=shared_server.known_hosts())) as made:
        yield made


@pytest.fixture
def adapter(remote: Remote, unix_server: Path) -> Iterator[RelayAdapter]:
    made = RelayAdapter(remote, str(unix_server), timeout=20)
    yield made
    made.close()


@pytest.fixture
def session(adapter: RelayAdapter) -> requests.Session:
    made = requests.Session()
    made.mount("http+docker://", adapter)
    return made


URL = "http+docker://localhost"


def test_one_connection_serves_many_requests(session: requests.Session, adapter: RelayAdapter) -> None:
    for number in range(5):
        assert session.get(f"{URL}/{number}").text == f"/{number}"
    assert adapter.connections_made == 1


def test_threads_share_a_pool_that_stays_small(session: requests.Session, adapter: RelayAdapter) -> None:
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda n: session.get(f"{URL}/{n}").text, range(24)))
    assert texts == [f"/{n}" for n in range(24)]
    assert adapter.connections_made <= 3


def test_a_large_body_goes_and_comes_whole(session: requests.Session) -> None:
    body = bytes(range(256)) * 8192
    assert session.post(f"{URL}/", data=body).content == body[::-1]


def test_a_stream_arrives_while_it_is_made(session: requests.Session) -> None:
    arrivals = []
    with session.get(f"{URL}/stream", stream=True) as answer:
        for line in answer.iter_lines():
            arrivals.append((line, time.monotonic()))
    assert [line for line, _ in arrivals] == [b"0", b"1", b"2"]
    assert arrivals[-1][1] - arrivals[0][1] > 0.4


def test_an_answer_that_ends_with_the_connection_is_read_to_its_end(session: requests.Session) -> None:
    assert len(session.get(f"{URL}/until-close").content) == 300_000


def test_a_dropped_connection_is_replaced_unnoticed(session: requests.Session, adapter: RelayAdapter) -> None:
    session.get(f"{URL}/hang-up")
    time.sleep(0.5)
    assert session.get(f"{URL}/again").text == "/again"
    assert adapter.connections_made == 2


def test_a_silent_server_is_a_timeout_not_a_hang(session: requests.Session) -> None:
    with pytest.raises(requests.exceptions.ReadTimeout):
        session.get(f"{URL}/slow", timeout=0.5)
    assert session.get(f"{URL}/after").text == "/after"


def test_a_socket_that_is_not_there_is_named(remote: Remote, tmp_path: Path) -> None:
    made = requests.Session()
    made.mount("http+docker://", RelayAdapter(remote, str(tmp_path / "none.sock")))
    with pytest.raises(RemoteFailed, match=r"n1: no way to .*none.sock: .*No such file"):
        made.get(f"{URL}/")


def test_the_half_close_reaches_the_server_and_its_answer_comes_back(remote: Remote, tmp_path: Path) -> None:
    path = tmp_path / "plain.sock"

    class Counter(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(str(len(self.rfile.read())).encode())  # reads to the end of the stream

    with UnixServer(str(path), Counter) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        channel = remote.exec_channel(relay_command(str(path)))
        sock = ChannelSocket(channel)
        sock.settimeout(10)
        assert sock.recv(1) == b"+"
        sock.sendall(b"a" * 100_000)
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile("rb") as file:
            sock.close()  # as with a real socket, the file can still be read
            assert file.read() == b"100000"
        assert channel.closed
        server.shutdown()


def test_relays_end_when_their_connection_is_closed(
    remote: Remote, unix_server: Path, session: requests.Session, adapter: RelayAdapter
) -> None:
    def relays() -> int:
        mark = str(unix_server).encode()
        count = 0
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes()
            except OSError:
                continue
            count += line.startswith(b"python3\0-c") and mark in line
        return count

    streaming = session.get(f"{URL}/stream", stream=True)
    session.get(f"{URL}/one")
    assert relays() == 2
    streaming.close()
    adapter.close()
    deadline = time.monotonic() + 5
    while relays() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert relays() == 0
