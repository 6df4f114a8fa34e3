"""Priority under contention: a commit or firing that had conflicts goes before all others.

Optimistic commits favour small ones: while a large one is prepared, others change the same runs. So
after a few conflicts it acquires a file lock that all processes of the workflow share, and the
others wait until that is released. The system releases it when its holder dies. The lock orders
work and protects nothing: if it is unavailable or held for too long, all continue without.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Final, Self

import anyio

from motoko.errors import MotokoError
from motoko.runtime.file_lock import FileLock, is_recently_locked
from motoko.runtime.ports import SYSTEM

if TYPE_CHECKING:
    from pathlib import Path

    from motoko.runtime.ports import Runtime

MAX_HOLD_SECONDS: Final = 10.0  # seconds for which others wait
COMMIT_CONFLICTS: Final = 2  # after which a commit has priority
LARGE_CONFLICTS: Final = 1  # the same for a commit that takes long
COMMIT_PAUSE: Final = 0.005  # seconds at most; random, so that waiting commits do not coincide
FIRING_CONFLICTS: Final = 12  # in a row, after which a firing has priority
FIRING_PAUSE: Final = 0.05
BACK_OFF: Final = 0.001
MAX_DOUBLINGS: Final = 9


class _Priority:
    """Releases an acquired lock at the end of the ``with`` block."""

    _lock: FileLock | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()


class PriorityLock(_Priority):
    """The share of one commit in the lock file ``path``. Without a path no commit waits.

    The commit has priority after so many ``conflicts``.
    """

    def __init__(
        self,
        path: Path | None,
        runtime: Runtime = SYSTEM,
        *,
        conflicts: int = COMMIT_CONFLICTS,
    ) -> None:
        self._path = path
        self._runtime = runtime
        self._conflicts = conflicts

    def wait(self, conflicts: int) -> None:
        """Wait until the next attempt of a commit with so many conflicts may start.

        That takes microseconds while no commit has priority.
        """
        if self._path is None:
            return
        if conflicts >= self._conflicts:
            self._acquire(self._path)
        else:
            while is_recently_locked(self._path, at_most=MAX_HOLD_SECONDS):
                self._runtime.clock.sleep(self._runtime.rng.uniform(0, COMMIT_PAUSE))

    def _acquire(self, path: Path) -> None:
        if self._lock is None:
            purpose = "a commit that had conflicts"
            self._lock = FileLock(path, timeout=MAX_HOLD_SECONDS, purpose=purpose)
        with contextlib.suppress(MotokoError, OSError):  # continue without
            if not self._lock.held:
                self._lock.acquire()
            os.utime(path)  # others wait for this attempt too


class FiringPriority(_Priority):
    """The share of one firing in the lock file ``path``: while it is held, no other firing starts.

    Without it, an action that takes longer than the time between others' commits never commits.
    """

    _lock: FileLock

    def __init__(self, path: Path, runtime: Runtime = SYSTEM) -> None:
        self._path = path
        self._runtime = runtime
        self._lock = FileLock(path, timeout=0, purpose="a firing that met many conflicts")
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, conflicts: int) -> None:
        """Wait until a firing that met so many conflicts in a row may call its action."""
        if self._lock.held:
            return
        clock, rng = self._runtime.clock, self._runtime.rng
        if conflicts:
            pause = BACK_OFF * 2 ** min(conflicts, MAX_DOUBLINGS)
            await anyio.sleep(rng.uniform(0, pause))
        deadline = clock.monotonic() + MAX_HOLD_SECONDS
        ready = self._acquire if conflicts >= FIRING_CONFLICTS else self._is_free
        while not ready() and clock.monotonic() < deadline:  # noqa: ASYNC110 - of other processes
            await anyio.sleep(rng.uniform(0, FIRING_PAUSE))

    def _is_free(self) -> bool:
        return not is_recently_locked(self._path, at_most=MAX_HOLD_SECONDS)

    def _acquire(self) -> bool:
        try:
            self._lock.acquire()
        except MotokoError:
            return not self._path.parent.is_dir()  # without a directory no process has the lock
        except OSError:
            return True
        # After its first commit an action may run for hours.
        self._timer = asyncio.get_running_loop().call_later(MAX_HOLD_SECONDS, self._lock.release)
        return True

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().__exit__()
