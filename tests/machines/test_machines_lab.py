"""Labs of machines: real kernels under QEMU, real sshd, real dockerd, and no root needed on this side."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarmscope.errors import Refused, SwarmscopeError, UsageError
from swarmscope.inventory import load
from swarmscope.lab import machines as labs
from swarmscope.lab import machines_faults as faults
from swarmscope.lab import namespaces
from swarmscope.lab.machines_raising import MachineOptions, boot_files
from swarmscope.lab.record import command_words, start_ticks
from swarmscope.lab.status import HostStatus

if TYPE_CHECKING:
    from conftest import Machines

QUIET = "sudo timeout 30 ping -c 2 -i 0.3 -W 8"


def processes(mark: str) -> list[int]:
    """Every process of this computer whose command line holds ``mark`` as part of a word."""
    pids = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]
    return [pid for pid in pids if any(mark in word for word in command_words(pid))]


def gone(pids: list[int], *, patience_s: float = 20.0) -> bool:
    deadline = time.monotonic() + patience_s
    while any(start_ticks(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def host(machines: Machines, name: str) -> HostStatus:
    found = labs.status(machines.lab.name, root=machines.root)
    assert found is not None
    return next(h for h in found.hosts if h.name == name)


@pytest.mark.parametrize(
    "command",
    [
        "hostname",
        "cat /etc/machine-id",
        "cat /proc/sys/kernel/random/boot_id",
        "cat /proc/sys/kernel/random/uuid",
        "cat /etc/ssh/ssh_host_ed25519_key.pub",
        "sudo docker info --format '{{.ID}}'",
        "cat /sys/class/net/eth0/address",
        "cat /sys/class/net/eth1/address",
        "head -c 32 /dev/urandom | base64",
    ],
)
def test_every_machine_has_its_own(machines: Machines, command: str) -> None:
    answers = [machines.asked(name, command) for name in ("n1", "n2")]
    assert all(answers)
    assert answers[0] != answers[1]


def test_a_machine_is_who_the_inventory_says(machines: Machines) -> None:
    inventory = load(machines.lab.inventory)
    assert inventory.lab is not None
    assert (inventory.lab.kind, inventory.lab.wire_netns) == ("machines", ())
    assert inventory.lab.accelerator == machines.lab.accelerator
    for one in inventory.hosts:
        assert machines.asked(one.name, "hostname") == one.name
        assert one.data_addr in machines.asked(one.name, "ip -o -4 addr show eth1")
        assert (
            machines.asked(one.name, "systemctl is-active systemd-journald ssh docker").split()
            == ["active"] * 3
        )
    keys = machines.lab.ssh_config.with_name("known_hosts").read_text()
    assert machines.asked("n2", "cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub") in keys


def test_a_machine_has_a_kernel_and_a_clock_of_its_own(machines: Machines) -> None:
    assert machines.asked("n1", "uname -r") != os.uname().release
    before = time.time()
    theirs = float(machines.asked("n1", "date +%s.%N"))
    assert before - 1 < theirs < time.time() + 1


def test_machines_reach_each_other_by_name(machines: Machines) -> None:
    assert "2 received" in machines.asked("n1", f"{QUIET} n2")


def test_a_machine_hears_none_of_its_own_frames(machines: Machines) -> None:
    """A shared medium hands them back, and every recording would show packets that nobody sent."""
    count = "cat /sys/class/net/eth1/statistics/rx_packets"
    before = int(machines.asked("n1", count))
    # nobody has these addresses: at least one question each goes out, and no answer comes
    subnet = host(machines, "n1").address.rpartition(".")[0]
    machines.ssh("n1", f"for i in 200 201 202 203; do sudo ping -c 1 -W 1 {subnet}.$i; done", check=False)
    assert int(machines.asked("n1", count)) - before < 4


def test_nothing_leads_out_of_a_machine(machines: Machines) -> None:
    """Neither by a route nor through QEMU's own network, where this computer would be .2."""
    assert machines.asked("n1", "ip -4 route show default; ip -6 route show default") == ""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.1)
        port = listener.getsockname()[1]
        tried = machines.ssh("n1", f"timeout 8 bash -c 'exec 3<>/dev/tcp/203.0.113.2/{port}'", check=False)
        assert tried.returncode != 0
        with pytest.raises(TimeoutError):
            listener.accept()


def test_ssh_answers_on_this_computers_loopback_only(machines: Machines) -> None:
    ports = {f"{h.port:04X}" for h in machines.lab.hosts}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    bound = {row[1] for row in rows if row[3] == "0A" and row[1].rpartition(":")[2] in ports}
    assert bound == {f"0100007F:{port}" for port in ports}


def test_a_machine_that_is_cut_off_is_back_when_it_is_healed(machines: Machines) -> None:
    name = machines.lab.name
    try:
        assert faults.cut(name, "n2", root=machines.root) == ("eth0", "eth1")
        cut = host(machines, "n2")
        assert (cut.cut, cut.ssh, cut.docker, cut.ready) == (("eth0", "eth1"), False, True, False)
        assert machines.ssh("n1", f"{QUIET} n2", check=False).returncode != 0
        with pytest.raises(Refused, match="n2 does not answer"):
            labs.up(name, 2, root=machines.root, options=machines.options, say=print)
    finally:
        faults.heal(name, "n2", root=machines.root)
    assert host(machines, "n2").ready
    assert "2 received" in machines.asked("n1", f"{QUIET} n2")
    assert machines.asked("n2", "cat /sys/class/net/eth1/carrier") == "1"


def test_one_card_can_be_cut_alone(machines: Machines) -> None:
    try:
        faults.cut(machines.lab.name, "n2", root=machines.root, nics=["eth1"])
        assert host(machines, "n2").cut == ("eth1",)
        assert machines.asked("n2", "cat /sys/class/net/eth1/carrier") == "0"
    finally:
        faults.heal(machines.lab.name, "n2", root=machines.root, nics=["eth1"])
    with pytest.raises(UsageError, match="no network card eth7"):
        faults.cut(machines.lab.name, "n2", root=machines.root, nics=["eth7"])
    assert host(machines, "n2").cut == ()


def test_a_paused_machine_stands_still_and_goes_on(machines: Machines) -> None:
    uptime = "cut -d' ' -f1 /proc/uptime"
    before, began = float(machines.asked("n2", uptime)), time.monotonic()
    try:
        faults.pause(machines.lab.name, "n2", root=machines.root)
        paused = host(machines, "n2")
        assert (paused.paused, paused.ssh, paused.docker, paused.ready) == (True, False, None, False)
        time.sleep(5)
    finally:
        faults.resume(machines.lab.name, "n2", root=machines.root)
    passed = float(machines.asked("n2", uptime)) - before
    assert passed < time.monotonic() - began - 4.5
    assert host(machines, "n2").ready


def test_faults_are_refused_for_what_is_not_there(machines: Machines, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no host n9"):
        faults.cut(machines.lab.name, "n9", root=machines.root)
    with pytest.raises(UsageError, match="no lab"):
        faults.pause("nolab", "n1", root=tmp_path)


def test_a_second_lab_up_changes_nothing(machines: Machines) -> None:
    again = labs.up(machines.lab.name, 2, root=machines.root, options=machines.options, say=print)
    assert not again.raised
    assert [(h.name, h.pid, h.port) for h in again.hosts] == [
        (h.name, h.pid, h.port) for h in machines.lab.hosts
    ]


def test_a_lab_of_other_machines_or_of_namespaces_is_refused(machines: Machines) -> None:
    with pytest.raises(Refused, match="2 machines, not 3"):
        labs.up(machines.lab.name, 3, root=machines.root, options=machines.options, say=print)
    with pytest.raises(Refused, match="memory_mb 2048 and not 1024"):
        other = replace(machines.options, memory_mb=1024)
        labs.up(machines.lab.name, 2, root=machines.root, options=other, say=print)
    if os.geteuid() == 0:
        with pytest.raises(Refused, match="of machines and not of namespaces"):
            namespaces.up(machines.lab.name, 2, root=machines.root)
    assert host(machines, "n1").ready


def test_a_machine_is_the_same_one_after_a_reboot(machines: Machines) -> None:
    same = (
        "hostname; cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub; sudo docker info --format '{{.ID}}'"
    )
    before, boot = machines.asked("n2", same), machines.asked("n2", "cat /proc/sys/kernel/random/boot_id")
    machines.ssh("n2", "sudo systemctl reboot", check=False)
    deadline = time.monotonic() + 600
    while (
        not host(machines, "n2").ready or machines.asked("n2", "cat /proc/sys/kernel/random/boot_id") == boot
    ):
        assert time.monotonic() < deadline, "it did not come back"
        time.sleep(2)
    assert machines.asked("n2", same) == before
    assert "2 received" in machines.asked("n1", f"{QUIET} n2")


@contextmanager
def unbootable(options: MachineOptions, folder: Path) -> Iterator[MachineOptions]:
    """Options whose image has a kernel and no root file system: it panics, and says so on its console."""
    real = boot_files(options, lambda _: None)
    folder.mkdir()
    (folder / "vmlinuz").symlink_to(real.kernel)
    (folder / "initrd").write_bytes(b"")
    with (folder / "disk.raw").open("wb") as disk:
        disk.truncate(1 << 20)
    yield replace(options, image_folder=folder, memory_mb=768, cold=True)


def test_a_machine_that_does_not_boot_is_reported_with_the_end_of_its_console(
    machine_options: MachineOptions, tmp_path: Path
) -> None:
    name = f"b{os.getpid() % 10_000_000}"
    with unbootable(machine_options, tmp_path / "image") as options, pytest.raises(SwarmscopeError) as caught:
        labs.up(name, 1, root=tmp_path, options=options, say=print)
    assert caught.value.host == "n1"
    assert caught.value.message.startswith("its QEMU ended\n")
    assert re.search(r"console\.log: .*Kernel panic", caught.value.message)
    kept = tmp_path / f".lab/{name}-n1.console.log"
    assert "Kernel panic" in kept.read_text(errors="replace")
    assert str(kept) in caught.value.hint
    assert not (tmp_path / ".lab" / name).exists()
    assert processes(f"swarmscope-{name}-") == []
    labs.down(name, root=tmp_path)


def test_a_killed_lab_up_leaves_no_process_and_lab_down_no_file(
    machine_options: MachineOptions, tmp_path: Path
) -> None:
    name = f"k{os.getpid() % 10_000_000}"
    with unbootable(machine_options, tmp_path / "image") as options:
        program = (
            "import sys; from pathlib import Path; from swarmscope.lab import machines; "
            "from swarmscope.lab.machines_raising import MachineOptions; "
            "machines.up(sys.argv[1], 2, root=Path(sys.argv[2]), say=print, "
            "options=MachineOptions(memory_mb=768, cold=True, image_folder=Path(sys.argv[3])))"
        )
        argv = [sys.executable, "-c", program, name, str(tmp_path), str(options.image_folder)]
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as lab_up:
            deadline = time.monotonic() + 60
            while len(left := processes(f"swarmscope-{name}-")) < 3 and lab_up.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            lab_up.send_signal(signal.SIGKILL)
            error = lab_up.communicate()[1]
    assert lab_up.returncode == -signal.SIGKILL, error
    assert gone(left), "the machines outlived a killed lab-up"
    assert (tmp_path / ".lab" / name / "state.json").exists()
    assert labs.down(name, root=tmp_path) != ()
    assert not (tmp_path / ".lab").exists()
    assert labs.down(name, root=tmp_path) == ()


def test_a_lab_that_is_taken_down_leaves_no_process_and_no_file(
    machine_options: MachineOptions, tmp_path: Path
) -> None:
    name = f"d{os.getpid() % 10_000_000}"
    try:
        lab = labs.up(name, 1, root=tmp_path, options=replace(machine_options, nics=1), say=print)
        running = processes(f"swarmscope-{name}-")
        assert lab.ready
        assert lab.hosts[0].pid in running
        assert len(running) == 2, "the machine, and the switch"
    finally:
        removed = labs.down(name, root=tmp_path)
    assert any(r.startswith("host n1") for r in removed)
    assert gone(running, patience_s=0)
    assert not (tmp_path / ".lab").exists()


def test_a_machine_does_not_outlive_its_folder(machine_options: MachineOptions, tmp_path: Path) -> None:
    """Somebody removes .lab by hand: what ran below it ends by itself."""
    name = f"r{os.getpid() % 10_000_000}"
    running: list[int] = []
    try:
        labs.up(name, 1, root=tmp_path, options=machine_options, say=print)
        running = processes(f"swarmscope-{name}-")
        assert len(running) == 2
        (tmp_path / ".lab" / name / "state.json").unlink()
        assert gone(running)
    finally:
        for pid in running:
            if start_ticks(pid):
                os.kill(pid, signal.SIGKILL)
