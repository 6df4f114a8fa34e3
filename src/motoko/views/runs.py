"""Lists of runs: the ids of all that match, and rows for the few that are visible."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, overload

from motoko.core.provenance import attempt_times
from motoko.core.records import RunKey
from motoko.core.run_targets import RunTarget
from motoko.core.states import FAILURES, Lifecycle
from motoko.handles.failure_text import cause_line
from motoko.operations.bulk_edit import RunSelection
from motoko.operations.results import sorted_positions
from motoko.printable import value_text
from motoko.storage.columns import read_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from motoko.api.workflow import Workflow
    from motoko.core.constraints import Constraint
    from motoko.core.records import RunRecord
    from motoko.storage.session import Session
    from motoko.views.connection import ReadConnection

NEWEST_FIRST: Final = "-id"
KEPT_CAUSES: Final = 5_000


@dataclass(frozen=True, slots=True)
class RunQuery:
    """The runs of a list. ``study`` None: of all. ``where``: a constraint, empty for all runs.

    ``sort``: a column, after ``-`` for the largest first.
    """

    run_name: str
    study: str | None = None
    where: str = ""
    sort: str = NEWEST_FIRST

    @property
    def selection(self) -> RunSelection:
        """The runs as commands select them."""
        targets = [] if self.study is None else [RunTarget(self.study)]
        return RunSelection(targets, [self.where] if self.where.strip() else [], self.run_name)


@dataclass(frozen=True, slots=True)
class RunList:
    """The runs that matched a query, in its order, at ``commit``. ``warnings``: of names."""

    query: RunQuery
    keys: Sequence[RunKey]
    commit: str = ""
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run in a list. ``text``: why it failed. ``duration``: until now while it is running."""

    key: RunKey
    run_name: str
    state: str
    lifecycle: Lifecycle
    attempt: int
    exit_code: int | None
    created: float | None
    started: float | None
    ended: float | None
    duration: float | None
    text: str
    job: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)


class RunLists:
    """Finds and reads lists of runs. Call it from one thread at a time."""

    def __init__(self, connection: ReadConnection) -> None:
        self._connection = connection
        self._causes: dict[tuple[RunKey, int, Lifecycle], str] = {}

    def find(self, query: RunQuery) -> RunList:
        """Return the runs that match a query.

        Raise ConstraintError or UnknownNameError if the query is invalid.
        """
        workflow = self._connection.workflow
        selection = query.selection
        parsed = selection.parse(workflow)
        warnings = tuple(selection.warnings(workflow))
        with self._connection.read() as session:
            if session is None:
                return RunList(query, (), warnings=warnings)
            existing = session.tables.study_names()
            found = {study: c for study, c in parsed.items() if study in existing}
            keys = _keys(session, workflow, query, found)
            return RunList(query, keys, session.snapshot[0], warnings)

    def rows(self, keys: Sequence[RunKey]) -> list[RunRow]:
        """Return the rows of those of these runs that still exist, in their order."""
        store = self._connection.workflow.store
        found: dict[RunKey, RunRow] = {}
        with self._connection.read() as session:
            if session is None:
                return []
            existing = session.tables.study_names()
            for study, members in groupby(sorted(keys), lambda key: key.study):
                if study not in existing:  # the database was replaced
                    continue
                table = session.tables.study(study)
                for record in table.records([key.id for key in members], keep=False):
                    found[record.key] = run_row(record, store.now(), self._cause(record))
        return [found[key] for key in keys if key in found]

    def _cause(self, record: RunRecord) -> str:
        if record.lifecycle not in FAILURES:
            return record.reason or ""
        name = record.key, record.attempt, record.lifecycle
        if name not in self._causes:
            if len(self._causes) > KEPT_CAUSES:
                self._causes.clear()
            self._causes[name] = cause_line(self._connection.workflow.store, record)
        return self._causes[name]

    def columns(self, study: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the declared parameters and fields of a study."""
        declared = self._connection.workflow.task_managers[study].columns
        return tuple(declared.job), tuple(declared.run)


def run_row(record: RunRecord, now: float, text: str = "") -> RunRow:
    """Return the row of a run at time ``now``, in seconds since the epoch."""
    times = attempt_times(record, record.attempt)
    duration = times.duration
    if record.lifecycle is Lifecycle.START and times.started is not None:
        duration = max(0.0, now - times.started)
    return RunRow(
        record.key,
        record.run_name,
        record.state,
        record.lifecycle,
        record.tries,
        record.exit_code,
        record.history[0].time if record.history else None,
        times.started,
        times.ended,
        duration,
        text,
        {name: value_text(value) for name, value in record.job.items()},
        {name: value_text(value) for name, value in record.fields.items()},
    )


class ListedRuns(Sequence[RunKey]):
    """The runs of a list, six bytes each."""

    def __init__(self, studies: Iterable[str]) -> None:
        self._studies = [*studies]
        self._which = array("H")
        self._ids = array("i")

    def add(self, study: str, ids: Sequence[int]) -> None:
        """Append runs of one study."""
        self._which.extend([self._studies.index(study)] * len(ids))
        self._ids.extend(ids)

    def take(self, positions: Sequence[int]) -> ListedRuns:
        """Return the runs at these positions, in their order."""
        taken = ListedRuns(self._studies)
        taken._which.extend(self._which[position] for position in positions)
        taken._ids.extend(self._ids[position] for position in positions)
        return taken

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, index: int) -> RunKey: ...

    @overload
    def __getitem__(self, index: slice) -> list[RunKey]: ...

    def __getitem__(self, index: int | slice) -> RunKey | list[RunKey]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        return RunKey(self._studies[self._which[index]], self._ids[index])


def _keys(
    session: Session, workflow: Workflow, query: RunQuery, studies: Mapping[str, Constraint]
) -> ListedRuns:
    column, descending = query.sort.removeprefix("-"), query.sort.startswith("-")
    keys = ListedRuns(studies)
    if column in ("", "id"):
        for study, constraint in studies.items():
            ids = _ids(session, workflow, query.run_name, study, constraint)
            keys.add(study, ids[::-1] if descending else ids)
        return keys
    values: list[Any] = []
    for study, constraint in studies.items():
        columns = workflow.task_managers[study].columns
        table = read_columns(
            session, columns, query.run_name, constraint, ["runs.id", column], copied=True
        )
        keys.add(study, table.values["runs.id"])
        values += table.values[column]
    return keys.take(sorted_positions(values, range(len(values)), descending=descending))


def _ids(
    session: Session, workflow: Workflow, run_name: str, study: str, constraint: Constraint
) -> Sequence[int]:
    table, plan = session.tables.study(study), constraint.plan()
    if plan.exact:
        return table.ids(run_name, states=plan.states, id_min=plan.id_min, id_max=plan.id_max)
    columns = workflow.task_managers[study].columns
    found = read_columns(session, columns, run_name, constraint, ["runs.id"], copied=True)
    return found.values["runs.id"]
