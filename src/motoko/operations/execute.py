"""Execute a workflow in this process until it ends or a signal stops it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio

from motoko.errors import MotokoError, ServerError
from motoko.operations.progress import Progress, ProgressReader
from motoko.orchestrator.actions import to_exception
from motoko.orchestrator.asyncio_tasks import end_other_tasks
from motoko.orchestrator.end_recorder import ending_of, interrupted_by
from motoko.storage.session import Session
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from motoko.api.workflow import Workflow
    from motoko.operations.signals import SignalHandler
    from motoko.orchestrator.run_ends import Ending
    from motoko.storage.feed import CommitNotice

LEASE_POLL_INTERVAL: Final = 0.005
SUPERVISE_INTERVAL: Final = 1.0
REFRESH_INTERVAL: Final = 1.0  # of the progress without a commit
REFRESH_SHARE: Final = 10.0  # of the time that reading the progress takes, between two readings

logger = logging.getLogger("motoko.operations")


def execute(
    workflow: Workflow,
    params: Mapping[str, Any],
    signals: SignalHandler,
    *,
    started: Callable[[], object] = lambda: None,
    show: Callable[[Progress], object] | None = None,
    interval: float = 1.0,
    supervise: Callable[[], object] | None = None,
) -> None:
    """Run the orchestrator until the workflow ends; raise the exception that ended it.

    Call ``started`` when the lease of the run name is held. Call ``show`` with the progress at
    least every second, at most every ``interval`` seconds. Call ``supervise`` once a second in a
    thread; a MotokoError from it ends the workflow. If a signal ended the workflow, finish the
    current commit and raise KeyboardInterrupt with the signal's number.
    """
    services: list[Callable[[], Coroutine[Any, Any, None]]] = [
        partial(_call_when_started, workflow, started)
    ]
    if show is not None:
        services.append(partial(_watch, workflow, show, interval))
    try:
        with signals.interrupting_blocked_code(workflow.store.drain):
            anyio.run(_run, workflow, params, signals, services, supervise)
    except SystemExit as error:
        # Raised in a task that user code started: asyncio lets it end the loop.
        problem = to_exception(error)
        problem.add_note("in the orchestrator, in a concurrent task of its own")
        _record(workflow, ending_of(problem))
        raise problem from None
    except KeyboardInterrupt as interrupt:
        if signals.signal is None:
            _record(workflow, ending_of(interrupt))
        else:
            ending = interrupted_by(signals.signal)
            logger.info("%s", ending.reason)
            _record(workflow, ending)
        raise
    except Exception as error:
        _record(workflow, ending_of(error))  # it may come from outside the orchestrator
        raise


def _record(workflow: Workflow, ending: Ending) -> None:
    if workflow.context.recorder is not None:
        workflow.context.recorder.end(ending)


async def _run(
    workflow: Workflow,
    params: Mapping[str, Any],
    signals: SignalHandler,
    services: Sequence[Callable[[], Coroutine[Any, Any, None]]],
    supervise: Callable[[], object] | None,
) -> None:
    """Execute the workflow, with ``services`` at the same time."""
    failures: list[Exception] = []
    async with anyio.create_task_group() as tasks:
        for service in services:
            tasks.start_soon(service)
        with anyio.CancelScope() as scope, signals.cancelling(scope):
            if supervise is not None:
                tasks.start_soon(_supervise, supervise, failures, scope)
            try:
                await workflow.execute_async(**params)
            except Exception as error:  # noqa: BLE001 - raised below, outside the task group
                failures.append(error)
        tasks.cancel_scope.cancel()
    await end_other_tasks()
    if failures and not (signals.signal and isinstance(failures[0], ServerError)):
        raise failures[0]
    if failures or scope.cancelled_caught:
        raise KeyboardInterrupt(signals.signal)


async def _call_when_started(workflow: Workflow, started: Callable[[], object]) -> None:
    while workflow.context.execution is None:  # noqa: ASYNC110 - the lease notifies no one
        await anyio.sleep(LEASE_POLL_INTERVAL)
    started()


async def _supervise(
    supervise: Callable[[], object], failures: list[Exception], scope: anyio.CancelScope
) -> None:
    while True:
        await anyio.sleep(SUPERVISE_INTERVAL)
        try:
            await run_in_thread(supervise)
        except MotokoError as error:
            failures.append(error)
            scope.cancel()
            return
        except OSError as error:  # such as a full disk, which other parts report if they must
            logger.warning("cannot check the launcher: %s", error)


async def _watch(workflow: Workflow, show: Callable[[Progress], object], interval: float) -> None:
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def on_commit(_: CommitNotice) -> None:
        loop.call_soon_threadsafe(changed.set)

    try:
        database = await run_in_thread(lambda: workflow.store.database)
        with contextlib.ExitStack() as stack:
            session = stack.enter_context(
                contextlib.closing(await run_in_thread(lambda: Session(database)))
            )
            stack.callback(database.feed.subscribe(on_commit))
            name = workflow.run_name or ""
            reader = ProgressReader(workflow.store, workflow.config, name)
            stack.callback(reader.close)
            await _show_changes(reader, session, show, changed, interval)
    except Exception as error:
        name = f"{type(error).__name__}: {error}"
        text = error.message if isinstance(error, ServerError) else name
        logger.warning("the progress display stopped: %s", text)
        logger.debug("the traceback of this error", exc_info=error)


async def _show_changes(
    reader: ProgressReader,
    session: Session,
    show: Callable[[Progress], object],
    changed: asyncio.Event,
    interval: float,
) -> None:
    clock = reader.clock
    while True:
        changed.clear()
        started = clock.monotonic()
        await run_in_thread(session.refresh)
        show(await run_in_thread(lambda: reader.read(session)))
        pause = max(interval, REFRESH_SHARE * (clock.monotonic() - started))
        with anyio.move_on_after(max(pause, REFRESH_INTERVAL)):
            await anyio.sleep(pause)
            await changed.wait()
