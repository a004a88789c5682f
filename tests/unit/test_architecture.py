"""The house keeps its shape: imports point one way, the border is closed, files stay small."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "swarmscope"
MODULES = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}

HOST_SIDE = {"cluster", "agent", "capture", "lab"}
OFFLINE_SIDE = {"trace", "compare", "report"}
SHARED = {"collectors", "errors", "inventory", "model", "places", "playbook", "store"}


def part(module: Path) -> str:
    """The first name below the package: a folder, or a module of the top level."""
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules_in(parts: set[str]) -> Iterator[tuple[Path, ast.Module]]:
    found = [(path, tree) for path, tree in MODULES.items() if part(path) in parts]
    assert {part(path) for path, _ in found} == parts, "a part was renamed: mend this test"
    yield from found


def imports(tree: ast.Module) -> Iterator[str]:
    """Every absolute name that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def offenders(parts: set[str], forbidden: set[str]) -> list[str]:
    """``file imports part`` for every import of a forbidden part of the package."""
    return [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path, tree in modules_in(parts)
        for name in imports(tree)
        if name.startswith("swarmscope.") and name.split(".")[1] in forbidden
    ]


def test_neither_side_of_the_border_imports_the_other() -> None:
    assert offenders(HOST_SIDE, OFFLINE_SIDE) == []
    assert offenders(OFFLINE_SIDE, HOST_SIDE) == []


def test_what_both_sides_share_imports_neither() -> None:
    assert offenders(SHARED, HOST_SIDE | OFFLINE_SIDE) == []


def test_imports_point_from_the_verbs_inwards() -> None:
    assert offenders(HOST_SIDE | OFFLINE_SIDE | SHARED, {"verbs", "bench"}) == []
    assert offenders({"bench"}, {"verbs"}) == []
    assert offenders({"cluster"}, {"capture", "lab"}) == []
    assert offenders({"trace"}, {"compare", "report"}) == []
    assert offenders({"compare"}, {"report"}) == []


def test_the_agent_needs_nothing_but_the_standard_library() -> None:
    names = {
        (path.name, name.split(".")[0]) for path, tree in modules_in({"agent"}) for name in imports(tree)
    }
    assert [pair for pair in names if pair[1] not in sys.stdlib_module_names] == []


def test_every_file_is_short_and_says_what_it_is() -> None:
    long = [str(path) for path in MODULES if len(path.read_text().splitlines()) >= 400]
    silent = [str(path) for path, tree in MODULES.items() if tree.body and not ast.get_docstring(tree)]
    assert long == []
    assert silent == []
