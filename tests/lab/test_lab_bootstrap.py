"""bootstrap.sh where it must not install: it says what is missing, in one message, and changes nothing.

A missing command is made by hiding its file in a mount namespace of the test's own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
Bootstrap = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def bootstrap(tmp_path: Path) -> Iterator[Bootstrap]:
    """Run a copy of bootstrap.sh where trace-cmd and mmdebstrap are not there."""
    if os.geteuid():
        pytest.skip("hiding a command needs root")
    path = shutil.which("trace-cmd")
    if path is None:
        pytest.skip("trace-cmd is not installed here")
    # pytest's own folders are closed to others, and one test runs the script as nobody
    open_to_all = Path(tempfile.mkdtemp(prefix="swarmscope-bootstrap-"))
    open_to_all.chmod(0o755)
    copy = Path(shutil.copy(ROOT / "bootstrap.sh", open_to_all))
    for layer in ("upper", "work"):
        (tmp_path / layer).mkdir()
    folder = Path(path).parent
    layers = f"lowerdir={folder},upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    hide = f"mount -t overlay hidden -o {layers} {folder} && rm -f {path} {folder}/mmdebstrap"

    def run(*task: str, prelude: str = "true", prefix: str = "") -> subprocess.CompletedProcess[str]:
        words = " ".join(task or ("lab-status",))
        script = f'{hide} && {prelude} && exec {prefix} bash "$0" {words}'
        argv = ["unshare", "--mount", "sh", "-c", script, str(copy)]
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )

    yield run
    shutil.rmtree(open_to_all)


def test_another_system_gets_one_message_with_what_it_needs(bootstrap: Bootstrap, tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    release.write_text('ID=fedora\nVERSION_ID="41"\n')
    done = bootstrap(prelude=f'mount --bind {release} "$(readlink -f /etc/os-release)"')
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "this is fedora 41" in done.stderr
    assert done.stderr.rstrip().endswith("then run this again: trace-cmd")


def test_without_root_and_sudo_one_message_names_what_is_missing(bootstrap: Bootstrap) -> None:
    done = bootstrap(prefix="setpriv --reuid 65534 --regid 65534 --clear-groups")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "bootstrap: these are missing, and neither root nor sudo is at hand to install them: trace-cmd"
    ]


@pytest.mark.parametrize(
    ("task", "needs_image_tools"),
    [
        (("lab-up", "--hosts", "2"), False),
        (("lab-up", "--name", "machines"), False),
        (("trace", "--mode", "machines"), False),
        (("demo",), False),
        (("lab-up", "--kind", "machines"), True),
        (("lab-up", "--hosts", "2", "--kind=machines"), True),
        (("demo", "--lab", "machines", "--keep"), True),
        (("test",), True),
    ],
)
def test_what_machines_need_is_asked_for_only_where_machines_are_raised(
    bootstrap: Bootstrap, tmp_path: Path, task: tuple[str, ...], needs_image_tools: bool
) -> None:
    release = tmp_path / "os-release"
    release.write_text('ID=fedora\nVERSION_ID="41"\n')
    done = bootstrap(*task, prelude=f'mount --bind {release} "$(readlink -f /etc/os-release)"')
    assert done.returncode == 1
    wanted = done.stderr.rpartition(": ")[2].strip().split(", ")
    assert "trace-cmd" in wanted
    assert ("mmdebstrap" in wanted) is needs_image_tools


def test_without_a_task_it_says_how_it_is_called() -> None:
    done = subprocess.run([ROOT / "bootstrap.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage: ./bootstrap.sh TASK" in done.stderr
