"""The results of a study: its runs as a table, filtered, sorted and limited."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from motoko.core.run_columns import ColumnNames
from motoko.core.run_keys import NAMED, FirstIds
from motoko.core.run_targets import RunTarget
from motoko.core.states import FAILURES, Lifecycle
from motoko.handles.failure_text import with_error_lines
from motoko.storage.columns import read_columns, tabulate
from motoko.storage.query import (
    check_run_name_exists,
    check_runs_exist,
    count_runs,
    select_records,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from motoko.api.task_manager import TaskManager
    from motoko.api.workflow import Workflow
    from motoko.core.constraints import Constraint
    from motoko.core.records import RunRecord
    from motoko.core.run_columns import ColumnTable
    from motoko.core.run_targets import IdRange
    from motoko.storage.session import Session


@dataclass(frozen=True, slots=True)
class ResultsQuery:
    """The runs and columns of a table of results.

    ``runs`` is ``STUDY`` or ``STUDY.3-9,12``. ``columns`` None: all, or with ``compact`` those that
    fit in a terminal. ``sort`` names columns, each after ``-`` for the largest first; without it
    runs are in the order of their ids, with ``compact`` failed ones first. ``limit`` counts runs.
    """

    runs: str
    where: Sequence[str] = ()
    run_name: str | None = None
    failed: bool = False
    columns: Sequence[str] | None = None
    quantities: Sequence[str] | None = None
    sort: Sequence[str] = ()
    limit: int | None = None
    compact: bool = False


@dataclass(frozen=True, slots=True)
class Results:
    """A table of results; ``left_out`` is the number of further runs, ``warnings`` of names."""

    table: ColumnTable
    left_out: int = 0
    warnings: Sequence[str] = ()


def load_results(workflow: Workflow, query: ResultsQuery) -> Results:
    """Return the results that a query describes.

    Raise UnknownNameError, UnknownRunError or RunNameError for names that do not exist.
    """
    target = RunTarget.parse(query.runs)
    manager = workflow.task_manager(target.study)
    if query.where and manager.name in workflow.config.unread:
        raise workflow.config.unread[manager.name]
    constraint = manager.parse(list(query.where))
    with workflow.store.autocommit_scope.read() as session:
        check_runs_exist(session, manager.name, target.ranges)
        if query.run_name is not None:
            check_run_name_exists(session, query.run_name)
        selected = _Selected(session, manager, query, constraint, target.ranges)
        if not (query.compact or query.sort or query.limit is not None):
            table = selected.table(query.columns, query.quantities)
            return Results(table, warnings=[str(w) for w in constraint.warnings])
        shown: Iterable[RunRecord] = selected.ordered()
        left_out = 0
        if query.limit is not None:
            shown = list(islice(shown, query.limit))
            left_out = selected.count() - len(shown)
        default = ColumnNames.default
        if query.compact:
            shown = with_error_lines(workflow.store, shown)
            run_names = len({record.run_name for record in shown}) > 1
            default = partial(ColumnNames.compact, run_names=run_names)
        table = tabulate(
            session, manager.columns, shown, query.columns,
            quantities=query.quantities, root=_root(manager), default=default,
        )  # fmt: skip
    return Results(table, left_out, [str(w) for w in constraint.warnings])


def _root(manager: TaskManager) -> str:
    return str(manager.bd_dir)


# -- order -------------------------------------------------------------------------------------


class _Selected:
    """The runs that a query selects."""

    def __init__(
        self,
        session: Session,
        manager: TaskManager,
        query: ResultsQuery,
        constraint: Constraint,
        ranges: Sequence[IdRange],
    ) -> None:
        self._session = session
        self._manager = manager
        self._query = query
        self._constraint = constraint
        self._ranges = ranges
        self._lifecycles = FAILURES if query.failed else None
        self._exists = manager.name in session.tables.study_names()
        self._number: int | None = None

    def _records(self, lifecycles: Iterable[Lifecycle] | None) -> Iterator[RunRecord]:
        if not self._exists:
            return iter(())
        return select_records(
            self._session, self._manager.name, self._query.run_name, self._constraint,
            ranges=self._ranges, lifecycles=lifecycles, keep=False,
        )  # fmt: skip

    def table(
        self, columns: Sequence[str] | None, quantities: Sequence[str] | None = None
    ) -> ColumnTable:
        """Return all runs as columns, in the order of their ids."""
        return read_columns(
            self._session, self._manager.columns, self._query.run_name, self._constraint, columns,
            quantities=quantities, ranges=self._ranges, lifecycles=self._lifecycles,
            root=_root(self._manager), copied=True,
        )  # fmt: skip

    def count(self) -> int:
        """Return the number of the runs."""
        if not self._exists or self._number is not None:
            return self._number or 0
        return count_runs(
            self._session, self._manager.name, self._query.run_name, self._constraint,
            ranges=self._ranges, lifecycles=self._lifecycles,
        )  # fmt: skip

    def ordered(self) -> Iterator[RunRecord]:
        """Yield the records in the order of the table, reading no more than the caller takes."""
        if self._query.sort:
            return self._sorted()
        if not self._constraint.plan().exact and self._query.limit is not None:
            return self._first()
        if not self._query.compact or self._query.failed:
            return self._records(self._lifecycles)
        others = [state for state in Lifecycle if state not in FAILURES]
        return chain.from_iterable(map(self._records, (FAILURES, others)))

    def _first(self) -> Iterator[RunRecord]:
        """Yield the first records. One pass over all counts the runs, too."""
        failed, others = array("i"), array("i")
        found = self.table(["runs.id", "runs.lifecycle"])
        for run_id, lifecycle in found.rows():
            first = self._query.compact and lifecycle in FAILURES
            (failed if first else others).append(run_id)
        self._number = len(found)
        return self._read(islice(chain(failed, others), self._query.limit))

    def _read(self, ids: Iterable[int]) -> Iterator[RunRecord]:
        if not self._number:
            return iter(())
        return self._session.tables.study(self._manager.name).records(ids, keep=False)

    def _sorted(self) -> Iterator[RunRecord]:
        keys = [(name.removeprefix("-"), name.startswith("-")) for name in self._query.sort]
        names = [name for name, _ in keys]
        table = self.table(["id", *names])
        positions: Sequence[int] = range(len(table))
        for name, descending in reversed(keys):
            positions = sorted_positions(table.values[name], positions, descending=descending)
        self._number = len(table)
        return self._read(table.values["id"][position] for position in positions)


def sorted_positions(
    values: Sequence[Any], positions: Iterable[int], *, descending: bool = False
) -> list[int]:
    """Return positions in the order of their values; missing values and nan are last.

    Numbers precede texts, and texts other values. Equal values keep their order.
    """
    present: list[int] = []
    missing: list[int] = []
    for position in positions:
        value = values[position]
        is_missing = value is None or (isinstance(value, float) and math.isnan(value))
        (missing if is_missing else present).append(position)
    present.sort(key=lambda position: _sort_key(values[position]), reverse=descending)
    return present + missing


def _sort_key(value: Any) -> tuple[int, Any]:
    if isinstance(value, int | float):
        return (0, value)
    if isinstance(value, str):
        return (1, value)
    return (2, value) if isinstance(value, datetime) else (3, repr(value))


# -- the end of an execution -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StudyResults:
    """The results of a run name in one study.

    ``counts`` are numbers of runs by state. ``table`` has the first runs, failed ones first.
    ``finished_reasons`` are the reasons recorded for FINISHED runs, and the first of their ids.
    """

    name: str
    counts: Mapping[str, int]
    table: ColumnTable
    finished_reasons: Mapping[str, FirstIds] = field(default_factory=dict)

    @property
    def left_out(self) -> int:
        """The number of runs that the table does not show."""
        return sum(self.counts.values()) - len(self.table)


def study_results(
    session: Session, managers: Iterable[TaskManager], run_name: str, limit: int
) -> list[StudyResults]:
    """Return the results of a run name by study, with at most ``limit`` runs of each."""
    results = []
    for manager in managers:
        table = session.tables.study(manager.name)
        ids = list(islice(table.stream_ids(run_name, lifecycles=FAILURES), limit))
        if len(ids) < limit:
            others = [state for state in Lifecycle if state not in FAILURES]
            more = table.stream_ids(run_name, lifecycles=others)
            ids += islice(more, limit - len(ids))
        records = with_error_lines(manager.store, table.records(ids))
        shown = tabulate(session, manager.columns, records, default=ColumnNames.compact)
        reasons = table.finished_by_reason(run_name, NAMED)
        results.append(StudyResults(manager.name, table.counts(run_name), shown, reasons))
    return results
