"""One Docker engine, asked over the SSH connection Fabric holds: small typed calls, our errors.

Scope: the only module (with its transport, ``relay``) that imports the Docker SDK. What the engine answers is
read in ``engine_objects``; what should be done is decided in ``swarm`` and ``networks``.

Limits: no builds, no registries, no interactive streams. Join tokens travel in request bodies only.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import docker
import docker.errors
import requests.exceptions
from docker.constants import DEFAULT_DOCKER_API_VERSION, MINIMUM_DOCKER_API_VERSION

from swarmscope.cluster import engine_objects as objects
from swarmscope.cluster.relay import DOCKER_SOCKET, RelayAdapter
from swarmscope.cluster.remote import Remote, RemoteTimeout
from swarmscope.cluster.shell import Secret
from swarmscope.errors import HostLost, PreflightFailed, RemoteFailed

TIMEOUT_S = 60.0
REMOVAL_S = 10.0
"""For a removal that is already going on."""
ENGINE_LOG = "its log says why: journalctl -u docker, on that host"
_PREFIX = "http+docker://"


class NotThere(RemoteFailed):
    """The engine knows no such container, network, image or node."""


def negotiate(server: str, server_minimum: str, *, ours: str, our_minimum: str) -> str:
    """The API version to speak: the newest that both know.

    The SDK left to itself takes the server's version, also one it was not written for.

    Raises:
        PreflightFailed: they have none in common; the message names both ranges.
    """
    chosen = min(server, ours, key=_version_key)
    if _version_key(chosen) < max(_version_key(server_minimum), _version_key(our_minimum)):
        newer = "the docker package here" if _version_key(ours) < _version_key(server) else "the engine"
        raise PreflightFailed(
            f"the engine speaks API {server_minimum} to {server}, the Docker SDK {our_minimum} to {ours}",
            hint=f"upgrade {newer}",
        )
    return chosen


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


class _Client(docker.APIClient):
    """The SDK's client with our adapter in place of its transports."""

    def __init__(self, adapter: RelayAdapter, version: str) -> None:
        super().__init__(base_url="http://localhost:80", version=version, timeout=int(TIMEOUT_S))
        self.trust_env = False  # a proxy of this machine has no part in a channel to that one
        self._custom_adapter = adapter
        self.mount(_PREFIX, adapter)
        self.base_url = _PREFIX + "localhost"

    def speak(self, version: str) -> None:
        """Use that API version from now on (the SDK has no public way)."""
        self._version = version


class Engine:
    """The engine of one host. Connects on first use; several threads may call it."""

    def __init__(self, remote: Remote, *, socket_path: str = DOCKER_SOCKET) -> None:
        self.remote = remote
        self._socket_path = socket_path
        self._client: _Client | None = None
        self._lock = threading.Lock()
        self._version: dict[str, Any] = {}

    @property
    def name(self) -> str:
        return self.remote.name

    @property
    def _api(self) -> Any:
        with self._lock:
            if self._client is None:
                client = _Client(
                    RelayAdapter(self.remote, self._socket_path, timeout=TIMEOUT_S),
                    MINIMUM_DOCKER_API_VERSION,
                )
                with self._translated("asking its version"):
                    answer = dict(client.version(api_version=False))
                try:
                    chosen = negotiate(
                        answer["ApiVersion"],
                        answer.get("MinAPIVersion") or answer["ApiVersion"],
                        ours=DEFAULT_DOCKER_API_VERSION,
                        our_minimum=MINIMUM_DOCKER_API_VERSION,
                    )
                except PreflightFailed as error:
                    error.host = self.name
                    raise
                client.speak(chosen)
                self._version = {**answer, "Negotiated": chosen}
                self._client = client
            return self._client

    def close(self) -> None:
        """Close its channels; containers and everything else stay."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        """The one place where a Docker or HTTP error becomes ours."""
        try:
            yield
        except docker.errors.NotFound as error:
            raise NotThere(f"{doing}: {_said(error)}", host=self.name) from error
        except docker.errors.APIError as error:
            raise RemoteFailed(f"{doing}: {_said(error)}", host=self.name) from error
        except (requests.exceptions.Timeout, TimeoutError) as error:
            raise RemoteTimeout(
                f"{doing}: the engine did not answer in time", hint=ENGINE_LOG, host=self.name
            ) from error
        except (requests.exceptions.RequestException, docker.errors.DockerException, OSError) as error:
            if not self.remote.is_open:
                raise HostLost(f"connection broke while {doing}", host=self.name) from error
            raise RemoteFailed(f"{doing}: {error}", host=self.name) from error

    # The engine itself

    def version(self) -> dict[str, Any]:
        """``GET /version`` with ``Negotiated``: the API version spoken with it."""
        assert self._api is not None
        return dict(self._version)

    def info(self) -> dict[str, Any]:
        """``GET /info`` as it is."""
        with self._translated("asking its info"):
            return dict(self._api.info())

    # Swarm membership

    def swarm_state(self) -> objects.SwarmState:
        """How this engine sees its own membership."""
        return objects.swarm_state(self.info())

    def init_swarm(self, *, advertise: str, data_path: str, labels: Mapping[str, str]) -> str:
        """Start a swarm, listening on ``advertise`` only; returns the node's id."""
        with self._translated("swarm init"):
            spec = self._api.create_swarm_spec(labels=dict(labels))
            return str(
                self._api.init_swarm(
                    advertise_addr=advertise,
                    listen_addr=f"{advertise}:2377",
                    data_path_addr=data_path,
                    swarm_spec=spec,
                )
            )

    def join_tokens(self) -> dict[str, Secret]:
        """Tokens by role (``worker``, ``manager``); asked of a manager for every run, kept nowhere."""
        with self._translated("asking for join tokens"):
            tokens = self._api.inspect_swarm()["JoinTokens"]
            return {"worker": Secret(tokens["Worker"]), "manager": Secret(tokens["Manager"])}

    def join_swarm(self, token: Secret, *, managers: Sequence[str], advertise: str, data_path: str) -> bool:
        """Join; False where the engine goes on trying in the background, so that the state must be polled."""
        with self._translated("swarm join"):
            try:
                self._api.join_swarm(
                    list(managers),
                    token.reveal(),
                    listen_addr=f"{advertise}:2377",
                    advertise_addr=advertise,
                    data_path_addr=data_path,
                )
            except docker.errors.APIError as error:
                if "background" in _said(error):
                    return False
                raise
            return True

    def leave_swarm(self, *, force: bool = False) -> None:
        """Leave; a manager only with ``force``, which the caller has made sure of."""
        with self._translated("swarm leave"):
            self._api.leave_swarm(force=force)

    def nodes(self) -> tuple[objects.Node, ...]:
        """All members; managers only."""
        with self._translated("listing nodes"):
            return tuple(objects.node(data) for data in self._api.nodes())

    def label_node(self, node_id: str, labels: Mapping[str, str]) -> None:
        """Add labels to a node; its other settings stay."""
        with self._translated("labelling a node"):
            data = self._api.inspect_node(node_id)
            spec = dict(data["Spec"])
            spec["Labels"] = {**(spec.get("Labels") or {}), **labels}
            self._api.update_node(node_id, data["Version"]["Index"], spec)

    def remove_node(self, node_id: str) -> None:
        """Remove the entry of a node whose engine has left.

        With force, since a manager takes a node that left for ready until heartbeats are missed, some 15 s.
        """
        with self._translated("removing a node entry"):
            self._api.remove_node(node_id, force=True)

    def services(self) -> dict[str, dict[str, str]]:
        """Labels of every service by its name; managers only."""
        with self._translated("listing services"):
            specs = [service["Spec"] for service in self._api.services()]
            return {spec["Name"]: dict(spec.get("Labels") or {}) for spec in specs}

    # Networks

    def networks(self) -> tuple[objects.Network, ...]:
        """All networks this engine knows; on a worker an overlay appears with its first container."""
        with self._translated("listing networks"):
            return tuple(objects.network(data) for data in self._api.networks())

    def network(self, name_or_id: str) -> objects.Network:
        """One network; ``NotThere`` where it is not known here."""
        with self._translated(f"network {name_or_id}"):
            return objects.network(self._api.inspect_network(name_or_id))

    def ingress_is_set_up(self) -> bool:
        """Whether the engine has finished building its end of the ingress network after a join."""
        try:
            with self._translated("looking at the ingress network"):
                ends = self._api.inspect_network("docker_gwbridge").get("Containers") or {}
        except NotThere:
            return False
        return any(end.get("Name") == "gateway_ingress-sbox" for end in ends.values())

    def release_ingress(self, network_id: str) -> None:
        """Take away the engine's own end of an ingress network that outlived its swarm.

        The empty network stays listed until the next join: outside of a swarm the engine removes none.
        """
        with self._translated("releasing the ingress network"):
            self._api.disconnect_container_from_network("ingress-endpoint", network_id, force=True)

    def create_overlay(self, name: str, *, subnet: str, mtu: int, labels: Mapping[str, str]) -> str:
        """An overlay that plain containers may attach to; returns its id. Managers only."""
        with self._translated(f"creating network {name}"):
            pools = [docker.types.IPAMPool(subnet=subnet)]
            made = self._api.create_network(
                name,
                driver="overlay",
                options={objects.MTU_OPTION: str(mtu)},
                ipam=docker.types.IPAMConfig(pool_configs=pools),
                check_duplicate=True,
                attachable=True,
                labels=dict(labels),
            )
            return str(made["Id"])

    def remove_network(self, name_or_id: str) -> None:
        """Remove it; ``NotThere`` where it is gone, ``RemoteFailed`` while something is attached."""
        with self._translated(f"removing network {name_or_id}"):
            self._api.remove_network(name_or_id)

    # Containers

    def containers(self, labels: Mapping[str, str] | None = None) -> tuple[objects.Container, ...]:
        """Containers in any state that carry all of ``labels`` (an empty value: the label with any value)."""
        wanted = [f"{key}={value}" if value else key for key, value in (labels or {}).items()]
        with self._translated("listing containers"):
            filters = {"label": wanted} if wanted else None
            found = self._api.containers(all=True, filters=filters)
            return tuple(objects.listed_container(data) for data in found)

    def container(self, name_or_id: str) -> objects.Container:
        """One container with its pid; ``NotThere`` where there is none."""
        with self._translated(f"container {name_or_id}"):
            return objects.container(self._api.inspect_container(name_or_id))

    def run_container(
        self,
        image: str,
        *,
        name: str,
        network: str,
        command: Sequence[str],
        labels: Mapping[str, str],
        hostname: str = "",
    ) -> objects.Container:
        """Create and start it on ``network``; what could not start is removed again.

        It vanishes by itself when ``command`` ends, so that one of a killed controller does not stay. It is
        stopped by SIGKILL: as process 1 a busybox ignores SIGTERM, and there is nothing to save.
        """
        with self._translated(f"starting container {name}"):
            made = self._api.create_container(
                image,
                command=list(command),
                name=name,
                hostname=hostname or name,
                labels=dict(labels),
                stop_signal="SIGKILL",
                host_config=self._api.create_host_config(network_mode=network, auto_remove=True),
            )
            try:
                self._api.start(made["Id"])
                return objects.container(self._api.inspect_container(made["Id"]))
            except BaseException:
                with contextlib.suppress(Exception):
                    self._api.remove_container(made["Id"], force=True, v=True)
                raise

    def remove_container(self, name_or_id: str) -> None:
        """Kill and remove it with its anonymous volumes, and wait until it is gone; done where it is gone.

        Raises:
            RemoteTimeout: somebody else (the engine, when its command ended) removes it, and does not finish.
        """
        with self._translated(f"removing container {name_or_id}"):
            try:
                self._api.remove_container(name_or_id, force=True, v=True)
                return
            except docker.errors.NotFound:
                return
            except docker.errors.APIError as error:
                if "already in progress" not in _said(error):
                    raise
        deadline = time.monotonic() + REMOVAL_S
        while time.monotonic() < deadline:
            try:
                self.container(name_or_id)
            except NotThere:
                return
            time.sleep(0.05)
        raise RemoteTimeout(
            f"container {name_or_id} is still being removed after {REMOVAL_S:g} s",
            hint=ENGINE_LOG,
            host=self.name,
        )

    # Images

    def images(self, labels: Mapping[str, str] | None = None) -> dict[str, tuple[str, ...]]:
        """Tags by image id, of images that carry all of ``labels``."""
        wanted = [f"{key}={value}" if value else key for key, value in (labels or {}).items()]
        with self._translated("listing images"):
            found = self._api.images(filters={"label": wanted} if wanted else None)
            return {data["Id"]: tuple(data.get("RepoTags") or ()) for data in found}

    def has_image(self, name: str) -> bool:
        """Whether the engine already holds it; nothing is ever pulled."""
        try:
            with self._translated(f"image {name}"):
                self._api.inspect_image(name)
        except NotThere:
            return False
        return True

    def import_image(self, tar: bytes, *, repository: str, tag: str, labels: Mapping[str, str]) -> None:
        """Make an image of one layer from a root file system."""
        changes = [f'LABEL "{key}"="{value}"' for key, value in labels.items()]
        with self._translated(f"importing image {repository}:{tag}"):
            self._api.import_image_from_data(tar, repository=repository, tag=tag, changes=changes)

    def remove_image(self, name_or_id: str) -> None:
        """Remove it; ``NotThere`` where it is gone, ``RemoteFailed`` while a container uses it."""
        with self._translated(f"removing image {name_or_id}"):
            self._api.remove_image(name_or_id)


def _said(error: docker.errors.APIError) -> str:
    explanation = error.explanation
    text = explanation.decode(errors="replace") if isinstance(explanation, bytes) else explanation
    return str(text or error).strip()
