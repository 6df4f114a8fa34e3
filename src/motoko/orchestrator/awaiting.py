"""Await runs and selections, inside an orchestrator and in a plain asyncio script."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final, Protocol

from motoko.errors import RunFailed
from motoko.handles.run import Run
from motoko.orchestrator.end_recorder import Origin
from motoko.orchestrator.failures import RETRY_HINT, describe_failures
from motoko.orchestrator.run_waiter import RunWaiter
from motoko.orchestrator.unserved_runs import UnservedRunMonitor
from motoko.printable import join_names
from motoko.storage.awaited_ends import read_ends
from motoko.storage.query import query_in_thread, read_records
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence

    from motoko.core.records import RunKey, RunRecord
    from motoko.core.run_keys import RunKeys
    from motoko.orchestrator.actions import Action
    from motoko.orchestrator.change_listener import ChangeListener
    from motoko.orchestrator.end_recorder import EndRecorder
    from motoko.orchestrator.failures import FailureTracker
    from motoko.orchestrator.run_waiter import EndedRun
    from motoko.orchestrator.stall import AwaitedKeys, StallDetector
    from motoko.storage.awaited_ends import ReadEnds
    from motoko.storage.run_requests import RunRequest
    from motoko.storage.scope import Scope
    from motoko.storage.session import Session
    from motoko.storage.store import WorkflowStore

SHOWN: Final = 5  # runs in a description


class ActiveExecution(Protocol):
    """A running execution, as awaits and the workflow's own methods use it."""

    listener: ChangeListener
    failures: FailureTracker
    stall: StallDetector

    def register(self, action: Action) -> None:
        """Add an action."""

    def finish(self) -> None:
        """End the workflow."""

    async def evaluate_now(self, actions: Iterable[Action]) -> bool:
        """Evaluate conditions and wait for their firings; return whether any fired."""


class AwaitContext:
    """A workflow's store and, while it is executed, its execution.

    ``on_request`` is called with each request for runs.
    """

    def __init__(self, store: WorkflowStore) -> None:
        self.store = store
        self.execution: ActiveExecution | None = None
        self.origin = Origin()
        self.recorder: EndRecorder | None = None  # of the last execution
        self.on_request: Callable[[RunRequest], object] = lambda _: None
        self._unserved = UnservedRunMonitor(store)

    def waiting(
        self,
        scope: Scope,
        describe: Callable[[], str],
        runs: Callable[[], AwaitedKeys] = tuple,
    ) -> contextlib.AbstractContextManager[None]:
        """Register the current task as waiting, for these runs, with the stall detector."""
        if self.execution is None:
            return contextlib.nullcontext()
        return self.execution.stall.waiting(scope.cause, describe, runs)

    @contextlib.contextmanager
    def commit_signal(self, studies: Iterable[str]) -> Iterator[asyncio.Event]:
        """Return an event that every commit sets, for a task that waits for runs of studies."""
        if self.execution is not None:
            with self.execution.listener.commit_signal() as signal:
                yield signal
            return
        signal, loop = asyncio.Event(), asyncio.get_running_loop()

        def on_commit(_: object) -> None:
            loop.call_soon_threadsafe(signal.set)

        unsubscribe = self.store.database.feed.subscribe(on_commit)
        try:
            with self.warn_if_unserved(studies):
                yield signal
        finally:
            unsubscribe()

    def warn_if_unserved(self, studies: Iterable[str]) -> contextlib.AbstractContextManager[None]:
        """Warn within the block if no launcher serves runs of these studies."""
        return self._unserved.waiting(studies)

    def suspend_error_handlers(self) -> contextlib.AbstractContextManager[None]:
        """Suspend the error handlers while the caller commits runs that it will await."""
        if self.execution is None:
            return contextlib.nullcontext()
        return self.execution.failures.suspend_handlers()


async def replay_or_wait(
    context: AwaitContext, scope: Scope, study: str, wait: Callable[[], Awaitable[Sequence[RunKey]]]
) -> Sequence[RunKey]:
    """Await ``wait()`` as one Motoko await of user code, and return its runs.

    In a rerun of an action, return a recorded result at once.
    """
    step = scope.begin_await(study)
    call = await step.recorded_call()
    if call is not None:
        keys: Sequence[RunKey] = call.runs or ()
        if call.failed:
            raise await run_in_thread(lambda: _recorded_failure(context, scope, keys))
        return keys
    try:
        keys = await wait()
    except RunFailed as error:
        step.record_result([run.key for run in error.runs], failed=True)
        raise
    step.record_result(keys)
    return keys


def _recorded_failure(context: AwaitContext, scope: Scope, keys: Sequence[RunKey]) -> RunFailed:
    records = read_records(scope, keys)
    if not records:
        return RunFailed(f"{join_names(sorted(keys), SHOWN)}: failed, and no longer exists")
    return run_failed_error(context, scope, records)


async def wait_until_committed(context: AwaitContext, scope: Scope, request: RunRequest) -> RunKeys:
    """Return a request's runs when its origin has committed them; StateError if it never will."""
    if request.committed is not None:
        return request.committed
    changed, loop = asyncio.Event(), asyncio.get_running_loop()
    with request.origin.notifying(lambda: loop.call_soon_threadsafe(changed.set)):
        while True:
            over = request.origin.done
            found = request.committed
            if found is None:
                found = await query_in_thread(context.store.database, request.find)
            if found is not None:
                return found
            if over:
                raise request.not_committed_error(done=True)
            with context.waiting(scope, lambda: f"{request.origin.name} to commit {request}"):
                await changed.wait()
            changed.clear()


def wait_for_runs(
    context: AwaitContext, scope: Scope, keys: Sequence[RunKey], *, failures_only: bool = False
) -> AsyncIterator[EndedRun]:
    """Yield each run when it is in a terminal state, in order of their ends.

    The runs are those of one study. With ``failures_only``, yield only failed ones.
    """
    waiter = RunWaiter(keys, failures_only=failures_only)
    if context.execution is None:
        return _poll_runs(context, waiter)
    return _receive_runs(context, context.execution.listener, scope, waiter)


async def _receive_runs(
    context: AwaitContext, listener: ChangeListener, scope: Scope, waiter: RunWaiter
) -> AsyncIterator[EndedRun]:
    with listener.notified(waiter):
        while True:
            with context.waiting(
                scope,
                lambda: f"{join_names(waiter.awaited, SHOWN)} to end",
                lambda: waiter.awaited,
            ):
                ended = await waiter.next()
            if ended is None:
                return
            yield ended


async def _poll_runs(context: AwaitContext, waiter: RunWaiter) -> AsyncIterator[EndedRun]:
    def query(session: Session) -> ReadEnds:
        ids, only = waiter.awaited.remaining_ids(), waiter.failures_only
        return read_ends(session, waiter.study, ids, failures_only=only)

    with context.commit_signal([waiter.study] if waiter.awaited else []) as changed:
        while waiter.awaited:
            waiter.on_ends(await query_in_thread(context.store.database, query))
            while (ended := waiter.take_ended()) is not None:
                yield ended
            if waiter.awaited:
                await changed.wait()
                changed.clear()


async def wait_for_all(
    context: AwaitContext, scope: Scope, keys: Sequence[RunKey], *, fail_fast: bool = False
) -> list[RunRecord]:
    """Wait until all runs are in a terminal state; return the failed ones in the order of ``keys``.

    With ``fail_fast``, raise RunFailed at the first failure.
    """
    failed: dict[RunKey, RunRecord] = {}
    async for key, failure in wait_for_runs(context, scope, keys, failures_only=True):
        assert failure is not None
        failed[key] = failure
        if fail_fast:
            raise run_failed_error(context, scope, [failure])
    return [failed[key] for key in keys if key in failed] if failed else []


def record_returned(context: AwaitContext, scope: Scope, records: Iterable[RunRecord]) -> None:
    """Record failed runs that user code received: they are handled if it completes."""
    failed = [record for record in records if record.lifecycle.is_failure]
    if context.execution is not None and failed:
        context.execution.failures.record_raised(getattr(scope, "owner", ""), failed)


def run_failed_error(context: AwaitContext, scope: Scope, failed: list[RunRecord]) -> RunFailed:
    """Return the error that an await raises for these failed runs, and record it."""
    record_returned(context, scope, failed)
    hint = "Try them again with run.retry(), or with `motoko retry`."
    if context.execution is not None:
        hint = RETRY_HINT
    runs = [Run(context.store, record.key) for record in failed]
    return RunFailed(describe_failures(failed, runs), runs, hint=hint)


async def wait_for_match(
    context: AwaitContext, scope: Scope, study: str, query: Callable[[], Any], description: str
) -> Any:
    """Call ``query`` in a thread after each commit, until it returns a true result.

    It selects runs of ``study``.
    """
    with context.commit_signal([study]) as changed:
        while True:
            found = await run_in_thread(query)
            if found:
                return found
            await scope.refresh()  # a waiting task holds no connection
            with context.waiting(scope, lambda: description):
                await changed.wait()
            changed.clear()
