"""The results of a study: its runs as a table, filtered, sorted and limited."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from motoko.core.run_columns import ColumnNames
from motoko.core.run_targets import RunTarget
from motoko.core.states import FAILURES, Lifecycle
from motoko.operations.failure_text import with_error_lines
from motoko.storage.columns import tabulate
from motoko.storage.query import check_run_name_exists, check_runs_exist, select_records

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from motoko.api.task_manager import TaskManager
    from motoko.api.workflow import Workflow
    from motoko.core.records import RunRecord
    from motoko.core.run_columns import ColumnTable
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
        records: list[RunRecord] = []
        if manager.name in session.tables.study_names():
            records = select_records(
                session, manager.name, query.run_name, constraint, ranges=target.ranges,
                lifecycles=FAILURES if query.failed else None, keep=False,
            )  # fmt: skip
        shown = _ordered(session, manager, records, query)[: query.limit]
        if query.compact:
            shown = with_error_lines(workflow.store, shown)
        run_names = len({record.run_name for record in shown}) > 1
        table = tabulate(
            session, manager.columns, shown, query.columns,
            quantities=query.quantities, root=_root(manager),
            default=partial(ColumnNames.compact, run_names=run_names)
            if query.compact
            else ColumnNames.default,
        )  # fmt: skip
    return Results(table, len(records) - len(shown), [str(w) for w in constraint.warnings])


def _root(manager: TaskManager) -> str:
    return str(manager.bd_dir)


# -- order -------------------------------------------------------------------------------------


def _ordered(
    session: Session, manager: TaskManager, records: Sequence[RunRecord], query: ResultsQuery
) -> list[RunRecord]:
    if not query.sort:
        return failures_first(records) if query.compact else list(records)
    keys = [(name.removeprefix("-"), name.startswith("-")) for name in query.sort]
    names = [name for name, _ in keys]
    values = tabulate(session, manager.columns, records, names, root=_root(manager)).values
    positions = list(range(len(records)))
    for name, descending in reversed(keys):
        positions = sorted_positions(values[name], positions, descending=descending)
    return [records[position] for position in positions]


def failures_first(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Return failed runs before the others, both in the given order."""
    return sorted(records, key=lambda record: not record.lifecycle.is_failure)


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
    ``finished_reasons`` are the reasons recorded for FINISHED runs, and their ids.
    """

    name: str
    counts: Mapping[str, int]
    table: ColumnTable
    finished_reasons: Mapping[str, Sequence[int]] = field(default_factory=dict)

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
        ids = table.ids(run_name, lifecycles=FAILURES)[:limit]
        if len(ids) < limit:
            others = [state for state in Lifecycle if state not in FAILURES]
            ids += table.ids(run_name, lifecycles=others)[: limit - len(ids)]
        records = with_error_lines(manager.store, table.records(ids))
        shown = tabulate(session, manager.columns, records, default=ColumnNames.compact)
        reasons = table.finished_by_reason(run_name)
        results.append(StudyResults(manager.name, table.counts(run_name), shown, reasons))
    return results
