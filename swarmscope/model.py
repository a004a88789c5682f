"""The nouns that cross module borders: frozen, slotted, no behaviour beyond reading themselves.

Scope: hosts, networks, traffic, playbooks, trials. Tables of events are in ``trace.schema``; what is
on disk is in ``store``. Times are integer nanoseconds; ``datetime`` (UTC) appears only at borders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Mode = Literal["host", "overlay"]
ArmName = Literal["baseline", "subject"]
TrialKind = Literal["plain", "traced"]

LABEL_SWARM = "io.swarmscope.swarm"
"""On the swarm's spec, its nodes and the networks that ``swarm-up`` made: the inventory's name."""
LABEL_RUN = "io.swarmscope.run"
"""On every container, network and image that one run made: the run's id."""


@dataclass(frozen=True, slots=True)
class Host:
    """One machine. ``origin`` says for every connection key which file or default it came from."""

    name: str
    address: str
    """What SSH dials: a name, an address or an alias of the user's ssh config."""
    group: Literal["managers", "workers"]
    port: int | None = None
    user: str | None = None
    identity_file: Path | None = None
    advertise_addr: str = ""
    """Address of the Swarm's control traffic; empty means the data address."""
    data_addr: str = ""
    """Address that the traffic under test and VXLAN use; empty means the advertise address."""
    become: bool = True
    origin: Mapping[str, str] = field(default_factory=dict)

    @property
    def data_path_addr(self) -> str:
        """The address VXLAN and the traffic under test use."""
        return self.data_addr or self.advertise_addr or self.address

    @property
    def control_addr(self) -> str:
        """The address the Swarm's control traffic uses."""
        return self.advertise_addr or self.data_path_addr


@dataclass(frozen=True, slots=True)
class LabInfo:
    """An inventory that swarmscope raised itself. What happens in ``wire_netns`` belongs to no host."""

    name: str
    kind: Literal["namespaces", "machines"]
    wire_netns: tuple[int, ...] = ()
    """Inode numbers of the network namespaces that play the cable and the switch."""
    accelerator: Literal["", "kvm", "tcg"] = ""
    """Of machines. ``tcg`` is emulation: what happens is exact, how long it takes means nothing."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """The hosts, in file order: managers first, then workers."""

    path: Path
    name: str
    hosts: tuple[Host, ...]
    known_hosts: Path | None = None
    ssh_config: Path | None = None
    lab: LabInfo | None = None

    @property
    def patience(self) -> int:
        """How many times as long as usual its hosts may take for anything: emulated machines are slow."""
        return 5 if self.lab and self.lab.accelerator == "tcg" else 1

    @property
    def managers(self) -> tuple[Host, ...]:
        return tuple(h for h in self.hosts if h.group == "managers")

    @property
    def workers(self) -> tuple[Host, ...]:
        return tuple(h for h in self.hosts if h.group == "workers")

    def host(self, name: str) -> Host:
        """The host of that name; ``KeyError`` where there is none."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """An overlay that ``swarm-up`` makes. ``mtu`` 0: the data path's MTU less VXLAN's 50 bytes."""

    name: str
    subnet: str
    mtu: int = 0


@dataclass(frozen=True, slots=True)
class TrafficSpec:
    """What flows between the endpoints in a trial. Sizes in bytes, ``interval_us`` in microseconds."""

    kind: Literal["ping", "rr"]
    count: int
    """Echo requests, or requests, of one trial."""
    size: int
    """Payload of one packet (ping) or of one request and one response (rr)."""
    interval_us: int = 0
    """Pause between sends (ping only; rr sends the next request when the response is there)."""
    transport: Literal["icmp", "tcp", "udp"] = "icmp"
    traced_count: int = 0
    """Count in traced trials; 0 means ``count``."""

    @property
    def title(self) -> str:
        return f"ping {self.size} B" if self.kind == "ping" else f"rr {self.transport} {self.size} B"


@dataclass(frozen=True, slots=True)
class CollectorChoice:
    """A collector by name with the options the playbook overrides."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Playbook:
    """An experiment: two arms, the traffic, the collectors, the number of trials."""

    path: Path
    name: str
    summary: str
    baseline: Mode
    subject: Mode
    network: NetworkSpec | None
    image: str
    """``auto``: made from a static busybox and imported; else an image that every engine already holds."""
    client: str
    """Host name, or ``first`` / ``second``: position in the (limited) inventory."""
    server: str
    traffic: tuple[TrafficSpec, ...]
    plain_trials: int
    """Plain trials of each arm and traffic."""
    traced_trials: int
    collectors: tuple[CollectorChoice, ...]
    deadline_s: int
    """After this many seconds everything on the hosts stops by itself."""
    pin_cpus: bool = True
    """Client on its host's last CPU, server on its host's first, in both arms alike."""

    def mode(self, arm: ArmName) -> Mode:
        return self.baseline if arm == "baseline" else self.subject


@dataclass(frozen=True, slots=True)
class Trial:
    """One repetition of one arm. ``block`` pairs a baseline trial with its subject neighbour (ABBA)."""

    index: int
    arm: ArmName
    kind: TrialKind
    traffic: TrafficSpec
    block: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A network namespace on a host, with an address: where one end of the traffic runs.

    ``netns`` is a path as the host sees it (``/proc/1/ns/net`` or ``/proc/<container pid>/ns/net``).
    """

    host: str
    netns: str
    address: str
