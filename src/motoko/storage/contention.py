"""Turns: a commit that met conflicts has others wait until it is made.

Optimistic commits favour the small ones: one of thousands of runs takes a second, and whoever
changes one of these runs in that time has it begin anew, again and again. After a few conflicts it
therefore takes a turn, a lock on a file that all processes of the workflow share, and who is about
to commit waits until the turn is over. The system releases the lock when its holder dies. It orders
commits and protects nothing: where it cannot be had, or is held for too long (by a process that was
stopped), everybody goes on without it.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from typing import TYPE_CHECKING, Final

from motoko.errors import MotokoError
from motoko.runtime.file_lock import FileLock, is_held

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

CONFLICTS: Final = 2  # after which a commit takes a turn
HOLD: Final = 10.0  # seconds for which others wait for one attempt
PAUSE: Final = 0.005  # seconds at most; at random, or all would go on at once


class PriorityLock:
    """One commit's part in it; what it has taken it gives back at the end of the ``with`` block.

    ``path``: the file that is locked. Where there is none nobody waits.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock: FileLock | None = None

    def wait(self, conflicts: int) -> None:
        """Return when the next attempt of a commit that met so many conflicts may begin.

        As long as nobody has a turn that takes microseconds.
        """
        if self._path is None:
            return
        if conflicts >= CONFLICTS:
            self._take(self._path)
        else:
            while is_held(self._path, at_most=HOLD):
                time.sleep(random.uniform(0, PAUSE))

    def _take(self, path: Path) -> None:
        if self._lock is None:
            self._lock = FileLock(path, timeout=HOLD, purpose="a commit that met conflicts")
        with contextlib.suppress(MotokoError, OSError):  # without it, then
            if not self._lock.held:
                self._lock.acquire()
            os.utime(path)  # others wait for this attempt too

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._lock is not None:
            self._lock.release()
