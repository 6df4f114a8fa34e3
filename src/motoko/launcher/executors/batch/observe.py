"""Looks at the files of attempts, of many at a time; blocks."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from motoko.launcher import attempt_files
from motoko.launcher.attempts import recorded_start_time
from motoko.launcher.executors.batch.decide import Observation
from motoko.launcher.executors.batch.submission_files import again_file
from motoko.launcher.schedulers.slurm.states import JobPhase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from motoko.launcher.attempts import Attempt
    from motoko.launcher.executors.batch.decide import JobStatus

# Reasons of jobs that wait for the first time: none of them has run.
FRESH: Final = frozenset(
    {"", "None", "Priority", "Resources", "JobArrayTaskLimit", "Dependency", "Licenses"}
)


@dataclass(frozen=True, slots=True)
class ObservedAttempt:
    """An attempt to be looked at, and what the scheduler says of it."""

    active: Attempt
    word: JobStatus | None
    asked: bool = False


def observe(questions: Iterable[ObservedAttempt]) -> list[Observation]:
    """Return what there is to be seen of each attempt."""
    return [_sight(question) for question in questions]


def _sight(question: ObservedAttempt) -> Observation:
    word, active = question.word, question.active
    fresh = word is not None and word.state == "PENDING" and word.reason in FRESH
    if fresh and active.since is None:
        return Observation(word, question.asked)
    place = active.place
    # The exit record is looked for last: what came after the scheduler's word may be there by now.
    began = began_at(active)
    task = active.task
    again = task is not None and again_file(task.batch.directory, task.index).exists()
    over = word is None or word.condition is JobPhase.CANCELLED
    stop = attempt_files.read_stop_reason(place) if over else None
    grown = began is not None and attempt_files.outbox_size(place) > active.read
    seen = Observation(word, question.asked, began, None, again, stop, grown)
    status = attempt_files.exit_status(place)
    if status is None:
        if word is not None and not word.condition.is_end:
            return seen
        gone = os.path.islink(place.private) or not os.path.isdir(place.private)
        return replace(seen, fault=attempt_files.describe_missing_exit(place), gone=gone)
    # Whatever somebody wrote into its exit record. Processes of other machines are not seen.
    if attempt_files.read_evidence(place)[0].alive:
        return seen
    return replace(seen, status=status, ended=attempt_files.file_time(place, attempt_files.EXIT))


def began_at(active: Attempt) -> float | None:
    """Return when the attempt began, None if it did not: by the database, or its start file."""
    recorded = recorded_start_time(active.record)
    if recorded is not None or not attempt_files.has_started(active.place):
        return recorded
    return (
        attempt_files.file_time(active.place, attempt_files.START) or active.record.history[-1].time
    )
