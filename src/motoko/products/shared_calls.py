"""Running steps: one of several concurrent builds calls a step, the others wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from motoko.graph.plan import cycle_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from motoko.products.steps import StepSpec


@dataclass(eq=False)
class StepCall:
    """One call of a step; ``parent`` is the call of the step that requested it."""

    step: StepSpec
    parent: StepCall | None
    done: Future[None] = field(default_factory=Future)
    waits_for: list[StepCall] = field(default_factory=list)


# Inherited by the threads and tasks that a build starts.
_CURRENT: ContextVar[StepCall | None] = ContextVar("motoko_products_current_call", default=None)


class CallRegistry:
    """The running steps of one runner, in threads and in event loops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[StepSpec, StepCall] = {}

    def call_once(
        self, step: StepSpec, is_done: Callable[[], bool], call: Callable[[], None]
    ) -> None:
        """Do ``call`` unless the step ``is_done``, or wait for the build that is calling it.

        An exception of that call is raised here too; if it is interrupted, the step is called here.
        CycleError if the step waits for its own product.
        """
        while not is_done():
            with self._claim(step) as other:
                if other is not None:
                    other.done.result()
                elif not is_done():
                    call()

    async def call_once_async(
        self, step: StepSpec, is_done: Callable[[], bool], call: Callable[[], Awaitable[None]]
    ) -> None:
        """Do the same as :meth:`call_once` without blocking the event loop."""
        while not is_done():
            with self._claim(step) as other:
                if other is not None:
                    await asyncio.wrap_future(other.done)
                elif not is_done():
                    await call()

    @contextlib.contextmanager
    def _claim(self, step: StepSpec) -> Iterator[StepCall | None]:
        """Claim the step, and give None; give the running call if another build has it."""
        current = _CURRENT.get()
        with self._lock:
            other = self._calls.get(step)
            if other is None:
                call = self._calls[step] = StepCall(step, current)
                call.done.set_running_or_notify_cancel()  # waiting tasks cannot cancel it
            else:
                _check_no_deadlock(other, current)
                if current is not None:
                    current.waits_for.append(other)
        if other is None:
            with self._running(call):
                yield None
            return
        try:
            yield other
        finally:
            if current is not None:
                current.waits_for.remove(other)

    @contextlib.contextmanager
    def _running(self, call: StepCall) -> Iterator[None]:
        token = _CURRENT.set(call)
        error: Exception | None = None
        try:
            yield
        except Exception as caught:
            error = caught
            raise
        finally:
            _CURRENT.reset(token)
            with self._lock:
                del self._calls[call.step]
            if error is None:
                call.done.set_result(None)
            else:
                call.done.set_exception(error)


def _check_no_deadlock(other: StepCall, current: StepCall | None) -> None:
    """Raise CycleError if ``other`` waits for the current call or for one of its parents."""
    active: list[StepCall] = []
    while current is not None:
        active.append(current)
        current = current.parent
    waited_for = [other]
    for call in waited_for:  # grows during the loop
        if call in active:
            path = [one.step.produces[0] for one in reversed(active[: active.index(call) + 1])]
            raise cycle_error([*path, path[0]])
        waited_for += [one for one in call.waits_for if one not in waited_for]
