"""Watch processes during their first moments, without a task for each.

Most of the work for a short run would otherwise be that of its tasks.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from motoko.launcher.attempts import Attempt
    from motoko.launcher.executors.base import ProcessHandle
    from motoko.launcher.executors.call_queue import CallQueue


class FirstMoments:
    """Calls ``on_end`` if a process ends in its first moments, else ``on_outlived``, by a queue."""

    def __init__(
        self,
        calls: CallQueue,
        on_end: Callable[[Attempt, int | None], object],
        on_outlived: Callable[[Attempt], object],
    ) -> None:
        self._calls = calls
        self._on_end = on_end
        self._on_outlived = on_outlived
        self._timers: dict[Attempt, asyncio.TimerHandle] = {}

    def add(self, attempt: Attempt, handle: ProcessHandle, seconds: float) -> bool:
        """Watch a process for ``seconds``; return False if the system cannot report its end."""
        if not handle.notify(partial(self._ended, attempt)):
            return False
        loop = asyncio.get_running_loop()
        self._timers[attempt] = loop.call_later(seconds, self._outlived, attempt)
        return True

    def _ended(self, attempt: Attempt, status: int | None) -> None:
        timer = self._timers.pop(attempt, None)
        if timer is not None:
            timer.cancel()
            self._calls.put(partial(self._on_end, attempt, status))

    def _outlived(self, attempt: Attempt) -> None:
        del self._timers[attempt]
        self._calls.put(partial(self._on_outlived, attempt))
