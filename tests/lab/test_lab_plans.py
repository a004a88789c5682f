"""The parts of raising a lab that can be read before anything is raised."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmscope.errors import PreflightFailed, Refused, UsageError
from swarmscope.lab import cgroups, record, ssh_files, switch

ONES = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
33 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/lib/agent,name=systemd
34 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
35 90 0:29 /docker/ab12 /var/lib/x/cgroup rw - cgroup cgroup rw,cpu,cpuacct
"""
TWO = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"


def test_a_machine_with_v1_controllers_is_version_one_also_with_an_empty_v2_beside() -> None:
    layout = cgroups.parse_mounts(ONES)
    assert layout.version == 1
    assert [(str(h.mountpoint), h.options) for h in layout.hierarchies] == [
        ("/sys/fs/cgroup/cpu,cpuacct", "cpu,cpuacct"),
        ("/sys/fs/cgroup/systemd", "name=systemd"),
    ]
    assert layout.home.options == "name=systemd"


def test_version_two_keeps_the_mount_options_that_are_in_force() -> None:
    layout = cgroups.parse_mounts(TWO)
    assert layout.version == 2
    assert layout.home == cgroups.Hierarchy(
        mountpoint=Path("/sys/fs/cgroup"), options="nsdelegate,memory_recursiveprot"
    )


def test_a_machine_without_cgroups_is_told_so() -> None:
    with pytest.raises(PreflightFailed, match="no cgroup hierarchy"):
        cgroups.parse_mounts("1 0 8:1 / / rw - ext4 /dev/sda rw\n")


@pytest.mark.parametrize("name", ["", "Lab", "a b", "../x", "-lab", "thirteenchars", "lab\n", "läb"])
def test_names_that_would_not_fit_everywhere_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be used"):
        record.lab_paths(tmp_path, name)


@pytest.mark.parametrize("count", [0, -1, 201])
def test_numbers_of_hosts_that_do_not_fit_the_subnet_are_refused(count: int) -> None:
    with pytest.raises(UsageError, match="cannot be raised"):
        record.host_names(count)


def test_two_hundred_hosts_have_addresses_and_short_names() -> None:
    names = record.host_names(record.MAX_HOSTS)
    addresses = [switch.address(7, i) for i, _ in enumerate(names, start=1)]
    assert addresses[0] == "198.18.7.11"
    assert addresses[-1] == "198.18.7.210"
    assert max(map(len, names)) <= 15


def test_the_switch_is_built_in_one_batch_and_gives_nobody_a_default_route(tmp_path: Path) -> None:
    paths = record.lab_paths(tmp_path, "lab")
    batch = switch.link_batch(paths, ["n1", "n2"], subnet=3).splitlines()
    assert "link add n2 type veth peer name eth0 netns swarmscope-lab-n2" in batch
    assert "link set n2 master switch up" in batch
    assert not [line for line in batch + switch.host_batch("198.18.3.11").splitlines() if "route" in line]


def test_a_ledger_reads_back_as_written_and_is_never_half_there(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    ledger = record.Ledger(path=path, facts={"name": "lab"})
    ledger.add({"kind": "netns", "name": "a"}, {"kind": "cgroup", "name": "b"})
    again = record.read_ledger(path)
    assert again is not None
    assert (again.facts, list(again.of("netns"))) == ({"name": "lab"}, [{"kind": "netns", "name": "a"}])
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"entries": []}', '{"format": 99, "entries": []}', "null"])
def test_a_file_that_is_not_our_ledger_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(Refused, match="not a lab's ledger"):
        record.read_ledger(tmp_path / "state.json")


def test_paths_with_spaces_are_quoted_in_the_ssh_config(tmp_path: Path) -> None:
    paths = record.lab_paths(tmp_path / "my projects", "lab")
    text = ssh_files.ssh_config(paths, [ssh_files.LabHost(name="n1", address="198.18.0.11", port=40001)])
    assert f'IdentityFile "{paths.key}"' in text
    assert f'UserKnownHostsFile "{paths.known_hosts}"' in text
