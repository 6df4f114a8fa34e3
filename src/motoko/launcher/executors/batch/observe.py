"""Observe the files of attempts, many at a time. All functions block."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from motoko.launcher import attempt_files, attempt_records
from motoko.launcher.attempts import recorded_start_time
from motoko.launcher.executors.batch.decide import AttemptState, Observation
from motoko.launcher.run_directory import is_intact
from motoko.launcher.schedulers.base import JobPhase, JobStatus, Seen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from motoko.launcher.attempts import Attempt
    from motoko.launcher.executors.batch.submission_files import ArrayTask


@dataclass(frozen=True, slots=True)
class ObservedAttempt:
    """An attempt with the status of its job. ``all_sources``: the job was looked up everywhere."""

    attempt: Attempt
    task: ArrayTask
    job: JobStatus
    all_sources: bool = False

    @property
    def state(self) -> AttemptState:
        """The known state of the attempt."""
        a = self.attempt
        started_at = a.started_at if a.start_recorded else None
        return AttemptState(started_at, a.stop_reason, a.unconfirmed_since, a.reason)


def observe(attempts: Iterable[ObservedAttempt]) -> list[Observation]:
    """Return an observation of each attempt's job and files."""
    return [_observe(item) for item in attempts]


def _observe(item: ObservedAttempt) -> Observation:
    job, attempt, task = item.job, item.attempt, item.task
    seen = Observation(job, item.all_sources)
    if isinstance(job, Seen) and job.is_new and attempt.started_at is None:
        return seen
    paths = attempt.paths
    # Read the exit record last: it may be newer than the job's status.
    started_at = start_time(attempt)
    restarted = task.submission.restart_marker(task.index).exists()
    ended = not isinstance(job, Seen) or job.phase is JobPhase.CANCELLED
    stop = attempt_files.read_stop_reason(paths) if ended else None
    new_data = started_at is not None and attempt_files.outbox_size(paths) > attempt.outbox_offset
    is_new = started_at is not None and not attempt.start_recorded
    host = attempt_records.start_host(paths) if is_new else ""
    seen = replace(
        seen, started_at=started_at, restarted=restarted, stop=stop, has_new_data=new_data,
        host=host,
    )  # fmt: skip
    status = attempt_records.exit_record(paths)[0]
    if status is None:
        if isinstance(job, Seen) and not job.phase.has_ended:
            return seen
        fault = attempt_records.describe_missing_exit(paths)
        return replace(seen, fault=fault, directory_removed=not is_intact(paths))
    # A living wrapper disproves the exit record, which any process may write. The wrapper is
    # visible on its own machine only.
    if attempt_files.read_evidence(paths)[0].alive:
        return seen
    return replace(seen, exit_status=status, exit_time=attempt_records.exit_time(paths))


def start_time(attempt: Attempt) -> float | None:
    """Return the start time from the database or the start record, None without a start."""
    recorded = recorded_start_time(attempt.record)
    if recorded is not None or not attempt_files.has_started(attempt.paths):
        return recorded
    return attempt_records.start_time(attempt.paths) or attempt.record.history[-1].time
