"""Calls that callbacks of the event loop leave to one task."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable


class CallQueue:
    """Calls that the task of ``run`` makes. An error of a call ends that task."""

    def __init__(self) -> None:
        self._calls: deque[Callable[[], object]] = deque()
        self._wake = anyio.Event()

    def put(self, call: Callable[[], object]) -> None:
        """Queue a call, in the thread of the event loop."""
        self._calls.append(call)
        self._wake.set()

    async def run(self) -> None:
        """Make the calls in order, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            while self._calls:
                self._calls.popleft()()
