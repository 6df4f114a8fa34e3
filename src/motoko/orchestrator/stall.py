"""Telling when nothing can move any more: a stalled workflow says which awaits wait for what."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final

from motoko.core.firing import ConditionKind
from motoko.core.states import OUTCOMES, Lifecycle
from motoko.errors import WorkflowStalled
from motoko.orchestrator.actions import location
from motoko.orchestrator.task_waits import waits_for_tasks
from motoko.storage.leases import StallReport
from motoko.storage.scope import SegmentScope, scope_in
from motoko.storage.session import Session
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from motoko.orchestrator.execution import WorkflowExecution

logger = logging.getLogger("motoko.orchestrator")

# Seconds from an event to the question whether anything can follow it.
QUIET: Final = 0.5
AGAIN: Final = 1.0  # seconds between looks at tasks that wait for something else
MOMENT: Final = 0.05  # in which those who were woken for nothing wait again
MOMENTS: Final = 20
MAIN: Final = "main"
SHOWN: Final = 20  # of those that wait
UNENDED: Final = tuple(state.value for state in Lifecycle if state not in OUTCOMES)
POLLED: Final = (ConditionKind.PLAIN, ConditionKind.WORKFLOW_FILTER)


def active_runs(session: Session, run_name: str) -> int:
    """Return how many runs of a run name can still move."""
    tables = session.tables
    return sum(
        len(tables.study(name).ids(run_name, lifecycles=UNENDED)) for name in tables.study_names()
    )


class StallDetector:
    """Knows who waits in Motoko's own awaits, and looks whether anything can still happen.

    It errs on the side of waiting: a task that waits for anything else (a sleep, a request, a
    thread) may still do something, and so may a timeout or timer that user code has set, or a
    thread that it has started, unless that is a daemon's. Before
    the workflow is found stalled, all conditions are evaluated for the newest commit.
    """

    def __init__(self, execution: WorkflowExecution, *, ends: bool) -> None:
        self._execution = execution
        self._ends = ends
        self._waits: dict[asyncio.Task[Any], tuple[str, Callable[[], str]]] = {}
        self._foreign = asyncio.all_tasks()
        self._foreign_threads = frozenset(threading.enumerate())
        self._timer: asyncio.TimerHandle | None = None
        self._looking = False
        self._missed = False
        self._doubts = 0  # how often in succession tasks were at work
        self._seen = -1  # the last commit when everything was looked at
        self._stall: StallReport | None = None
        self._told: tuple[str, ...] | None = None

    @contextlib.contextmanager
    def waiting(self, owner: str, describe: Callable[[], str]) -> Iterator[None]:
        """Note that the current task waits in one of Motoko's own awaits."""
        task = asyncio.current_task()
        assert task is not None
        self._waits[task] = (owner, describe)
        if owner == MAIN:
            self._execution.say_events()
        self.stir()
        try:
            yield
        finally:
            self._waits.pop(task, None)
            self.stir()

    def stir(self) -> None:
        """Note that something has happened; a little later the question is asked."""
        self._ask_at(asyncio.get_running_loop().time() + QUIET)

    def _ask_at(self, when: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(when, self._ask, context=Context())  # no timer of the user's

    def close(self) -> None:
        """Ask nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ask(self) -> None:
        self._timer = None
        self._missed = self._looking
        if self._looking or self._execution.ending or not self._execution.asked_everything():
            return  # what is being asked stirs again when it is answered
        if not self._quiet():
            self._doubt()
            return
        self._doubts = 0
        if (when := next_timer()) is not None:
            self._go_on()
            if when < math.inf:
                self._ask_at(when + MOMENT)
        elif self._stall is None or self._seen != self._number:
            self._execution.bad_ends.consider_old()
            self._looking = True
            self._execution.background(self._look)

    def _doubt(self) -> None:
        """Ask again; the stall ends unless this is over in moments, as an action that does nothing.

        No task reports that it waits for something else.
        """
        self._doubts += 1
        doubtful = self._stall is not None and self._doubts < MOMENTS
        if not doubtful:
            self._go_on()
        self._ask_at(asyncio.get_running_loop().time() + (MOMENT if doubtful else AGAIN))

    @property
    def _number(self) -> int:
        return self._execution.store.database.feed.number

    def _quiet(self) -> bool:
        execution = self._execution
        return (
            not execution.ending
            and execution.asked_everything()
            and execution.engine.exhausted(execution.dispatcher.last_number)
            and all(self._stuck(task) for task in asyncio.all_tasks())
            and not self._users_threads()
        )

    def _users_threads(self) -> bool:
        """Return whether a thread of user code is alive.

        Threads of a pool do not count: they may be idle, and tasks await their work.
        """
        return any(
            isinstance(thread, threading.Timer)
            or (type(thread) is threading.Thread and _target(thread) != "concurrent.futures.thread")
            for thread in threading.enumerate()
            if not thread.daemon and thread not in self._foreign_threads
        )

    def _go_on(self) -> None:
        if self._stall is not None:
            self._stall = None
            self._execution.lease.say_stall(None)
            if not self._polled():
                logger.warning("the workflow is not stalled any more")

    def _stuck(self, task: asyncio.Task[Any]) -> bool:
        if task in self._foreign or task.done():
            return True
        waits_for = getattr(task, "_fut_waiter", None)
        if task not in self._waits:
            name = task.get_name()
            if name.startswith("motoko.") and not name.endswith("_guarded"):
                return True
            if not waits_for_tasks(task):  # which are asked too
                return False
        return waits_for is not None and not waits_for.done()  # else it is about to go on

    async def _look(self) -> None:
        try:
            moving = self._seen != self._number and await run_in_thread(self._moving)
            stalled = not moving and await self._nothing_can_follow()
        finally:
            self._looking = False
        if stalled:
            await self._stalled()
            return
        if moving:
            self._go_on()
        if self._missed or not moving:  # a run that moves stirs
            self.stir()

    async def _nothing_can_follow(self) -> bool:
        """Look at everything as of the newest commit; return whether nothing can follow it."""
        execution = self._execution
        if self._seen != self._number:
            await run_in_thread(execution.store.database.catch_up)
            number = self._number
            await execution.dispatcher.look_at_everything()
            self._seen = number
            for _ in range(MOMENTS):
                await asyncio.sleep(MOMENT)
                if self._quiet():
                    break
        newest = self._seen == self._number and not execution.active
        return newest and self._quiet() and next_timer() is None

    async def _stalled(self) -> None:
        waits, polled = self._describe(), self._polled()
        if self._ends and not polled:
            await self._execution.bad_ends.conclude()  # what failed says more than what waits
            text = "\n  ".join(waits)
            raise WorkflowStalled(
                f"the workflow is stalled: no run can move, and nothing fires\n  {text}",
                hint="Set workflow.finished = True where the work is done.",
            )
        if self._stall is None or self._stall.waits != waits:
            self._stall = StallReport(self._execution.store.now(), waits)
            self._execution.lease.say_stall(self._stall)
        if self._told != waits:
            self._told = waits
            how = "no run can move; the workflow" if polled else "the workflow is stalled, and"
            logger.warning("%s waits: %s", how, "; ".join(waits))

    def _moving(self) -> bool:
        execution = self._execution
        session = Session(execution.store.database)
        try:
            return active_runs(session, execution.run_name) > 0
        finally:
            session.close()

    def _polled(self) -> bool:
        return any(event.kind in POLLED for event in self._execution.engine.events())

    def _describe(self) -> tuple[str, ...]:
        lines = [f"{owner} waits for {describe()}" for owner, describe in self._waits.values()]
        for action in self._execution.actions.values():
            condition = action.condition
            shown = condition if isinstance(condition, str | list) else location(condition)
            if action.kind in POLLED:
                shown = f"{action.kind.value}: {shown}"
            lines.append(f"event {action.id} waits for {shown}")
        lines = list(dict.fromkeys(lines))
        if len(lines) > SHOWN:
            lines[SHOWN:] = [f"... and {len(lines) - SHOWN} more"]
        return tuple(lines) or ("main has returned",)


def _target(thread: threading.Thread) -> str:
    """Return the module of the function that a thread runs; no public attribute has it."""
    return getattr(getattr(thread, "_target", None), "__module__", "")


def next_timer() -> float | None:
    """Return when the first timer that user code has set is due, in the loop's time.

    None if there is none; infinity where that cannot be known. A timer is the user's if it was
    set in ``main`` or in an action.
    """
    handles = getattr(asyncio.get_running_loop(), "_scheduled", None)  # nothing public lists them
    if handles is None:
        return math.inf
    times = [
        handle.when()
        for handle in handles
        if not handle.cancelled() and isinstance(scope_in(handle._context), SegmentScope)  # noqa: SLF001 - get_context: 3.12
    ]
    return min(times, default=None)
