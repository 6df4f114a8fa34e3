"""Watch for processes that exit early, without a task for each.

The tasks of a short run would otherwise cost more than its start.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from motoko.launcher.attempts import Attempt
    from motoko.launcher.executors.base import ProcessHandle
    from motoko.launcher.executors.callback_guard import CallbackGuard


class EarlyExits:
    """Calls ``on_exit`` if a process exits early, else ``on_running``."""

    def __init__(
        self,
        guard: CallbackGuard,
        on_exit: Callable[[Attempt, int | None], object],
        on_running: Callable[[Attempt], object],
    ) -> None:
        self._guard = guard
        self._on_exit = on_exit
        self._on_running = on_running
        self._timers: dict[Attempt, asyncio.TimerHandle] = {}

    def watch(self, attempt: Attempt, handle: ProcessHandle, seconds: float) -> bool:
        """Watch a process for ``seconds``; return False if the system cannot report its exit."""
        if not handle.notify(partial(self._exited, attempt)):
            return False
        loop = asyncio.get_running_loop()
        self._timers[attempt] = loop.call_later(seconds, self._still_running, attempt)
        return True

    def _exited(self, attempt: Attempt, status: int | None) -> None:
        timer = self._timers.pop(attempt, None)
        if timer is not None:
            timer.cancel()
            self._guard.call(partial(self._on_exit, attempt, status))

    def _still_running(self, attempt: Attempt) -> None:
        del self._timers[attempt]
        self._guard.call(partial(self._on_running, attempt))
