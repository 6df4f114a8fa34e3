"""Detect that a workflow's state directory was moved, removed or replaced.

A renamed directory keeps its inode number, which is the same on all machines that mount it. A copy
has another one.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from motoko.errors import ServerError
from motoko.runtime.daemons import PidFile, PidRecord
from motoko.runtime.files import file_identity
from motoko.runtime.ports import SYSTEM
from motoko.runtime.processes import current

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.runtime.ports import Clock
    from motoko.server.state_dir import StateDir

CHECK_SECONDS: Final = 5.0  # between two checks by a daemon
OLD_PATH_SECONDS: Final = 15.0  # for which to wait for users of an old path
PAUSE: Final = 0.05

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PathGuard:
    """A path as a process found it. If it did not exist, it is never missed."""

    path: Path
    inode: int | None
    follow: bool = True

    @classmethod
    def at(cls, path: Path, *, follow: bool = True) -> Self:
        """Return a guard of the current file or directory; ``follow`` links."""
        return cls(path, file_identity(path, follow=follow), follow)

    def is_replaced(self) -> bool:
        """Return whether it was moved, removed or replaced; False while it is unavailable."""
        with contextlib.suppress(OSError):
            found = file_identity(self.path, follow=self.follow)
            return self.inode is not None and found != self.inode
        return False


class StateDirGuard(PathGuard):
    """The state directory as a process found it."""

    @classmethod
    def of(cls, state: StateDir) -> Self:
        """Return a guard of the current state directory."""
        return cls.at(state.path)

    def missing_error(self) -> ServerError | None:
        """Return the error for a directory that was moved or removed, None if it was not."""
        if not self.is_replaced():
            return None
        return ServerError(
            f"{self.path} no longer exists: it was moved or removed",
            hint="If it was moved, restart the interrupted commands there.",
        )

    def check(self) -> None:
        """Raise ServerError if the directory was moved or removed."""
        error = self.missing_error()
        if error is not None:
            raise error


def wait_for_old_path_users(state: StateDir, *, clock: Clock = SYSTEM.clock) -> None:
    """Wait up to OLD_PATH_SECONDS for the exit of processes that know an old path. This blocks."""
    deadline = clock.monotonic() + OLD_PATH_SECONDS
    for file, record in _old_path_users(state):
        if file.owner_alive():
            log.warning(
                "waiting for the exit of process %d, which knows %s as %s",
                record.process.pid, state.path, record.directory,
            )  # fmt: skip
        while file.owner_alive() and clock.monotonic() < deadline:
            clock.sleep(PAUSE)


def _old_path_users(state: StateDir) -> Iterator[tuple[PidFile, PidRecord]]:
    for path in (*state.path.glob("*.json"), *state.path.glob("users/*.json")):
        file = PidFile(path)
        record = file.read()
        if record is None or record.directory is None or record.process.is_same(current()):
            continue
        known, now = record.directory, path.parent
        # One directory may have two paths, for example if it is mounted twice.
        if known != now and file_identity(known) != file_identity(now):
            yield file, record
