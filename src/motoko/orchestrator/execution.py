"""One execution of a workflow's orchestrator: ``main``, its events and their firings."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import math
from typing import TYPE_CHECKING, Any

import anyio

from motoko.core.firing import ConditionKind, FiringEngine
from motoko.core.orchestrator_status import OrchestratorStatus
from motoko.errors import Fenced, MotokoError, ParameterError, RunFailed, StorageError
from motoko.orchestrator.actions import (
    Action,
    call,
    event,
    is_event,
    is_normal_exit,
    location,
    to_run_list,
)
from motoko.orchestrator.asyncio_tasks import Interruptible
from motoko.orchestrator.end_recorder import ending_of
from motoko.orchestrator.event_dispatcher import EventDispatcher
from motoko.orchestrator.execution_context import ExecutionContext
from motoko.orchestrator.loading import main_arguments, why_not_async
from motoko.orchestrator.main_scope import MainScope
from motoko.orchestrator.stall import MAIN, StallDetector
from motoko.orchestrator.status_file import StatusPublisher
from motoko.orchestrator.task_supervisor import TaskSupervisor
from motoko.runtime import fault_points
from motoko.runtime.completion import to_completion
from motoko.storage.orchestrator_leases import Lease
from motoko.storage.query import count_active_runs, query_in_thread
from motoko.storage.scope import use_scope
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from motoko.core.orchestrator_status import EventStatus
    from motoko.core.states import Lifecycle
    from motoko.orchestrator.awaiting import AwaitContext
    from motoko.orchestrator.end_recorder import EndRecorder
    from motoko.orchestrator.execution_context import ExecutionHost
    from motoko.orchestrator.failures import ErrorHandler
    from motoko.storage.store import WorkflowStore

logger = logging.getLogger("motoko.orchestrator")


class WorkflowExecution:
    """Runs ``main`` and the registered actions until the workflow ends."""

    def __init__(
        self,
        host: ExecutionHost,
        store: WorkflowStore,
        run_name: str,
        params: Mapping[str, Any],
        *,
        handlers: Iterable[ErrorHandler],
        poll_interval: float,
        safety_poll: float | None,
        recorder: EndRecorder | None = None,
        single: bool = False,
        end_when_stalled: bool = False,
        dry_run: bool = False,
    ) -> None:
        self._recorder = recorder
        self._tasks = TaskSupervisor(self._on_failure, self._on_task_end)
        self._context = ExecutionContext(
            host,
            store,
            run_name,
            params=dict(params),
            lease=Lease(store, run_name),
            engine=FiringEngine(math.inf if single else poll_interval),
            tasks=self._tasks,
            status=StatusPublisher(
                store.state,
                run_name,
                store.clock,
                self._status,
                give_way=lambda: self._dispatcher.give_way(),  # noqa: PLW0108 - it exists later
            ),
            single=single,
        )
        self._dispatcher = EventDispatcher(
            self._context, poll_interval=poll_interval, safety_poll=safety_poll
        )
        self.listener = self._dispatcher.listener
        self.failures = self._dispatcher.failures
        self.failures.handlers = [*handlers]
        self.stall = StallDetector(
            self._context,
            self._dispatcher,
            self._is_idle,
            ends=end_when_stalled,
            dry_run=dry_run,
        )
        self.register = self._dispatcher.register
        self.evaluate_now = self._dispatcher.evaluate_now
        self.finish = self._tasks.finish
        self._awaits: AwaitContext | None = None
        self._main_scope: MainScope | None = None
        self._main_done = False
        self._no_active_runs = False

    @property
    def ending(self) -> bool:
        """Whether ``finished`` was set, or something failed."""
        return self._tasks.ending

    def _is_idle(self) -> bool:
        committed = self._main_scope is None or self._main_scope.is_committed
        return committed and self._dispatcher.is_idle

    async def run(
        self,
        main: Callable[..., Awaitable[Any]],
        awaits: AwaitContext,
        actions: Iterable[Action] = (),
    ) -> None:
        """Execute ``main`` and ``actions`` until the workflow ends; raise its first error."""
        await self._acquire()
        interruption: BaseException | None = None
        try:
            await self._record_start()
            awaits.execution, self._awaits = self, awaits
            for action in actions:
                self.register(action)
            async with self._tasks.open():
                self._tasks.start_service(self.listener.run)
                self._tasks.start_service(self._context.lease.renew_forever)
                self._tasks.start_service(self._dispatcher.run_timer)
                if not self._context.single:
                    self._tasks.start_service(self._context.status.run)
                self._tasks.start(
                    lambda: self._run_main(main), f"the orchestrator function {location(main)}"
                )
                await self._tasks.join()
                if not self._context.single:
                    await self._conclude()
        except BaseException as error:
            interruption = error
            raise
        finally:
            awaits.execution = None
            self.stall.close()
            self._dispatcher.close()
            await to_completion(self._close(interruption))
        if self._tasks.failure is not None:
            raise self._tasks.failure

    def _status(self, *, times: bool) -> tuple[OrchestratorStatus, Iterable[EventStatus]]:
        holder = self._context.lease.holder
        assert holder is not None
        awaits, left_out = self.stall.awaits()
        status = OrchestratorStatus(
            self._context.run_name,
            holder.host,
            holder.pid,
            holder.since,
            self._context.store.now(),
            self._main_done,
            awaits=awaits,
            awaits_left_out=left_out,
        )
        return status, self._dispatcher.statuses.collect(times=times)

    async def _acquire(self) -> None:
        try:
            await self._context.lease.acquire()
        except asyncio.CancelledError:
            await to_completion(self._release())
            raise
        fault_points.point("orchestrator.lease_acquired")

    async def _record_start(self) -> None:
        if self._recorder is not None:
            await run_in_thread(self._recorder.start)
            self._context.lease.on_renewal = self._recorder.renew

    async def _record_end(self, error: BaseException | None) -> None:
        """Record the end while the lease is held: no other orchestrator records its start."""
        if (recorder := self._recorder) is not None:
            ending = ending_of(error, self.failures.failed)
            await run_in_thread(lambda: recorder.end(ending))

    # -- main ------------------------------------------------------------------------------

    async def _run_main(self, main: Callable[..., Awaitable[Any]]) -> None:
        scope = MainScope(
            self._context.store.database,
            guard=self._context.lease.guard,
            on_commit=lambda: self.finish() if scope.finish_requested else None,
        )
        self._main_scope = scope
        logger.info("function %s starts for run name %r", location(main), self._context.run_name)
        try:
            with use_scope(scope):
                body = Interruptible(self._call_main(main, scope))
                scope.interrupt = body.interrupt
                await body
                await scope.flush()
        except BaseException as error:
            error.add_note(f"in the orchestrator function {location(main)}")
            raise
        finally:
            scope.close()
            scope.origin.end()
        self.failures.on_owner_completed(MAIN)
        self._dispatcher.publish_events()
        self._main_done = True

    async def _call_main(self, main: Callable[..., Awaitable[Any]], scope: MainScope) -> None:
        host = self._context.host
        arguments = main_arguments(main, host, self._context.params)
        try:
            result = main(host, **arguments)
            if not inspect.isawaitable(result):
                problem, hint = why_not_async(main)
                raise ParameterError(
                    f"the orchestrator's function {location(main)} is {problem}",
                    hint=f"{hint} `async def main(workflow, **params)`.",
                )
            await result
        except SystemExit as error:
            if not is_normal_exit(error):
                raise
            scope.request_finish()

    # -- the end ---------------------------------------------------------------------------

    def _on_task_end(self) -> None:
        self._dispatcher.notify_observers()
        if self.ending or not self._main_done or self._context.actions or self._tasks.in_flight:
            return
        if self._context.single or self._no_active_runs:
            self._tasks.end()
        else:
            self._tasks.start(self._wait_for_active_runs, "a task of Motoko")

    async def _wait_for_active_runs(self) -> None:
        assert self._awaits is not None
        with self.listener.commit_signal() as changed:
            while active := await self._active_runs():
                logger.info("main has returned; it waits for its runs: %s", _describe(active))
                with (
                    self._awaits.warn_if_unserved(active),
                    self.stall.waiting(MAIN, lambda: "its runs"),
                ):
                    await changed.wait()
                changed.clear()
        self._no_active_runs = True

    async def _active_runs(self) -> dict[str, Counter[Lifecycle]]:
        database, run_name = self._context.store.database, self._context.run_name
        return await query_in_thread(database, lambda s: count_active_runs(s, run_name))

    async def _on_failure(self, error: BaseException) -> None:
        if isinstance(error, RunFailed):
            with anyio.CancelScope(shield=True):
                await self.failures.report(error)

    async def _conclude(self) -> None:
        """Report the runs that are still active, and the unhandled failures."""
        tasks = self._tasks
        if isinstance(tasks.failure, StorageError | Fenced):
            return  # nothing can be read, or another orchestrator owns the runs
        try:
            if tasks.failure is None and self.ending and (active := await self._active_runs()):
                logger.warning(
                    "finished was set while runs of %r are not in a terminal state (%s); they are "
                    "left as they are, and the next start with this run name adopts them",
                    self._context.run_name, _describe(active),
                )  # fmt: skip
            await self.failures.raise_unhandled()
        except Exception as error:  # noqa: BLE001 - every error ends the workflow
            tasks.failure = tasks.failure or error

    async def _close(self, interruption: BaseException | None) -> None:
        if not self._context.single:
            await self._context.status.publish()
        await self._record_end(self._tasks.failure or interruption)
        await self._release()

    async def _release(self) -> None:
        if isinstance(self._tasks.failure, StorageError):
            return  # the server is unavailable; the lease expires
        try:
            await self._context.lease.release()
        except MotokoError as error:
            logger.warning(
                "could not release the lease on %r: %s", self._context.run_name, error.message
            )


def _describe(active: dict[str, Counter[Lifecycle]]) -> str:
    return ", ".join(
        f"{number} {state} in {study}"
        for study, counts in active.items()
        for state, number in counts.items()
    )


async def evaluate_once(
    awaits: AwaitContext, execution: WorkflowExecution, actions: Iterable[Action]
) -> bool:
    """Evaluate these actions' conditions once and wait for their firings; return whether any fired.

    ``execution`` is used only outside a running execution.
    """
    wanted = list(actions)
    if awaits.execution is not None:
        return await awaits.execution.evaluate_now(wanted)
    fired: list[bool] = []

    async def evaluate(workflow: Any) -> None:
        del workflow
        fired.append(await execution.evaluate_now(wanted))
        execution.finish()

    await execution.run(evaluate, awaits, wanted)
    return any(fired)


async def fire_now(
    awaits: AwaitContext,
    execution: WorkflowExecution,
    name: str,
    task: str,
    callback: Any,
    trigger: Any,
    get_params: Any,
) -> Any:
    """Fire one action for a trigger, in transactions, and return its result."""
    runs = to_run_list(trigger)
    results: list[Any] = []

    @functools.wraps(callback)
    async def recording(**kwargs: Any) -> None:
        results.append(await call(callback, kwargs))

    params = get_params if get_params is None or callable(get_params) else lambda: get_params
    chosen = list(runs) if runs is not None else bool(trigger)
    action = Action(
        name,
        task,
        tuple(sorted({run.study for run in runs})) if runs else ("",),
        ConditionKind.NO_ARGUMENTS,
        lambda: chosen,
        event(recording) if is_event(callback) else recording,
        params,
    )
    await evaluate_once(awaits, execution, [action])
    return results[-1] if results else None
