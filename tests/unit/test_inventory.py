"""Inventories: what is understood, and that every mistake is named with its line."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmscope.errors import InvalidFile, UsageError
from swarmscope.inventory import IGNORED, load, select
from swarmscope.model import Inventory
from swarmscope.places import shipped

TWO = """\
all:
  vars:
    ansible_user: lab
    ansible_port: 2200
  children:
    managers:
      vars: {ansible_port: 2201}
      hosts:
        n1: {ansible_host: 203.0.113.1, data_addr: 198.51.100.1, advertise_addr: 203.0.113.1}
    workers:
      hosts:
        n2: {ansible_host: 203.0.113.2, ansible_port: "2202", data_addr: 198.51.100.2, ansible_become: "no"}
        n3:
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "lab.yml"
    path.write_text(text)
    return path


def mistakes(folder: Path, text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(InvalidFile) as caught:
        load(written(folder, text))
    assert caught.value.exit_code == 2
    return [(m.line, m.key, m.message) for m in caught.value.mistakes]


@pytest.fixture
def two(tmp_path: Path) -> Inventory:
    return load(written(tmp_path, TWO))


def test_a_hosts_own_keys_win_over_its_groups_and_those_over_all(two: Inventory) -> None:
    assert [(h.name, h.group, h.port) for h in two.hosts] == [
        ("n1", "managers", 2201),
        ("n2", "workers", 2202),
        ("n3", "workers", 2200),
    ]
    assert {h.user for h in two.hosts} == {"lab"}
    assert two.host("n1").origin["port"] == "lab.yml:7"
    assert two.host("n2").become is False


def test_a_host_without_keys_is_dialled_by_its_name(two: Inventory) -> None:
    assert two.host("n3").address == "n3"
    assert two.host("n3").origin["address"] == "the host's name"


def test_a_missing_address_is_taken_from_the_other_or_from_ansible_host(
    tmp_path: Path, two: Inventory
) -> None:
    assert two.host("n2").advertise_addr == "198.51.100.2"
    assert two.host("n2").origin["advertise_addr"] == "data_addr"
    assert two.host("n3").data_addr == ""
    alone = load(written(tmp_path, "all: {children: {managers: {hosts: {n1: {ansible_host: 203.0.113.9}}}}}"))
    assert (alone.hosts[0].data_addr, alone.hosts[0].advertise_addr) == ("203.0.113.9", "203.0.113.9")
    looped = load(written(tmp_path, "all: {children: {managers: {hosts: {n1: {ansible_host: 127.0.0.1}}}}}"))
    assert looped.hosts[0].data_addr == ""


def test_other_ansible_variables_are_accepted_and_listed_as_not_used(tmp_path: Path) -> None:
    text = TWO.replace("        n3:\n", "        n3: {ansible_python_interpreter: /usr/bin/python3}\n")
    origin = load(written(tmp_path, text)).host("n3").origin
    assert origin[f"{IGNORED}ansible_python_interpreter"] == "lab.yml:13"


def test_the_example_is_valid_and_uses_documentation_addresses() -> None:
    example = load(shipped("inventory") / "example.yml")
    assert [h.name for h in example.managers] == ["n1"]
    assert len(example.workers) == 2
    addresses = {h.data_addr for h in example.hosts} | {h.advertise_addr for h in example.hosts}
    assert all(a.startswith(("203.0.113.", "198.51.100.")) for a in addresses)


def test_a_labs_own_keys_are_read_and_its_files_must_exist(tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text("")
    extra = (
        "  vars:\n    swarmscope_known_hosts: known_hosts\n"
        "    swarmscope_lab: {name: demo, kind: namespaces, wire_netns: [4026532177]}\n"
    )
    lab = load(written(tmp_path, TWO.replace("  vars:\n", extra, 1)))
    assert lab.lab is not None
    assert (lab.name, lab.lab.kind, lab.lab.wire_netns) == ("demo", "namespaces", (4026532177,))
    assert lab.known_hosts == tmp_path / "known_hosts"
    (tmp_path / "known_hosts").unlink()
    assert mistakes(tmp_path, TWO.replace("  vars:\n", extra, 1))[0][:2] == (
        3,
        "all.vars.swarmscope_known_hosts",
    )


def test_an_ssh_config_of_its_own_is_found_beside_the_inventory(tmp_path: Path) -> None:
    text = TWO.replace("  vars:\n", "  vars:\n    swarmscope_ssh_config: ssh_config\n", 1)
    assert mistakes(tmp_path, text)[0][:2] == (3, "all.vars.swarmscope_ssh_config")
    (tmp_path / "ssh_config").write_text("Host n3\n  Port 2222\n")
    found = load(written(tmp_path, text))
    assert found.ssh_config == tmp_path / "ssh_config"
    assert load(written(tmp_path, TWO)).ssh_config is None


HOSTS = "all.children.workers.hosts"

# (line to replace, its new text, line of the mistake, key of the mistake, words of the message)
ONE_MISTAKE = {
    "unknown key at the top": (0, "all:\n  xyz: 1", 2, "all.xyz", "unknown key"),
    "misspelt variable": (
        2,
        "    ansible_usr: lab",
        3,
        "all.vars.ansible_usr",
        "did you mean 'ansible_user'?",
    ),
    "misspelt group": (9, "    wrokers:", 10, "all.children.wrokers", "did you mean 'workers'?"),
    "misspelt address": (
        12,
        "        n3: {data_adr: 198.51.100.3}",
        13,
        f"{HOSTS}.n3.data_adr",
        "did you mean 'data_addr'?",
    ),
    "port out of range": (3, "    ansible_port: 70000", 4, "all.vars.ansible_port", "from 1 to 65535"),
    "port of a wrong type": (3, "    ansible_port: [22]", 4, "all.vars.ansible_port", "from 1 to 65535"),
    "user of a wrong type": (
        2,
        "    ansible_user: 5",
        3,
        "all.vars.ansible_user",
        "must be text, not a number",
    ),
    "user with a space": (2, "    ansible_user: a b", 3, "all.vars.ansible_user", "must be a user name"),
    "address that is an option": (
        12,
        "        n3: {ansible_host: -oProxyCommand=x}",
        13,
        f"{HOSTS}.n3.ansible_host",
        "a name or an address",
    ),
    "no such key file": (
        2,
        "    ansible_ssh_private_key_file: nope",
        3,
        "all.vars.ansible_ssh_private_key_file",
        "no such file",
    ),
    "become of a wrong type": (
        12,
        "        n3: {ansible_become: maybe}",
        13,
        f"{HOSTS}.n3.ansible_become",
        "true or false",
    ),
    "invalid address": (
        12,
        "        n3: {data_addr: 198.51.100.300}",
        13,
        f"{HOSTS}.n3.data_addr",
        "IPv4 address",
    ),
    "address with prefix": (
        12,
        "        n3: {data_addr: 198.51.100.3/24}",
        13,
        f"{HOSTS}.n3.data_addr",
        "IPv4 address",
    ),
    "loopback address": (
        12,
        "        n3: {data_addr: 127.0.0.1}",
        13,
        f"{HOSTS}.n3.data_addr",
        "cannot be reached",
    ),
    "address used twice": (
        12,
        "        n3: {data_addr: 198.51.100.1}",
        13,
        f"{HOSTS}.n3.data_addr",
        "already used by n1",
    ),
    "advertise is another's data": (
        12,
        "        n3: {advertise_addr: 198.51.100.2}",
        13,
        f"{HOSTS}.n3.advertise_addr",
        "already used by n2",
    ),
    "same ssh address and port": (
        12,
        "        n3: {ansible_host: 203.0.113.2, ansible_port: 2202}",
        13,
        f"{HOSTS}.n3.ansible_host",
        "same address and port as host n2",
    ),
    "host in two groups": (12, "        n1:", 13, f"{HOSTS}.n1", "listed twice, first in line 9"),
    "key given twice": (12, "        n2:", 13, f"{HOSTS}.n2", "given twice, first in line 12"),
    "bad host name": (12, "        n_3!:", 13, f"{HOSTS}.n_3!", "a host name has"),
    "reserved host name": (12, "        workers:", 13, f"{HOSTS}.workers", "a meaning of its own"),
    "host that YAML takes for a boolean": (12, "        yes:", 13, HOSTS, "put it in quotes"),
    "host that is a list": (12, "        n3: []", 13, f"{HOSTS}.n3", "must be a mapping, not a list"),
    "template": (12, '        n3: {ansible_host: "{{ x }}"}', 13, f"{HOSTS}.n3.ansible_host", "not rendered"),
    "file-wide key in a host": (
        12,
        "        n3: {swarmscope_known_hosts: x}",
        13,
        f"{HOSTS}.n3.swarmscope_known_hosts",
        "belongs in all.vars",
    ),
    "lab of unknown kind": (
        2,
        "    swarmscope_lab: {name: a, kind: pods}",
        3,
        "all.vars.swarmscope_lab.kind",
        "namespaces or machines",
    ),
    "vault tag": (2, "    ansible_user: !vault x", 3, "all.vars.ansible_user", "cannot be read as !vault"),
}


@pytest.mark.parametrize("name", ONE_MISTAKE)
def test_each_kind_of_mistake_is_named_with_its_line_and_key(name: str, tmp_path: Path) -> None:
    at, new, line, key, words = ONE_MISTAKE[name]
    lines = TWO.splitlines()
    lines[at] = new
    found = mistakes(tmp_path, "\n".join(lines))
    assert [(m[0], m[1]) for m in found if words in m[2]] == [(line, key)], found
    if name != "vault tag":  # what the tag stood for is then missing, too
        assert len(found) == 1, found


@pytest.mark.parametrize(
    ("text", "line", "key", "words"),
    [
        ("", 0, "", "empty"),
        ("all:\n", 1, "all.children", "no group 'managers'"),
        ("all:\n  children:\n    workers: {hosts: {n1: }}\n", 2, "all.children", "no group 'managers'"),
        ("all:\n  children:\n    managers:\n", 3, "all.children.managers", "no hosts"),
        ("all:\n  children:\n    managers:\n      hosts: {}\n", 3, "all.children.managers", "no hosts"),
        ("hosts: {}\n", 1, "", "no group 'all'"),
        ("all:\n  hosts: {n1: }\n", 2, "all.hosts", "a host needs a group"),
        ("all:\n  children: [\n", 3, "", "not valid YAML"),
        ("all:\n\tchildren: 1\n", 2, "", "not valid YAML"),
        ("- all\n", 1, "", "must be a mapping, not a list"),
        ("a: 1\nb: \x07\n", 2, "", "U+0007 is not allowed"),
    ],
)
def test_a_file_wrong_as_a_whole_is_named_too(
    text: str, line: int, key: str, words: str, tmp_path: Path
) -> None:
    assert any((m[0], m[1]) == (line, key) and words in m[2] for m in mistakes(tmp_path, text))


def test_bytes_that_are_no_text_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "lab.yml"
    path.write_bytes(b"all:\n  vars: {ansible_user: \xff}\n")
    with pytest.raises(InvalidFile, match=r"lab.yml:2: not UTF-8: byte 0xff"):
        load(path)


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load(tmp_path / "none.yml")


PLANTS = (
    "{bogus: 1}",
    "{data_addr: 10.0.0}",
    "{ansible_port: 0}",
    "{ansible_become: 3}",
    "{ansible_host: [1]}",
    "{data_adr: 1.2.3.4}",
    "[]",
    "text",
)


@given(st.lists(st.sampled_from(PLANTS), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_a_file_with_k_planted_mistakes_reports_all_k_at_their_lines(
    tmp_path_factory: pytest.TempPathFactory, plants: list[str], shuffle: random.Random
) -> None:
    entries = plants + ["{}"] * len(plants)
    shuffle.shuffle(entries)
    head = [
        "all:",
        "  children:",
        "    managers:",
        "      hosts:",
        "        m1:",
        "    workers:",
        "      hosts:",
    ]
    lines = head + [f"        w{i}: {entry}" for i, entry in enumerate(entries)]
    found = mistakes(tmp_path_factory.mktemp("k"), "\n".join(lines))
    wanted = [len(head) + i + 1 for i, entry in enumerate(entries) if entry != "{}"]
    assert [m[0] for m in found] == wanted


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ([], "n1 n2 n3"),
        (["n2"], "n2"),
        (["n*", "!n1"], "n2 n3"),
        (["workers:!n3"], "n2"),
        (["workers,managers"], "n1 n2 n3"),
        (["!n3"], "n1 n2"),
        (["!managers"], "n2 n3"),
        (["all:&workers:!n2"], "n3"),
        (["n[13]"], "n1 n3"),
        (["n3", "n1"], "n1 n3"),
        ([r"workers:\!n3"], "n2"),
    ],
)
def test_limits_select_names_globs_groups_and_exclusions(
    two: Inventory, patterns: list[str], names: str
) -> None:
    assert " ".join(h.name for h in select(two, patterns).hosts) == names


@pytest.mark.parametrize("pattern", ["n9", "!n9", "wrokers", "x*"])
def test_a_limit_that_matches_nothing_is_a_usage_error(two: Inventory, pattern: str) -> None:
    with pytest.raises(UsageError, match="is no host and no group"):
        select(two, [pattern])


def test_a_misspelt_group_in_a_limit_gets_a_did_you_mean(two: Inventory) -> None:
    with pytest.raises(UsageError, match="did you mean 'workers'"):
        select(two, ["wrokers"])


def test_a_limit_that_leaves_no_host_is_a_usage_error(two: Inventory) -> None:
    with pytest.raises(UsageError, match="leaves no host"):
        select(two, ["n1:!managers"])


def test_anchors_and_merges_are_followed_and_a_mistake_in_one_is_reported_once(tmp_path: Path) -> None:
    text = """\
all:
  children:
    managers:
      hosts:
        n1: &base {ansible_user: lab, bogus: 1}
    workers:
      hosts:
        n2: {<<: *base}
        n3: *base
"""
    found = mistakes(tmp_path, text)
    assert {m[0] for m in found if "unknown key" in m[2]} == {5}
    clean = load(written(tmp_path, text.replace(", bogus: 1", "")))
    assert [h.user for h in clean.hosts] == ["lab"] * 3
