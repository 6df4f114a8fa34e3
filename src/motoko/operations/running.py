"""Executing a workflow in this process until it ends or a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from typing import TYPE_CHECKING, Any, Final

import anyio

from motoko.errors import MotokoError
from motoko.operations.overview import Counts, counts_by_state
from motoko.storage.off_loop import in_thread
from motoko.storage.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    from motoko.storage.feed import Commit
    from motoko.workflow import Workflow

ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LEASE_LOOK: Final = 0.005
LOOK_SECONDS: Final = 1.0

logger = logging.getLogger("motoko.operations")


class Interruption:
    """Turns signals into a clean end: the first cancels, a further one interrupts at once.

    ``signal`` is the first one, None so far.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._cancel: Callable[[], object] | None = None

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Catch the signals that end a process, unless they are ignored (nohup)."""
        wanted = [n for n in ENDING_SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
        former = {number: signal.signal(number, self._came) for number in wanted}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _came(self, number: int, _frame: FrameType | None) -> None:
        first = self.signal is None
        if first:
            self.signal = number
        if not first or self._cancel is None:
            raise KeyboardInterrupt(self.signal)
        self._cancel()

    @contextlib.contextmanager
    def cancelling(self, scope: anyio.CancelScope) -> Iterator[None]:
        """Have the first signal cancel ``scope``; from within a running event loop."""
        loop = asyncio.get_running_loop()
        self._cancel = lambda: loop.call_soon_threadsafe(scope.cancel)
        try:
            yield
        finally:
            self._cancel = None


def execute(
    workflow: Workflow,
    params: Mapping[str, Any],
    interruption: Interruption,
    *,
    started: Callable[[], object] = lambda: None,
    show: Callable[[Counts], object] | None = None,
    interval: float = 1.0,
    look_after: Callable[[], object] | None = None,
) -> None:
    """Run the orchestrator until the workflow ends; raises what made it fail.

    ``started`` is called once the run name is ours. ``show`` gets the counts of runs by study and
    state whenever they have changed, at most every ``interval`` seconds. ``look_after`` is called
    in a thread once a second; a MotokoError that it raises ends the workflow. KeyboardInterrupt
    with the signal's number where a signal ended it; the commit under way is finished first.
    """

    async def all_of_it() -> None:
        failures: list[Exception] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_tell_when_started, workflow, started)
            if show is not None:
                tasks.start_soon(_watch, workflow, show, interval)
            with anyio.CancelScope() as scope, interruption.cancelling(scope):
                if look_after is not None:
                    tasks.start_soon(_look_again, look_after, failures, scope)
                try:
                    await workflow.execute_async(**params)
                except Exception as error:  # noqa: BLE001 - raised below, outside the task group
                    failures.append(error)
            tasks.cancel_scope.cancel()
        if failures:
            raise failures[0]
        if scope.cancelled_caught:
            raise KeyboardInterrupt(interruption.signal)

    anyio.run(all_of_it)


async def _tell_when_started(workflow: Workflow, started: Callable[[], object]) -> None:
    while workflow.context.execution is None:  # noqa: ASYNC110 - nothing tells of the lease
        await anyio.sleep(LEASE_LOOK)
    started()


async def _look_again(
    look: Callable[[], object], failures: list[Exception], scope: anyio.CancelScope
) -> None:
    while True:
        await anyio.sleep(LOOK_SECONDS)
        try:
            await in_thread(look)
        except MotokoError as error:
            failures.append(error)
            scope.cancel()
            return


async def _watch(workflow: Workflow, show: Callable[[Counts], object], interval: float) -> None:
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def tell(_: Commit) -> None:
        loop.call_soon_threadsafe(changed.set)

    database = await in_thread(lambda: workflow.store.database)
    session = await in_thread(lambda: Session(database))
    unsubscribe = database.feed.subscribe(tell)
    try:
        await _show_changes(workflow, session, show, changed, interval)
    except Exception:
        logger.exception("the progress cannot be shown any more")
    finally:
        unsubscribe()
        session.close()


async def _show_changes(
    workflow: Workflow,
    session: Session,
    show: Callable[[Counts], object],
    changed: asyncio.Event,
    interval: float,
) -> None:
    studies, run_name = list(workflow.task_managers), workflow.run_name or ""
    last: Counts = {}
    while True:
        changed.clear()
        await in_thread(session.refresh)
        counts = await in_thread(lambda: counts_by_state(session, studies, run_name))
        if counts != last:
            last = counts
            show(counts)
        await anyio.sleep(interval)
        await changed.wait()
