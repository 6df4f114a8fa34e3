"""From claimed attempts to scheduler jobs: directories made, alike runs put together, submitted."""

from __future__ import annotations

import logging
import os
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from motoko.core.states import Lifecycle
from motoko.errors import Fenced, LauncherError
from motoko.launcher.executors.batch.submission_files import group_key, note_job, write_submission
from motoko.launcher.outcome import AttemptOutcome
from motoko.launcher.preparation import PrepareFailure, RunNotStartable, prepare_attempt
from motoko.launcher.run_directory import AttemptSuperseded
from motoko.launcher.schedulers.slurm.submit import SubmitFailure
from motoko.runtime import fault_points
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from motoko.config import QueueLimits
    from motoko.launcher.attempts import Attempt
    from motoko.launcher.executors.batch.queue_client import QueueClient
    from motoko.launcher.executors.batch.submission_files import Submission
    from motoko.launcher.executors.process_handle import LaunchSpec
    from motoko.launcher.start_notes import StartNotes
    from motoko.storage.store import WorkflowStore

LATER: Final = 30.0  # seconds until runs that the scheduler would not take now are tried again
BURST: Final = 10.0
NAME_LENGTH: Final = 60

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SubmitRefusal:
    """Why the scheduler has nothing of a batch: it never will, or not yet (``later``)."""

    why: str
    ending: AttemptOutcome | None = None
    later: float = 0.0


class Submitter:
    """Prepares and submits, keeping to the limits of the site and of ``motoko.yaml``."""

    def __init__(
        self,
        store: WorkflowStore,
        desk: QueueClient,
        limits: QueueLimits,
        *,
        owner: str,
        root: Path,
        starts: StartNotes,
    ) -> None:
        self._store = store
        self._desk = desk
        self.limits = limits
        self._owner = owner
        self._root = root
        self._starts = starts
        self._next = 0.0
        self._orders: dict[str, LaunchSpec] = {}

    async def prepare(
        self, actives: Sequence[Attempt], failed: Callable[[Attempt, AttemptOutcome | None], None]
    ) -> list[list[Attempt]]:
        """Make the run directories; return the attempts in groups, a group for each submission.

        ``failed`` is called with those that cannot be submitted, with None for those that another
        launcher has taken. LauncherError where nothing can be written, Fenced where this launcher
        was replaced.
        """
        if not actives:
            return []
        results = await run_in_thread(partial(_prepare_all, self._store, actives, self._starts))
        groups: dict[tuple[object, ...], list[Attempt]] = {}
        for active, result in zip(actives, results, strict=True):
            if isinstance(result, PrepareFailure):
                failed(active, _judge(active, result.problem))
                continue
            self._orders[active.token] = result
            key = (active.key.study, *group_key(active.terms))
            groups.setdefault(key, []).append(active)
        size = await self._array_size()
        return [
            group[start : start + size]
            for group in groups.values()
            for start in range(0, len(group), size)
        ]

    async def _array_size(self) -> int:
        site = await self._desk.site()
        wanted = self.limits.array_size
        most = None if site is None else site.max_array_size
        return max(1, wanted if most is None else min(wanted, most))

    async def write(self, group: Sequence[Attempt]) -> Submission:
        """Write the files of a submission."""
        orders = [self._orders.pop(active.token) for active in group]
        here = os.path.dirname(sys.executable)
        batch = await run_in_thread(
            partial(write_submission, self._root, group[0].token, self._owner, orders, here)
        )
        fault_points.point("launcher.batch_written")
        return batch

    async def submit(self, batch: Submission, group: Sequence[Attempt]) -> SubmitRefusal | None:
        """Submit a batch. None if the scheduler has it, or may have it.

        Fenced where this launcher was replaced. The next one knows the batch if it was written
        before that, and of any other nothing is submitted.
        """
        batch.submitting = True
        try:
            await self._keep_to_rate()
            await run_in_thread(self._starts.check)
            result = await self._desk.submit(batch, group[0].terms, _name(group))
            fault_points.point("launcher.submitted")
            batch.since = time.monotonic()
            if result.job is not None:
                await run_in_thread(partial(note_job, batch, result.job))
                fault_points.point("launcher.job_noted")
                batch.job = result.job
                what = f"{group[0].key.study}: {len(group)} runs"
                log.info("batch %s (%s) is job %s", batch.token, what, result.job)
                return None
        finally:
            batch.submitting = False
        if result.failure is SubmitFailure.LOST:
            log.warning("batch %s: %s; it is looked for in the queue", batch.token, result.why)
            return None
        log.warning("batch %s is not submitted: %s", batch.token, result.why)
        if result.failure is SubmitFailure.LATER:
            return SubmitRefusal(result.why, later=LATER)
        reason = f"{'sbatch refused it' if result.asked else 'it is not submitted'}: {result.why}"
        return SubmitRefusal(result.why, AttemptOutcome(Lifecycle.FAILED, None, reason))

    async def _keep_to_rate(self) -> None:
        """Wait for this submission's turn: so many a minute."""
        gap = 60.0 / self.limits.submit_rate
        now = time.monotonic()
        # After a pause a few may follow each other at once, no more than belong to BURST seconds.
        self._next = max(self._next, now - BURST) + gap
        if self._next > now + gap:
            await anyio.sleep(self._next - gap - now)


def _prepare_all(
    store: WorkflowStore, actives: Sequence[Attempt], starts: StartNotes
) -> list[LaunchSpec | PrepareFailure]:
    return [prepare_attempt(store, active, starts) for active in actives]


def _judge(active: Attempt, problem: Exception) -> AttemptOutcome | None:
    if isinstance(problem, AttemptSuperseded):
        log.warning("run %s: %s", active.key, problem)
        return None
    if isinstance(problem, RunNotStartable):
        return AttemptOutcome(Lifecycle.FAILED, None, f"it cannot be started: {problem}")
    if isinstance(problem, Fenced):
        raise problem
    raise LauncherError(
        f"run {active.key} cannot be started: {problem}",
        hint="It stays CREATED; start the launcher again when this is put right.",
    ) from problem


def _name(group: Sequence[Attempt]) -> str:
    """Return the job's name: the study and, of a single run, the run."""
    key = group[0].key
    name = str(key) if len(group) == 1 else key.study
    return f"motoko-{name}"[:NAME_LENGTH]
