"""The local executor: runs as process groups of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import anyio

from motoko.core.states import Lifecycle
from motoko.errors import LauncherError
from motoko.launcher import attempt_files
from motoko.launcher.attempt_files import examine_attempt
from motoko.launcher.attempt_outcome import AttemptOutcome, Finding
from motoko.launcher.attempt_paths import START
from motoko.launcher.attempt_records import exit_record, exit_time, start_time
from motoko.launcher.attempts import recorded_start_time
from motoko.launcher.executors.attempt_shells import shell_limit
from motoko.launcher.executors.base import Executor
from motoko.launcher.executors.callback_guard import CallbackGuard
from motoko.launcher.executors.early_exits import EarlyExits
from motoko.launcher.executors.local_process import clear_group
from motoko.launcher.executors.local_starter import LocalStarter
from motoko.launcher.orphan_processes import OrphanProcesses
from motoko.runtime.completion import to_completion
from motoko.runtime.descendants import describe_process
from motoko.runtime.ports import process_age
from motoko.runtime.processes import is_visible
from motoko.runtime.untrusted_files import write_error
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from anyio.abc import TaskGroup

    from motoko.config import QueueLimits
    from motoko.launcher.attempt_files import RecoveredAttempt
    from motoko.launcher.attempts import Attempt, PendingUpdates, SlotPool
    from motoko.launcher.executors.base import ProcessHandle
    from motoko.launcher.executors.process_spawner import ProcessSpawner
    from motoko.launcher.start_notes import StartNotes
    from motoko.storage.store import WorkflowStore

START_DELAY: Final = 0.2  # seconds; the start of a shorter run is recorded with its end
START_THREADS: Final = 2  # one prepares a run while the system starts another
POLL_SECONDS: Final = 1.0
NOT_STARTED: Final = 111  # exit status of a wrapper that did not create its outbox

_T = TypeVar("_T")

log = logging.getLogger(__name__)


class LocalExecutor(Executor):
    """Starts attempts, watches their processes and stops them early on request."""

    def __init__(
        self,
        store: WorkflowStore,
        pool: SlotPool,
        updates: PendingUpdates,
        starts: StartNotes,
        spawner: ProcessSpawner,
        *,
        owner: str,
        grace: float,
    ) -> None:
        super().__init__(store, pool, updates, starts)
        self._spawner = spawner
        self._owner = owner
        self._grace = grace
        self._clock = store.runtime.clock
        self._orphans = OrphanProcesses(grace)
        self._tasks: TaskGroup
        self._busy = anyio.Event()
        self._guard = CallbackGuard()
        self._early_exits = EarlyExits(self._guard, self._end_early, self._watch_on)
        self._threads = ThreadPoolExecutor(START_THREADS, "motoko-starter")
        self._starter = LocalStarter(store, pool, starts, self._files, spawner)
        self._submits_soon = False

    def start(self, tasks: TaskGroup) -> None:
        """Start the executor's tasks."""
        self._tasks = tasks
        self._spawner.shells.limit = shell_limit(self.pool.slots)
        tasks.start_soon(self._guard_callbacks)
        tasks.start_soon(self._poll_outboxes)

    def set_limits(self, slots: int, limits: QueueLimits) -> None:
        """Apply changed limits."""
        self._spawner.shells.limit = shell_limit(slots)
        super().set_limits(slots, limits)

    # -- starting --------------------------------------------------------------------------

    def _on_slots_changed(self) -> None:
        if not self._submits_soon:
            self._submits_soon = True
            self._guard.call_soon(self._submit_fitting)

    async def _guard_callbacks(self) -> None:
        """Wait for an error of a callback until cancelled; then finish the starts in progress."""
        try:
            await self._guard.run()
        finally:
            close = partial(self._threads.shutdown, cancel_futures=True)
            await to_completion(run_in_thread(close))
            await to_completion(run_in_thread(self._starter.prepared.withdraw_all))
            await to_completion(self._spawner.shells.stop_idle(self._grace))

    def _submit_fitting(self) -> None:
        self._submits_soon = False
        batch: list[Attempt] = []
        for attempt in self.pool.start_fitting():
            if self._starter.start_prepared(attempt):
                self._watch_soon(attempt)
            else:
                batch.append(attempt)
        if batch:
            start = partial(self._starter.start_all, batch)
            self._call_in_thread(start, partial(self._on_started, batch))
        chosen = self._starter.choose()
        if chosen:
            self._call_in_thread(partial(self._starter.prepared.prepare_all, chosen))

    def _call_in_thread(
        self, work: Callable[[], _T], on_result: Callable[[_T], object] | None = None
    ) -> None:
        """Call ``work`` in a thread, then ``on_result`` in the event loop, which gets errors."""
        loop = asyncio.get_running_loop()

        def report(done: Future[_T]) -> None:
            if done.cancelled() or (on_result is None and done.exception() is None):
                return
            loop.call_soon_threadsafe(self._guard.call, partial(_pass_result, done, on_result))

        self._threads.submit(work).add_done_callback(report)

    def _on_started(self, batch: list[Attempt], problems: list[Exception | None]) -> None:
        for attempt, problem in zip(batch, problems, strict=True):
            if problem is None:
                self._watch_soon(attempt)
            else:
                attempt.started_at = None
                self._fail_start(attempt, problem)

    def _watch_soon(self, attempt: Attempt) -> None:
        self._busy.set()
        handle, seconds = (
            self._starter.handles[attempt.token],
            min(START_DELAY, self._time_left(attempt)),
        )
        if attempt.start_recorded or not self._early_exits.watch(attempt, handle, seconds):
            self._watch_on(attempt)
        self._stop_started(attempt)  # cancelled during its start

    # -- watching --------------------------------------------------------------------------

    def _watch_on(self, attempt: Attempt) -> None:
        """Record the start of an attempt unless it is recorded, and watch its process."""
        handle = self._starter.handles[attempt.token]
        self._starter.short_studies.discard(attempt.key.study)
        if not attempt.start_recorded and not handle.has_ended:
            attempt.process = handle.identity
            self._updates.started.append(attempt)
            self._updates.wake()
        self._tasks.start_soon(self._watch, attempt, handle)

    def _time_left(self, attempt: Attempt) -> float:
        """Return the seconds until the timeout of an attempt."""
        limit = math.inf if attempt.options.timeout is None else attempt.options.timeout
        start = attempt.started_uptime
        return max(0.0, limit if start is None else limit - (self._clock.uptime() - start))

    async def _watch(self, attempt: Attempt, handle: ProcessHandle) -> None:
        with anyio.move_on_after(self._time_left(attempt)):
            await handle.wait()
        if not handle.has_ended:
            self.cancel(attempt, Lifecycle.TIMEOUT)
        await self._finish(attempt, handle, await handle.wait())

    def _end_early(self, attempt: Attempt, status: int | None) -> None:
        """Record the end of a short attempt, in a task if it left processes."""
        handle = self._starter.handles[attempt.token]
        simple = status is not None and status >= 0 and status != NOT_STARTED
        if simple and handle.is_alone() and self._orphans.has_none(self._pids()):
            del self._starter.handles[attempt.token]
            attempt.process = handle.identity
            if self._orphans.adopts and not handle.reuse():
                self._spawner.shells.start(attempt.paths.runs_root)
            self._starter.short_studies.add(attempt.key.study)
            self._end(attempt, status)
        else:
            self._tasks.start_soon(self._finish, attempt, handle, status)

    async def _finish(self, attempt: Attempt, handle: ProcessHandle, status: int | None) -> None:
        now = self._store.now()
        members = await handle.stop_remaining(self._grace)
        await self._end_orphans(attempt, members, child=status is not None)
        outcome = fault = None
        if status == NOT_STARTED and not attempt.start_recorded:
            outcome = await run_in_thread(partial(_outcome_of_no_start, attempt))
        elif status is None or status < 0:  # then the exit record has the status
            status, fault = await run_in_thread(partial(exit_record, attempt.paths))
        del self._starter.handles[attempt.token]
        attempt.process = handle.identity
        self._end(attempt, status, now, outcome=outcome, fault=fault)

    async def _end_orphans(self, attempt: Attempt, members: list[int], *, child: bool) -> None:
        """Stop processes that left the attempt's group; record all that do not end."""
        path = attempt.paths.attempt_path
        orphans = await self._orphans.terminate(attempt.key, path, self._pids(), child=child)
        remaining = sorted({*members, *orphans})
        attempt.remaining_processes = tuple(map(describe_process, remaining))

    def _pids(self) -> set[int]:
        # A thread adds to them.
        return self._spawner.shells.pids().union(
            h.pid for h in list(self._starter.handles.values())
        )

    async def _poll_outboxes(self) -> None:
        """Report the running attempts whose outboxes have new data, until cancelled."""
        without_record: set[Attempt] = set()
        while True:
            running = [attempt for attempt in self.pool.running() if attempt.start_recorded]
            if running:
                new_data = await run_in_thread(partial(_with_new_data, running))
                waiting = set(await run_in_thread(partial(_waiting_for_space, running)))
                for attempt in waiting & without_record:
                    handle = self._starter.handles.get(attempt.token)
                    if handle is not None and not handle.has_ended:
                        await run_in_thread(partial(_check_disk_space, attempt))
                without_record = waiting
                self._updates.with_output.extend(filter(self.pool.contains, new_data))
                if new_data:
                    self._updates.wake()
            self._orphans.reap(self._pids())
            self._spawner.shells.reap()
            # A study whose runs have ended needs none, however long those of others take.
            unused = bool(self.pool.running())
            await self._spawner.shells.stop_idle(self._grace, unused=unused)
            if not self.pool.running():
                self._busy = anyio.Event()
                await self._busy.wait()
            await anyio.sleep(POLL_SECONDS)

    # -- stopping --------------------------------------------------------------------------

    def _end_waiting(self, attempt: Attempt) -> None:
        if attempt in self._starter.prepared:
            self.pool.release(attempt)
            withdraw = partial(self._starter.prepared.withdraw, attempt)
            end = partial(self._call_in_thread, withdraw, lambda _: self._end(attempt, None))
            self._guard.call(end)  # once the executor has ended, the launcher requeues the attempt
        else:
            super()._end_waiting(attempt)

    def _stop_started(self, attempt: Attempt) -> None:
        handle = self._starter.handles.get(attempt.token)
        if handle is not None and attempt.stop_reason is not None:
            self._tasks.start_soon(self._stop, attempt, handle, attempt.stop_reason)

    async def _stop(self, attempt: Attempt, handle: ProcessHandle, reason: Lifecycle) -> None:
        if not handle.has_ended:
            await run_in_thread(partial(attempt_files.write_stop_reason, attempt.paths, reason))
            await handle.stop(self._grace)

    def _abandon(self, attempt: Attempt) -> None:
        self._starter.prepared.remove(attempt)
        handle = self._starter.handles.get(attempt.token)
        if handle is not None and attempt.stop_reason is None:
            attempt.stop_reason = Lifecycle.CANCELLED
            self._tasks.start_soon(handle.stop, self._grace)

    def _unwatch(self, attempt: Attempt) -> bool:
        handle = self._starter.handles.get(attempt.token)
        if handle is not None:
            handle.forget()
        return handle is not None

    # -- attempts of earlier launchers -----------------------------------------------------

    async def adopt(self, attempt: Attempt, *, restarted: bool = False) -> None:
        """Adopt an abandoned attempt; ``restarted``: the machine has restarted since the claim."""
        found = await run_in_thread(partial(self._examine, attempt, restarted=restarted))
        launcher = attempt.record.launcher
        log.info("run %s: left by launcher %s, %s", attempt.key, launcher, found.finding.value)
        if found.finding is Finding.RECLAIMED:
            self._requeue(attempt, "its launcher ended before it started")
            return
        await run_in_thread(partial(self._restore, attempt))
        self.pool.add_running(attempt)
        self._updates.adopted.append(attempt)
        handle = None
        if found.finding is Finding.RUNNING and found.process is not None:
            handle = self._spawner.attach(found.process, attempt.paths.attempt_path)
            age = process_age(found.process.started)
            attempt.started_uptime = self._clock.uptime() - age
        if handle is None:
            attempt.already_ended = True
            if found.finding is Finding.LOST and attempt.record.cancel_requested:
                attempt.stop_reason = attempt.stop_reason or Lifecycle.CANCELLED
            self._tasks.start_soon(self._finish_unwatched, attempt, found)
            return
        log.info("run %s: is still running", attempt.key)
        self._starter.handles[attempt.token] = handle
        self._watch_soon(attempt)

    def _examine(self, attempt: Attempt, *, restarted: bool) -> RecoveredAttempt:
        noted = self._starts.contains(attempt.record.launcher or "", attempt.token)
        found = examine_attempt(
            attempt.record,
            attempt.paths,
            self._owner,
            restarted=restarted,
            start_noted=noted,
            clock=self._store.clock,
        )
        if noted and found.finding is not Finding.RECLAIMED:
            with contextlib.suppress(OSError):  # only a later launcher needs this note
                self._starts.record(attempt.token)
        return found

    def _restore(self, attempt: Attempt) -> None:
        super()._restore(attempt)
        attempt.started_at = recorded_start_time(attempt.record) or start_time(attempt.paths)

    async def _finish_unwatched(self, attempt: Attempt, found: RecoveredAttempt) -> None:
        """Record the end of an attempt that ended while no launcher watched it."""
        members: list[int] = []
        if found.process is not None and is_visible(found.process):
            members = await clear_group(found.process.pid, self._grace)
        await self._end_orphans(attempt, members, child=False)
        paths = attempt.paths
        status, fault = await run_in_thread(partial(exit_record, paths))
        if status is None:
            self._end(attempt, None, fault=found.fault or fault)
            return
        time = await run_in_thread(partial(exit_time, paths))
        self._end(attempt, status, time)


def _pass_result(done: Future[_T], on_result: Callable[[_T], object] | None) -> None:
    """Pass the result of a thread on, or raise its error."""
    result = done.result()
    if on_result is not None:
        on_result(result)


def _outcome_of_no_start(attempt: Attempt) -> AttemptOutcome | None:
    """Return the outcome of an attempt whose wrapper did not create its outbox, None if it did.

    If another launcher has created it, the database accepts no commit of this one. Raise
    LauncherError if no file can be written.
    """
    paths = attempt.paths
    if attempt_files.has_started(paths):
        return None
    error = write_error(paths.runs_root)
    if error is not None:
        raise LauncherError(
            f"run {attempt.key} cannot be started: {paths.outbox} cannot be written: {error}",
            hint="Is the disk full? Correct this, then start the launcher again.",
        )
    reason = f"exit code {NOT_STARTED}, and {paths.file(START)} does not exist"
    return AttemptOutcome(Lifecycle.FAILED, NOT_STARTED, reason)


def _check_disk_space(attempt: Attempt) -> None:
    """Raise LauncherError if a full disk prevents an exit record."""
    if write_error(attempt.paths.runs_root) is not None:
        raise LauncherError(
            f"run {attempt.key} has ended, but its exit record cannot be written",
            hint=f"Is the disk full? Free space in {attempt.paths.run_directory}, then start the "
            "launcher again.",
        )


def _with_new_data(running: list[Attempt]) -> list[Attempt]:
    return [a for a in running if attempt_files.outbox_size(a.paths) > a.outbox_offset]


def _waiting_for_space(running: list[Attempt]) -> list[Attempt]:
    """Return attempts whose wrapper waits for disk space for its exit record."""
    return [a for a in running if attempt_files.waits_for_space(a.paths)]
