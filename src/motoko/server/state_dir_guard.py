"""Whether a workflow's state directory is still the one that a process was started for.

A directory keeps its inode number when it is renamed, and has the same one for all machines that
mount it; a copy has another.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

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
FORMER_SECONDS: Final = 15.0  # for those to end that know the directory under a former name
PAUSE: Final = 0.05

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StateDirGuard:
    """The state directory as a process found it; one that is not there, is never missed."""

    path: Path
    inode: int | None

    @classmethod
    def of(cls, state: StateDir) -> StateDirGuard:
        """Return what the state directory is at present."""
        return cls(state.path, file_identity(state.path))

    def missing_error(self) -> ServerError | None:
        """Return the error that says that the directory was moved or removed; None if not."""
        # What cannot be told now, as on a file server that has gone, is taken for unchanged.
        with contextlib.suppress(OSError):
            if self.inode is not None and file_identity(self.path) != self.inode:
                return ServerError(
                    f"{self.path} does not exist any more: it was moved or removed",
                    hint="If it was moved, start again what was interrupted where it is now.",
                )
        return None

    def check(self) -> None:
        """Raise ServerError if the directory was moved or removed."""
        lost = self.missing_error()
        if lost is not None:
            raise lost


def wait_for_old_path_users(state: StateDir, *, clock: Clock = SYSTEM.clock) -> None:
    """Wait until those have ended that know the directory under a name that it had before.

    They end by themselves; after FORMER_SECONDS they are waited for no longer. Blocks.
    """
    deadline = clock.monotonic() + FORMER_SECONDS
    for file, record in _former(state):
        if file.owner_alive():
            log.warning(
                "waiting for process %d to end, which knows %s as %s",
                record.process.pid, state.path, record.home,
            )  # fmt: skip
        while file.owner_alive() and clock.monotonic() < deadline:
            clock.sleep(PAUSE)


def _former(state: StateDir) -> Iterator[tuple[PidFile, PidRecord]]:
    for path in (*state.path.glob("*.json"), *state.path.glob("users/*.json")):
        file = PidFile(path)
        record = file.read()
        if record is None or record.home is None or record.process.is_same(current()):
            continue
        # One directory may have two names, as where it is mounted twice.
        if record.home != path.parent and file_identity(record.home) != file_identity(path.parent):
            yield file, record
