"""What an examination found, judged: pure functions from observations to checks.

Scope: one host at a time (``doctor_links`` judges what lies between hosts, ``doctor`` observes). A check is
``ok``, ``warn`` (it works, or a part is left out by name) or ``fail``; ``needed`` ones that fail end ``invoke
doctor`` in exit code 3.

Limits: judges what was observed and asks nothing itself, so every function can be tested with plain data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from swarmscope import collectors
from swarmscope.cluster.engine_objects import Network, SwarmState
from swarmscope.cluster.interval import Interval
from swarmscope.model import LABEL_SWARM, Host, Inventory

Status = Literal["ok", "warn", "fail"]

LITTLE_DISK = 2_000_000_000
NO_DISK = 200_000_000
"""Bytes free in /var/tmp: below the first a long run may not fit, below the second not even a short one."""
SLOW_CLOCKS = ("hpet", "acpi_pm", "jiffies", "refined-jiffies")
STA_UNSYNC = 0x40
"""adjtimex(2): the kernel's clock is not synchronised."""
FAR_WALL_CLOCK_NS = 60_000_000_000
FEATURE_USES = {
    "vxlan": "overlay networks",
    "ipvlan": "modes ipvlan-l2 and ipvlan-l3",
    "macvlan": "mode macvlan",
    "ipvs": "modes service-vip and ingress",
    "esp": "encrypted overlays",
    "netem": "delay and loss on purpose",
}
"""Kernel features that the observation tries, and what goes without them."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the diagnosis."""

    host: str
    name: str
    status: Status
    message: str
    hint: str = ""
    needed: bool = False
    """Whether nothing can be measured where this fails."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why something could not be observed, as the error said it."""

    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class HostView:
    """What was observed on one host. ``None`` and empty: not got that far; the trouble before it says why."""

    host: Host
    login: str = ""
    ssh: Trouble | None = None
    sudo: Trouble | None = None
    python: str = ""
    agent: Trouble | None = None
    facts: Mapping[str, Any] | None = None
    docker: Trouble | None = None
    engine: Mapping[str, Any] = field(default_factory=dict)
    """``GET /version`` with ``Negotiated``."""
    swarm: SwarmState | None = None
    networks: tuple[Network, ...] = ()
    members: tuple[str, ...] = ()
    """Node ids, as seen by a manager."""
    features: Mapping[str, bool] = field(default_factory=dict)
    leftovers: tuple[str, ...] = ()
    live: str = ""
    """The run that holds the host's lock right now; empty where none does."""
    clocks: Mapping[str, Any] = field(default_factory=dict)
    offset: Interval | None = None
    """CLOCK_MONOTONIC less the reference host's, in nanoseconds."""


Views = Mapping[str, HostView]


def check_host(
    view: HostView, views: Views, inventory: Inventory, catalogue: Mapping[str, collectors.Collector]
) -> Iterator[Check]:
    """Every check of one host, in the order in which things depend on one another."""
    name = view.host.name
    if view.ssh is not None:
        yield Check(name, "ssh", "fail", view.ssh.message, view.ssh.hint, needed=True)
        return
    yield Check(name, "ssh", "ok", f"{view.login}, host key known")
    yield from _login(view)
    yield from _docker(view, views, inventory)
    facts = view.facts
    if facts is None:
        if view.agent is not None:
            yield Check(name, "agent", "fail", view.agent.message, view.agent.hint, needed=True)
        return
    yield from _kernel(name, facts, view)
    yield from _tools(name, facts)
    yield from _collectors(name, facts, catalogue)
    yield from _clock(view, views, facts)
    yield from _room(name, facts, view)
    yield from _data_path(view, facts)


def _login(view: HostView) -> Iterator[Check]:
    name = view.host.name
    if view.sudo is not None:
        yield Check(name, "sudo", "fail", view.sudo.message, view.sudo.hint, needed=True)
    else:
        yield Check(name, "sudo", "ok", "root without a password")
    version = tuple(int(p) for p in view.python.split(".")[:2] if p.isdecimal())
    if version < (3, 8):
        text = f"python3 is {view.python}" if view.python else "no python3"
        hint = "install Python 3.8 or newer: apt install python3"
        yield Check(name, "python", "fail", text, hint, needed=True)
    else:
        yield Check(name, "python", "ok", view.python)


def _docker(view: HostView, views: Views, inventory: Inventory) -> Iterator[Check]:
    name = view.host.name
    if view.docker is not None:
        hint = view.docker.hint or "start Docker there: systemctl start docker"
        yield Check(name, "docker", "fail", view.docker.message, hint, needed=True)
        return
    engine = view.engine
    system = engine.get("Os", "?")
    api = engine.get("Negotiated") or engine.get("ApiVersion", "?")
    text = f"{engine.get('Version', '?')}, API {api}, {system}"
    if system != "linux":
        yield Check(name, "docker", "fail", text, "only Linux engines have kernels to trace", needed=True)
    else:
        yield Check(name, "docker", "ok", text)
    if view.swarm is not None:
        yield _membership(view, view.swarm, views, inventory)


def _membership(view: HostView, swarm: SwarmState, views: Views, inventory: Inventory) -> Check:
    """None, ours, or something that ``swarm-up`` will refuse to touch."""
    name = view.host.name
    if swarm.state == "inactive":
        return Check(name, "swarm", "ok", "in no swarm")
    if swarm.state != "active":
        why = f"half-joined: its state is {swarm.state}" + (f" ({swarm.error})" if swarm.error else "")
        hint = "on that host: docker swarm leave, then try again"
        return Check(name, "swarm", "fail", why, hint, needed=True)
    label = _swarm_label(swarm, views)
    if label == inventory.name:
        role = "manager" if swarm.control else "worker"
        return Check(name, "swarm", "ok", f"{role} of this inventory's swarm")
    hint = "take the host out of it yourself (docker swarm leave), or leave it out with --limit"
    if label:
        whose = f"the swarm of inventory {label!r}"
        hint = "`invoke swarm-down` with that inventory ends it; or leave the host out with --limit"
    elif label is None:
        whose = f"a swarm of other managers ({', '.join(swarm.managers) or 'not told'})"
    else:
        whose = "a swarm that swarmscope did not make"
    return Check(name, "swarm", "fail", f"in {whose}", hint, needed=True)


def _swarm_label(swarm: SwarmState, views: Views) -> str | None:
    """Whose the swarm is; empty: not made by us; None: only managers that were not asked know."""
    if swarm.control:
        return swarm.labels.get(LABEL_SWARM, "")
    for other in views.values():
        if other.swarm is not None and other.swarm.control and swarm.node_id in other.members:
            return other.swarm.labels.get(LABEL_SWARM, "")
    return None


def _kernel(name: str, facts: Mapping[str, Any], view: HostView) -> Iterator[Check]:
    text = f"{facts.get('kernel', '?')} {facts.get('arch', '')}, {facts.get('os', '?')}"
    yield Check(name, "kernel", "ok", text)
    cgroup = facts.get("cgroup", "")
    known = cgroup in ("v1", "v2", "hybrid")
    hint = "" if known else "mount the cgroup file system, or Docker starts no container"
    yield Check(name, "cgroups", "ok" if known else "warn", cgroup or "not found", hint)
    if facts.get("tracefs"):
        yield Check(name, "tracefs", "ok", str(facts["tracefs"]))
    else:
        hint = "mount -t tracefs tracefs /sys/kernel/tracing"
        yield Check(name, "tracefs", "warn", "not reachable: no tracepoint can be recorded", hint)
    lockdown = facts.get("lockdown", "unknown")
    strict = lockdown == "confidentiality"
    text = f"{lockdown}: kprobes and the function tracer may be refused" if strict else str(lockdown)
    if lockdown == "unknown":
        text = "the kernel does not tell"
    yield Check(name, "lockdown", "warn" if strict else "ok", text)
    level = facts.get("perf_event_paranoid", "?")
    yield Check(name, "perf_event_paranoid", "ok", f"{level} (the agent is root: any will do)")
    features = view.features
    lacking = [
        f"{feature} ({use})" for feature, use in FEATURE_USES.items() if not features.get(feature, True)
    ]
    tracers = facts.get("tracers") or ()
    lacking += [f"{tracer} tracer" for tracer in ("function", "function_graph") if tracer not in tracers]
    lacking += [word for word in ("kprobes", "btf", "instances") if not facts.get(word)]
    if view.features.get("vxlan") is False:
        hint = "boot a kernel with CONFIG_VXLAN"
        yield Check(name, "vxlan", "fail", "this kernel cannot make VXLAN devices", hint, needed=True)
    if lacking:
        hint = "modes and collectors that need one of these are left out by name"
        yield Check(name, "features", "warn", f"not here: {', '.join(lacking)}", hint)
    else:
        yield Check(name, "features", "ok", "all that modes and collectors use")


def _tools(name: str, facts: Mapping[str, Any]) -> Iterator[Check]:
    tools = facts.get("tools") or {}
    packages = {"perf": "linux-perf (Debian) or linux-tools-$(uname -r) (Ubuntu)", "bpftrace": "bpftrace"}
    for tool, package in packages.items():
        found = tools.get(tool)
        if not found:
            text = "not installed: its collectors are left out"
            yield Check(name, tool, "warn", text, f"apt install {package}")
        elif not found.get("version"):
            # Ubuntu's perf is a script that looks for a build of exactly the running kernel.
            text = f"{found.get('path')} does not run on this kernel"
            yield Check(name, tool, "warn", text, f"apt install {package}")
        else:
            yield Check(name, tool, "ok", f"{found['version']}")
    for tool, package in {"ping": "iputils-ping", "ip": "iproute2", "timeout": "coreutils"}.items():
        if not tools.get(tool):
            yield Check(name, tool, "fail", "not installed", f"apt install {package}", needed=True)


def _collectors(
    name: str, facts: Mapping[str, Any], catalogue: Mapping[str, collectors.Collector]
) -> Iterator[Check]:
    """Each collector by name: whether it can run here, or what it misses."""
    able = 0
    for collector in catalogue.values():
        reasons = collectors.missing(collector, facts)
        able += not reasons
        if reasons:
            text = f"left out, it needs: {', '.join(reasons)}"
            commands = " ".join(reason.split()[1] for reason in reasons if reason.startswith("command "))
            hint = f"install {commands}" if commands else "another kernel: `invoke lab-up --kind machines`"
            yield Check(name, f"collector {collector.name}", "warn", text, hint)
        else:
            yield Check(name, f"collector {collector.name}", "ok", "can run")
    if catalogue and not able:
        hint = "install perf and bpftrace, and see the checks of tracefs above"
        yield Check(name, "collectors", "fail", "none of the collectors can run here", hint, needed=True)


def _clock(view: HostView, views: Views, facts: Mapping[str, Any]) -> Iterator[Check]:
    name = view.host.name
    source = str(facts.get("clocksource") or "?")
    if source in SLOW_CLOCKS:
        hint = "times are coarser and cost more to take; a guest wants kvm-clock or tsc"
        yield Check(name, "clocksource", "warn", source, hint)
    else:
        yield Check(name, "clocksource", "ok", source)
    reference = next(v for v in views.values() if v.facts is not None)
    twins = [v.host.name for v in views.values() if v is not view and _boot(v) == _boot(view)]
    shared = f"; one kernel with {', '.join(twins)}" if twins else ""
    if view is reference:
        yield Check(name, "clock", "ok", f"the reference{shared}")
    elif view.offset is None:
        hint = "see the checks of the path between the hosts: the probes are UDP on the data addresses"
        text = f"no probe from {reference.host.name} was answered"
        yield Check(name, "clock", "fail", text, hint, needed=True)
    else:
        far = _wall_offset(view, reference)
        status = int((view.clocks.get("adjtimex") or {}).get("status", 0))
        synced = "" if not status & STA_UNSYNC else ", not synchronised by NTP"
        text = f"known to ±{view.offset.half_width / 1000:.1f} us against {reference.host.name}"
        text += f"; wall clocks differ by {abs(far) / 1e6:.1f} ms{synced}{shared}"
        odd = abs(far) > FAR_WALL_CLOCK_NS
        hint = "traces are not affected, but log times and certificates are: set up NTP" if odd else ""
        yield Check(name, "clock", "warn" if odd else "ok", text, hint)


def _boot(view: HostView) -> object:
    return view.facts.get("boot_id") if view.facts else view.host.name


def _wall_offset(view: HostView, reference: HostView) -> int:
    """CLOCK_REALTIME less the reference's, in nanoseconds: each one's real minus mono, plus theta."""

    def real_less_mono(clocks: Mapping[str, Any]) -> int:
        return int(clocks.get("real", 0)) - int(clocks.get("mono", 0))

    theta = view.offset.middle if view.offset else 0
    return real_less_mono(view.clocks) - real_less_mono(reference.clocks) + theta


def _room(name: str, facts: Mapping[str, Any], view: HostView) -> Iterator[Check]:
    free = int(facts.get("disk_free") or 0)
    text = f"{free / 1e9:.1f} GB free in /var/tmp"
    if free < NO_DISK:
        hint = "free some space: recordings are kept there"
        yield Check(name, "disk", "fail", text, hint, needed=True)
    else:
        low = free < LITTLE_DISK
        yield Check(name, "disk", "warn" if low else "ok", text, "a long run may not fit" if low else "")
    if view.live:
        hint = "wait until it ends: the next run is refused (exit 6)"
        yield Check(name, "lock", "warn", f"held by {view.live}", hint)
    if view.leftovers:
        shown = ", ".join(view.leftovers[:3]) + (" …" if len(view.leftovers) > 3 else "")
        text = f"{len(view.leftovers)} left by earlier runs: {shown}"
        yield Check(name, "leftovers", "warn", text, "`invoke sweep` removes them")
    else:
        yield Check(name, "leftovers", "ok", "none")


def _data_path(view: HostView, facts: Mapping[str, Any]) -> Iterator[Check]:
    name, address = view.host.name, view.host.data_path_addr
    nic = data_nic(view)
    if nic is None:
        nics = facts.get("nics") or ()
        held = sorted(a for n in nics for a in map(bare, n.get("addresses") or ()) if "." in a)
        hint = f"set data_addr in the inventory to one of its addresses: {', '.join(held)}"
        yield Check(name, "data address", "fail", f"no interface has {address}", hint, needed=True)
        return
    yield Check(name, "data address", "ok", f"{address} on {nic.get('dev')}, MTU {nic.get('mtu')}")
    offloads = nic.get("offloads") or {}
    words = [f"{key} {'on' if on else 'off'}" for key, on in offloads.items() if on is not None]
    yield Check(name, "offloads", "ok", ", ".join(words) or "not told by the driver")


def data_nic(view: HostView) -> Mapping[str, Any] | None:
    """The interface that holds the host's data address; None where none does."""
    for nic in (view.facts or {}).get("nics") or ():
        if view.host.data_path_addr in map(bare, nic.get("addresses") or ()):
            return dict(nic)
    return None


def bare(address: str) -> str:
    """An address without its prefix length."""
    return address.partition("/")[0]
