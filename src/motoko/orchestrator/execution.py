"""One execution of a workflow's orchestrator: ``main``, the events, the firings, and the end."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio
import anyio.abc

from motoko.core.firing import ConditionKind, EventSpec, FiringEngine
from motoko.errors import (
    Fenced,
    MotokoError,
    ParameterError,
    RunFailed,
    StorageError,
)
from motoko.orchestrator.actions import accepted_arguments, location
from motoko.orchestrator.blocking import LoopBlockMonitor
from motoko.orchestrator.calling import is_normal_exit, problem_of
from motoko.orchestrator.cancellation import end_tasks
from motoko.orchestrator.change_listener import ChangeListener, ChangeSet
from motoko.orchestrator.condition_poller import ConditionPoller
from motoko.orchestrator.conditions import Matches, Truth, evaluate_constraint
from motoko.orchestrator.failures import FailureTracker, failed_records
from motoko.orchestrator.firing_executor import FiringExecutor
from motoko.orchestrator.firing_history import FiringHistory, load_history
from motoko.orchestrator.interruptible import Interruptible
from motoko.orchestrator.last_runs import report_left, wait_for_last_runs
from motoko.orchestrator.loading import why_not_async
from motoko.orchestrator.scopes import MainScope
from motoko.orchestrator.stall import StallDetector, active_runs
from motoko.runtime import fault_points
from motoko.storage.leases import Lease
from motoko.storage.scope import entered

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from motoko.core.firing import Firing
    from motoko.core.records import RunRecord
    from motoko.orchestrator.actions import Action
    from motoko.orchestrator.awaiting import AwaitContext
    from motoko.storage.session import Session
    from motoko.storage.store import WorkflowStore

# Seconds by which what constraints fired goes before the asking of Python conditions.
FIRST_FIRE: Final = 0.004
GUARDED: Final = "motoko.orchestrator.execution.WorkflowExecution._guarded"  # the name of tasks

logger = logging.getLogger("motoko.orchestrator")


class ExecutionHost(Protocol):
    """What an execution needs of the workflow it executes."""

    @property
    def run_name(self) -> str | None:
        """Return the run name."""
        ...

    def task_manager(self, study: str) -> Any:
        """Return a study's task manager."""
        ...


@dataclass(frozen=True, slots=True)
class ConditionResults:
    """What a pass over the news found; ``active``: how many runs can move, if everything is new."""

    answers: list[Matches]
    past: list[FiringHistory]
    fresh: set[str]
    bad: list[RunRecord]
    active: int | None


class WorkflowExecution:
    """Runs ``main`` and the registered actions until the workflow ends."""

    def __init__(
        self,
        host: ExecutionHost,
        store: WorkflowStore,
        run_name: str,
        params: Mapping[str, Any],
        *,
        poll_interval: float,
        safety_poll: float | None,
        single: bool = False,
        end_when_stalled: bool = False,
    ) -> None:
        self.host = host
        self._single = single
        self.store = store
        self.run_name = run_name
        self.params = dict(params)
        self.lease = Lease(store, run_name)
        self.engine = FiringEngine(math.inf if single else poll_interval)
        self.dispatcher = ChangeListener(store, safety_poll=safety_poll, examiner=self)
        self.actions: dict[str, Action] = {}
        self.bad_ends = FailureTracker(self)
        self.asker = ConditionPoller(self, poll_interval)
        self.runner = FiringExecutor(self)
        self._loop = asyncio.get_running_loop()
        self._fresh: set[str] = set()
        self._tasks: anyio.abc.TaskGroup | None = None
        self._scopes: set[anyio.CancelScope] = set()
        self._work: dict[asyncio.Task[None], str] = {}
        self._closing = False
        self._in_flight = 0
        self._pumping = False
        self._main_done = False
        self._runs_ended = False
        self._context: AwaitContext | None = None
        self._over = asyncio.Event()
        self._observers: set[asyncio.Event] = set()
        self._examined: set[str] = set()
        self._timer = asyncio.Event()
        self.stall = StallDetector(self, ends=end_when_stalled)
        self.active = 0  # runs that can move, when everything was last looked at
        self._main_scope: MainScope | None = None
        self.failure: BaseException | None = None
        self.ending = False

    # -- registering -----------------------------------------------------------------------

    def register(self, action: Action) -> None:
        """Take an action in, from any thread; its open firings of an earlier start begin again."""
        self.actions[action.id] = action
        event = EventSpec(action.id, action.studies, action.kind, action.once)
        self._loop.call_soon_threadsafe(self._registered, event)

    def _registered(self, event: EventSpec) -> None:
        self.engine.register(event)
        self._fresh.add(event.name)
        self._examined.discard(event.name)
        self.say_events()
        self.dispatcher.look_again()

    def say_events(self) -> None:
        """Have others know which events ``main`` has registered so far."""
        if not self._single:
            self.lease.say_events(sorted(self.actions))

    # -- news ------------------------------------------------------------------------------

    def prepare(self) -> tuple[list[Action], set[str]]:
        """Return all actions, and which of them are new and to be asked of everything."""
        fresh, self._fresh = self._fresh, set()
        return list(self.actions.values()), fresh

    def examine(
        self, session: Session, news: ChangeSet, prepared: tuple[list[Action], set[str]]
    ) -> ConditionResults:
        """Ask all constraints of what the news touched; runs in a thread."""
        actions, fresh = prepared
        answers: list[Matches] = []
        for action in actions:
            if action.kind is ConditionKind.CONSTRAINT:
                answers += evaluate_constraint(
                    session, action, news, self.run_name, fully=action.id in fresh
                )
        past = [
            load_history(session, self.run_name, action) for action in actions if action.id in fresh
        ]
        bad = failed_records(session, self.run_name) if news.everything else []
        active = active_runs(session, self.run_name) if news.everything else None
        return ConditionResults(answers, past, fresh, bad, active)

    def absorb(self, news: ChangeSet, result: ConditionResults) -> None:
        """Take in what commits touched and what the constraints answered."""
        for past in result.past:
            self._recover(past)
        for answer in result.answers:
            self.answered(answer)
        if not self._single:
            for touched in news.touched:
                self.engine.commit(touched)
            self.asker.news(news)
        self.bad_ends.news(news)
        self.bad_ends.found(result.bad)
        self._examined |= result.fresh - self._fresh
        if result.active is not None:
            self.active = result.active
        self.pump()
        if not self._single:
            self._loop.call_later(FIRST_FIRE, self.asker.ask_open)

    def _recover(self, past: FiringHistory) -> None:
        """Learn what is on record of an event: done ``once`` firings, and open ones."""
        self.engine.mark_done(past.event, past.done_runs, plain=past.done)
        for firing_id, runs in past.open_firings:
            if not self.runner.knows(firing_id):
                self._begin(self.engine.adopt(past.event, runs), firing_id)
        self.asker.registered(self.engine.event(past.event))

    def answered(self, answer: Matches | Truth) -> None:
        """Pass a condition's answer on to the engine."""
        if answer.event not in self.actions:
            return
        if isinstance(answer, Truth):
            self.engine.answered_plain(answer.event, answer.study, answer.holds)
        else:
            self.engine.answered(answer.event, answer.asked, set(answer.matching))

    def pump_soon(self) -> None:
        """Begin what is due, once for all that ask for it at this moment."""
        if not self._pumping:
            self._pumping = True
            self.start_soon(self._pumped)

    async def _pumped(self) -> None:
        self._pumping = False
        self.pump()

    def pump(self) -> None:
        """Begin what is due."""
        if self._tasks is None or self.ending:
            return
        for firing in self.engine.due(time.monotonic()):
            self._begin(firing)
        self._timer.set()
        self.bad_ends.consider()
        self._notice()

    def _notice(self) -> None:
        if not self._single:
            self.stall.stir()
        for event in self._observers:
            event.set()

    async def settled(self, actions: Iterable[Action]) -> None:
        """Ask these actions' conditions once more, and wait until what they fire has ended.

        A firing that calls this is not waited for.
        """
        names = {action.id for action in actions}
        self._examined -= names
        own = getattr(self.store.scope(), "owner", "")
        event = asyncio.Event()
        self._observers.add(event)
        try:
            self._fresh |= names
            self.asker.ask_again(names)
            self.dispatcher.look_again()
            while (
                not names <= {event.name for event in self.engine.events()}
                or self._fresh & names
                or not self._examined >= names
                or self._pumping
                or not self.asker.idle_about(names)
                or any(f.event in names and owner != own for owner, f in self.runner.flying())
            ):
                await event.wait()
                event.clear()
        finally:
            self._observers.discard(event)

    def asked_everything(self) -> bool:
        """Return whether every condition was asked since the last commit known here."""
        idle = self.dispatcher.idle and self.asker.idle and not self._pumping
        written = self._main_scope is None or self._main_scope.quiet
        return idle and written and not self._fresh

    def background(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run ``work`` beside everything else, without keeping the workflow from ending."""
        if self._tasks is not None:
            self._tasks.start_soon(self._background, work)

    def start_soon(
        self, work: Callable[..., Awaitable[Any]], *args: Any, about: str = "a task of Motoko"
    ) -> None:
        """Run ``work`` beside everything else; what it raises ends the workflow.

        ``about`` names it where it does not end. No task group waits for it: user code may swallow
        the cancellation.
        """
        assert self._tasks is not None
        self._in_flight += 1
        task = self._loop.create_task(self._guarded(partial(work, *args)), name=GUARDED)
        self._work[task] = about
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._work[task]
        if not task.cancelled():
            task.exception()  # a KeyboardInterrupt has ended the loop, and is no news

    async def _guarded(self, work: Callable[[], Awaitable[Any]]) -> None:
        try:
            with anyio.CancelScope() as scope:
                self._scopes.add(scope)
                if self.ending or self._closing:
                    scope.cancel()
                try:
                    await work()
                finally:
                    self._scopes.discard(scope)
        except asyncio.CancelledError as error:
            if self.ending or self._closing:
                raise
            # Something that user code waited for was cancelled: nobody asked this task to end.
            problem = MotokoError("a task that was waited for has been cancelled")
            problem.__notes__ = getattr(error, "__notes__", [])
            await self._failed(problem)
        except (SystemExit, BaseExceptionGroup) as error:
            await self._failed(problem_of(error))
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, such as pytest's Failed
            await self._failed(error)
        finally:
            self._in_flight -= 1
            self._notice()
            self._maybe_over()

    def _begin(self, firing: Firing, recorded: tuple[str, str, str] | None = None) -> None:
        if not self.ending:
            action = self.actions[firing.event]
            about = f"the action of event {action.name!r}, {action.where},"
            self.start_soon(self.runner.take(firing, recorded), about=about)

    # -- main ------------------------------------------------------------------------------

    async def run(
        self,
        main: Callable[..., Awaitable[Any]],
        context: AwaitContext,
        actions: Iterable[Action] = (),
    ) -> None:
        """Execute ``main`` and ``actions`` until the workflow has ended; raises what failed."""
        await self.lease.acquire()
        fault_points.point("orchestrator.lease_taken")
        context.execution, self._context = self, context
        try:
            for action in actions:
                self.register(action)
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                tasks.start_soon(self._background, self.dispatcher.run)
                tasks.start_soon(self._background, self.lease.renew_forever)
                tasks.start_soon(self._background, self._keep_time)
                about = f"the orchestrator function {location(main)}"
                self.start_soon(self._main, main, about=about)
                try:
                    with LoopBlockMonitor(self._work):
                        await self._over.wait()
                finally:
                    await self._end_work()
                if not self._single:
                    await self._conclude()
                tasks.cancel_scope.cancel()
        finally:
            self._tasks = None
            context.execution = None
            self.stall.close()
            self.asker.close()
            with anyio.CancelScope(shield=True):
                await self._release()
        if self.failure is not None:
            raise self.failure

    async def _end_work(self) -> None:
        self._closing = True
        for scope in tuple(self._scopes):
            scope.cancel()
        with anyio.CancelScope(shield=True):
            await end_tasks(dict(self._work))

    async def _conclude(self) -> None:
        """Report what is left: runs that still move, and failures that nothing handled."""
        if isinstance(self.failure, StorageError | Fenced):
            return  # nothing can be read, or the runs are another orchestrator's
        try:
            if self.failure is None and self.ending:
                await report_left(self)
            await self.bad_ends.conclude()
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the workflow
            self.failure = self.failure or error

    async def _release(self) -> None:
        if isinstance(self.failure, StorageError):
            return  # nor would it be there for this; a lease runs out
        try:
            await self.lease.release()
        except MotokoError as error:
            logger.warning("the lease on %r was not given back: %s", self.run_name, error.message)

    async def _background(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the workflow
            await self._failed(error)

    async def _main(self, main: Callable[..., Awaitable[Any]]) -> None:
        scope = MainScope(
            self.store.database, guard=self.lease.guard, on_commit=lambda: self._check(scope)
        )
        self._main_scope = scope
        logger.info("main %s starts for run name %r", location(main), self.run_name)
        try:
            with entered(scope):
                body = Interruptible(self._called(main))
                scope.interrupt = body.interrupt
                await body
                await scope.settle()
        except BaseException as error:
            error.add_note(f"in the orchestrator function {location(main)}")
            raise
        finally:
            scope.close()
            scope.origin.end()
        self.bad_ends.owner_ended("main")
        self.say_events()
        self._main_done = True

    async def _called(self, main: Callable[..., Awaitable[Any]]) -> None:
        given = accepted_arguments(main, self.params)
        try:
            inspect.signature(main).bind(self.host, **given)
        except TypeError as error:
            raise ParameterError(
                f"the orchestrator function cannot be called: {error}",
                hint="Give it as an option of the command, or to execute(name=value).",
            ) from None
        try:
            called = main(self.host, **given)
            if not inspect.isawaitable(called):
                problem, hint = why_not_async(main)
                raise ParameterError(
                    f"the orchestrator's function {location(main)} is {problem}",
                    hint=f"{hint} `async def main(workflow, **params)`.",
                )
            await called
        except SystemExit as error:
            if not is_normal_exit(error):
                raise
            scope: Any = self.store.scope()
            scope.request_finish()

    def _check(self, scope: Any) -> None:
        if scope.finish_requested:
            self.finish()

    def finish(self) -> None:
        """End the workflow: nothing new fires, what waits is cancelled at its await."""
        self._loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        self.ending = True
        for scope in tuple(self._scopes):
            scope.cancel()
        self._maybe_over()

    def _maybe_over(self) -> None:
        if self.ending:
            self._over.set()
        elif self._main_done and not self.actions and self._in_flight == 0:
            if self._single or self._runs_ended:
                self._over.set()
            else:
                self.start_soon(self._last_runs)

    async def _last_runs(self) -> None:
        assert self._context is not None
        await wait_for_last_runs(self, self._context)
        self._runs_ended = True

    async def _failed(self, error: BaseException) -> None:
        try:
            if self.failure is None:
                self.failure = error
                if isinstance(error, RunFailed):
                    with anyio.CancelScope(shield=True):
                        await self.bad_ends.report(error)
        finally:
            self._finish()

    # -- time ------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        while True:
            times = [t for t in (self.engine.next_release(), self.asker.next_time()) if t]
            wait = min(times) - time.monotonic() if times else None
            with anyio.move_on_after(wait):
                await self._timer.wait()
            self._timer.clear()
            self.asker.tick(time.monotonic())
            self.pump_due()

    def pump_due(self) -> None:
        """Begin what became due with time."""
        if self.ending:
            return
        for firing in self.engine.due(time.monotonic()):
            self._begin(firing)
        self.bad_ends.consider()
        self._notice()  # a trigger that waits no more may have been all that was to come
