"""Detect that no run can change state and nothing can fire, and report the pending awaits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
from contextvars import Context
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol

from motoko.core.firing import ConditionKind
from motoko.core.orchestrator_status import AwaitStatus
from motoko.errors import WorkflowStalled
from motoko.orchestrator.actions import location
from motoko.orchestrator.asyncio_tasks import waits_for_tasks
from motoko.orchestrator.task_supervisor import SUPERVISED
from motoko.storage.orchestrator_leases import StallReport
from motoko.storage.query import count_active_runs, query_in_thread
from motoko.storage.scope import SegmentScope, scope_of_context
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from motoko.core.records import RunKey
    from motoko.orchestrator.event_dispatcher import EventDispatcher
    from motoko.orchestrator.execution_context import ExecutionContext
    from motoko.storage.session import Session

logger = logging.getLogger("motoko.orchestrator")

QUIET: Final = 0.5  # seconds from an event to the next check
RECHECK: Final = 1.0  # seconds between checks while tasks wait for something else
SETTLE_SECONDS: Final = 0.05  # in which tasks that were woken for nothing wait again
MAX_SETTLE_CHECKS: Final = 20
MAIN: Final = "main"
SHOWN: Final = 20  # pending awaits in a report
PUBLISHED: Final = 50  # pending awaits in the published status
PUBLISHED_RUNS: Final = 20  # runs of each of them
POLLED: Final = (ConditionKind.NO_ARGUMENTS, ConditionKind.TASK_MANAGER_FILTER)


class AwaitedKeys(Protocol):
    """The runs that an await waits for, ascending."""

    def __iter__(self) -> Iterator[RunKey]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class PendingAwait:
    """An await of a task: its owner, a description, and the runs that it waits for, ascending."""

    owner: str
    describe: Callable[[], str]
    runs: Callable[[], AwaitedKeys]

    def status(self) -> AwaitStatus:
        """Return its status."""
        keys = self.runs()
        first = tuple(map(str, islice(keys, PUBLISHED_RUNS)))
        return AwaitStatus(self.owner, self.describe(), len(keys), first)


class StallDetector:
    """Records the tasks in Motoko's own awaits, and checks whether anything can still happen.

    In doubt the workflow is not stalled. A task that waits for anything else (a sleep, a request,
    a thread) may still act. So may a timer that user code has set, or its non-daemon thread. A
    stall is reported only after all conditions are evaluated for the newest commit. ``is_idle``
    returns whether all of that is done; ``ends``: a stall ends the workflow. ``dry_run``: no
    launcher executes runs, so active ones do not count, and a stall always ends the workflow.
    """

    def __init__(
        self,
        context: ExecutionContext,
        dispatcher: EventDispatcher,
        is_idle: Callable[[], bool],
        *,
        ends: bool,
        dry_run: bool = False,
    ) -> None:
        self._context = context
        self._dispatcher = dispatcher
        self._is_idle = is_idle
        self._ends = ends
        self._dry_run = dry_run
        self._awaits: dict[asyncio.Task[Any], PendingAwait] = {}
        self._earlier_tasks = asyncio.all_tasks()
        self._earlier_threads = frozenset(threading.enumerate())
        self._timer: asyncio.TimerHandle | None = None
        self._checking = False
        self._missed = False
        self._unquiet_checks = 0  # successive checks that found an active task
        self._evaluated = -1  # the last commit for which everything was evaluated
        self._report: StallReport | None = None
        self._logged: tuple[str, ...] | None = None
        self._all_held = False
        if not context.single:
            dispatcher.observe(self.on_activity)

    @contextlib.contextmanager
    def waiting(
        self, owner: str, describe: Callable[[], str], runs: Callable[[], AwaitedKeys] = tuple
    ) -> Iterator[None]:
        """Record that the current task waits in one of Motoko's own awaits, for these runs."""
        task = asyncio.current_task()
        assert task is not None
        self._awaits[task] = PendingAwait(owner, describe, runs)
        if owner == MAIN:
            self._dispatcher.publish_events()
        self.on_activity()
        try:
            yield
        finally:
            self._awaits.pop(task, None)
            self.on_activity()

    def on_activity(self) -> None:
        """Publish the status, and check for a stall after a quiet period."""
        self._context.status.changed()
        self._check_at(asyncio.get_running_loop().time() + QUIET)

    def _check_at(self, when: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        # An empty context distinguishes this timer from the user's.
        self._timer = loop.call_at(when, self._check, context=Context())

    def awaits(self) -> tuple[tuple[AwaitStatus, ...], int]:
        """Return the first pending awaits, and the number of the others."""
        found = list(islice(self._awaits.values(), PUBLISHED))
        return tuple(one.status() for one in found), len(self._awaits) - len(found)

    def close(self) -> None:
        """Stop checking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- checking --------------------------------------------------------------------------

    def _check(self) -> None:
        self._timer = None
        self._missed = self._checking
        if self._checking or self._context.tasks.ending or not self._is_idle():
            return  # the end of the evaluations is an activity
        if not self._is_quiet():
            self._recheck()
            return
        self._unquiet_checks = 0
        if (when := next_user_timer()) is not None:
            self._clear()
            if when < math.inf:
                self._check_at(when + SETTLE_SECONDS)
        elif self._report is None or self._evaluated != self._newest_commit:
            self._dispatcher.failures.handle_earlier()
            self._checking = True
            self._context.tasks.start_service(self._check_everything)

    def _recheck(self) -> None:
        """Check again later: an active task gives no notice when it starts to wait.

        A reported stall survives short activity, such as an action without effect.
        """
        self._unquiet_checks += 1
        keep_report = self._report is not None and self._unquiet_checks < MAX_SETTLE_CHECKS
        if not keep_report:
            self._clear()
        delay = SETTLE_SECONDS if keep_report else RECHECK
        self._check_at(asyncio.get_running_loop().time() + delay)

    @property
    def _newest_commit(self) -> int:
        return self._context.store.database.feed.number

    def _is_quiet(self) -> bool:
        return (
            not self._context.tasks.ending
            and self._is_idle()
            and self._context.engine.is_quiescent(self._dispatcher.listener.last_number)
            and all(self._is_stalled(task) for task in asyncio.all_tasks())
            and not self._has_user_threads()
        )

    def _is_stalled(self, task: asyncio.Task[Any]) -> bool:
        """Return whether nothing but a commit can resume a task."""
        if task in self._earlier_tasks or task.done():
            return True
        if task not in self._awaits:
            name = task.get_name()
            if name.startswith("motoko.") and name != SUPERVISED:
                return True
            if not waits_for_tasks(task):  # they are checked as well
                return False
        waits_for = getattr(task, "_fut_waiter", None)
        return waits_for is not None and not waits_for.done()  # otherwise it resumes now

    def _has_user_threads(self) -> bool:
        """Return whether a thread of user code is alive.

        Threads of a pool do not count: they may be idle, and tasks await their work.
        """
        return any(
            isinstance(thread, threading.Timer)
            or (type(thread) is threading.Thread and _target(thread) != "concurrent.futures.thread")
            for thread in threading.enumerate()
            if not thread.daemon and thread not in self._earlier_threads
        )

    async def _check_everything(self) -> None:
        try:
            unchecked = self._evaluated != self._newest_commit and not self._dry_run
            active = unchecked and await self._has_active_runs()
            stalled = not active and await self._is_confirmed()
        finally:
            self._checking = False
        if stalled:
            await self._on_stall()
            return
        if active:
            self._clear()
        if self._missed or not active:  # a change of an active run is an activity
            self.on_activity()

    async def _has_active_runs(self) -> bool:
        """Return whether runs can change state; held runs can. Warn once if all are held."""
        database, run_name = self._context.store.database, self._context.run_name
        active, held = await query_in_thread(database, lambda s: _count(s, run_name))
        if held == active > 0 and not self._all_held:
            runs = "1 held run" if held == 1 else f"{held} held runs"
            logger.warning("the workflow waits for %s: `motoko release --all` releases them", runs)
        self._all_held = held == active > 0
        return active > 0

    async def _is_confirmed(self) -> bool:
        """Evaluate everything for the newest commit; return whether nothing can follow it."""
        if self._evaluated != self._newest_commit:
            await run_in_thread(self._context.store.database.catch_up)
            number = self._newest_commit
            await self._dispatcher.listener.refresh_everything()
            self._evaluated = number
            for _ in range(MAX_SETTLE_CHECKS):
                await asyncio.sleep(SETTLE_SECONDS)
                if self._is_quiet():
                    break
        settled = self._dry_run or not self._dispatcher.active_runs
        newest = self._evaluated == self._newest_commit and settled
        return newest and self._is_quiet() and next_user_timer() is None

    # -- reporting -------------------------------------------------------------------------

    async def _on_stall(self) -> None:
        waits, polled = self._describe(), self._has_polled_conditions()
        if self._dry_run or (self._ends and not polled):
            if not self._dry_run:
                await self._dispatcher.failures.raise_unhandled()  # more important than the awaits
            text = "\n  ".join(waits)
            raise WorkflowStalled(
                f"the workflow is stalled: no run can change state, and nothing fires\n  {text}",
                waits=waits,
                hint="`motoko why` explains the waits. "
                "Set workflow.finished = True when the work is done.",
            )
        if self._report is None or self._report.waits != waits:
            self._report = StallReport(self._context.store.now(), waits)
            self._context.lease.report_stall(self._report)
        if self._logged != waits:
            self._logged = waits
            subject = (
                "no run can change state; the workflow" if polled else "the workflow is stalled and"
            )
            logger.warning("%s waits: %s", subject, "; ".join(waits))

    def _clear(self) -> None:
        if self._report is not None:
            self._report = None
            self._context.lease.report_stall(None)
            if not self._has_polled_conditions():
                logger.warning("the workflow is no longer stalled")

    def _has_polled_conditions(self) -> bool:
        return any(event.kind in POLLED for event in self._context.engine.events())

    def _describe(self) -> tuple[str, ...]:
        lines = [f"{one.owner} waits for {one.describe()}" for one in self._awaits.values()]
        for action in self._context.actions.values():
            condition = action.condition
            if isinstance(condition, list) and all(isinstance(one, str) for one in condition):
                condition = " and ".join(condition)
            shown = condition if isinstance(condition, str | list) else location(condition)
            if action.kind in POLLED:
                shown = f"{action.kind.value}: {shown}"
            lines.append(f"event {action.id} waits for {shown}")
        lines = list(dict.fromkeys(lines))
        if len(lines) > SHOWN:
            lines[SHOWN:] = [f"... and {len(lines) - SHOWN} more"]
        return tuple(lines) or ("main has returned",)


def _count(session: Session, run_name: str) -> tuple[int, int]:
    """Return the numbers of runs that are not in a terminal state, and of the held ones."""
    counts = count_active_runs(session, run_name)
    active = sum(of_study.total() for of_study in counts.values())
    return active, sum(session.tables.created(study).count_held(run_name) for study in counts)


def _target(thread: threading.Thread) -> str:
    """Return the module of a thread's target function, which has no public attribute."""
    return getattr(getattr(thread, "_target", None), "__module__", "")


def next_user_timer() -> float | None:
    """Return when the first timer of ``main`` or an action is due, in the loop's time.

    None if there is none; infinity if that is unknown.
    """
    handles = getattr(asyncio.get_running_loop(), "_scheduled", None)  # no public list exists
    if handles is None:
        return math.inf
    times = [
        handle.when()
        for handle in handles
        if not handle.cancelled() and isinstance(scope_of_context(handle._context), SegmentScope)  # noqa: SLF001 - get_context: 3.12
    ]
    return min(times, default=None)
