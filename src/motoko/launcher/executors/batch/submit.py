"""Turn claimed attempts into scheduler jobs: prepare directories, group runs, submit."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from motoko.core.states import Lifecycle
from motoko.launcher.attempt_outcome import AttemptOutcome
from motoko.launcher.executors.batch.submission_files import (
    group_key,
    write_job_id,
    write_submission,
)
from motoko.launcher.preparation import prepare_attempt
from motoko.launcher.schedulers.base import SubmitFailure
from motoko.launcher.source_files import SourceFiles
from motoko.runtime import fault_points
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from motoko.config import QueueLimits
    from motoko.launcher.attempts import Attempt
    from motoko.launcher.executors.batch.queue_client import QueueClient
    from motoko.launcher.executors.batch.submission_files import Submission
    from motoko.launcher.preparation import LaunchSpec
    from motoko.launcher.start_notes import StartNotes
    from motoko.storage.store import WorkflowStore

RETRY_SECONDS: Final = 30.0  # until a submission that the scheduler deferred is retried
BURST_SECONDS: Final = 10.0
MAX_NAME: Final = 60

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SubmitRefusal:
    """Why the scheduler has no job: an outcome of its runs, or None to retry after ``delay``."""

    cause: str
    outcome: AttemptOutcome | None = None
    delay: float = 0.0


class Submitter:
    """Prepares and submits attempts within the limits of the site and of ``motoko.yaml``."""

    def __init__(
        self,
        store: WorkflowStore,
        client: QueueClient,
        limits: QueueLimits,
        *,
        owner: str,
        root: Path,
        starts: StartNotes,
    ) -> None:
        self.limits = limits
        self._store = store
        self._clock = store.runtime.clock
        self._client = client
        self._scheduler = client.scheduler
        self._owner = owner
        self._root = root
        self._starts = starts
        self._next_time = 0.0
        self._specs: dict[str, LaunchSpec] = {}

    async def prepare(
        self, attempts: Sequence[Attempt], fail: Callable[[Attempt, Exception], None]
    ) -> list[list[Attempt]]:
        """Create the run directories; return the attempts in groups, one for each submission.

        Call ``fail`` for each attempt that cannot be submitted.
        """
        if not attempts:
            return []
        results = await run_in_thread(partial(_prepare, self._store, attempts, self._starts))
        groups: dict[tuple[object, ...], list[Attempt]] = {}
        for attempt, result in zip(attempts, results, strict=True):
            if isinstance(result, Exception):
                fail(attempt, result)
                continue
            self._specs[attempt.token] = result
            key = (attempt.key.study, *group_key(attempt.options, self._scheduler))
            groups.setdefault(key, []).append(attempt)
        size = await self._array_size()
        return [
            group[start : start + size]
            for group in groups.values()
            for start in range(0, len(group), size)
        ]

    async def _array_size(self) -> int:
        site = await self._client.limits()
        largest = None if site is None else site.max_array_size
        wanted = self.limits.array_size
        return max(1, wanted if largest is None else min(wanted, largest))

    async def write(self, group: Sequence[Attempt]) -> Submission:
        """Write the files of a submission."""
        specs = [self._specs.pop(attempt.token) for attempt in group]
        path = os.path.dirname(sys.executable)
        token, owner, scheduler = group[0].token, self._owner, self._scheduler
        submission = await run_in_thread(
            partial(write_submission, self._root, token, owner, specs, scheduler, path)
        )
        fault_points.point("launcher.submission_written")
        return submission

    async def submit(
        self, submission: Submission, group: Sequence[Attempt]
    ) -> SubmitRefusal | None:
        """Submit a job. Return None if the scheduler has it, or may have it.

        Raise Fenced if this launcher was replaced. Its successor then knows the files of the
        submission, and no other submission follows.
        """
        submission.submitting = True
        try:
            await self._limit_rate()
            await run_in_thread(self._starts.check)
            result = await self._client.submit(submission, group[0].options, _job_name(group))
            fault_points.point("launcher.submitted")
            submission.since = self._clock.monotonic()
            if result.job is not None:
                await run_in_thread(partial(write_job_id, submission, result.job))
                fault_points.point("launcher.job_recorded")
                submission.job = result.job
                runs = f"{group[0].key.study}: {len(group)} runs"
                log.info("submission %s (%s) is job %s", submission.token, runs, result.job)
                return None
        finally:
            submission.submitting = False
        token, error, program = submission.token, result.error, self._scheduler.submit_program
        if result.failure is SubmitFailure.UNCONFIRMED:
            log.warning("submission %s: %s; the next polls search the queue for it", token, error)
            return None
        log.warning("submission %s failed: %s", token, error)
        if result.failure is SubmitFailure.RETRY_LATER:
            return SubmitRefusal(f"{program}: {error}", delay=RETRY_SECONDS)
        reason = f"{f'{program} refused it' if result.sent else 'it is not submitted'}: {error}"
        return SubmitRefusal(reason, AttemptOutcome(Lifecycle.FAILED, None, reason))

    async def _limit_rate(self) -> None:
        """Wait until ``submit_rate`` permits another submission."""
        gap = 60.0 / self.limits.submit_rate
        now = self._clock.monotonic()
        # After a pause, the submissions of at most BURST_SECONDS may follow at once.
        self._next_time = max(self._next_time, now - BURST_SECONDS) + gap
        if self._next_time > now + gap:
            await anyio.sleep(self._next_time - gap - now)


def _prepare(
    store: WorkflowStore, attempts: Sequence[Attempt], starts: StartNotes
) -> list[LaunchSpec | Exception]:
    files = SourceFiles(store.clock)
    return [prepare_attempt(store, attempt, starts, files) for attempt in attempts]


def _job_name(group: Sequence[Attempt]) -> str:
    """Return the job's name: the study or, for a single run, the run."""
    key = group[0].key
    name = str(key) if len(group) == 1 else key.study
    return f"motoko-{name}"[:MAX_NAME]
