"""The attempts that a batch scheduler has: submitted in arrays, watched together, ended early."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
import anyio.lowlevel

from motoko.core.states import Lifecycle
from motoko.launcher import attempt_files
from motoko.launcher.attempts import AttemptEnd
from motoko.launcher.executors.batch.decide import FILES_LAG, AttemptState, decide
from motoko.launcher.executors.batch.observe import ObservedAttempt, began_at, observe
from motoko.launcher.executors.batch.orphan_jobs import find_orphans
from motoko.launcher.executors.batch.submission_files import ArrayTask, note_job, read_submission
from motoko.launcher.executors.batch.submission_marks import (
    block_start,
    write_duplicates,
    write_stop_reasons,
)
from motoko.launcher.executors.batch.submit import Submitter
from motoko.launcher.harvest import failure_before
from motoko.launcher.outcome import AttemptOutcome
from motoko.launcher.preparation import DIRECTORY_IN_USE, REQUEUE_SECONDS
from motoko.launcher.schedulers.slurm.queries import task_id
from motoko.runtime import fault_points
from motoko.storage.threads import run_in_thread
from motoko.worker import OUTBOX

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anyio.abc import TaskGroup

    from motoko.config import QueueLimits
    from motoko.launcher.attempts import Attempt, PendingUpdates, SlotPool
    from motoko.launcher.executors.batch.decide import Decision, JobStatus, Observation
    from motoko.launcher.executors.batch.queue_client import QueueClient, QueueSnapshot
    from motoko.launcher.executors.batch.submission_files import Submission
    from motoko.launcher.start_notes import StartNotes
    from motoko.storage.store import WorkflowStore

QUICK: Final = 0.5  # seconds between looks while things change
SHARE: Final = 4.0  # times as long as a look takes is the pause to the next one
IN_DOUBT: Final = 30.0  # seconds after which a submission that nobody has seen was never made

log = logging.getLogger(__name__)


class BatchExecutor:
    """Attends to the attempts of a pool that a batch scheduler runs.

    ``owner`` is the launcher's name, ``root`` the directory for the files of submissions. ``lag``:
    how many seconds files written on other nodes may be late.
    """

    def __init__(
        self,
        store: WorkflowStore,
        pool: SlotPool,
        notebook: PendingUpdates,
        desk: QueueClient,
        limits: QueueLimits,
        *,
        owner: str,
        root: Path,
        starts: StartNotes,
        lag: float = FILES_LAG,
    ) -> None:
        self.pool = pool
        self._store = store
        self._notebook = notebook
        self._desk = desk
        self._limits = limits
        self._root = root
        self._owner = owner
        self._lag = lag
        self._submission = Submitter(store, desk, limits, owner=owner, root=root, starts=starts)
        self._room = anyio.Event()
        self._stirred = anyio.Event()
        self._batches: dict[str, Submission] = {}
        self._to_cancel: set[str] = set()
        self._told: set[str] = set()
        self._strays: set[str] = set()
        self._ends: dict[str, JobStatus] = {}

    def run(self, tasks: TaskGroup) -> None:
        """Begin to work, until the tasks are cancelled."""
        tasks.start_soon(self._submit)
        tasks.start_soon(self._watch)

    # -- submitting ------------------------------------------------------------------------

    def admit(self, active: Attempt) -> None:
        """Have an attempt submitted."""
        self.pool.add(active)
        self._room.set()

    async def _submit(self) -> None:
        while True:
            await self._room.wait()
            self._room = anyio.Event()
            await anyio.lowlevel.checkpoint()  # what is claimed together is admitted together
            await self.submit()

    async def submit(self) -> None:
        """Submit what waits and has a place."""
        for group in await self._submission.prepare(self.pool.start(), self._not_begun):
            await self._submit_group(group)

    async def _submit_group(self, group: Sequence[Attempt]) -> None:
        wanted: list[Attempt] = []
        for active in filter(self.pool.has, group):
            if active.stop is None:
                wanted.append(active)
            else:
                self._over(active, None)
        if not wanted:
            return
        batch = await self._submission.write(wanted)
        self._batches[batch.token] = batch
        for index, active in enumerate(wanted):
            active.task = ArrayTask(batch, index)
        result = await self._submission.submit(batch, wanted)
        self._stirred.set()
        if result is None:
            return
        del self._batches[batch.token]
        for active in wanted:
            active.task = None
            if result.ending is not None:
                self._over(active, None, ending=result.ending)
            else:
                self._again(active, f"sbatch: {result.why}", later=result.later)

    def _not_begun(self, active: Attempt, ending: AttemptOutcome | None) -> None:
        if ending is None:
            self._again(active, DIRECTORY_IN_USE, later=REQUEUE_SECONDS)
        else:
            self._over(active, None, ending=ending)

    # -- watching --------------------------------------------------------------------------

    async def _watch(self) -> None:
        pause = QUICK
        while True:
            if not self.pool.running() and not self._to_cancel:
                await self._stirred.wait()
            self._stirred = anyio.Event()
            began = time.monotonic()
            changed = await self.look()
            # A look at thousands of jobs is work for everybody, for the scheduler above all.
            quick = max(QUICK, SHARE * (time.monotonic() - began))
            pause = quick if changed else min(2 * pause, self._limits.poll)
            with anyio.move_on_after(pause):
                await self._stirred.wait()

    async def look(self) -> bool:
        """Look once at everything; returns whether anything has changed."""
        changed = await self._cancel()
        changed |= await self._give_up()
        look = await self._desk.look()
        if look is None:
            return changed
        for batch in [b for b in self._batches.values() if b.job is None and not b.submitting]:
            changed |= await self._find(batch, look)
        doubled = await self._end_twins(look)
        await self._end_strays(look)
        questions = [
            ObservedAttempt(
                active, self._word(active, look.word(active.task.batch.token, *active.task.key))
            )
            for active in self.pool.running()
            if active.task is not None
            and active.task.batch.job is not None
            and active.task.batch.since < look.began
            and active.task.batch.token not in doubled
        ]
        changed |= await self._consider(questions)
        self._tidy()
        await self._cancel()
        return changed

    def _word(self, active: Attempt, word: JobStatus | None) -> JobStatus | None:
        """Return what is said of an attempt; its end, once it was said, is not forgotten."""
        if word is None:
            return self._ends.get(active.token)
        if word.condition.is_end:
            self._ends[active.token] = word
        return word

    async def _consider(self, questions: list[ObservedAttempt]) -> bool:
        sights = await run_in_thread(partial(observe, questions))
        changed = False
        again: list[Attempt] = []
        for question, sight in zip(questions, sights, strict=True):
            active = question.active
            step = decide(_known(active), sight, self._store.steady(), lag=self._lag)
            changed |= await self._apply(active, step, sight)
            if step.ask and not question.asked:
                again.append(active)
        if again:
            changed |= await self._ask(again)
        return changed

    async def _ask(self, actives: list[Attempt]) -> bool:
        tasks = [(active, active.task) for active in actives if active.task is not None]
        batches = [task.batch for _, task in tasks]
        jobs = {batch.job: batch.token for batch in batches if batch.job is not None}
        found, asked = await self._desk.ask(jobs)
        questions = [
            ObservedAttempt(active, self._word(active, found.get(task.key)), asked=True)
            for active, task in tasks
            if task.batch.job in asked
        ]
        return bool(questions) and await self._consider(questions)

    async def _apply(self, active: Attempt, step: Decision, sight: Observation) -> bool:
        if not self.pool.has(active) or active.task is None:
            return False
        active.doubted = step.doubted
        if step.started is not None:
            active.since = step.started
            self._notebook.started.append(active)
        if step.remark is not None:
            active.remark = step.remark or None
            self._notebook.remarks.append((active, step.remark))
        if step.cancel:
            # For a later launcher, which may find it cancelled and its end not recorded.
            await run_in_thread(
                partial(attempt_files.write_stop_reason, active.place, Lifecycle.CREATED)
            )
            self._end_job(active.task)
        if step.over:
            if step.take_back and not await self._take_back(active):
                return True  # it has just started: the next look tells more
            self._settle(active, step, sight)
        changed = step.over or step.started is not None or step.remark is not None
        if changed:
            self._notebook.stir()
        elif sight.grown:
            self._notebook.grown.append(active)
            self._notebook.stir()
        return changed

    def _settle(self, active: Attempt, step: Decision, sight: Observation) -> None:
        if active.since is None:
            active.since = sight.began
        if step.requeue is not None:
            log.warning("run %s: %s", active.key, step.requeue)
            self._again(active, step.requeue)
            return
        self._over(active, step.status, sight.ended, ending=step.ending)

    async def _take_back(self, active: Attempt) -> bool:
        if active.recorded_start:
            return False  # whatever has become of its start file
        return await run_in_thread(partial(block_start, active.place))

    async def _find(self, batch: Submission, look: QueueSnapshot) -> bool:
        """Find a submission whose answer was lost, by its token."""
        jobs = sorted(look.jobs.get(batch.token, ()), key=int)
        if jobs:
            log.info("batch %s: the scheduler has it, as job %s", batch.token, jobs[0])
            batch.job = jobs[0]
            await run_in_thread(partial(note_job, batch, batch.job))
            return True
        if look.began - batch.since < IN_DOUBT:
            return False
        started: list[ObservedAttempt] = []
        for active in self._of(batch):
            if await self._take_back(active):
                log.warning("run %s: the scheduler never got it", active.key)
                self._again(active, "the scheduler never got it")
            else:
                # The scheduler had it, and knows nothing of it any more.
                started.append(ObservedAttempt(active, None, asked=True))
        return await self._consider(started)

    async def _end_twins(self, look: QueueSnapshot) -> set[str]:
        """End the jobs that a submission became besides its own; return where some still go on.

        Only one of them can run the scripts, and nobody can say yet which.
        """
        doubled: set[str] = set()
        for batch in list(self._batches.values()):
            twins = look.jobs.get(batch.token, frozenset()) - {batch.job}
            if batch.job is None or not twins:
                continue
            if not batch.doubled:
                log.warning("batch %s: the scheduler has it twice", batch.token)
                await run_in_thread(partial(write_duplicates, batch))
                batch.doubled = True
            going = twins & look.going
            self._to_cancel |= going
            if going:
                doubled.add(batch.token)
        return doubled

    async def _end_strays(self, look: QueueSnapshot) -> None:
        """End the jobs that nobody waits for any more, which may take several looks."""
        self._strays &= look.jobs.keys()
        unknown = [
            token
            for token, jobs in look.jobs.items()
            if token not in self._batches and not jobs.isdisjoint(look.going)
        ]
        if not unknown:
            return
        for token in await run_in_thread(partial(find_orphans, self._root, unknown, self._owner)):
            if token not in self._batches:
                if token not in self._strays:
                    log.warning("batch %s: nobody waits for it any more", token)
                    self._strays.add(token)
                self._to_cancel |= look.jobs[token] & look.going

    async def _give_up(self) -> bool:
        """Let go of what shall end and of which nobody knows whether the scheduler has it.

        With its start file taken it never runs; should its job turn up, that is a stray.
        """
        unknown = [b for b in self._batches.values() if b.job is None and not b.submitting]
        stopped = [a for batch in unknown for a in self._of(batch) if a.stop is not None]
        taken = [active for active in stopped if await self._take_back(active)]
        for active in taken:
            self._over(active, None)
        return bool(taken)

    def _of(self, batch: Submission) -> list[Attempt]:
        return [a for a in self.pool.running() if a.task is not None and a.task.batch is batch]

    def _tidy(self) -> None:
        """Forget the submissions of which nothing is left, and what was said of attempts."""
        running = {active.token for active in self.pool.running()}
        self._told &= running
        for token in self._ends.keys() - running:
            del self._ends[token]
        going = {a.task.batch.token for a in self.pool.running() if a.task is not None}
        for token in self._batches.keys() - going:
            if not self._batches[token].submitting:
                del self._batches[token]

    # -- ending ----------------------------------------------------------------------------

    def _over(
        self,
        active: Attempt,
        status: int | None,
        at: float | None = None,
        *,
        ending: AttemptOutcome | None = None,
    ) -> None:
        active.past = True
        self.pool.release(active)
        moment = self._store.now() if at is None else at
        self._notebook.ended.append(AttemptEnd(active, status, moment, ending))
        self._notebook.stir()
        self._room.set()

    def _again(self, active: Attempt, cause: str, *, later: float = 0.0) -> None:
        self.pool.release(active)
        self._notebook.requeued.append((active, cause, later))
        self._notebook.stir()

    def _forget(self, active: Attempt) -> None:
        self.pool.remove(active)
        self._room.set()

    def end_early(self, active: Attempt, outcome: Lifecycle) -> None:
        """Have an attempt ended; the first reason counts. CREATED: to be tried again later."""
        if active.stop is not None or not self.pool.has(active) or active.past:
            return
        active.stop = outcome
        if self.pool.waits(active):
            self._over(active, None)
        self._stirred.set()

    def limit(self, slots: int, limits: QueueLimits) -> None:
        """Keep to other limits from here on."""
        self.pool.slots = slots
        self._limits = self._submission.limits = limits
        self._room.set()

    def let_go(self, active: Attempt) -> None:
        """End an attempt of a run that is not this launcher's any more, and record nothing."""
        if active.task is not None:
            self._end_job(active.task)
        self._forget(active)

    def _end_job(self, task: ArrayTask) -> None:
        if task.batch.job is not None:
            self._to_cancel.add(task_id(task.batch.job, task.number))
        self._stirred.set()

    async def _cancel(self) -> bool:
        """Have the scheduler end what is to be ended; returns whether there was anything."""
        stopped = [
            active
            for active in self.pool.running()
            if active.stop is not None and active.task is not None
            and active.task.batch.job is not None and active.token not in self._told
        ]  # fmt: skip
        await run_in_thread(partial(write_stop_reasons, stopped))
        for active in stopped:
            self._told.add(active.token)
            if active.task is not None:
                self._end_job(active.task)
        ids = sorted(self._to_cancel)
        if ids and await self._desk.cancel(ids):
            self._to_cancel.difference_update(ids)
        return bool(ids)

    # -- what another launcher began -------------------------------------------------------

    async def take_over(self, active: Attempt, *, restarted: bool = False) -> None:
        """Go on with an attempt of a launcher that is gone; ``restarted``: so was the machine."""
        found = active.submission
        batch = None if found is None else await self._known_batch(found[0])
        if found is None or batch is None:
            await self._without_batch(active)
            return
        await run_in_thread(partial(_remember, active))
        active.task = ArrayTask(batch, found[1])
        self.pool.add_running(active)
        self._notebook.adopted.append(active)
        self._stirred.set()

    async def _without_batch(self, active: Attempt) -> None:
        """Take an attempt back of which no submission is known, unless it has started."""
        if await self._take_back(active):
            fault_points.point("launcher.taken_back")
            cause = "its launcher was gone before it was submitted"
            self._notebook.requeued.append((active, cause, 0.0))
            return
        self.pool.add_running(active)
        reason = f"nothing in {self._root} tells its job any more"
        self._over(active, None, ending=AttemptOutcome(Lifecycle.LOST, None, reason))

    async def _known_batch(self, token: str) -> Submission | None:
        if token not in self._batches:
            batch = await run_in_thread(partial(read_submission, self._root, token))
            if batch is None:
                return None
            batch.since = time.monotonic()
            self._batches[token] = batch
        return self._batches[token]


def _known(active: Attempt) -> AttemptState:
    return AttemptState(
        active.since if active.recorded_start else None,
        active.stop, active.doubted, active.remark, active.terms.timeout,
    )  # fmt: skip


def _remember(active: Attempt) -> None:
    active.since = began_at(active)
    active.stop = attempt_files.read_stop_reason(active.place)
    active.failed = failure_before(f"{active.place.private}/{OUTBOX}", active.read)
