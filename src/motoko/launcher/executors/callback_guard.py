"""Callbacks of the event loop whose errors end a task, and so the launcher.

A task for each callback would cost more than the start of a short run.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable


class CallbackGuard:
    """Makes calls until ``run`` ends; the first error ends it."""

    def __init__(self) -> None:
        self._error: BaseException | None = None
        self._failed = anyio.Event()
        self._ended = False

    def call(self, work: Callable[[], object]) -> None:
        """Call ``work``, in the thread of the event loop."""
        if self._ended:
            return
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - ``run`` raises it
            self._ended, self._error = True, error
            self._failed.set()

    def call_soon(self, work: Callable[[], object]) -> None:
        """Call ``work`` in the next step of the event loop."""
        asyncio.get_running_loop().call_soon(self.call, work)

    async def run(self) -> None:
        """Wait until a call fails, and raise its error. Afterwards, no call is made."""
        try:
            await self._failed.wait()
            assert self._error is not None
            raise self._error
        finally:
            self._ended = True
