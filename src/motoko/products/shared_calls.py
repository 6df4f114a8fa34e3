"""Steps at work: of several builds that need a step at the same time one calls it, others wait."""

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
    """One call of a step, which a step of the job ``within`` has asked for."""

    step: StepSpec
    within: StepCall | None
    done: Future[None] = field(default_factory=Future)
    waits_for: list[StepCall] = field(default_factory=list)


# Followed into the threads and tasks that a build starts.
_IN_HAND: ContextVar[StepCall | None] = ContextVar("motoko_products_in_hand", default=None)


class CallRegistry:
    """The steps of one runner that are at work, in threads and in event loops.

    Each step is claimed by itself: a step may get products, in threads of its own too, while
    other steps are at work.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[StepSpec, StepCall] = {}

    def once(self, step: StepSpec, there: Callable[[], bool], call: Callable[[], None]) -> None:
        """Do ``call`` unless its products are ``there``, or wait for who does it already.

        What that one raises is raised here too, but not an interrupt: then it is called here.
        CycleError where waiting would never end: a step gets what is made of its own product.
        """
        while not there():
            with self._claimed(step) as other:
                if other is not None:
                    other.done.result()
                elif not there():
                    call()

    async def once_awaited(
        self, step: StepSpec, there: Callable[[], bool], call: Callable[[], Awaitable[None]]
    ) -> None:
        """Do as :meth:`once` does without blocking the event loop."""
        while not there():
            with self._claimed(step) as other:
                if other is not None:
                    await asyncio.wrap_future(other.done)
                elif not there():
                    await call()

    @contextlib.contextmanager
    def _claimed(self, step: StepSpec) -> Iterator[StepCall | None]:
        """Give the job that is at work with ``step``; None where there was none: it is ours."""
        in_hand = _IN_HAND.get()
        with self._lock:
            other = self._jobs.get(step)
            if other is None:
                job = self._jobs[step] = StepCall(step, in_hand)
                job.done.set_running_or_notify_cancel()  # who waits cannot cancel it
            else:
                _check_not_ours(other, in_hand)
                if in_hand is not None:
                    in_hand.waits_for.append(other)
        if other is None:
            with self._at_work(job):
                yield None
            return
        try:
            yield other
        finally:
            if in_hand is not None:
                in_hand.waits_for.remove(other)

    @contextlib.contextmanager
    def _at_work(self, job: StepCall) -> Iterator[None]:
        token = _IN_HAND.set(job)
        error: Exception | None = None
        try:
            yield
        except Exception as caught:
            error = caught
            raise
        finally:
            _IN_HAND.reset(token)
            with self._lock:
                del self._jobs[job.step]
            if error is None:
                job.done.set_result(None)
            else:
                job.done.set_exception(error)


def _check_not_ours(other: StepCall, in_hand: StepCall | None) -> None:
    """Raise CycleError if ``other`` waits for the job in hand, or for one that this is within."""
    ours: list[StepCall] = []
    while in_hand is not None:
        ours.append(in_hand)
        in_hand = in_hand.within
    met = [other]
    for job in met:  # grows while it is read
        if job in ours:
            path = [one.step.produces[0] for one in reversed(ours[: ours.index(job) + 1])]
            raise cycle_error([*path, path[0]])
        met += [one for one in job.waits_for if one not in met]
