"""Right of way: who met one conflict after the other goes before all others of the workflow.

An action that takes longer than the time between other actions' commits to what it reads would meet
conflicts for ever. After some of them its firing takes a lock that all processes of the workflow
share; while it is held, other firings begin no call. The lock orders calls and protects nothing:
where it cannot be had, or is held for too long, everybody goes on without it.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Final

import anyio

from motoko.errors import MotokoError
from motoko.runtime.file_lock import FileLock, is_held

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

URGENT: Final = 12  # conflicts in a row after which a firing goes first
HOLD: Final = 10.0  # seconds for which others let it
FIRST_PAUSE: Final = 0.001
MAX_DOUBLINGS: Final = 9
LOOK: Final = 0.05  # seconds at most; at random, or all would go on at once


class FiringPriority:
    """One firing's part in it; what it has taken it gives back at the end of the ``with`` block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(path, timeout=0, purpose="a firing that met many conflicts")
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, conflicts: int) -> None:
        """Return when this firing may call its action, which has met so many conflicts."""
        if self._lock.held:
            return
        if conflicts:
            pause = FIRST_PAUSE * 2 ** min(conflicts, MAX_DOUBLINGS)
            await anyio.sleep(random.uniform(0, pause))
        deadline = time.monotonic() + HOLD
        mine = self._take if conflicts >= URGENT else self._is_free
        while not mine() and time.monotonic() < deadline:  # noqa: ASYNC110 - no process tells
            await anyio.sleep(random.uniform(0, LOOK))

    def _is_free(self) -> bool:
        return not is_held(self._path, at_most=HOLD)

    def _take(self) -> bool:
        try:
            self._lock.acquire()
        except MotokoError:
            # Where there is no place for it, nobody else has it either.
            return not self._path.parent.is_dir()
        except OSError:
            return True
        # An action may go on for hours after its first commit.
        self._timer = asyncio.get_running_loop().call_later(HOLD, self._lock.release)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._lock.release()
