"""What awaits on runs and selections do, inside an orchestrator and in a plain asyncio script."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from motoko.errors import RunFailed, UnknownRunError
from motoko.handles.run import Run
from motoko.orchestrator.change_listener import RunWaiter
from motoko.orchestrator.failures import RETRY_HINT, describe
from motoko.orchestrator.unserved_runs import UnservedRunMonitor
from motoko.storage.session import Session
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Iterable,
        Iterator,
        Sequence,
    )

    from motoko.core.records import RunKey, RunRecord
    from motoko.orchestrator.execution import WorkflowExecution
    from motoko.orchestrator.unserved_runs import Served
    from motoko.storage.run_requests import RunRequest
    from motoko.storage.scope import Scope
    from motoko.storage.store import WorkflowStore


SHOWN: Final = 5


class AwaitContext:
    """A workflow's store and, while it is executed, its execution."""

    def __init__(self, store: WorkflowStore, served: Served) -> None:
        self.store = store
        self.execution: WorkflowExecution | None = None
        self._launchers = UnservedRunMonitor(store, served)

    @contextlib.contextmanager
    def noted(self, scope: Scope, describe: Callable[[], str]) -> Iterator[None]:
        """Note for the stall watch that the current task waits here."""
        if self.execution is None:
            yield
        else:
            with self.execution.stall.waiting(scope.cause, describe):
                yield

    @contextlib.contextmanager
    def wakes(self, study: str) -> Iterator[asyncio.Event]:
        """Lend an event that is set with every commit, to who waits for runs of ``study``."""
        if self.execution is not None:
            dispatcher = self.execution.dispatcher
            event = dispatcher.watch()
            try:
                yield event
            finally:
                dispatcher.forget(event)
            return
        event = asyncio.Event()
        with self._feeding(event), self._launchers.waiting([study]):
            yield event

    @contextlib.contextmanager
    def telling(self, waiter: RunWaiter) -> Iterator[None]:
        """Have a waiter told, or at least woken, when its runs may have ended."""
        if self.execution is not None:
            dispatcher = self.execution.dispatcher
            dispatcher.add(waiter)
            try:
                yield
            finally:
                dispatcher.drop(waiter)
            return
        studies = {key.study for key in waiter.keys}
        with self._feeding(waiter.event), self._launchers.waiting(studies):
            yield

    def attended(self, studies: Iterable[str]) -> contextlib.AbstractContextManager[None]:
        """Warn, in the block, if no launcher serves runs of these studies."""
        return self._launchers.waiting(studies)

    @contextlib.contextmanager
    def about_to_wait(self) -> Iterator[None]:
        """Have no bad end taken for nobody's until the caller comes to wait for it."""
        if self.execution is None:
            yield
            return
        with self.execution.bad_ends.about_to_wait():
            yield

    @contextlib.contextmanager
    def _feeding(self, event: asyncio.Event) -> Iterator[None]:
        loop = asyncio.get_running_loop()

        def wake(_: object) -> None:
            loop.call_soon_threadsafe(event.set)

        unsubscribe = self.store.database.feed.subscribe(wake)
        try:
            yield
        finally:
            unsubscribe()


async def recorded(
    context: AwaitContext, scope: Scope, study: str, wait: Callable[[], Awaitable[Iterable[RunKey]]]
) -> list[RunKey]:
    """Await ``wait()`` as one Motoko await of user code; returns the runs that it returns.

    Where an action is rerun and the await's result is on record, that is returned at once.
    """
    step = scope.begin_wait(study)
    call = await step.replayed()
    if call is not None:
        keys = list(call.runs or ())
        if call.failed:
            raise await run_in_thread(lambda: _failed_before(context, scope, keys))
        return keys
    try:
        keys = list(await wait())
    except RunFailed as error:
        step.returned([run.key for run in error.runs], failed=True)
        raise
    step.returned(keys)
    return keys


def _failed_before(context: AwaitContext, scope: Scope, keys: list[RunKey]) -> RunFailed:
    records = recorded_records(scope, keys)
    if not records:
        return RunFailed(f"{_named(keys)}: failed, and was removed since")
    return run_failed(context, scope, records)


def existing_records(session: Session, keys: Iterable[RunKey]) -> list[RunRecord]:
    """Return the records of those runs that still exist."""
    records = []
    for key in keys:
        with contextlib.suppress(UnknownRunError):
            records.append(session.run(key))
    return records


async def wait_until_committed(
    context: AwaitContext, scope: Scope, request: RunRequest
) -> list[RunKey]:
    """Return the runs of a request once whoever made it has committed them.

    StateError where it ends without that.
    """
    if request.committed is not None:
        return request.committed
    told, loop = asyncio.Event(), asyncio.get_running_loop()
    with request.origin.telling(lambda: loop.call_soon_threadsafe(told.set)):
        while True:
            over = request.origin.over
            found = request.committed
            if found is None:
                found = await run_in_thread(lambda: _find(context.store, request))
            if found is not None:
                return found
            if over:
                raise request.missing(over=True)
            with context.noted(scope, lambda: f"{request.origin.name} to commit {request}"):
                await told.wait()
            told.clear()


def _find(store: WorkflowStore, request: RunRequest) -> list[RunKey] | None:
    session = Session(store.database)
    try:
        return request.find(session)
    finally:
        session.close()


async def wait_for_runs(
    context: AwaitContext, scope: Scope, keys: Sequence[RunKey]
) -> AsyncIterator[RunRecord]:
    """Yield the runs' records as each reaches a terminal state, failed ones too."""
    waiter = RunWaiter(context.store, keys, told=context.execution is not None)
    with context.telling(waiter):
        while True:
            with context.noted(scope, lambda: f"{_named(waiter.remaining)} to end"):
                record = await waiter.next()
            if record is None:
                return
            yield record


async def wait_for_all(
    context: AwaitContext, scope: Scope, keys: Sequence[RunKey], *, fail_fast: bool = False
) -> list[RunRecord]:
    """Wait until all runs are in a terminal state; return the failed ones in the order of ``keys``.

    With ``fail_fast`` the first failure raises RunFailed instead.
    """
    failed: dict[RunKey, RunRecord] = {}
    async for record in wait_for_runs(context, scope, keys):
        if record.lifecycle.bad:
            failed[record.key] = record
            if fail_fast:
                raise run_failed(context, scope, [record])
    return [failed[key] for key in keys if key in failed]


def note_returned(context: AwaitContext, scope: Scope, records: Iterable[RunRecord]) -> None:
    """Note failed runs that user code was given: they are handled if it completes."""
    failed = [record for record in records if record.lifecycle.bad]
    if context.execution is not None and failed:
        context.execution.bad_ends.raised(getattr(scope, "owner", ""), failed)


def recorded_records(scope: Scope, keys: Iterable[RunKey]) -> list[RunRecord]:
    """Return the records of those runs that still exist, in the scope's snapshot."""
    with scope.view() as session:
        return existing_records(session, keys)


def _named(keys: Iterable[RunKey]) -> str:
    names = sorted(keys)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(str(key) for key in names[:SHOWN]) + more


def run_failed(context: AwaitContext, scope: Scope, bad: list[RunRecord]) -> RunFailed:
    """Return the error that an await raises for these failed runs, and note that it does."""
    hint = "Try them again with run.retry(), or with `motoko retry`."
    if context.execution is not None:
        context.execution.bad_ends.raised(getattr(scope, "owner", ""), bad)
        hint = RETRY_HINT
    runs = [Run(context.store, record.key) for record in bad]
    return RunFailed(describe(bad, runs), runs, hint=hint)


async def wait_for_match(
    context: AwaitContext, scope: Scope, study: str, ask: Callable[[], Any], what: str
) -> Any:
    """Wait until ``ask()``, called in a thread after each commit, returns something true.

    It asks for runs of ``study``.
    """
    with context.wakes(study) as changed:
        while True:
            found = await run_in_thread(ask)
            if found:
                return found
            await scope.renew()  # who waits holds no connection
            with context.noted(scope, lambda: what):
                await changed.wait()
            changed.clear()
