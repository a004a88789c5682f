"""Root file systems as folders: made by mmdebstrap, entered, made into a disk, removed. By root or any user.

Scope: running mmdebstrap and commands in its result. A user who is not root works in a user namespace: files
below belong to that user's subordinate ids, so they are read, entered and removed through the same namespace.
Limits: needs /etc/subuid and newuidmap then; what is missing is said before anything is built.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from swarmscope.errors import PreflightFailed, SwarmscopeError
from swarmscope.lab.image_archive import KEYRING
from swarmscope.lab.privileges import SYSTEM_PATH, is_root

TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "apt-get": "apt",
    "dpkg-query": "dpkg",
    "mke2fs": "e2fsprogs",
    "qemu-img": "qemu-utils",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}
"""What an image is built with: command -> the Debian and Ubuntu package that has it."""

ENTER_TREE = """
tree=$1
shift
mount -t proc proc "$tree/proc"
for device in null zero full random urandom; do
    : >>"$tree/dev/$device"
    mount --bind "/dev/$device" "$tree/dev/$device"
done
exec chroot "$tree" "$@"
"""


def require_tools() -> None:
    """Raise PreflightFailed naming at once everything that building an image lacks on this machine."""
    missing = [name for name in TOOLS if shutil.which(name, path=SYSTEM_PATH) is None]
    packages = {TOOLS[name] for name in missing}
    if not KEYRING.exists():
        missing.append(str(KEYRING))
        packages.add("debian-archive-keyring")
    if not is_root() and shutil.which("newuidmap", path=SYSTEM_PATH) is None:
        missing.append("newuidmap")
        packages.add("uidmap")
    if missing:
        raise PreflightFailed(
            f"building the image of machines needs what is not on this machine: {', '.join(missing)}",
            hint=f"apt-get install {' '.join(sorted(packages))} (or run ./bootstrap.sh)",
        )
    if not is_root():
        done = subprocess.run(
            [*_as_owner(), "true"], capture_output=True, text=True, check=False, env=_environment()
        )
        if done.returncode:
            raise PreflightFailed(
                "building the image needs root or user namespaces, and this user cannot make one: "
                f"{telling_line(done.stderr)}",
                hint="run the same command once with sudo (the image stays in your cache), or give this "
                f"user ids: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER{_sysctls()}",
            )


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for building, on disk and not in memory; removed with everything in it.

    The user namespace's root must get through to it, which a home directory often forbids: it lies in
    $TMPDIR or /var/tmp. Its name cannot be guessed and it cannot be listed.
    """
    parent = Path(os.environ.get("TMPDIR") or "/var/tmp")
    prefix = f"swarmscope-image-{os.geteuid()}-"
    # only one build runs at a time (the caller holds the lock): what is there is of one that was killed
    for old in parent.glob(f"{prefix}*"):
        if old.stat().st_uid == os.geteuid() and not old.is_symlink():
            remove_tree(old)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        remove_tree(folder)


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where a build works, and what its steps share. ``stop`` ends what runs, from another thread."""

    scratch: Path
    log: Path
    stop: threading.Event

    def make_tree(
        self, tree: Path, *, packages: Sequence[str], sources: Sequence[str], suite: str, rules: Sequence[str]
    ) -> None:
        """Install ``packages``, and what Debian calls essential, into ``tree``; ``rules`` are dpkg's options.

        Raises SwarmscopeError with apt's or dpkg's reason.
        """
        options = [
            "--variant=essential",
            "--aptopt=APT::Install-Recommends false",
            "--aptopt=Acquire::Languages none",
            "--aptopt=Acquire::Retries 3",
            f"--include={','.join(packages)}",
            *(f"--dpkgopt={rule}" for rule in rules),
        ]
        mode = "root" if is_root() else "unshare"
        argv = ["mmdebstrap", f"--mode={mode}", "--format=directory", *options, suite, str(tree), *sources]
        self._run(argv, what="making a Debian root file system")

    def inside(self, tree: Path, *argv: str) -> None:
        """Run a command with ``tree`` as its root, and /proc and harmless devices there."""
        # on root's own machine the mounts stay out of everybody's sight, and go with the command
        private = ["unshare", "--mount", "--pid", "--fork", "--kill-child"] if is_root() else []
        argv_inside = [*private, "sh", "-ec", ENTER_TREE, "sh", str(tree), *argv]
        self._run([*_as_owner(), *argv_inside], what=f"running {' '.join(argv[:2])}")

    def beside(self, *argv: str) -> None:
        """Run a command of this machine as the owner of trees. Raises SwarmscopeError."""
        self._run([*_as_owner(), *argv], what=f"running {argv[0]}")

    def open_copy(self, file: Path, name: str) -> Path:
        """A copy that the owner of trees can read: caches lie in homes that are closed to it."""
        copy = self.scratch / name
        shutil.copyfile(file, copy)
        copy.chmod(0o644)
        return copy

    def make_disk(self, tree: Path, disk: Path, *, size_gib: int) -> None:
        """Make ``disk`` (qcow2, sparse) with one ext4 file system, labelled ``root``, that holds ``tree``."""
        made = self.scratch / "made"
        made.mkdir()
        # the owner of trees is another user here
        made.chmod(0o777)
        raw = made / "disk.raw"
        how = ["-q", "-F", "-t", "ext4", "-L", "root", "-m", "0", "-J", "size=32"]
        self.beside("mke2fs", *how, "-d", str(tree), str(raw), f"{size_gib}G")
        self.beside("chmod", "644", str(raw))
        self._run(
            ["qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", str(raw), str(disk)], what="qemu-img"
        )
        raw.unlink()

    def _run(self, argv: Sequence[str], *, what: str) -> None:
        # TERM and not KILL when we are killed: mmdebstrap then unmounts and removes what it made
        guard = ["setpriv", "--pdeathsig", "TERM"]
        with self.log.open("ab") as file:
            file.write(f"+ {' '.join(argv)}\n".encode())
            file.flush()
            start = file.tell()
            process = subprocess.Popen(
                [*guard, *argv], stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=_environment()
            )
            try:
                code = _wait(process, self.stop)
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
        if code:
            with self.log.open("rb") as file:
                file.seek(start)
                told = file.read().decode(errors="replace")
            raise SwarmscopeError(f"{what} failed: {telling_line(told) or f'exit {code}'}")


def _wait(process: subprocess.Popen[bytes], stop: threading.Event) -> int:
    while True:
        try:
            return process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            if stop.is_set():
                process.terminate()


def remove_tree(folder: Path) -> None:
    """Remove a folder, also where what is in its folders belongs to our subordinate ids."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists() and not is_root():
        # named one by one: the folder itself cannot be listed by the namespace's root
        inner = [str(path) for path in folder.iterdir()]
        subprocess.run(
            [*_as_owner(), "rm", "-rf", *inner], capture_output=True, check=False, env=_environment()
        )
        shutil.rmtree(folder, ignore_errors=True)


def _as_owner() -> list[str]:
    return [] if is_root() else ["mmdebstrap", "--unshare-helper"]


def _environment() -> dict[str, str]:
    kept = {
        k: v for k, v in os.environ.items() if k.lower().endswith("_proxy") or k in {"HOME", "TMPDIR", "USER"}
    }
    return {**kept, "PATH": SYSTEM_PATH, "LC_ALL": "C.UTF-8"}


def _run(argv: Sequence[str], *, log: Path, what: str) -> None:
    # TERM and not KILL when we are killed: mmdebstrap then unmounts and removes what it made
    guard = ["setpriv", "--pdeathsig", "TERM"]
    with log.open("ab") as file:
        file.write(f"+ {' '.join(argv)}\n".encode())
        file.flush()
        start = file.tell()
        code = subprocess.run(
            [*guard, *argv],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            check=False,
            env=_environment(),
        ).returncode
    if code:
        with log.open("rb") as file:
            file.seek(start)
            told = file.read().decode(errors="replace")
        raise SwarmscopeError(f"{what} failed: {telling_line(told) or f'exit {code}'}")


def telling_line(text: str) -> str:
    """The most telling line of a tool's complaint: its first error, or else its end."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E: ", "Err:", "error:")) or ": error: " in line]
    return errors[0] if errors else lines[-1] if lines else ""


def _sysctls() -> str:
    wanted = []
    for name, value in (
        ("kernel.unprivileged_userns_clone", "1"),
        ("kernel.apparmor_restrict_unprivileged_userns", "0"),
    ):
        path = Path("/proc/sys", *name.split("."))
        if path.exists() and path.read_text(encoding="ascii").strip() != value:
            wanted.append(f"sysctl {name}={value}")
    return f"; {'; '.join(wanted)}" if wanted else ""
