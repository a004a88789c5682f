"""Where the traffic starts and ends: a host's own network namespace, or a container's.

Scope: one container on every host of the run in overlay mode, from an image that is there or is made
from a static busybox; each carries the run's label and ends by itself at the run's deadline. Traffic
is started inside the container's network namespace from outside, so the image needs nothing but
something to sleep with.
"""

from __future__ import annotations

import base64
from dataclasses import asdict
from functools import partial
from typing import Any

from swarmscope.cluster.agent_link import AgentLink
from swarmscope.cluster.engine import Engine, NotThere
from swarmscope.cluster.engine_objects import Container
from swarmscope.cluster.images import busybox_image
from swarmscope.errors import PreflightFailed, RemoteFailed
from swarmscope.model import LABEL_RUN, LABEL_SWARM, Endpoint, Host, NetworkSpec

REPOSITORY, TAG = "swarmscope/busybox", "1"
IMAGE = f"{REPOSITORY}:{TAG}"
HOST_NETNS = "/proc/1/ns/net"
NETWORK_IS_LATE = "attaching to network failed"
"""What Docker says when an overlay did not reach a worker in time (with ``context deadline exceeded``)."""


def host_endpoint(host: Host) -> Endpoint:
    """The host's own network namespace and its address on the data path."""
    return Endpoint(host.name, HOST_NETNS, host.data_path_addr)


def ensure_image(engine: Engine, link: AgentLink, wanted: str) -> str:
    """The image to run: ``wanted`` if the engine holds it, or for ``auto`` one made from busybox.

    Nothing is pulled: a lab has no registry. Raises ``PreflightFailed`` where it is not to be had.
    """
    if wanted != "auto":
        if engine.has_image(wanted):
            return wanted
        raise PreflightFailed(
            f"the engine has no image {wanted!r}",
            host=link.host,
            hint=f"`docker pull {wanted}` there, or set the playbook's `image: auto`",
        )
    if not engine.has_image(IMAGE):
        binary = base64.b64decode(link.call("read_busybox")["base64"])
        labels = {LABEL_SWARM: "busybox"}
        engine.import_image(busybox_image(binary), repository=REPOSITORY, tag=TAG, labels=labels)
    return IMAGE


def start_container(
    engine: Engine,
    link: AgentLink,
    *,
    run: str,
    arm: str,
    network: NetworkSpec,
    image: str,
    lifetime_s: int,
) -> Container:
    """One idle container on ``network``; it ends by itself after ``lifetime_s``.

    A worker's engine gives the manager 20 s to bring it the network, and then fails, though the network
    comes a little later where hosts are slow: such a start is tried once more.
    """
    start = partial(
        engine.run_container,
        ensure_image(engine, link, image),
        name=f"swarmscope-{run}-{arm}",
        network=network.name,
        command=["sleep", str(lifetime_s)],
        labels={LABEL_RUN: run},
    )
    try:
        return start()
    except RemoteFailed as failed:
        if NETWORK_IS_LATE not in failed.message:
            raise
        return start()


def container_endpoint(host: str, container: Container, network: NetworkSpec) -> Endpoint:
    """The container's network namespace and its address on ``network``."""
    return Endpoint(host, container.netns, container.networks[network.name].address)


def describe_containers(engine: Engine) -> list[dict[str, Any]]:
    """Every running container with its pid, labels and networks, as ``topology.json`` holds them."""
    described = []
    for listed in engine.containers():
        try:
            container = engine.container(listed.id)
        except NotThere:
            continue  # it ended between the list and the look
        networks = {
            name: {"id": end.network_id, "address": end.address} for name, end in container.networks.items()
        }
        if container.running:
            described.append({**asdict(container), "labels": dict(container.labels), "networks": networks})
    return described


def remove_containers(engine: Engine, run: str) -> list[str]:
    """Remove the run's containers on this engine; the ids of those that were there."""
    removed: list[str] = []
    for container in engine.containers({LABEL_RUN: run}):
        engine.remove_container(container.id)
        removed.append(container.id)
    return removed


def network_record(engine: Engine, spec: NetworkSpec) -> dict[str, Any]:
    """``{"name", "id", "vni", "subnet", "mtu"}`` of the overlay as a manager's engine knows it.

    Raises ``PreflightFailed`` where the network is not there or is not ours.
    """
    for network in engine.networks():
        if network.name != spec.name:
            continue
        if LABEL_SWARM not in network.labels:
            raise PreflightFailed(
                f"network {spec.name!r} is there but was not made by swarmscope",
                hint="name another network in the playbook",
            )
        whole = engine.network(network.id)
        return {key: getattr(whole, key) for key in ("name", "id", "vni", "subnet", "mtu")}
    raise PreflightFailed(f"there is no network {spec.name!r}", hint="`invoke swarm-up` makes it")
