"""Looks at the files of attempts, of many at a time; blocks."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from motoko.launcher import attempt_files
from motoko.launcher.attempts import started_at
from motoko.launcher.executors.batch.decide import Sight
from motoko.launcher.executors.batch.submission_files import again_file
from motoko.launcher.schedulers.slurm.states import Condition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from motoko.launcher.attempts import Active
    from motoko.launcher.executors.batch.decide import Word

# Reasons of jobs that wait for the first time: none of them has run.
FRESH: Final = frozenset(
    {"", "None", "Priority", "Resources", "JobArrayTaskLimit", "Dependency", "Licenses"}
)


@dataclass(frozen=True, slots=True)
class Question:
    """An attempt to be looked at, and what the scheduler says of it."""

    active: Active
    word: Word | None
    asked: bool = False


def look_at(questions: Iterable[Question]) -> list[Sight]:
    """Return what there is to be seen of each attempt."""
    return [_sight(question) for question in questions]


def _sight(question: Question) -> Sight:
    word, active = question.word, question.active
    fresh = word is not None and word.state == "PENDING" and word.reason in FRESH
    if fresh and active.since is None:
        return Sight(word, question.asked)
    place = active.place
    # The exit record is looked for last: what came after the scheduler's word may be there by now.
    began = began_at(active)
    task = active.task
    again = task is not None and again_file(task.batch.directory, task.index).exists()
    over = word is None or word.condition is Condition.CANCELLED
    stop = attempt_files.stopped_for(place) if over else None
    grown = began is not None and attempt_files.outbox_size(place) > active.read
    seen = Sight(word, question.asked, began, None, again, stop, grown)
    status = attempt_files.exit_status(place)
    if status is None:
        if word is not None and not word.condition.is_end:
            return seen
        gone = os.path.islink(place.private) or not os.path.isdir(place.private)
        return replace(seen, fault=attempt_files.record_missing(place), gone=gone)
    # Whatever somebody wrote into its exit record. Processes of other machines are not seen.
    if attempt_files.look(place)[0].alive:
        return seen
    return replace(seen, status=status, ended=attempt_files.file_time(place, attempt_files.EXIT))


def began_at(active: Active) -> float | None:
    """Return when the attempt began, None if it did not: by the database, or its start file."""
    recorded = started_at(active.record)
    if recorded is not None or not attempt_files.ran(active.place):
        return recorded
    return (
        attempt_files.file_time(active.place, attempt_files.START) or active.record.history[-1].time
    )
