"""Starts attempts, watches them, ends them early where that is asked for."""

from __future__ import annotations

import contextlib
import logging
import math
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from motoko.core.states import Lifecycle
from motoko.errors import Fenced, LauncherError
from motoko.launcher import attempt_files
from motoko.launcher.attempt_files import examine_attempt
from motoko.launcher.attempts import Attempt, AttemptEnd, recorded_start_time
from motoko.launcher.executors.local_process import LocalProcess, clear_group
from motoko.launcher.harvest import failure_before
from motoko.launcher.orphan_processes import OrphanProcesses
from motoko.launcher.outcome import AttemptOutcome, Finding
from motoko.launcher.preparation import (
    DIRECTORY_IN_USE,
    REQUEUE_SECONDS,
    SHORTAGE_SECONDS,
    PrepareFailure,
    RunNotStartable,
    as_start_error,
    is_resource_shortage,
    prepare_attempt,
)
from motoko.launcher.run_directory import AttemptSuperseded
from motoko.runtime import fault_points
from motoko.runtime.clock import process_age
from motoko.runtime.descendants import describe_process
from motoko.runtime.processes import is_visible
from motoko.runtime.untrusted_files import write_error
from motoko.storage.threads import run_in_thread
from motoko.worker import OUTBOX

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from motoko.config import QueueLimits
    from motoko.launcher.attempt_files import RecoveredAttempt
    from motoko.launcher.attempts import PendingUpdates, SlotPool
    from motoko.launcher.executors.process_handle import Generator, ProcessHandle
    from motoko.launcher.start_notes import StartNotes
    from motoko.storage.store import WorkflowStore

START_DELAY: Final = 0.2  # seconds; the start of a run that ends sooner is recorded with its end
PEEK_SECONDS: Final = 1.0
NOT_STARTED: Final = 111  # the wrapper's exit status where it did not get its start file

log = logging.getLogger(__name__)


class LocalExecutor:
    """The living side of a pool's attempts; what happens to them goes into the notebook."""

    def __init__(
        self,
        store: WorkflowStore,
        pool: SlotPool,
        notebook: PendingUpdates,
        generator: Generator,
        *,
        owner: str,
        grace: float,
        starts: StartNotes,
    ) -> None:
        self.pool = pool
        self._store = store
        self._notebook = notebook
        self._generator = generator
        self._owner = owner
        self._grace = grace
        self._starts = starts
        self._leftovers = OrphanProcesses(grace)
        self._tasks: TaskGroup
        self._room = anyio.Event()
        self._busy = anyio.Event()

    def run(self, tasks: TaskGroup) -> None:
        """Begin to work, until the tasks are cancelled."""
        self._tasks = tasks
        tasks.start_soon(self._start_runs)
        tasks.start_soon(self._peek)

    # -- starting --------------------------------------------------------------------------

    def admit(self, active: Attempt) -> None:
        """Have an attempt started as soon as there is a slot for it."""
        self.pool.add(active)
        self._room.set()

    async def _start_runs(self) -> None:
        """Start what waits, whenever there is room, until cancelled."""
        while True:
            await self._room.wait()
            self._room = anyio.Event()
            batch = self.pool.start()
            if batch:
                others = set(self.pool.running()).difference(batch)
                wanted = [a.token for a in others if not a.recorded_start]
                problems = await run_in_thread(partial(self._begin_all, batch, wanted))
                for active, problem in zip(batch, problems, strict=True):
                    self._begun(active, problem)

    def _begin_all(self, batch: list[Attempt], wanted: list[str]) -> list[Exception | None]:
        try:
            self._starts.trim(wanted)
        except OSError as error:
            return [as_start_error(error)] * len(batch)
        except Fenced as error:
            return [error] * len(batch)
        return [self._begin(active) for active in batch]

    def _begin(self, active: Attempt) -> Exception | None:
        """Make the run directory and submit the attempt, in a thread; return what went wrong."""
        order = prepare_attempt(self._store, active, self._starts)
        if isinstance(order, PrepareFailure):
            return order.problem
        try:
            self._starts.note(active.token)
            fault_points.point("launcher.noted")
            active.since, active.began = self._store.now(), self._store.clock.uptime()
            active.handle = self._generator.submit(order)
            fault_points.point("launcher.started")
        except OSError as error:
            return as_start_error(error)
        except ValueError as error:  # no program can be given its options
            return RunNotStartable(str(error))
        except Fenced as error:
            return error
        return None

    def _begun(self, active: Attempt, problem: Exception | None) -> None:
        handle = active.handle
        if handle is None or problem is not None:
            assert problem is not None
            self._not_begun(active, problem)
            return
        self._busy.set()
        self._tasks.start_soon(self._attend, active, handle)
        if active.stop is not None:  # asked for while it was being started
            self._tasks.start_soon(self._stop, active, handle, active.stop)

    def _not_begun(self, active: Attempt, problem: Exception) -> None:
        active.since = None
        if isinstance(problem, AttemptSuperseded):
            log.warning("run %s: %s", active.key, problem)
            self._again(active, DIRECTORY_IN_USE, REQUEUE_SECONDS)
        elif is_resource_shortage(problem):
            log.warning("run %s has to wait: %s", active.key, problem)
            self._again(active, f"there was too little to start it: {problem}", SHORTAGE_SECONDS)
        elif isinstance(problem, RunNotStartable):
            reason = f"it cannot be started: {problem}"
            self._over(active, None, ending=AttemptOutcome(Lifecycle.FAILED, None, reason))
        elif isinstance(problem, Fenced):
            raise problem
        else:
            raise LauncherError(
                f"run {active.key} cannot be started: {problem}",
                hint="It stays CREATED; start the launcher again when this is put right.",
            ) from problem

    def _again(self, active: Attempt, why: str, later: float) -> None:
        self.pool.release(active)
        self._notebook.requeued.append((active, why, later))
        self._notebook.stir()
        self._room.set()

    # -- watching --------------------------------------------------------------------------

    async def _attend(self, active: Attempt, handle: ProcessHandle) -> None:
        limit = math.inf if active.terms.timeout is None else active.terms.timeout
        passed = 0.0 if active.began is None else self._store.clock.uptime() - active.began
        left = max(0.0, limit - passed)
        if not active.recorded_start:
            with anyio.move_on_after(min(START_DELAY, left)):
                await handle.wait()
            left = max(0.0, left - START_DELAY)
            if not handle.over:
                self._notebook.started.append(active)
                self._notebook.stir()
        with anyio.move_on_after(left):
            await handle.wait()
        if not handle.over:
            self.end_early(active, Lifecycle.TIMEOUT)
        await self._see_out(active, handle, await handle.wait())

    async def _see_out(self, active: Attempt, handle: ProcessHandle, status: int | None) -> None:
        now = self._store.now()
        left = await handle.clear(self._grace)
        await self._end_leftovers(active, left, child=status is not None)
        if status == NOT_STARTED and not active.recorded_start:
            ending = await run_in_thread(partial(_not_started, active))
            if ending is not None:
                self._over(active, status, now, ending=ending)
                return
        fault = None
        if status is None or status < 0:  # only the exit record can tell
            status, fault = await run_in_thread(partial(attempt_files.exit_record, active.place))
        self._over(active, status, now, fault=fault)

    async def _end_leftovers(self, active: Attempt, members: list[int], *, child: bool) -> None:
        """End what left the attempt's group; note it with the ``members`` that did not end."""
        private, children = active.place.private, self._children()
        others = await self._leftovers.end(active.key, private, children, child=child)
        active.left = tuple(describe_process(pid) for pid in sorted({*members, *others}))

    def _children(self) -> set[int]:
        found = (active.handle for active in self.pool.running())
        return {handle.pid for handle in found if isinstance(handle, LocalProcess)}

    def _over(
        self,
        active: Attempt,
        status: int | None,
        at: float | None = None,
        *,
        ending: AttemptOutcome | None = None,
        fault: str | None = None,
    ) -> None:
        active.past = True
        self.pool.release(active)
        self.pool.note_end()
        moment = self._store.now() if at is None else at
        self._notebook.ended.append(AttemptEnd(active, status, moment, ending, fault))
        self._notebook.stir()
        self._room.set()

    async def _peek(self) -> None:
        """Look whether the outboxes of running attempts have grown, until cancelled."""
        waited: set[Attempt] = set()
        while True:
            running = [active for active in self.pool.running() if active.recorded_start]
            if running:
                grown = await run_in_thread(partial(_grown, running))
                waiting = set(await run_in_thread(partial(_waiting, running)))
                for active in waiting & waited:
                    if active.handle is not None and not active.handle.over:
                        await run_in_thread(partial(_check_room, active))
                waited = waiting
                self._notebook.grown.extend(a for a in grown if self.pool.has(a))
                if grown:
                    self._notebook.stir()
            self._leftovers.collect(self._children())
            if not self.pool.running():
                self._busy = anyio.Event()
                await self._busy.wait()
            await anyio.sleep(PEEK_SECONDS)

    # -- ending early ----------------------------------------------------------------------

    def end_early(self, active: Attempt, outcome: Lifecycle) -> None:
        """Have an attempt ended; the first reason counts. CREATED: to be tried again later."""
        if active.stop is not None or not self.pool.has(active) or active.past:
            return
        active.stop = outcome
        if active.handle is not None:
            self._tasks.start_soon(self._stop, active, active.handle, outcome)
        elif self.pool.waits(active):
            self._over(active, None)

    def let_go(self, active: Attempt) -> None:
        """End an attempt of a run that is not this launcher's any more, and record nothing."""
        if active.handle is not None and active.stop is None:
            active.stop = Lifecycle.CANCELLED
            self._tasks.start_soon(active.handle.stop, self._grace)
        self._forget(active)

    async def _stop(self, active: Attempt, handle: ProcessHandle, outcome: Lifecycle) -> None:
        if not handle.over:
            await run_in_thread(lambda: attempt_files.write_stop_reason(active.place, outcome))
            await handle.stop(self._grace)

    def _forget(self, active: Attempt) -> None:
        self.pool.remove(active)
        self._room.set()

    def limit(self, slots: int, limits: QueueLimits) -> None:
        """Keep to other limits from here on."""
        self.pool.slots = slots
        self._room.set()

    # -- what another launcher began -------------------------------------------------------

    async def take_over(self, active: Attempt, *, restarted: bool = False) -> None:
        """Go on with an attempt of a launcher that is gone; ``restarted``: so was the machine."""
        found = await run_in_thread(partial(self._examine, active, restarted=restarted))
        log.info(
            "run %s: left by launcher %s, %s", active.key, active.record.launcher, found.finding
        )
        if found.finding is Finding.TAKEN_BACK:
            cause = "its launcher was gone before it started"
            self._notebook.requeued.append((active, cause, 0.0))
            return
        await run_in_thread(lambda: _remember(active))
        self.pool.add_running(active)
        self._notebook.adopted.append(active)
        handle = None
        if found.finding is Finding.RUNNING and found.process is not None:
            handle = active.handle = self._generator.attach(found.process)
            active.began = self._store.clock.uptime() - process_age(found.process.started)
        if handle is None:
            active.past = True
            if found.finding is Finding.GONE and active.record.cancel_requested:
                active.stop = active.stop or Lifecycle.CANCELLED
            self._tasks.start_soon(self._see_off, active, found)
            return
        log.info("run %s: goes on", active.key)
        self._busy.set()
        self._tasks.start_soon(self._attend, active, handle)
        if active.stop is not None:
            self._tasks.start_soon(self._stop, active, handle, active.stop)

    def _examine(self, active: Attempt, *, restarted: bool) -> RecoveredAttempt:
        begun = self._starts.has(active.record.launcher or "", active.token)
        found = examine_attempt(
            active.record, active.place, self._owner, restarted=restarted, begun=begun
        )
        if begun and found.finding is not Finding.TAKEN_BACK:
            with contextlib.suppress(OSError):  # it is for a launcher after this one
                self._starts.note(active.token)
        return found

    async def _see_off(self, active: Attempt, found: RecoveredAttempt) -> None:
        """Record the end of an attempt that ended when nobody watched."""
        left: list[int] = []
        if found.process is not None and is_visible(found.process):
            left = await clear_group(found.process.pid, self._grace)
        await self._end_leftovers(active, left, child=False)
        status, fault = await run_in_thread(partial(attempt_files.exit_record, active.place))
        at = await run_in_thread(lambda: attempt_files.file_time(active.place, attempt_files.EXIT))
        if status is None:
            self._over(active, None, fault=found.fault or fault)
        else:
            self._over(active, status, at)


def _remember(active: Attempt) -> None:
    """Find out from the attempt's record and files what its former launcher knew."""
    active.since = recorded_start_time(active.record) or attempt_files.file_time(
        active.place, attempt_files.START
    )
    active.stop = attempt_files.read_stop_reason(active.place)
    active.failed = failure_before(f"{active.place.private}/{OUTBOX}", active.read)


def _not_started(active: Attempt) -> AttemptOutcome | None:
    """Return how an attempt ended whose wrapper did not get its start file; None if it did.

    Where that was another launcher's doing, nothing that this one commits is taken any more.
    LauncherError where nothing can be written at all.
    """
    place = active.place
    if attempt_files.has_started(place):
        return None
    trouble = write_error(place.root)
    if trouble is not None:
        raise LauncherError(
            f"run {active.key} cannot be started: {place.private} cannot be written: {trouble}",
            hint="Is the disk full? Start the launcher again when this is put right.",
        )
    reason = f"exit code {NOT_STARTED}, and {place.file(attempt_files.START)} does not exist"
    return AttemptOutcome(Lifecycle.FAILED, NOT_STARTED, reason)


def _check_room(active: Attempt) -> None:
    """Raise LauncherError if it is for lack of room that an exit record stays empty."""
    if write_error(active.place.root) is not None:
        raise LauncherError(
            f"run {active.key} has ended, but its exit record cannot be written",
            hint=f"Is the disk full? It waits for room in {active.place.run}; "
            "start the launcher again when there is some.",
        )


def _grown(running: list[Attempt]) -> list[Attempt]:
    return [active for active in running if attempt_files.outbox_size(active.place) > active.read]


def _waiting(running: list[Attempt]) -> list[Attempt]:
    """Return those whose wrapper has made an exit record, and found no room for what is in it."""
    return [active for active in running if attempt_files.exit_is_empty(active.place)]
