"""The console: hostile text is made harmless, answers and talk go to their own streams."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from swarmscope import console
from swarmscope.errors import InvalidFile, Mistake, Refused
from swarmscope.model import NetworkSpec


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ✓ ü", "plain ✓ ü"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("a\x1b]0;title\x07b", "ab"),
        ("a\x1b]8;;http://x\x1b\\link", "alink"),
        ("\x9b31mred", "red"),
        ("bell\x07", "bell�"),
        ("a\rb", "a�b"),
        ("two\nlines", "two�lines"),
        ("tab\there", "tab here"),
        ("\u202eevil", "�evil"),
        ("half \ud800", "half �"),
    ],
)
def test_control_characters_do_not_reach_the_terminal(text: str, shown: str) -> None:
    assert console.clean(text) == shown


@given(st.text(st.characters(codec=None)))
def test_cleaned_text_is_one_printable_line_and_stays_as_it_is(text: str) -> None:
    once = console.clean(text)
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in once)
    assert console.clean(once) == once


def test_talk_goes_to_stderr_and_answers_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("said")
    console.note("noted")
    console.warn("careful")
    console.step("n1", "doing \x1b[1mthings")
    console.show("the answer")
    out, err = capsys.readouterr()
    assert out == "the answer\n"
    assert err.splitlines() == ["said", "noted", "warning: careful", "[n1] doing things"]


def test_what_looks_like_markup_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("[bold]x[/bold] [/]")
    console.show(console.table("[red]t", ["[a]"], [["[/b]"]]))
    out, err = capsys.readouterr()
    assert "[bold]x[/bold] [/]" in err
    assert all(word in out for word in ("[red]t", "[a]", "[/b]"))


def test_a_long_line_is_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("x" * 300)
    assert capsys.readouterr().err == "x" * 300 + "\n"


def test_tables_fit_in_a_hundred_columns(capsys: pytest.CaptureFixture[str]) -> None:
    console.show(console.table("", ["a", "b"], [["w" * 150, Text("z " * 90)]]))
    assert max(len(line) for line in capsys.readouterr().out.splitlines()) <= console.WIDTH


def test_json_takes_what_the_package_is_made_of(capsys: pytest.CaptureFixture[str]) -> None:
    console.emit(
        {"net": NetworkSpec("n", "10.88.0.0/24"), "path": Path("a/b"), "set": {2, 1}, "bad": "\x1b\u202e"}
    )
    out = capsys.readouterr().out
    assert json.loads(out) == {
        "net": {"name": "n", "subnet": "10.88.0.0/24", "mtu": 0},
        "path": "a/b",
        "set": [1, 2],
        "bad": "\x1b\u202e",
    }
    assert out.isascii()
    with pytest.raises(TypeError, match="object has no JSON form"):
        console.emit(object())


def test_an_error_shows_message_hint_and_every_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    console.error(Refused("network x is not ours", hint="leave it", host="n2"))
    assert capsys.readouterr().err.splitlines() == ["error: n2: network x is not ours", "hint: leave it"]
    console.error(
        InvalidFile([Mistake(Path("a.yml"), 3, "k", "bad"), Mistake(Path("a.yml"), 0, "", "worse")])
    )
    assert capsys.readouterr().err.splitlines() == [
        "error: 2 mistakes",
        "  a.yml:3: k: bad",
        "  a.yml: worse",
    ]


def test_an_unexpected_error_is_one_line_without_debug(capsys: pytest.CaptureFixture[str]) -> None:
    console.error(ValueError("first\nsecond"))
    assert capsys.readouterr().err.splitlines() == [
        "internal error: ValueError: first",
        "hint: run again with --debug for the traceback",
    ]


def test_progress_off_a_terminal_is_a_line_for_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress(50, "trials") as bar:
        for i in range(50):
            bar.host("n1", f"ping {i}")
            bar.advance(f"trial {i}")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("trials: 5/50")
    assert lines[-1].startswith("trials: 50/50")


def test_progress_counts_right_from_many_threads(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress(400, "all") as bar:

        def work() -> None:
            for _ in range(50):
                bar.advance("x")

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == [f"{n}/400" for n in range(40, 401, 40)]
