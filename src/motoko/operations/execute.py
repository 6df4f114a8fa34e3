"""Executing a workflow in this process until it ends or a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from typing import TYPE_CHECKING, Any, Final

import anyio

from motoko.errors import MotokoError, ServerError
from motoko.operations.explain import LauncherCoverage
from motoko.operations.overview import Progress, progress
from motoko.orchestrator.actions import to_exception
from motoko.orchestrator.asyncio_tasks import end_other_tasks
from motoko.storage.session import Session
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from motoko.api.workflow import Workflow
    from motoko.operations.signals import SignalHandler
    from motoko.storage.feed import CommitNotice

LEASE_LOOK: Final = 0.005
LOOK_SECONDS: Final = 1.0

logger = logging.getLogger("motoko.operations")


def execute(
    workflow: Workflow,
    params: Mapping[str, Any],
    interruption: SignalHandler,
    *,
    started: Callable[[], object] = lambda: None,
    show: Callable[[Progress], object] | None = None,
    interval: float = 1.0,
    look_after: Callable[[], object] | None = None,
) -> None:
    """Run the orchestrator until the workflow ends; raises what made it fail.

    ``started`` is called once the run name is ours. ``show`` gets the progress whenever it has
    changed, at most every ``interval`` seconds. ``look_after`` is called in a thread once a
    second; a MotokoError that it raises ends the workflow. KeyboardInterrupt with the signal's
    number where a signal ended it; the commit under way is finished first.
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
        await end_other_tasks()
        if failures and not (interruption.signal and isinstance(failures[0], ServerError)):
            raise failures[0]
        if failures or scope.cancelled_caught:
            raise KeyboardInterrupt(interruption.signal)

    try:
        with interruption.insisting(workflow.store.drain):
            anyio.run(all_of_it)
    except SystemExit as error:
        # In a task that user code started, which asyncio lets end the loop.
        problem = to_exception(error)
        problem.add_note("in the orchestrator, in a concurrent task of its own")
        raise problem from None
    except KeyboardInterrupt:
        if interruption.signal is not None:
            logger.info("asked to end by %s", signal.Signals(interruption.signal).name)
        raise


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
            await run_in_thread(look)
        except MotokoError as error:
            failures.append(error)
            scope.cancel()
            return
        except OSError as error:  # such as a full disk: whoever cannot go on says so
            logger.warning("the launcher could not be looked after: %s", error)


async def _watch(workflow: Workflow, show: Callable[[Progress], object], interval: float) -> None:
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def tell(_: CommitNotice) -> None:
        loop.call_soon_threadsafe(changed.set)

    try:
        database = await run_in_thread(lambda: workflow.store.database)
        with contextlib.ExitStack() as stack:
            session = stack.enter_context(
                contextlib.closing(await run_in_thread(lambda: Session(database)))
            )
            stack.callback(database.feed.subscribe(tell))
            await _show_changes(workflow, session, show, changed, interval)
    except ServerError as error:
        logger.warning("the progress cannot be shown any more: %s", error.message)
    except Exception as error:
        name = type(error).__name__
        logger.warning("the progress cannot be shown any more: %s: %s", name, error)
        logger.debug("it was read here", exc_info=error)


async def _show_changes(
    workflow: Workflow,
    session: Session,
    show: Callable[[Progress], object],
    changed: asyncio.Event,
    interval: float,
) -> None:
    studies, run_name = list(workflow.task_managers), workflow.run_name or ""
    last: Progress | None = None

    def serving() -> LauncherCoverage:
        return LauncherCoverage.of(session.tables, workflow.config, workflow.store.steady())

    while True:
        changed.clear()
        await run_in_thread(session.refresh)
        found = await run_in_thread(lambda: progress(session, studies, run_name, serving))
        if found != last:
            last = found
            show(found)
        await anyio.sleep(interval)
        await changed.wait()
