"""A coroutine in which an error can be raised while it waits for something of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator


class Interruptible:
    """Awaits a coroutine; ``interrupt`` raises an error in it, at the await where it is."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self._task: asyncio.Task[Any] | None = None
        self._error: BaseException | None = None

    @property
    def coroutine(self) -> Coroutine[Any, Any, Any]:
        """Return what is awaited."""
        return self._coroutine

    def interrupt(self, error: BaseException) -> bool:
        """Raise ``error`` in the coroutine, in this turn of the loop or the next.

        Returns False where the coroutine has ended, or another error is on its way. To be called
        in the event loop, from another task or a callback.
        """
        if self._task is None or self._error is not None:
            return False
        self._error = error
        self._task.cancel()  # ends what it waits for; it is told of the error instead
        return True

    def __await__(self) -> Generator[Any, Any, Any]:
        self._task = asyncio.current_task()
        value: Any = None
        error: BaseException | None = None
        try:
            while True:
                if self._error is not None:
                    error, self._error = self._error, None
                    if self._task is not None:
                        self._task.uncancel()
                try:
                    if error is None:
                        awaited = self._coroutine.send(value)
                    else:
                        awaited = self._coroutine.throw(error)
                except StopIteration as done:
                    return done.value
                value = error = None
                try:
                    value = yield awaited
                except BaseException as raised:  # noqa: BLE001 - it is the coroutine's to handle
                    error = raised
        finally:
            self._task = None
