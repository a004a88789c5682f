"""Labs of machines on paper: command lines, addresses, identities, the names of snapshots."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from swarmscope.errors import Refused, UsageError
from swarmscope.lab import accelerator, guest, qemu, snapshot
from swarmscope.lab.machines_identity import Machine, identity, machines
from swarmscope.lab.machines_raising import MachineOptions
from swarmscope.lab.qemu import BootFiles, Shape
from swarmscope.lab.record import Ledger, kind_of, lab_paths, refuse_other_kind

BOOT = BootFiles(Path("/i/disk.qcow2"), Path("/i/vmlinuz"), Path("/i/initrd"), "d1")
SHAPE = Shape(cpus=2, memory_mb=1024, nics=2, accelerator="tcg")

pytestmark = pytest.mark.skipif(
    not Path("/usr/bin", qemu.PROGRAM).exists(), reason=f"no {qemu.PROGRAM}: apt-get install qemu-system-x86"
)


def made(count: int = 3, *, nics: int = 2, folder: Path = Path("/x/.lab/lab")) -> tuple[Machine, ...]:
    names = [f"n{i}" for i in range(1, count + 1)]
    return machines(folder, names, [40000 + i for i in range(count)], nics=nics)


def line(*, port: int = 40001, memory: str = "", shape: Shape = SHAPE) -> list[str]:
    macs = made(1, nics=shape.nics)[0].macs
    return qemu.command_line(
        "mark", BOOT, shape, port=port, ssh_address="203.0.113.11", macs=macs, memory=memory
    )


def options(argv: list[str], flag: str) -> list[str]:
    return [value for name, value in pairwise(argv) if name == flag]


def test_a_machine_has_no_network_that_leads_out_of_the_computer() -> None:
    ssh, *tests = options(line(), "-netdev")
    assert "restrict=on" in ssh.split(",")
    assert re.findall(r"hostfwd=tcp:([^-]*)-", ssh) == ["127.0.0.1:40001"]
    assert [re.fullmatch(r"socket,id=net\d,fd=\{eth(\d)\}", t).group(1) for t in tests] == ["1", "2"]  # type: ignore[union-attr]
    assert "-nodefaults" in line(), "QEMU adds a network card of its own without it"


def test_the_machine_a_snapshot_is_made_of_cannot_be_reached_at_all() -> None:
    assert "hostfwd" not in " ".join(line(port=0))


def test_every_card_of_a_command_line_is_one_that_can_be_cut_by_name() -> None:
    cards = [d for d in options(line(), "-device") if d.startswith("virtio-net")]
    assert [re.search(r"id=(eth\d)", c).group(1) for c in cards] == ["eth0", "eth1", "eth2"]  # type: ignore[union-attr]


def test_emulation_leaves_out_what_crashes_its_guests() -> None:
    assert options(line(), "-cpu") == ["max,-cx16,-la57"]
    assert options(line(shape=replace(SHAPE, accelerator="kvm")), "-cpu") == ["host"]


def test_a_path_with_a_comma_stays_one_option() -> None:
    memory = snapshot.Snapshot(Path("/a,b/s")).memory
    assert memory == "mem-path=/a,,b/s/memory,share=off"
    assert "memory-backend-file,id=ram,size=1024M," + memory in options(line(memory=memory), "-object")


def test_no_two_machines_share_an_address_or_a_mac() -> None:
    all_ = made(200, nics=8)
    macs = [mac for m in all_ for mac in m.macs]
    addresses = [a for m in all_ for a in m.addresses]
    assert len({*macs}) == len(macs) == 200 * 9
    assert len({*addresses}) == len(addresses)
    assert all(re.fullmatch(r"52:54:00(:[0-9a-f]{2}){3}", mac) for mac in macs)
    # 198.18.0.0/15 is for tests of networks (RFC 2544), its lower half is the namespace labs'
    assert {a.rpartition(".")[0].rpartition(".")[0] for m in all_ for a in m.addresses[1:]} == {"198.19"}
    assert all(int(part) < 255 for a in addresses for part in a.split("."))


def test_a_lab_raised_again_has_the_same_addresses() -> None:
    assert made()[0].addresses == made()[0].addresses
    assert made()[0].host.address == made()[0].addresses[1]


def test_a_machine_has_one_to_eight_test_networks() -> None:
    for wrong in (0, 9):
        with pytest.raises(UsageError, match="test network"):
            made(nics=wrong)


def test_what_two_machines_are_told_differs_in_everything_that_identifies_them() -> None:
    one, two, *_ = made()
    messages = [
        identity(m, [one, two], host_key=m.name, host_key_public=m.name, login="ssh-ed25519 A", resumed=True)
        for m in (one, two)
    ]
    for key in ("hostname", "machine_id", "boot_id", "host_key", "nics", "seed"):
        assert messages[0][key] != messages[1][key], key
    assert messages[0]["hosts"] == messages[1]["hosts"]
    assert f"{two.addresses[1]} n2\n" in messages[0]["hosts"]
    assert len(base64.b64decode(messages[0]["seed"])) >= 32
    assert re.fullmatch(r"[0-9a-f]{32}", messages[0]["machine_id"])
    assert "\n" not in json.dumps(messages[0]), "a message is one line"


def test_a_machine_that_booted_keeps_its_kernels_boot_id() -> None:
    one = made()[0]
    told = identity(one, [one], host_key="k", host_key_public="k", login="l", resumed=False)
    assert told["boot_id"] == ""


def test_a_snapshot_is_never_used_for_anything_it_was_not_made_of() -> None:
    def name(boot: BootFiles = BOOT, shape: Shape = SHAPE, version: str = "7.2", processor: str = "p") -> str:
        return snapshot.key(boot, shape, qemu_version=version, cpu_model=processor)

    other = [
        name(boot=replace(BOOT, digest="d2")),
        name(boot=replace(BOOT, disk=Path("/elsewhere/disk.qcow2"))),
        name(shape=replace(SHAPE, cpus=1)),
        name(shape=replace(SHAPE, memory_mb=2048)),
        name(shape=replace(SHAPE, nics=1)),
        name(shape=replace(SHAPE, accelerator="kvm")),
        name(version="7.2.1"),
        name(processor="q"),
    ]
    assert name() == name()
    assert len({name(), *other}) == len(other) + 1


def test_options_say_how_standing_machines_differ() -> None:
    stands = MachineOptions(cpus=2, cold=True).to_json()
    assert MachineOptions(cpus=2).differences(stands) == "", "how it was started does not matter"
    assert MachineOptions(cpus=4).differences(stands) == "cpus 2 and not 4"
    with pytest.raises(UsageError, match="--memory 100"):
        MachineOptions(memory_mb=100).check()


def test_a_lab_of_the_other_kind_is_refused_by_name(tmp_path: Path) -> None:
    paths = lab_paths(tmp_path, "x")
    old = Ledger(path=paths.state, facts={})
    assert kind_of(old) == "namespaces"
    with pytest.raises(Refused, match="of namespaces and not of machines"):
        refuse_other_kind(paths, old, "machines")
    refuse_other_kind(paths, old, "namespaces")


def test_without_a_device_there_is_no_kvm_and_the_reason_is_said(tmp_path: Path) -> None:
    found = accelerator.find(qemu_version="7.2", kvm=tmp_path / "kvm")
    assert (found.kind, found.why) == ("tcg", f"no {tmp_path / 'kvm'}")


def test_the_trial_of_an_accelerator_ends_well_where_instructions_are_run() -> None:
    assert accelerator.attempt("tcg") == ""


def test_it_is_tried_with_the_processor_that_machines_get(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "CPU", {"tcg": "no-such-processor"})
    assert "no-such-processor" in accelerator.attempt("tcg")


def test_everything_with_a_name_of_its_own_waits_for_the_identity() -> None:
    files = guest.files()
    for unit in ("ssh.service", "docker.service", "docker.socket", "containerd.service"):
        mode, text = files[f"/etc/systemd/system/{unit}.d/swarmscope-lab.conf"]
        assert f"ConditionPathExists={guest.GATE}".encode() in text
        assert mode == 0o644
    assert files["/etc/sudoers.d/swarmscope-lab"][0] == 0o440, "sudo ignores a file that others may write"
    program = files["/usr/local/lib/swarmscope/lab_guest.py"][1]
    assert f'PORT = Path("/dev/virtio-ports/{guest.PORT_NAME}")'.encode() in program
