"""Where the agent keeps things on a host, and who may read them.

Scope: ``data`` (default /var/tmp/swarmscope) holds a folder for each run, 0700 and owned by the user who
called sudo, so that SFTP can fetch it; ``state`` (default /run/swarmscope) holds the lock, the ledgers and
one file for each running agent. Both can be moved for tests.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from .protocol import AgentError, safe_name


@dataclass(frozen=True)
class Places:
    """The two folders of an agent."""

    data: Path = Path("/var/tmp/swarmscope")
    state: Path = Path("/run/swarmscope")

    def prepare(self) -> None:
        """Make both folders; ``AgentError`` (failed) where they cannot be used safely."""
        try:
            self.state.mkdir(mode=0o755, parents=True, exist_ok=True)
            (self.state / "ledger").mkdir(mode=0o755, exist_ok=True)
            (self.state / "agents").mkdir(mode=0o755, exist_ok=True)
            self.data.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise AgentError(
                "failed",
                f"cannot make {error.filename}: {error.strerror}",
                hint="the agent needs root (sudo)",
            ) from error
        for folder in (self.data, self.state):
            stat = folder.lstat()
            # /var/tmp is world-writable: a folder or symlink planted there by another user must not be
            # followed.
            if folder.is_symlink() or stat.st_uid != os.geteuid():
                raise AgentError(
                    "failed",
                    f"{folder} belongs to another user",
                    hint="run the agent with sudo; as root, see who made it",
                )

    def run(self, run: str) -> Path:
        """The folder of a run (which need not exist)."""
        return self.data / safe_name(run, "run")

    def make_run(self, run: str) -> Path:
        """The folder of a run, made 0700 and given to the user behind sudo."""
        folder = self.run(run)
        folder.mkdir(mode=0o700, exist_ok=True)
        give_to_caller(folder)
        return folder

    def remove_run(self, run: str) -> bool:
        """Remove the folder of a run; False when there was none."""
        folder = self.run(run)
        if not folder.is_dir() or folder.is_symlink():
            return False
        shutil.rmtree(folder)
        return True


def give_to_caller(path: Path) -> None:
    """Make the user who called sudo the owner, who then may fetch it by SFTP. Nothing without sudo."""
    uid, gid = os.environ.get("SUDO_UID"), os.environ.get("SUDO_GID")
    if os.geteuid() == 0 and uid is not None and gid is not None:
        os.chown(path, int(uid), int(gid), follow_symlinks=False)
