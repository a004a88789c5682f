"""Labs of namespaces: real hosts, real sshd, real dockerd."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from raising import Labs, Ssh

from swarmscope.errors import LockHeld, Refused
from swarmscope.lab import cgroups, namespaces, record
from swarmscope.lab.status import LabStatus


def traces_of(name: str, root: Path) -> list[str]:
    """Everything on this machine that belongs to the lab of that name: empty means nothing is left."""
    mark = f"swarmscope.{name}."
    found = [f"netns {p.name}" for p in Path("/run/netns").glob(f"swarmscope-{name}-*")]
    found += [f"claim {p}" for p in record.CLAIMS.glob(f"{name}.json")]
    found += [f"folder {p}" for p in (root / ".lab").glob(name)]
    for hierarchy in cgroups.machine_layout().hierarchies:
        found += [f"cgroup {p}" for p in hierarchy.mountpoint.glob(f"{mark}*")]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [f"mount {m}" for m in mounts if f"/.lab/{name}/" in m or f"swarmscope-{name}-" in m]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            about = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
            groups = (process / "cgroup").read_text()
        except OSError:
            continue
        if (
            f"SWARMSCOPE_LAB={name}/".encode() in about
            or f"swarmscope-{name}-".encode() in about
            or mark in groups
        ):
            found.append(f"process {process.name}")
    return found


def test_both_hosts_answer_when_up_returns(lab: LabStatus) -> None:
    assert lab.ready
    assert [h.name for h in lab.hosts] == ["n1", "n2"]
    assert all(h.docker and h.ssh for h in lab.hosts)
    assert lab.seconds < 15


def test_a_key_opens_the_door_and_only_to_the_user_of_the_lab(lab: LabStatus, ssh: Ssh) -> None:
    assert ssh("n1", "whoami; hostname").stdout.split() == ["scope", "n1"]
    assert ssh("n2", "whoami; hostname").stdout.split() == ["scope", "n2"]
    argv = ["ssh", "-F", str(lab.ssh_config), "-l", "root", "n1", "true"]
    assert subprocess.run(argv, capture_output=True, check=False).returncode == 255


def test_a_host_with_another_key_than_the_known_one_is_refused(lab: LabStatus, tmp_path: Path) -> None:
    swapped = tmp_path / "known_hosts"
    ports = [h.port for h in lab.hosts]
    lines = (lab.folder / "known_hosts").read_text().splitlines()
    keys = [line.split(" ", 1)[1] for line in lines]
    swapped.write_text("".join(f"[127.0.0.1]:{p} {k}\n" for p, k in zip(ports, reversed(keys), strict=True)))
    argv = ["ssh", "-F", str(lab.ssh_config), "-o", f"UserKnownHostsFile={swapped}", "n1", "true"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr


def test_ten_sessions_at_once_and_many_in_a_row_and_sftp(lab: LabStatus, ssh: Ssh) -> None:
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda i: ssh("n1", f"sleep 0.2; echo {i}").stdout.strip(), range(10)))
    assert answers == [str(i) for i in range(10)]
    assert [ssh("n2", "exit 3").returncode for _ in range(25)] == [3] * 25
    batch = "put /etc/services /tmp/services\nls -l /tmp/services\n"
    argv = ["sftp", "-q", "-F", str(lab.ssh_config), "-b", "-", "n2"]
    done = subprocess.run(argv, input=batch, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ssh("n2", "wc -c < /tmp/services; rm /tmp/services").stdout.strip() == str(
        Path("/etc/services").stat().st_size
    )


def test_every_host_has_namespaces_of_its_own(ssh: Ssh) -> None:
    command = "for n in net mnt pid uts ipc; do readlink /proc/self/ns/$n; done"
    here = [str(Path(f"/proc/self/ns/{n}").readlink()) for n in ("net", "mnt", "pid", "uts", "ipc")]
    one, two = ssh("n1", command).stdout.split(), ssh("n2", command).stdout.split()
    assert len(one) == 5
    assert len({*here, *one, *two}) == 15


def test_the_private_folders_of_a_host_are_seen_by_nobody_else(ssh: Ssh) -> None:
    folders = ("/run", "/etc", "/tmp", "/var/tmp", "/home", "/root", "/var/log", "/var/lib/docker")
    touch = "; ".join(f"sudo -n touch {f}/only-on-n1" for f in folders)
    assert ssh("n1", touch).returncode == 0
    look = " ".join(f"{f}/only-on-n1" for f in folders)
    assert ssh("n1", f"sudo -n ls {look}").returncode == 0
    assert ssh("n2", f"sudo -n ls {look} 2>/dev/null").stdout == ""
    assert [f for f in folders if Path(f, "only-on-n1").exists()] == []
    assert ssh("n1", f"sudo -n rm {look}").returncode == 0


def test_the_machines_secrets_are_not_in_a_host(ssh: Ssh) -> None:
    assert ssh("n1", "ls /etc/ssh").stdout.split() == [
        "ssh_host_ed25519_key",
        "ssh_host_ed25519_key.pub",
        "sshd_config",
    ]
    passwords = ssh("n1", "sudo -n cut -d: -f2 /etc/shadow").stdout.split()
    assert set(passwords) == {"*"}
    assert ssh("n1", "sudo -n cat /etc/machine-id").stdout != ssh("n2", "sudo -n cat /etc/machine-id").stdout


def test_sudo_asks_nothing_and_wastes_no_time(ssh: Ssh) -> None:
    began = time.monotonic()
    done = ssh("n1", "for i in 1 2 3 4 5; do sudo -n id -u; done")
    assert done.stdout.split() == ["0"] * 5
    assert done.stderr == ""
    assert time.monotonic() - began < 3


def test_every_host_has_an_engine_of_its_own(ssh: Ssh) -> None:
    format_ = "'{{.ID}} {{.Name}} {{.DockerRootDir}} {{.CgroupDriver}}'"
    one = ssh("n1", f"sudo -n docker info --format {format_}").stdout.split()
    two = ssh("n2", f"sudo -n docker info --format {format_}").stdout.split()
    assert one[1:] == ["n1", "/var/lib/docker", "cgroupfs"]
    assert two[1:] == ["n2", "/var/lib/docker", "cgroupfs"]
    assert one[0] != two[0]


def test_containers_live_in_a_cgroup_of_the_lab(lab: LabStatus, ssh: Ssh) -> None:
    image = "mkdir -p i/bin; cp /usr/bin/busybox i/bin/; tar -C i -c . | sudo -n docker import - box:1"
    if ssh("n1", "test -x /usr/bin/busybox").returncode:
        pytest.skip("no busybox on this machine")
    assert ssh("n1", image).returncode == 0
    run = "sudo -n docker run --rm --network none box:1 /bin/busybox cat /proc/self/cgroup"
    done = ssh("n1", run)
    assert f"/swarmscope.{lab.name}.n1/" in done.stdout, done.stderr
    assert ssh("n1", "sudo -n docker rmi -f box:1 >/dev/null; rm -r i").returncode == 0


def test_hosts_reach_each_other_by_name_and_nothing_else(lab: LabStatus, ssh: Ssh) -> None:
    done = ssh("n1", "ping -c 3 -i 0.05 -W 2 n2")
    assert "3 received" in done.stdout, done.stdout + done.stderr
    routes = ssh("n1", "ip route").stdout
    assert "default" not in routes
    assert lab.hosts[0].address in routes
    assert "unreachable" in ssh("n1", "ping -c 1 -W 1 203.0.113.1").stderr


def test_a_host_shows_its_own_links_and_processes_and_the_kernels_tracing(ssh: Ssh) -> None:
    links = ssh("n1", "ls /sys/class/net").stdout.split()
    assert {"lo", "eth0"} <= set(links) <= {"lo", "eth0", "docker0"}
    assert ssh("n1", "ps -o comm= -p 1; cat /proc/1/cmdline | tr '\\0' ' '").stdout.count("host_init.py") == 1
    assert "events" in ssh("n1", "sudo -n ls /sys/kernel/tracing").stdout.split()
    assert (
        "swarmscope"
        not in ssh("n1", "env; sudo -n cat /proc/1/environ | tr '\\0' '\\n' | grep -i proxy").stdout
    )


def test_the_switch_is_a_namespace_that_the_inventory_calls_wire(lab: LabStatus) -> None:
    tree = yaml.safe_load(lab.inventory.read_text())["all"]
    inode = Path(f"/run/netns/swarmscope-{lab.name}-switch").stat().st_ino
    assert tree["vars"]["swarmscope_lab"] == {"name": lab.name, "kind": "namespaces", "wire_netns": [inode]}
    one, two = lab.hosts
    managers, workers = (tree["children"][g]["hosts"] for g in ("managers", "workers"))
    assert managers == {
        "n1": {
            "ansible_host": "127.0.0.1",
            "ansible_port": one.port,
            "data_addr": one.address,
            "advertise_addr": one.address,
        }
    }
    assert workers["n2"]["data_addr"] == two.address
    key = Path(tree["vars"]["ansible_ssh_private_key_file"])
    assert key.stat().st_mode & 0o777 == 0o600


def test_a_standing_lab_is_left_as_it_is_and_another_size_is_refused(lab: LabStatus) -> None:
    root = lab.folder.parent.parent
    again = namespaces.up(lab.name, 2, root=root)
    assert not again.raised
    assert [h.pid for h in again.hosts] == [h.pid for h in lab.hosts]
    with pytest.raises(Refused, match="already stands with 2 hosts, not 3"):
        namespaces.up(lab.name, 3, root=root)


def test_a_name_is_refused_in_a_second_folder_while_its_lab_stands(lab: LabStatus, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=f"a lab named {lab.name} already stands"):
        namespaces.up(lab.name, 2, root=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert namespaces.status(lab.name, root=lab.folder.parent.parent).ready  # type: ignore[union-attr]


def test_two_labs_stand_side_by_side_and_removing_one_leaves_the_other(
    lab: LabStatus, labs: Labs, ssh: Ssh
) -> None:
    other = labs.up(1)
    assert {h.address for h in other.hosts}.isdisjoint(h.address for h in lab.hosts)
    assert "unreachable" in ssh("n1", "ping -c1 -W1 -q n1; ping -c 1 -W 1 " + other.hosts[0].address).stderr
    assert ssh("n1", "hostname", config=other.ssh_config).stdout == "n1\n"
    removed = namespaces.down(other.name, root=labs.root)
    assert any(r.startswith("host n1") for r in removed)
    assert traces_of(other.name, labs.root) == []
    assert ssh("n1", "hostname").stdout == "n1\n"
    assert namespaces.status(lab.name, root=labs.root).ready  # type: ignore[union-attr]


def test_down_leaves_nothing_and_a_second_down_has_nothing_to_do(labs: Labs) -> None:
    made = labs.up(2)
    assert traces_of(made.name, labs.root) != []
    assert namespaces.down(made.name, root=labs.root) != ()
    assert traces_of(made.name, labs.root) == []
    assert namespaces.down(made.name, root=labs.root) == ()


def test_a_lab_with_a_dead_host_is_seen_as_broken_and_comes_down(labs: Labs) -> None:
    made = labs.up(2)
    os.kill(made.hosts[1].pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while record.start_ticks(made.hosts[1].pid) is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    found = namespaces.status(made.name, root=labs.root)
    assert found is not None
    assert [h.running for h in found.hosts] == [True, False]
    assert not found.ready
    with pytest.raises(Refused, match="broken"):
        namespaces.up(made.name, 2, root=labs.root)
    namespaces.down(made.name, root=labs.root)
    assert traces_of(made.name, labs.root) == []


@pytest.mark.parametrize("delay", [0.12, 0.25, 0.35, 0.5, 0.7, 1.0])
def test_down_leaves_nothing_after_lab_up_was_killed_in_the_middle(labs: Labs, delay: float) -> None:
    name = labs.name()
    argv = [sys.executable, "-m", "swarmscope.lab", "up", name, "--hosts", "2", "--root", str(labs.root)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(delay)
        process.kill()
    namespaces.down(name, root=labs.root)
    assert traces_of(name, labs.root) == []


def test_ctrl_c_during_lab_up_removes_what_was_made(labs: Labs) -> None:
    name = labs.name()
    argv = [sys.executable, "-m", "swarmscope.lab", "up", name, "--hosts", "2", "--root", str(labs.root)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 20
        while not list(Path("/run/netns").glob(f"swarmscope-{name}-n2")) and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert traces_of(name, labs.root) == []


def test_a_lab_that_somebody_is_working_on_is_not_touched(lab: LabStatus) -> None:
    root = lab.folder.parent.parent
    with record.locked(record.lab_paths(root, lab.name), create=False), pytest.raises(LockHeld):
        namespaces.down(lab.name, root=root)
    assert namespaces.status(lab.name, root=root).ready  # type: ignore[union-attr]


def test_a_process_that_took_over_a_dead_hosts_pid_is_not_killed(labs: Labs) -> None:
    name = labs.name()
    paths = record.lab_paths(labs.root, name)
    paths.folder.mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"]) as bystander:
        ticks = record.start_ticks(bystander.pid)
        assert ticks is not None
        ledger = record.Ledger(path=paths.state, facts={"name": name, "boot_id": record.boot_id()})
        ledger.add({"kind": "process", "host": "n1", "pid": bystander.pid, "start": ticks - 1})
        namespaces.down(name, root=labs.root)
        assert bystander.poll() is None
        bystander.kill()
    assert traces_of(name, labs.root) == []


def test_a_folder_that_is_not_a_labs_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / ".lab" / "lab").mkdir(parents=True)
    (tmp_path / ".lab" / "lab" / "thesis.txt").write_text("years of work")
    if os.geteuid():
        pytest.skip("a lab needs root")
    with pytest.raises(Refused, match=r"no ledger .* thesis\.txt"):
        namespaces.down("lab", root=tmp_path)
    assert (tmp_path / ".lab" / "lab" / "thesis.txt").exists()
