"""The table of what an agent can be asked: one method for each ``op`` of the protocol.

Scope: reads arguments, calls the module that does the work, shapes the result. State of the host between
requests (lock, recorders, servers) lives here.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any, Callable, Dict

from . import (
    clocks,
    facts,
    ledger,
    locks,
    pack,
    probe,
    reach,
    sweep,
    tools,
    topology,
    traffic_ping,
    traffic_rr,
)
from .places import Places
from .protocol import AgentError, Args, Output
from .recorders import Recorders

Operation = Callable[[Args], Dict[str, Any]]
MAX_TTL_S = 24 * 3600


def _cpu(args: Args) -> str:
    return args.choice("cpu", ("", "first", "last"), "")


class Host:
    """One host as this agent holds it."""

    def __init__(self, name: str, places: Places, output: Output, on_deadline: Callable[[], None]) -> None:
        self.name = name
        self._places = places
        self._output = output
        self._on_deadline = on_deadline
        self._recorders = Recorders(places)
        self._lock_run = ""
        self._deadline: threading.Timer | None = None
        self._probe_server: probe.ProbeServer | None = None
        self._rr_servers: dict[int, traffic_rr.RrServer] = {}
        self._operations: dict[str, Operation] = {
            "beat": lambda args: {},
            "facts": lambda args: facts.gather(self.name, self._places),
            "topology": lambda args: topology.gather(),
            "kallsyms": lambda args: {"count": pack.kallsyms(self._places, args.name("run"))},
            "lock": self._take_lock,
            "unlock": self._release_lock,
            "clocks": lambda args: clocks.snapshot(),
            "probe_serve": self._probe_serve,
            "probe_stop": self._probe_stop,
            "probe": self._probe,
            "arm": self._arm,
            "rehearsed": lambda args: {"recorders": self._recorders.rehearsed(args.names("recorders") or [])},
            "gate": self._gate,
            "stop": lambda args: {"recorders": self._recorders.stop(args.names("recorders"))},
            "pack": self._pack,
            "discard": self._discard,
            "ping": self._ping,
            "rr_serve": self._rr_serve,
            "rr_stop": self._rr_stop,
            "rr": self._rr,
            "mtu": self._mtu,
            "send": self._send,
            "read_busybox": lambda args: tools.read_busybox(),
            "leftovers": self._leftovers,
            "sweep": lambda args: sweep.sweep(self._places, self.name, args.objects("items")),
        }

    def perform(self, op: str, args: Args, request: Any) -> dict[str, Any]:
        """Do one request; raises ``AgentError``. ``request`` is its id, for events that refer to it."""
        if op == "listen":
            return self._listen(args, request)
        operation = self._operations.get(op)
        if operation is None:
            raise AgentError(
                "usage", f"unknown op {op!r}", hint="controller and agent are of different versions"
            )
        return operation(args)

    def close(self) -> None:
        """Stop and restore everything; what was recorded is packed, so that it can still be fetched."""
        if self._deadline:
            self._deadline.cancel()
        runs = {self._lock_run} - {""}
        if self._recorders.running():
            self._recorders.stop(None)
            for run in runs:
                with contextlib.suppress(AgentError, OSError):
                    pack.pack(self._places, run, self._recorders.of_run(run))
        for server in self._rr_servers.values():
            server.close()
        if self._probe_server:
            self._probe_server.close()
        for run in runs:
            locks.release(self._places.state, run)

    def _take_lock(self, args: Args) -> dict[str, Any]:
        run, ttl_s = args.name("run"), min(args.seconds("ttl_s"), MAX_TTL_S)
        if self._lock_run and self._lock_run != run:
            raise AgentError(
                "usage", f"this agent holds the lock for run {self._lock_run}", hint="unlock it first"
            )
        locks.take(self._places.state, run=run, holder=args.text("holder"), host=self.name, ttl_s=ttl_s)
        self._lock_run = run
        if self._deadline:
            self._deadline.cancel()
        self._deadline = threading.Timer(ttl_s, self._on_deadline)
        self._deadline.daemon = True
        self._deadline.start()
        return {}

    def _release_lock(self, args: Args) -> dict[str, Any]:
        run = args.name("run")
        if self._lock_run != run or not locks.release(self._places.state, run):
            raise AgentError(
                "failed", f"run {run} does not hold {self.name}", hint="its lock expired or was never taken"
            )
        self._lock_run = ""
        if self._deadline:
            self._deadline.cancel()
        return {}

    def _probe_serve(self, args: Args) -> dict[str, Any]:
        self._probe_stop(args)
        self._probe_server = probe.ProbeServer(args.text("address"))
        return {"port": self._probe_server.port}

    def _probe_stop(self, args: Args) -> dict[str, Any]:
        if self._probe_server:
            self._probe_server.close()
        self._probe_server = None
        return {}

    def _probe(self, args: Args) -> dict[str, Any]:
        port, count = args.whole("port", low=1, high=65535), args.whole("count", low=1, high=10000)
        samples, lost = probe.burst(args.text("address"), port, count)
        return {"samples": samples, "lost": lost}

    def _arm(self, args: Args) -> dict[str, Any]:
        run = args.name("run")
        if run != self._lock_run:
            raise AgentError("usage", f"arm: run {run} does not hold {self.name}", hint="lock it first")
        return {"recorders": self._recorders.arm(run, args.objects("recorders"), args.seconds("deadline_s"))}

    def _gate(self, args: Args) -> dict[str, Any]:
        at = args.whole("at") if args.values.get("at") is not None else None
        action = args.choice("action", ("open", "close"))
        return self._recorders.gate(args.names("recorders") or [], action, at)

    def _pack(self, args: Args) -> dict[str, Any]:
        run = args.name("run")
        return {"files": pack.pack(self._places, run, self._recorders.of_run(run))}

    def _discard(self, args: Args) -> dict[str, Any]:
        run = args.name("run")
        lock = locks.current(self._places.state)
        if lock and lock["run"] == run and self._lock_run != run:
            raise AgentError(
                "locked",
                f"run {run} is still recorded on {self.name}",
                hint="wait until it ends",
                holder=locks.public(lock),
            )
        unrestored = sweep.restore_settings(self._places, run)
        if unrestored:
            raise AgentError(
                "failed",
                f"tracing on {self.name} is not set as before: {unrestored}",
                hint="`invoke sweep`",
            )
        # The ledger is what says that a trace instance is ours: it stays for ``sweep`` while one does.
        left = sweep.remove_instances(self.name, run) if ledger.entries(self._places.state, run) else ""
        removed = self._places.remove_run(run)
        if not left:
            ledger.forget(self._places.state, run)
        return {"removed": removed}

    def _ping(self, args: Args) -> dict[str, Any]:
        return traffic_ping.ping(
            run=args.name("run"),
            namespace=args.text("netns"),
            address=args.text("address"),
            count=args.whole("count", low=1, high=traffic_ping.MAX_COUNT),
            size=args.whole("size", high=65507),
            interval_us=args.whole("interval_us"),
            timeout_s=args.seconds("timeout_s"),
            cpu=_cpu(args),
        )

    def _rr_serve(self, args: Args) -> dict[str, Any]:
        size = args.whole("size", low=1, high=1 << 20)
        transport = args.choice("transport", ("tcp", "udp"))
        where = args.text("netns"), args.text("address")
        server = traffic_rr.RrServer(*where, transport, size, cpu=_cpu(args))
        if server.port in self._rr_servers:
            # The same number in another namespace: ports are this op's handle, so ask the kernel for another
            # one.
            second = traffic_rr.RrServer(*where, transport, size, cpu=_cpu(args))
            server.close()
            server = second
        self._rr_servers[server.port] = server
        return {"port": server.port}

    def _rr_stop(self, args: Args) -> dict[str, Any]:
        port = args.whole("port")
        server = self._rr_servers.pop(port, None)
        if server is None:
            raise AgentError("missing", f"rr_stop: nothing serves port {port}")
        server.close()
        return {}

    def _rr(self, args: Args) -> dict[str, Any]:
        return traffic_rr.rr(
            namespace=args.text("netns"),
            address=args.text("address"),
            port=args.whole("port", low=1, high=65535),
            transport=args.choice("transport", ("tcp", "udp")),
            size=args.whole("size", low=1, high=1 << 20),
            count=args.whole("count", low=1, high=1_000_000),
            timeout_s=args.seconds("timeout_s"),
            cpu=_cpu(args),
        )

    def _mtu(self, args: Args) -> dict[str, Any]:
        low, high = args.whole("low", low=28, high=65535), args.whole("high", low=28, high=65535)
        return {"mtu": reach.path_mtu(args.text("address"), args.text("netns", ""), low, high)}

    def _listen(self, args: Args, request: Any) -> dict[str, Any]:
        return reach.listen(
            args.choice("proto", ("tcp", "udp")),
            args.text("address"),
            args.whole("port", low=1, high=65535),
            args.text("token"),
            args.seconds("timeout_s"),
            lambda: self._output.send({"event": "listening", "id": request}),
        )

    def _send(self, args: Args) -> dict[str, Any]:
        proto = args.choice("proto", ("tcp", "udp", "vxlan"))
        return reach.send(
            proto, args.text("address"), args.whole("port", low=1, high=65535), args.text("token")
        )

    def _leftovers(self, args: Args) -> dict[str, Any]:
        return {"items": sweep.leftovers(self._places, self.name, args.names("active") or [])}
