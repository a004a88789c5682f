"""What the command line of Invoke lacks, added to one program: usage errors in 2, and words after a verb.

Scope: ``adapt`` wraps the parsing steps of the one ``Program``; Invoke has no setting for either. Bare words
(``invoke compare A B``) become the flag that a verb names with ``words=``, before Invoke looks at them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from invoke.exceptions import Exit, ParseError
from invoke.program import Program
from invoke.tasks import Task

from swarmscope.errors import UsageError


def adapt(program: Program) -> None:
    """Give ``program`` words after a verb, and exit code 2 for a flag or verb that it does not know."""

    def wrap(parse: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(parse)
        def parse_or_exit(*args: Any) -> None:
            try:
                parse(*args)
            except ParseError as problem:
                raise Exit(str(problem), code=UsageError.exit_code) from problem

        return parse_or_exit

    parse_tasks = program.parse_tasks

    @functools.wraps(parse_tasks)
    def parse_words_and_tasks() -> None:
        verbs = {name: program.collection[name] for name in program.collection.task_names}
        program.core.unparsed[:] = spelled_out(program.core.unparsed, verbs)
        parse_tasks()

    program.parse_core = wrap(program.parse_core)  # type: ignore[method-assign]
    program.parse_tasks = wrap(parse_words_and_tasks)  # type: ignore[method-assign]
    program.parse_cleanup = wrap(program.parse_cleanup)  # type: ignore[method-assign]


def spelled_out(tokens: Sequence[str], verbs: Mapping[str, Task[Any]]) -> list[str]:
    """``compare A B`` as ``compare --what=A --what=B``, for verbs that take words; all else as it was.

    A word that is a verb's name begins that verb, unless there is a file of that name.
    """
    return list(_spelled_out(tokens, verbs))


def _spelled_out(tokens: Sequence[str], verbs: Mapping[str, Task[Any]]) -> Iterator[str]:
    flag = ""
    values: set[str] = set()
    value_next = False
    for token in tokens:
        if value_next:
            value_next = False
            yield token
        elif token.startswith("-") and token != "-":
            value_next = token in values
            yield token
        elif token in verbs and not (flag and Path(token).is_file()):
            flag = getattr(verbs[token], "words", "")
            values = _flags_with_values(verbs[token])
            yield token
        else:
            yield f"--{flag}={token}" if flag else token


def _flags_with_values(verb: Task[Any]) -> set[str]:
    return {f"--{name}" for one in verb.get_arguments() if one.takes_value for name in one.names}
