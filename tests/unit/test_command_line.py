"""Words after a verb, as Invoke does not know them: ``invoke compare A B``."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmscope.verbs import namespace
from swarmscope.verbs.command_line import spelled_out

VERBS = {name: namespace[name] for name in namespace.task_names}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("compare A B", "compare --what=A --what=B"),
        ("compare", "compare"),
        ("compare --run last --json", "compare --run last --json"),
        ("compare --arms subject,baseline A", "compare --arms subject,baseline --what=A"),
        ("compare --arms=subject,baseline A", "compare --arms=subject,baseline --what=A"),
        ("compare A --json B", "compare --what=A --json --what=B"),
        ("collect compare A report", "collect compare --what=A report"),
        ("import n1=a.dat n2=b.dat", "import --files=n1=a.dat --files=n2=b.dat"),
        ("hosts A", "hosts A"),
        ("nonsense A", "nonsense A"),
    ],
)
def test_words_become_the_flag_of_their_verb(typed: str, meant: str) -> None:
    assert spelled_out(typed.split(), VERBS) == meant.split()


def test_a_file_that_is_called_like_a_verb_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("report").write_text("x")
    assert spelled_out(["compare", "A", "report"], VERBS) == ["compare", "--what=A", "--what=report"]
