"""Compare the database with the simulated executions."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from motoko.core.states import Lifecycle
from motoko.launcher.attempt_outcome import exit_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from motoko.core.records import RunRecord
    from motoko.testing.fake_scheduler.cluster import FakeTask
    from tests.support.slurm_wrapper import Execution

HELD = ("JobHeldAdmin", "job requeued in held state")
LIMIT = 60.0  # seconds, of the runs that have one


@dataclass(slots=True)
class Truth:
    """The external events of an attempt."""

    cancelled: bool = False
    asked_to_end: bool = False
    machine: bool = False
    limit: bool = False
    memory: bool = False
    dropped: bool = False
    results_gone: bool = False

    @property
    def unlisted(self) -> bool:
        """Whether the scheduler does not report its end."""
        return self.dropped or (self.machine and self.cancelled)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Judges runs. Ended jobs are listed for ``retention`` seconds, files are ``lag`` late."""

    executions: list[Execution]
    truths: Mapping[tuple[int, int], Truth]
    retention: float
    lag: float

    def problems(self, records: Iterable[RunRecord], tasks: Iterable[FakeTask]) -> list[str]:
        """Return all violated expectations."""
        times = Counter(done.token for done in self.executions)
        found = [f"{token}: executed {n} times" for token, n in times.items() if n > 1]
        by_run: defaultdict[int, list[Execution]] = defaultdict(list)
        for done in sorted(self.executions, key=lambda done: done.began):
            by_run[done.run].append(done)
        for run, all_of_it in by_run.items():
            found += [
                f"run {run}: executed twice at a time: {a} {b}"
                for a, b in itertools.pairwise(all_of_it)
                if a.ended is None or b.began < a.ended
            ]
        for record in records:
            found += self._run(record, by_run[record.id])
        found += [
            f"left in the queue: {task.job.id}_{task.index} {task.state} {task.reason}"
            for task in tasks
            if not task.has_ended and task.reason not in HELD
        ]
        return found

    def _run(self, record: RunRecord, executions: list[Execution]) -> list[str]:
        where = f"run {record.id} {record.lifecycle} {record.reason!r}"
        if not record.lifecycle.is_terminal:
            told = record.reason is not None and record.lifecycle is Lifecycle.SUBMITTED
            return [] if told else [f"{where} neither ended nor known to wait: {record.history}"]
        found = []
        for move in record.history:
            done = next((e for e in executions if e.attempt == move.attempt), None)
            truth = self.truths.get((record.id, move.attempt), Truth())
            if not self._right(record, move.state, move.attempt, move.time, done, truth):
                what = f"attempt {move.attempt} is {move.state}, but {done} {truth}"
                found.append(f"{where}: {what} {record.history}")
        return found

    def _right(
        self, record: RunRecord, state: str, attempt: int, at: float,
        done: Execution | None, truth: Truth,
    ) -> bool:  # fmt: skip
        """Return whether the transition to ``state`` agrees with the events."""
        well = done is not None and done.by_itself and done.left == 0
        match state:
            case Lifecycle.FINISHED:
                return done is not None and done.left == 0
            case Lifecycle.CANCELLED:
                return truth.asked_to_end or (truth.cancelled and not well)
            case Lifecycle.TIMEOUT:
                return not well and (truth.limit or (done is not None and _reached_limit(done)))
            case Lifecycle.FAILED:
                failed = not well and self._failed(record, attempt, done, truth)
                return truth.results_gone or failed
            case Lifecycle.LOST:
                return self._lost(at, done, truth)
        return True

    def _failed(
        self, record: RunRecord, attempt: int, done: Execution | None, truth: Truth
    ) -> bool:
        last = attempt == record.attempt
        if done is None:
            return not last or "sbatch refused it" in (record.reason or "")
        if truth.memory:
            return True
        if last and record.exit_code is not None:
            left = None if done.left is None else exit_code(done.left)
            if left != record.exit_code:
                return False
        # Ended from outside: only if the scheduler no longer reported it.
        return done.by_itself or truth.unlisted or self.retention < self.lag

    def _lost(self, at: float, done: Execution | None, truth: Truth) -> bool:
        if done is None:
            return truth.dropped or truth.cancelled
        if done.by_itself and done.left is not None:
            return False
        return truth.unlisted or at - (done.ended or at) >= self.retention


def _reached_limit(done: Execution) -> bool:
    return done.ended is not None and done.ended - done.began >= LIMIT
