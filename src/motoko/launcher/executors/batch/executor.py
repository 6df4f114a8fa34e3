"""The batch executor: runs as jobs of a scheduler, submitted in arrays and polled together."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
import anyio.lowlevel

from motoko.core.states import Lifecycle
from motoko.launcher import attempt_files
from motoko.launcher.attempt_outcome import AttemptOutcome
from motoko.launcher.executors.base import Executor
from motoko.launcher.executors.batch.decide import FILES_LAG, decide
from motoko.launcher.executors.batch.observe import ObservedAttempt, observe, start_time
from motoko.launcher.executors.batch.orphan_jobs import find_orphans
from motoko.launcher.executors.batch.submission_files import (
    ArrayTask,
    block_start,
    read_submission,
    write_job_id,
    write_restart_markers,
    write_stop_reasons,
)
from motoko.launcher.executors.batch.submit import Submitter
from motoko.launcher.schedulers.base import NOT_SEEN
from motoko.runtime import fault_points
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anyio.abc import TaskGroup

    from motoko.config import QueueLimits
    from motoko.launcher.attempts import Attempt, PendingUpdates, SlotPool
    from motoko.launcher.executors.batch.decide import Decision, Observation
    from motoko.launcher.executors.batch.queue_client import QueueClient, QueueSnapshot
    from motoko.launcher.executors.batch.submission_files import Submission
    from motoko.launcher.schedulers.base import JobId
    from motoko.launcher.start_notes import StartNotes
    from motoko.storage.store import WorkflowStore

QUICK_SECONDS: Final = 0.5  # between polls while states change
PAUSE_FACTOR: Final = 4.0  # ratio of the pause to the duration of a poll
UNCONFIRMED_SECONDS: Final = 30.0  # until a submission that no poll lists counts as lost

log = logging.getLogger(__name__)


class BatchExecutor(Executor):
    """Submits attempts to a batch scheduler, and polls and cancels their jobs.

    ``root`` is the directory for the files of submissions. ``lag``: how many seconds files written
    on other nodes may be late.
    """

    def __init__(
        self,
        store: WorkflowStore,
        pool: SlotPool,
        updates: PendingUpdates,
        starts: StartNotes,
        client: QueueClient,
        limits: QueueLimits,
        *,
        owner: str,
        root: Path,
        lag: float = FILES_LAG,
    ) -> None:
        super().__init__(store, pool, updates, starts)
        self._clock = store.runtime.clock
        self._client = client
        self._limits = limits
        self._root = root
        self._owner = owner
        self._lag = lag
        self._submitter = Submitter(store, client, limits, owner=owner, root=root, starts=starts)
        self._wake = anyio.Event()
        self._slots_changed = anyio.Event()
        self._submissions: dict[str, Submission] = {}
        self._tasks: dict[str, ArrayTask] = {}  # by the attempt's token
        self._to_cancel: set[JobId] = set()
        self._orphans: set[str] = set()

    def start(self, tasks: TaskGroup) -> None:
        """Start the executor's tasks."""
        tasks.start_soon(self._submit_forever)
        tasks.start_soon(self._poll_forever)

    def set_limits(self, slots: int, limits: QueueLimits) -> None:
        """Apply changed limits."""
        self._limits = self._submitter.limits = limits
        super().set_limits(slots, limits)

    # -- submitting ------------------------------------------------------------------------

    def _on_slots_changed(self) -> None:
        self._slots_changed.set()

    async def _submit_forever(self) -> None:
        while True:
            await self._slots_changed.wait()
            self._slots_changed = anyio.Event()
            await anyio.lowlevel.checkpoint()  # the launcher submits all claims of a round first
            await self.submit_fitting()

    async def submit_fitting(self) -> None:
        """Submit the waiting attempts that have slots."""
        for group in await self._submitter.prepare(self.pool.start_fitting(), self._fail_start):
            await self._submit_group(group)

    async def _submit_group(self, group: Sequence[Attempt]) -> None:
        present = list(filter(self.pool.contains, group))
        remaining = [attempt for attempt in present if attempt.stop_reason is None]
        for attempt in present:
            if attempt.stop_reason is not None:
                self._end(attempt, None)
        if not remaining:
            return
        submission = await self._submitter.write(remaining)
        self._submissions[submission.token] = submission
        for index, attempt in enumerate(remaining):
            self._tasks[attempt.token] = ArrayTask(submission, index)
        refusal = await self._submitter.submit(submission, remaining)
        self._wake.set()
        if refusal is None:
            return
        del self._submissions[submission.token]
        for attempt in remaining:
            self._tasks.pop(attempt.token, None)
            if refusal.outcome is not None:
                self._end(attempt, None, outcome=refusal.outcome)
            else:
                self._requeue(attempt, refusal.cause, refusal.delay)

    # -- polling ---------------------------------------------------------------------------

    async def _poll_forever(self) -> None:
        pause = QUICK_SECONDS
        while True:
            if not self.pool.running() and not self._to_cancel:
                await self._wake.wait()
            self._wake = anyio.Event()
            started = self._clock.monotonic()
            changed = await self.poll_once()
            # A poll of thousands of jobs is expensive, mainly for the scheduler.
            quick = max(QUICK_SECONDS, PAUSE_FACTOR * (self._clock.monotonic() - started))
            pause = quick if changed else min(2 * pause, self._limits.poll)
            with anyio.move_on_after(pause):
                await self._wake.wait()

    async def poll_once(self) -> bool:
        """Poll the scheduler and observe all attempts; return whether anything changed."""
        changed = await self._cancel_stopped()
        changed |= await self._drop_unconfirmed()
        snapshot = await self._client.poll()
        if snapshot is None:
            return changed
        for submission in [s for s in self._submissions.values() if s.is_unconfirmed]:
            changed |= await self._find(submission, snapshot)
        duplicated = await self._cancel_duplicates(snapshot)
        await self._cancel_orphans(snapshot)
        items: list[ObservedAttempt] = []
        for attempt in self.pool.running():
            task = self._tasks.get(attempt.token)
            if task is None or task.submission.job is None:
                continue
            submission = task.submission
            if submission.since < snapshot.time and submission.token not in duplicated:
                status = task.update_status(snapshot.status_of(submission.token, task.id))
                items.append(ObservedAttempt(attempt, task, status))
        changed |= await self._observe(items)
        self._remove_stale()
        await self._cancel_stopped()
        return changed

    async def _observe(self, items: list[ObservedAttempt]) -> bool:
        observations = await run_in_thread(partial(observe, items))
        changed, unclear = False, list[ObservedAttempt]()
        for item, seen in zip(items, observations, strict=True):
            decision = decide(item.state, seen, self._store.steady(), lag=self._lag)
            changed |= await self._apply(item, decision, seen)
            if decision.lookup and not item.all_sources:
                unclear.append(item)
        if unclear:
            changed |= await self._lookup(unclear)
        return changed

    async def _lookup(self, items: list[ObservedAttempt]) -> bool:
        """Observe attempts again with the answers of all sources."""
        submissions = [item.task.submission for item in items]
        jobs = {s.job: s.token for s in submissions if s.job is not None}
        found, answered = await self._client.lookup(jobs)
        again: list[ObservedAttempt] = []
        for item in items:
            if item.task.submission.job in answered:
                status = item.task.update_status(found.get(item.task.id, NOT_SEEN))
                again.append(replace(item, job=status, all_sources=True))
        return bool(again) and await self._observe(again)

    async def _apply(self, item: ObservedAttempt, decision: Decision, seen: Observation) -> bool:
        attempt = item.attempt
        if not self.pool.contains(attempt):
            return False
        attempt.unconfirmed_since = decision.unconfirmed_since
        attempt.host = seen.host or attempt.host
        if decision.started_at is not None:
            attempt.started_at = decision.started_at
            self._updates.started.append(attempt)
        if decision.reason is not None:
            attempt.reason = decision.reason or None
            self._updates.reasons.append((attempt, decision.reason))
        if decision.cancel_job:
            # A later launcher may find the job cancelled, but its end not recorded.
            write = partial(attempt_files.write_stop_reason, attempt.paths, Lifecycle.CREATED)
            await run_in_thread(write)
            self._cancel_job(item.task)
        if decision.is_final:
            if decision.block_start and not await self._block_start(attempt):
                return True  # it has just started: the next poll shows more
            self._finish(attempt, decision, seen)
        changed = decision.is_final or (decision.started_at, decision.reason) != (None, None)
        if changed:
            self._updates.wake()
        elif seen.has_new_data:
            self._updates.with_output.append(attempt)
            self._updates.wake()
        return changed

    def _finish(self, attempt: Attempt, decision: Decision, seen: Observation) -> None:
        if attempt.started_at is None:
            attempt.started_at = seen.started_at
        if decision.requeue is not None:
            log.warning("run %s: %s", attempt.key, decision.requeue)
            self._requeue(attempt, decision.requeue)
            return
        self._end(attempt, decision.exit_status, seen.exit_time, outcome=decision.outcome)

    async def _block_start(self, attempt: Attempt) -> bool:
        if attempt.start_recorded:
            return False  # even if its start file is missing
        return await run_in_thread(partial(block_start, attempt.paths))

    async def _find(self, submission: Submission, snapshot: QueueSnapshot) -> bool:
        """Search the queue for a submission that the scheduler did not confirm."""
        jobs = snapshot.jobs.get(submission.token)
        if jobs:
            job = submission.job = min(jobs, key=lambda job: (len(job), job))
            log.info("submission %s: the scheduler has it, as job %s", submission.token, job)
            await run_in_thread(partial(write_job_id, submission, job))
            return True
        if snapshot.time - submission.since < UNCONFIRMED_SECONDS:
            return False
        started: list[ObservedAttempt] = []
        for attempt in self._attempts_of(submission):
            if await self._block_start(attempt):
                log.warning("run %s: the scheduler never received it", attempt.key)
                self._requeue(attempt, "the scheduler never received it")
            else:
                # The scheduler had the job, and no longer knows it.
                task = self._tasks[attempt.token]
                started.append(ObservedAttempt(attempt, task, NOT_SEEN, all_sources=True))
        return await self._observe(started)

    async def _drop_unconfirmed(self) -> bool:
        """End stopped attempts of unconfirmed submissions.

        A blocked start file keeps them from running. A job that appears later is an orphan.
        """
        unconfirmed = [s for s in self._submissions.values() if s.is_unconfirmed]
        attempts = [a for submission in unconfirmed for a in self._attempts_of(submission)]
        stopped = [a for a in attempts if a.stop_reason is not None]
        blocked = [attempt for attempt in stopped if await self._block_start(attempt)]
        for attempt in blocked:
            self._end(attempt, None)
        return bool(blocked)

    def _attempts_of(self, submission: Submission) -> list[Attempt]:
        return [
            attempt
            for attempt in self.pool.running()
            if (task := self._tasks.get(attempt.token)) and task.submission is submission
        ]

    def _remove_stale(self) -> None:
        """Remove tasks and submissions without running attempts."""
        running = {attempt.token for attempt in self.pool.running()}
        self._tasks = {token: task for token, task in self._tasks.items() if token in running}
        used = {task.submission.token for task in self._tasks.values()}
        for token in self._submissions.keys() - used:
            if not self._submissions[token].submitting:
                del self._submissions[token]

    # -- cancelling ------------------------------------------------------------------------

    def _stop_started(self, attempt: Attempt) -> None:
        self._wake.set()

    def _abandon(self, attempt: Attempt) -> None:
        task = self._tasks.get(attempt.token)
        if task is not None:
            self._cancel_job(task)

    def _unwatch(self, attempt: Attempt) -> bool:
        return attempt.token in self._tasks

    def _cancel_job(self, task: ArrayTask) -> None:
        if task.submission.job is not None:
            self._to_cancel.add(task.id)
        self._wake.set()

    async def _cancel_stopped(self) -> bool:
        """Cancel the jobs of stopped attempts and unwanted jobs; return whether any existed."""
        stopped = [
            (attempt, task)
            for attempt in self.pool.running()
            if attempt.stop_reason is not None
            and (task := self._tasks.get(attempt.token)) is not None
            and task.submission.job is not None
            and not task.cancel_sent
        ]
        await run_in_thread(partial(write_stop_reasons, [attempt for attempt, _ in stopped]))
        for _, task in stopped:
            task.cancel_sent = True
            self._cancel_job(task)
        ids = sorted(self._to_cancel, key=str)
        if ids and await self._client.cancel(ids):
            self._to_cancel.difference_update(ids)
        return bool(ids)

    async def _cancel_duplicates(self, snapshot: QueueSnapshot) -> set[str]:
        """Cancel the additional jobs of submissions; return the submissions that still have some.

        Only one job can run the scripts. Which one is unknown until the others have ended.
        """
        duplicated: set[str] = set()
        for submission in list(self._submissions.values()):
            others = snapshot.jobs.get(submission.token, frozenset()) - {submission.job}
            if submission.job is None or not others:
                continue
            if not submission.duplicated:
                log.warning("submission %s: the scheduler has it twice", submission.token)
                await run_in_thread(partial(write_restart_markers, submission))
                submission.duplicated = True
            active = others & snapshot.active
            self._to_cancel |= {(job, None) for job in active}
            if active:
                duplicated.add(submission.token)
        return duplicated

    async def _cancel_orphans(self, snapshot: QueueSnapshot) -> None:
        """Cancel the jobs that no attempt needs, which may take several polls."""
        self._orphans &= snapshot.jobs.keys()
        unknown = [
            token
            for token, jobs in snapshot.jobs.items()
            if token not in self._submissions and not jobs.isdisjoint(snapshot.active)
        ]
        if not unknown:
            return
        for token in await run_in_thread(partial(find_orphans, self._root, unknown, self._owner)):
            if token not in self._submissions:
                if token not in self._orphans:
                    log.warning("submission %s: no attempt needs its job", token)
                    self._orphans.add(token)
                active = snapshot.jobs[token] & snapshot.active
                self._to_cancel |= {(job, None) for job in active}

    # -- attempts of earlier launchers -----------------------------------------------------

    async def adopt(self, attempt: Attempt, *, restarted: bool = False) -> None:
        """Adopt an abandoned attempt; ``restarted``: the machine has restarted since the claim."""
        token, index = attempt.submission or ("", 0)
        submission = await self._load(token) if token else None
        if submission is None:
            await self._reclaim(attempt)
            return
        await run_in_thread(partial(self._restore, attempt))
        # A poll may have removed the submission meanwhile: its attempts share one object.
        submission = self._submissions.setdefault(token, submission)
        self._tasks[attempt.token] = ArrayTask(submission, index)
        self.pool.add_running(attempt)
        self._updates.adopted.append(attempt)
        self._wake.set()

    async def _reclaim(self, attempt: Attempt) -> None:
        """Requeue an attempt without submission, unless it has started."""
        if await self._block_start(attempt):
            fault_points.point("launcher.reclaimed")
            self._requeue(attempt, "its launcher ended before it was submitted")
            return
        self.pool.add_running(attempt)
        reason = f"nothing in {self._root} identifies its job"
        self._end(attempt, None, outcome=AttemptOutcome(Lifecycle.LOST, None, reason))

    async def _load(self, token: str) -> Submission | None:
        if token not in self._submissions:
            submission = await run_in_thread(partial(read_submission, self._root, token))
            if submission is None:
                return None
            submission.since = self._clock.monotonic()
            self._submissions[token] = submission
        return self._submissions[token]

    def _restore(self, attempt: Attempt) -> None:
        super()._restore(attempt)
        attempt.started_at = start_time(attempt)
