"""A cable that can be cut: SSH to one host of a lab goes through a forwarder of the test's own."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from pathlib import Path

import yaml


class Cable:
    """Forwards a loopback port to a host's sshd and writes an inventory that uses it."""

    def __init__(self, inventory: Path, host: str, copy: Path) -> None:
        self.inventory = copy
        self._sockets: list[socket.socket] = []
        self._cut = threading.Event()
        tree = yaml.safe_load(inventory.read_text())
        [entry] = [g["hosts"][host] for g in tree["all"]["children"].values() if host in g["hosts"]]
        self._target = (entry["ansible_host"], int(entry["ansible_port"]))
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        known = Path(tree["all"]["vars"]["swarmscope_known_hosts"])
        keys = known.read_text()
        old = f"[127.0.0.1]:{self._target[1]} "
        added = re.sub(rf"^{re.escape(old)}", f"[127.0.0.1]:{port} ", keys, flags=re.M)
        copy.with_suffix(".known").write_text(keys + added)
        tree["all"]["vars"]["swarmscope_known_hosts"] = str(copy.with_suffix(".known"))
        entry["ansible_port"] = port
        copy.write_text(yaml.safe_dump(tree))

    def __enter__(self) -> Cable:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.cut()
        self._listener.close()

    def cut(self) -> None:
        """Everything that goes through ends; new connections are closed at once."""
        self._cut.set()
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def heal(self) -> None:
        """New connections pass again."""
        self._cut.clear()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._cut.is_set():
                near.close()
                continue
            far = socket.create_connection(self._target)
            self._sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
