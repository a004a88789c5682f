"""Where the files that come with the package lie: collectors, playbooks, the example inventory.

Scope: one answer for both ways of running. A wheel carries them in ``swarmscope/shipped/``; a checkout has
them at the top, where people edit them, and its copy wins.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

PACKAGE = Path(__file__).resolve().parent


def shipped(kind: Literal["collectors", "playbooks", "inventory"]) -> Path:
    """The folder of that kind. Existing in every installation; ``FileNotFoundError`` in a broken one."""
    for folder in (PACKAGE.parent / kind, PACKAGE / "shipped" / kind):
        # A directory called "playbooks" beside an installed package (site-packages) is not ours.
        if folder.is_dir() and (folder.parent == PACKAGE / "shipped" or _is_checkout(folder.parent)):
            return folder
    raise FileNotFoundError(f"swarmscope's own {kind} are not installed beside {PACKAGE}")


def _is_checkout(folder: Path) -> bool:
    return (folder / "pyproject.toml").is_file() and (folder / "swarmscope").is_dir()
