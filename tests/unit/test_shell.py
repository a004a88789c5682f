"""Commands as a type: what a shell sees, what people see."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmscope.cluster.shell import Command, Raw, Secret

WORDS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=5)


@given(WORDS)
def test_any_words_come_out_of_a_shell_as_they_went_in(words: list[str]) -> None:
    assert shlex.split(Command("printf", *words).render()) == ["printf", *words]


@given(WORDS)
def test_any_words_survive_sudo_around_a_pipeline(words: list[str]) -> None:
    rendered = Command("printf", *words, Raw("|"), "cat").sudo().render()
    outer = shlex.split(rendered)
    assert outer[:5] == ["sudo", "-n", "--", "sh", "-c"]
    assert shlex.split(outer[5]) == ["printf", *words, "|", "cat"]


def test_a_plain_command_needs_no_shell_under_sudo() -> None:
    assert Command("ls", "a b").sudo().render() == "sudo -n -- ls 'a b'"


def test_a_real_shell_runs_a_script_with_its_arguments() -> None:
    text = Command.script('printf "%s|" "$1" "$2" | tr a-z A-Z', "x y", "$(id)").render()
    assert subprocess.run(["sh", "-c", text], capture_output=True, text=True).stdout == "X Y|$(ID)|"


@pytest.mark.parametrize(
    "wrap", [lambda c: c, lambda c: c.sudo(), lambda c: Command(*c.words, Raw("|"), "cat").sudo()]
)
def test_a_secret_is_masked_everywhere_but_where_it_runs(wrap: object) -> None:
    command = wrap(Command("login", "--token", Secret("SWMTKN-1")))  # type: ignore[operator]
    for shown in (
        str(command),
        repr(command),
        f"{command}",
        f"{Secret('SWMTKN-1')!r} {Secret('SWMTKN-1'):>9}",
    ):
        assert "SWMTKN" not in shown
        assert "***" in shown
    assert "SWMTKN-1" in command.render()


def test_paths_and_numbers_are_words_too() -> None:
    assert Command("sleep", 3, Path("/a b")).render() == "sleep 3 '/a b'"


def test_an_empty_command_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one word"):
        Command()
