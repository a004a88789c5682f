"""What all verbs share: the ``verb`` decorator (errors become exit codes) and the flags that choose hosts.

Scope: the border between Invoke and the package. A verb is a function ``def swarm_up(c, inventory="",
limit=(), ...)``; Invoke makes its flags from that signature. ``verb`` adds to each of them:

- ``--debug`` (or ``SWARMSCOPE_DEBUG=1``): the traceback with every error;
- ``SWARMSCOPE_<FLAG>`` in the environment for every flag not given (``SWARMSCOPE_INVENTORY``; lists split at
  commas);
- the exit codes of ``errors``: 130 for Ctrl-C, 1 for anything that was not raised on purpose.

Limits: a flag given with exactly its default value cannot be told from a flag not given, so the environment
wins there.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, overload

from invoke.exceptions import Exit
from invoke.parser.argument import Argument
from invoke.tasks import Task

from swarmscope import console
from swarmscope.errors import SwarmscopeError, UsageError
from swarmscope.inventory import load, select
from swarmscope.model import Inventory

ENV_PREFIX: Final = "SWARMSCOPE_"
EXIT_INTERRUPTED: Final = 130
EXIT_BROKEN_PIPE: Final = 141
"""What a shell reports for a program ended by SIGPIPE (128 + 13)."""

HELP: Final = {
    "inventory": "inventory file (default: the only one in inventory/ or .lab/)",
    "limit": "only these hosts: names, globs, groups, !exclude, e.g. 'workers:!n3'; may be given again",
    "dry-run": "print what would be done, do nothing",
    "json": "one JSON document on stdout",
    "timeout": "seconds until a host counts as unreachable",
    "verbose": "say more",
    "debug": "show the traceback of an error",
}
"""Help of the flags that several verbs have; a verb's own help wins."""


@overload
def verb(body: Callable[..., Any]) -> Task[Any]: ...


@overload
def verb(
    *,
    help: Mapping[str, str] | None = None,
    iterable: Sequence[str] = ("limit",),
    positional: Sequence[str] = (),
    name: str = "",
    words: str = "",
) -> Callable[[Callable[..., Any]], Task[Any]]: ...


def verb(
    body: Callable[..., Any] | None = None,
    *,
    help: Mapping[str, str] | None = None,
    iterable: Sequence[str] = ("limit",),
    positional: Sequence[str] = (),
    name: str = "",
    words: str = "",
) -> Any:
    """Make ``body(c, ...)`` an Invoke task that ends in the exit codes of ``errors``.

    Use as ``@verb`` or ``@verb(help={...}, iterable=["limit", "set"], positional=["name"])``. Every parameter
    after ``c`` needs a default, from which Invoke takes the type of the flag; a list flag has the default
    ``()``. ``words`` is the list flag that bare words after the verb are taken for.
    """
    if words:
        iterable = (*iterable, words)
    made = functools.partial(
        _task, help=help, iterable=iterable, positional=positional, name=name, words=words
    )
    return made if body is None else made(body)


def _task(
    function: Callable[..., Any],
    *,
    help: Mapping[str, str] | None,
    iterable: Sequence[str],
    positional: Sequence[str],
    name: str,
    words: str,
) -> Task[Any]:
    signature = inspect.signature(function)
    lists = [flag for flag in iterable if flag in signature.parameters]
    # Invoke takes a flag that may be given again only with default None or a list, not with ().
    parameters = [p.replace(default=None) if p.name in lists else p for p in signature.parameters.values()]
    if "debug" not in signature.parameters:
        parameters.append(inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False))

    @functools.wraps(function)
    def run(c: Any, *args: Any, **given: Any) -> Any:
        debug = bool(given.get("debug")) or _truth(os.environ.get(f"{ENV_PREFIX}DEBUG", ""))
        if "debug" not in signature.parameters:
            given.pop("debug", None)
        try:
            return function(c, *args, **from_environment(signature, given))
        except (SwarmscopeError, KeyboardInterrupt, BrokenPipeError, Exit) as problem:
            raise _as_exit(problem, debug=debug) from problem
        except Exception as problem:
            console.error(problem, debug=debug)
            raise Exit(code=1) from problem

    # Invoke reads the flags from here; __wrapped__ alone would hide the added --debug.
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    flags = {p.name.replace("_", "-") for p in parameters}
    texts = {flag: text for flag, text in HELP.items() if flag in flags}
    for flag, text in (help or {}).items():
        # One table of texts may serve several verbs; Invoke refuses texts of flags that a verb does not have.
        if flag.replace("_", "-") in flags:
            texts[flag.replace("_", "-")] = text
    made = _Verb(
        run,
        name=name or None,
        help=texts,
        iterable=lists,
        positional=list(positional),
        auto_shortflags=False,
    )
    made.words = words
    return made


class _Verb(Task[Any]):
    """A task whose flags have no one-letter forms but the ones below: those Invoke makes up change with every
    flag.
    """

    SHORT: Final = {"verbose": "v"}
    words: str = ""

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        # Invoke takes each text out of self.help as it uses it: a second call would find none.
        texts = dict(self.help)
        arguments = super().get_arguments(ignore_unknown_help)
        self.help = texts
        for argument in arguments:
            if argument.name in self.SHORT:
                argument.names = (*argument.names, self.SHORT[argument.name])
        return arguments


def _as_exit(problem: BaseException, *, debug: bool) -> Exit:
    """The ``Exit`` that ends the program for ``problem``, which was told to the user here."""
    if isinstance(problem, Exit):
        return problem
    if isinstance(problem, SwarmscopeError):
        console.error(problem, debug=debug)
        return Exit(code=problem.exit_code)
    if isinstance(problem, BrokenPipeError):
        # The reader (head, less) has seen enough. What Python would flush at its end must go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit(code=EXIT_BROKEN_PIPE)
    console.warn("interrupted")
    return Exit(code=EXIT_INTERRUPTED)


def from_environment(
    signature: inspect.Signature, given: Mapping[str, Any], *, environ: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """``given`` with ``SWARMSCOPE_<FLAG>`` filled in for flags left at their default.

    Raises ``UsageError`` where the variable is not of the flag's type.
    """
    filled = dict(given)
    for name, parameter in signature.parameters.items():
        variable = ENV_PREFIX + name.upper()
        text = environ.get(variable, "")
        default = parameter.default
        if not text or default is inspect.Parameter.empty or filled.get(name, default) not in (default, []):
            continue
        try:
            filled[name] = _typed(text, default)
        except ValueError as problem:
            raise UsageError(
                f"{variable}={text!r} is not {type(default).__name__}", hint=f"unset {variable} or correct it"
            ) from problem
    return filled


def _typed(text: str, default: object) -> object:
    if isinstance(default, bool):
        return _truth(text)
    if isinstance(default, int | float):
        return type(default)(text)
    if isinstance(default, list | tuple):
        return [part for part in text.split(",") if part]
    return text


def _truth(text: str) -> bool:
    return text.strip().lower() not in ("", "0", "no", "false", "off")


def find_inventory(inventory: str = "", *, root: Path | None = None) -> Path:
    """The inventory file to use: the one given, else the only one under ``root`` (the current directory).

    Candidates are ``inventory/*.yml`` (``example.yml`` left out) and ``.lab/*/inventory.yml``.
    Raises ``UsageError`` where there is none, several, or the given one does not exist.
    """
    chosen = inventory or os.environ.get(f"{ENV_PREFIX}INVENTORY", "")
    if chosen:
        path = Path(chosen).expanduser()
        if not path.is_file():
            raise UsageError(f"no inventory file {path}", hint="check --inventory (or $SWARMSCOPE_INVENTORY)")
        return path
    base = Path() if root is None else root
    found = sorted(p for p in base.glob("inventory/*.yml") if p.name != "example.yml")
    found += sorted(base.glob(".lab/*/inventory.yml"))
    if not found:
        raise UsageError(
            "no inventory found in inventory/ or .lab/",
            hint="raise a lab with `invoke lab-up`, or copy inventory/example.yml and fill in your hosts",
        )
    if len(found) > 1:
        names = ", ".join(str(p) for p in found)
        raise UsageError(f"several inventories: {names}", hint=f"choose one: --inventory {found[0]}")
    return found[0]


def hosts_for(inventory: str = "", limit: Sequence[str] = ()) -> Inventory:
    """The inventory that ``--inventory`` and ``--limit`` mean. Raises ``UsageError`` and ``InvalidFile``."""
    whole = load(find_inventory(inventory))
    return select(whole, limit) if limit else whole
