"""Who is who in a lab of machines: addresses, MAC addresses, and the message that makes a machine that one.

Scope: pure, but for the random ids. What a machine does with the message is in ``guest/lab_guest.py``.
Limits: 8 test networks and 32 numbers of labs; labs share nothing, so two of one number do no harm.
"""

from __future__ import annotations

import base64
import os
import time
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarmscope.errors import UsageError
from swarmscope.lab.qemu import ssh_address
from swarmscope.lab.ssh_files import LabHost
from swarmscope.lab.switch import FIRST_ADDRESS

MAX_NICS = 8
LAB_NUMBERS = 32


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine of a lab. ``index`` counts from 1; ``macs`` and ``addresses`` begin with eth0, SSH's own."""

    name: str
    index: int
    port: int
    macs: tuple[str, ...]
    addresses: tuple[str, ...]
    folder: Path

    @property
    def host(self) -> LabHost:
        """As its users see it: by its address in the first test network."""
        return LabHost(name=self.name, address=self.addresses[1], port=self.port)


def lab_number(folder: Path) -> int:
    """The same for the same lab every time, so that its addresses do not change when it is raised again."""
    return zlib.crc32(str(folder).encode()) % LAB_NUMBERS


def address(number: int, nic: int, index: int) -> str:
    """Machine ``index`` in test network ``nic`` (both from 1): 198.19.x.11 is n1.

    Labs of namespaces have 198.18.0.0/16; 198.19.0.0/16 is the other half of RFC 2544's test range.
    """
    return f"198.19.{number * MAX_NICS + nic - 1}.{FIRST_ADDRESS + index}"


def mac(number: int, nic: int, index: int) -> str:
    """Locally administered, in QEMU's range; ``nic`` 0 is eth0."""
    return f"52:54:00:{number:02x}:{nic:02x}:{index:02x}"


def machines(folder: Path, hosts: Sequence[str], ports: Sequence[int], *, nics: int) -> tuple[Machine, ...]:
    """The machines of the lab in ``folder``, with ``nics`` test networks. UsageError for a bad number."""
    if not 1 <= nics <= MAX_NICS:
        raise UsageError(
            f"a machine cannot have {nics} test network cards", hint=f"--nics takes 1 to {MAX_NICS}"
        )
    number = lab_number(folder)
    return tuple(
        Machine(
            name=name,
            index=index,
            port=port,
            macs=tuple(mac(number, nic, index) for nic in range(nics + 1)),
            addresses=(ssh_address(index), *(address(number, nic, index) for nic in range(1, nics + 1))),
            folder=folder / "machines" / name,
        )
        for index, (name, port) in enumerate(zip(hosts, ports, strict=True), start=1)
    )


def identity(
    machine: Machine,
    peers: Sequence[Machine],
    *,
    host_key: str,
    host_key_public: str,
    login: str,
    resumed: bool,
) -> dict[str, Any]:
    """The message for ``machine``; the wall clock in it is now, so make it when it is to be sent.

    ``resumed``: it comes out of a snapshot, and its kernel's boot id is that of all its siblings.
    """
    names = [f"{peer.addresses[1]} {peer.name}" for peer in peers]
    return {
        "op": "identity",
        "hostname": machine.name,
        "machine_id": uuid.uuid4().hex,
        "boot_id": str(uuid.uuid4()) if resumed else "",
        "host_key": host_key,
        "host_key_public": host_key_public,
        "login": f"{login} lab",
        "hosts": "\n".join(["127.0.0.1 localhost", "::1 localhost ip6-localhost", *names]) + "\n",
        "nics": [
            {"name": f"eth{i}", "mac": mac_, "address": f"{address_}/24"}
            for i, (mac_, address_) in enumerate(zip(machine.macs, machine.addresses, strict=True))
        ],
        "seed": base64.b64encode(os.urandom(64)).decode("ascii"),
        "wall_ns": time.time_ns(),
    }
