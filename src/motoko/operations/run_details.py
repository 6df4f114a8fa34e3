"""Everything that is recorded about single runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from motoko.core.provenance import attempts_of
from motoko.launcher.attempt_paths import attempt_directory
from motoko.operations.explain import LauncherCoverage, ReasonFinder
from motoko.runtime.packed_files import locate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from motoko.api.workflow import Workflow
    from motoko.core.provenance import AttemptProvenance
    from motoko.core.records import RunKey, RunRecord


@dataclass(frozen=True, slots=True)
class AttemptDetails:
    """One attempt. ``cause``: the recorded cause of its end. ``directory``: None if removed."""

    provenance: AttemptProvenance
    cause: str
    directory: Path | None

    @property
    def duration(self) -> float | None:
        """The seconds from start to end; None if one of them is unknown."""
        started, ended = self.provenance.started, self.provenance.ended
        return None if started is None or ended is None else max(0.0, ended - started)


@dataclass(frozen=True, slots=True)
class SeriesSummary:
    """A quantity of a run: its number of steps, and its last point."""

    name: str
    steps: int
    last_step: Any
    last_value: Any


@dataclass(frozen=True, slots=True)
class RunDetails:
    """A run with its attempts and quantities. ``waits``: why it waits, or why it failed."""

    record: RunRecord
    waits: str
    directory: Path
    attempts: Sequence[AttemptDetails]
    quantities: Sequence[SeriesSummary]

    @property
    def creator(self) -> str:
        """Return the cause of the run's creation: ``main``, an event, a user or a script."""
        return self.record.history[0].cause if self.record.history else ""


def load_details(workflow: Workflow, records: Iterable[RunRecord]) -> list[RunDetails]:
    """Return the details of these runs."""
    store = workflow.store
    with store.autocommit_scope.read() as session:
        tables = session.tables
        finder = ReasonFinder(tables, LauncherCoverage.read(tables, workflow.config, store))
        found = []
        for record in map(tables.complete_record, records):
            root = store.runs_root(record.study)
            attempts = [
                AttemptDetails(
                    attempt,
                    end_cause(record, attempt),
                    attempt_directory(root, record, attempt.number),
                )
                for attempt in attempts_of(record, tables.provenance)
            ]
            series = tables.study(record.study).series_summaries(record.id)
            found.append(
                RunDetails(
                    record,
                    finder.reason(record),
                    locate(store.run_directory(record.study, record.id)),
                    attempts,
                    [SeriesSummary(*one) for one in series],
                )
            )
    return found


def end_cause(record: RunRecord, attempt: AttemptProvenance) -> str:
    """Return the recorded cause of an attempt's end, empty while it is active."""
    causes = (
        entry.cause
        for entry in record.history
        if entry.attempt == attempt.number and entry.state == attempt.outcome
    )
    return next(causes, "") if attempt.outcome is not None else ""


def waiting_reasons(workflow: Workflow, records: Sequence[RunRecord]) -> dict[RunKey, str]:
    """Return why each of these runs waits, empty if nothing is known."""
    if not records:
        return {}
    with workflow.store.autocommit_scope.read() as session:
        tables = session.tables
        finder = ReasonFinder(
            tables, LauncherCoverage.read(tables, workflow.config, workflow.store)
        )
        return {record.key: finder.reason(record) for record in records}
