"""Verbs: errors become exit codes, flags come from signatures and the environment, the inventory is found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from invoke.collection import Collection
from invoke.program import Program

from swarmscope.errors import HostUnreachable, Refused, SwarmscopeError, UsageError
from swarmscope.places import shipped
from swarmscope.verbs.command_line import adapt
from swarmscope.verbs.flags import find_inventory, hosts_for, verb

seen: dict[str, Any] = {}


@verb(help={"mode": "the mode", "not-here": "a text of another verb"}, iterable=["limit", "set"])
def do_it(
    c: Any,
    mode: str = "overlay",
    limit: Sequence[str] = (),
    set: Sequence[str] = (),
    count: int = 3,
    json: bool = False,
    dry_run: bool = False,
    verbose: bool = False,
    fail: str = "",
) -> None:
    """Do it."""
    seen.update(
        mode=mode, limit=list(limit), set=list(set), count=count, json=json, dry_run=dry_run, verbose=verbose
    )
    if fail == "refused":
        raise Refused("not ours", hint="leave it")
    if fail == "unreachable":
        raise HostUnreachable("gone")
    if fail == "bug":
        raise ZeroDivisionError("oops")
    if fail == "ctrl-c":
        raise KeyboardInterrupt


def run(*words: str) -> int:
    """Exit code of the program with those words."""
    seen.clear()
    namespace = Collection()
    namespace.add_task(do_it)
    program = Program(namespace=namespace, name="test", binary="test")
    adapt(program)
    with pytest.raises(SystemExit) as ended:
        program.run(["test", *words])
        raise SystemExit(0)
    return int(ended.value.code or 0)


def test_flags_come_from_the_signature() -> None:
    assert (
        run("do-it", "--mode", "host", "--limit", "a", "--limit", "b", "--dry-run", "--count", "5", "-v") == 0
    )
    assert seen == {
        "mode": "host",
        "limit": ["a", "b"],
        "set": [],
        "count": 5,
        "json": False,
        "dry_run": True,
        "verbose": True,
    }


@pytest.mark.parametrize(("fail", "code"), [("refused", 7), ("unreachable", 5), ("bug", 1), ("ctrl-c", 130)])
def test_errors_end_in_their_exit_code(fail: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("do-it", "--fail", fail) == code
    assert "Traceback" not in capsys.readouterr().err


def test_every_error_class_has_the_exit_code_that_its_documentation_says() -> None:
    codes = {kind.__name__: kind.exit_code for kind in SwarmscopeError.__subclasses__()}
    assert (codes["UsageError"], codes["PreflightFailed"], codes["PartialResult"]) == (2, 3, 4)
    assert (codes["HostUnreachable"], codes["LockHeld"], codes["Refused"], codes["Interrupted"]) == (
        5,
        6,
        7,
        130,
    )


def test_debug_shows_the_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("do-it", "--fail", "bug", "--debug") == 1
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("SWARMSCOPE_DEBUG", "1")
    assert run("do-it", "--fail", "refused") == 7
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["do-it", "--moed", "x"], ["dont"], ["--nonsense"], ["--help", "dont"]])
def test_what_the_parser_does_not_know_ends_in_2(words: list[str]) -> None:
    assert run(*words) == 2


def test_the_help_of_a_verb_has_shared_and_own_texts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help", "do-it") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert all(
        text in out for text in ("the mode", "only these hosts", "print what would be done", "traceback")
    )


def test_the_environment_fills_flags_that_were_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MODE": "host", "LIMIT": "a,b", "COUNT": "9", "JSON": "1", "DRY_RUN": "0"}.items():
        monkeypatch.setenv(f"SWARMSCOPE_{name}", value)
    assert run("do-it") == 0
    assert (seen["mode"], seen["limit"], seen["count"]) == ("host", ["a", "b"], 9)
    assert (seen["json"], seen["dry_run"]) == (True, False)
    assert run("do-it", "--mode", "self", "--limit", "c") == 0
    assert (seen["mode"], seen["limit"]) == ("self", ["c"])


def test_a_variable_of_a_wrong_type_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SWARMSCOPE_COUNT", "many")
    assert run("do-it") == 2
    assert "SWARMSCOPE_COUNT='many' is not int" in capsys.readouterr().err


ONE_HOST = "all: {children: {managers: {hosts: {n1: {ansible_host: 203.0.113.1}}}}}\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inventory").mkdir()
    (tmp_path / "inventory" / "example.yml").write_text(ONE_HOST)
    return tmp_path


def test_without_an_inventory_the_hint_is_to_raise_a_lab(here: Path) -> None:
    with pytest.raises(UsageError, match="no inventory found") as caught:
        find_inventory()
    assert "invoke lab-up" in caught.value.hint


def test_the_only_inventory_is_used_and_the_example_is_not_one(here: Path) -> None:
    (here / ".lab" / "lab").mkdir(parents=True)
    (here / ".lab" / "lab" / "inventory.yml").write_text(ONE_HOST)
    assert find_inventory() == Path(".lab/lab/inventory.yml")


def test_several_inventories_are_listed_and_none_is_chosen(here: Path) -> None:
    for name in ("a", "b"):
        (here / "inventory" / f"{name}.yml").write_text(ONE_HOST)
    with pytest.raises(UsageError, match=r"inventory/a.yml, inventory/b.yml"):
        find_inventory()
    assert find_inventory("inventory/b.yml") == Path("inventory/b.yml")


def test_the_environment_names_an_inventory(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARMSCOPE_INVENTORY", str(shipped("inventory") / "example.yml"))
    assert [h.name for h in hosts_for("", ["workers"]).hosts] == ["n2", "n3"]


def test_a_given_inventory_must_exist(here: Path) -> None:
    with pytest.raises(UsageError, match=r"no inventory file nope.yml"):
        find_inventory("nope.yml")
