"""One run: its attempts, values, quantities and history, and why it is in its state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from motoko.core.parameter_space import run_identity
from motoko.core.records import RunKey
from motoko.operations.explain import LauncherCoverage, ReasonFinder
from motoko.operations.run_details import load_details
from motoko.operations.why_run import explain_run
from motoko.operations.why_text import answer_lines
from motoko.views.runs import RunRow, run_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from motoko.core.records import RunRecord
    from motoko.operations.run_details import AttemptDetails, RunDetails
    from motoko.storage.session import Session
    from motoko.storage.study_table import StudyTable
    from motoko.views.connection import ReadConnection

POINTS: Final = 500  # of a quantity that is drawn
SERIES: Final = 20  # quantities that are drawn
HISTORY: Final = 200  # entries that are shown
RUN_NAMES: Final = 200  # in which the job of a run is looked up


@dataclass(frozen=True, slots=True)
class Series:
    """A quantity for drawing: numbers only, thinned to POINTS; ``number`` counts all points."""

    name: str
    steps: tuple[float, ...]
    values: tuple[float, ...]
    number: int
    last: Any = None


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A transition or a label of a run."""

    at: float
    state: str
    cause: str
    attempt: int


@dataclass(frozen=True, slots=True)
class RunView:
    """One run. ``why``: the lines of ``motoko why``.

    ``others``: the runs of the same job under other run names.
    """

    row: RunRow
    details: RunDetails
    why: tuple[str, ...]
    series: tuple[Series, ...]
    history: tuple[HistoryEntry, ...]
    history_left_out: int
    others: tuple[tuple[str, RunKey], ...]
    at: float

    @property
    def attempts(self) -> Sequence[AttemptDetails]:
        """The attempts, oldest first."""
        return self.details.attempts


def read_run(connection: ReadConnection, key: RunKey) -> RunView | None:
    """Return one run, None if it does not exist."""
    workflow = connection.workflow
    with connection.read() as session:
        if session is None or key.study not in session.tables.study_names():
            return None
        table = session.tables.study(key.study)
        if not table.has_run(key.id):
            return None
        record = table.complete(table.run(key.id))
        coverage = LauncherCoverage.read(session.tables, workflow.config, workflow.store)
        finder = ReasonFinder(session.tables, coverage)
        answer = explain_run(workflow, session.tables, record, finder)
        [details] = load_details(workflow, [record])
        now = workflow.store.now()
        return RunView(
            run_row(record, now, record.reason or ""),
            details,
            tuple(answer_lines(answer, now)),
            tuple(_series(session, record)),
            tuple(HistoryEntry(*entry) for entry in record.history[-HISTORY:]),
            max(0, len(record.history) - HISTORY),
            tuple(_others(table, record)),
            now,
        )


def _others(table: StudyTable, record: RunRecord) -> Iterable[tuple[str, RunKey]]:
    """Yield the runs of the same job under other run names, but for those created with fields."""
    names = sorted(table.run_names() - {record.run_name})
    for name in names[:RUN_NAMES]:
        identity = run_identity(record.study, name, record.job, {}, record.replicate)
        found = table.find(identity)
        if found is not None:
            yield name, RunKey(record.study, found)


def _series(session: Session, record: RunRecord) -> Iterable[Series]:
    table = session.tables.study(record.study)
    for name in table.quantity_names(record.id)[:SERIES]:
        points = table.quantity(record.id, name) or []
        last = points[-1][1] if points else None
        shown = thinned(number_pairs(points))
        yield Series(
            name, tuple(x for x, _ in shown), tuple(y for _, y in shown), len(points), last
        )


def number_pairs(points: Iterable[tuple[Any, Any]]) -> list[tuple[float, float]]:
    """Return the points whose step and value are finite numbers."""
    return [(step, value) for step, value in points if _is_number(step) and _is_number(value)]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def thinned(points: Sequence[tuple[float, float]], most: int = POINTS) -> list[tuple[float, float]]:
    """Return at most about ``most`` points, with the smallest and the largest of each interval."""
    if len(points) <= most:
        return list(points)
    shown: list[tuple[float, float]] = []
    size = -(-2 * len(points) // most)
    for start in range(0, len(points), size):
        part = points[start : start + size]
        low = min(range(len(part)), key=lambda i: part[i][1])
        high = max(range(len(part)), key=lambda i: part[i][1])
        shown += [part[i] for i in sorted({low, high})]
    return shown
