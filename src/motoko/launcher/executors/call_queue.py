"""Calls that one task of the event loop makes, and threads that work off a queue."""

from __future__ import annotations

from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio

from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


class CallQueue:
    """Calls for the task of ``run``, which their errors end. ``put`` belongs to the event loop."""

    def __init__(self) -> None:
        self._calls: deque[Callable[[], object]] = deque()
        self._wake = anyio.Event()

    def put(self, call: Callable[[], object]) -> None:
        """Queue a call."""
        self._calls.append(call)
        self._wake.set()

    async def run(self) -> None:
        """Make the calls in order, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            while self._calls:
                self._calls.popleft()()


class WorkThreads(Generic[_T]):
    """Threads that do ``work`` with each item, which costs less than a call of run_in_thread."""

    def __init__(self, work: Callable[[_T], object], threads: int) -> None:
        self._work = work
        self._threads = threads
        self._items: SimpleQueue[_T | None] = SimpleQueue()
        self._closing = False

    def put(self, item: _T) -> None:
        """Queue an item."""
        self._items.put(item)

    async def run(self) -> None:
        """Do the work until cancelled; then finish the present items, and drop the others."""
        async with anyio.create_task_group() as tasks:
            for _ in range(self._threads):
                tasks.start_soon(run_in_thread, self._work_off)
            try:
                await anyio.sleep_forever()
            finally:
                self._closing = True
                for _ in range(self._threads):
                    self._items.put(None)

    def _work_off(self) -> None:
        for item in iter(self._items.get, None):
            if not self._closing:
                self._work(item)
