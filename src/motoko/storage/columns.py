"""Read the runs of a study as columns: the one reader of tables, frames, plots and SQL."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from motoko.core.constraints.constraint import ALL
from motoko.core.run_columns import (
    ColumnCollector,
    ColumnNames,
    ColumnSource,
    ColumnTable,
    stored_names,
)
from motoko.core.run_rows import StoredRows
from motoko.core.step_columns import join_steps
from motoko.errors import UnknownNameError, suggestion
from motoko.storage.query import select_rows
from motoko.storage.read_copy import CopyDamagedError, discard_copy
from motoko.storage.record_reader import batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from motoko.core.constraints import Columns, Constraint
    from motoko.core.constraints.syntax_tree import Column
    from motoko.core.records import RunRecord
    from motoko.core.run_rows import Rows
    from motoko.core.run_targets import IdRange
    from motoko.core.states import Lifecycle
    from motoko.storage.session import Session


def read_columns(
    session: Session,
    declared: Columns,
    run_name: str | None = None,
    constraint: Constraint = ALL,
    columns: Sequence[str] | None = None,
    *,
    quantities: Sequence[str] | None = None,
    ranges: Sequence[IdRange] = (),
    lifecycles: Iterable[Lifecycle] | None = None,
    root: Path | str = "",
    keep: bool = False,
    copied: bool = False,
) -> ColumnTable:
    """Return the runs of a study (of a run name; None: of all) that satisfy a constraint, by id.

    ``columns`` names the columns in their order, by default all that the runs have. With
    ``quantities`` the table has a row for each step of each run. ``declared`` is the study with its
    parameters and fields, ``root`` the parent of its run directories. ``ranges``: only runs with
    these ids; ``lifecycles``: only runs in these states. With ``keep``, the next read is faster.
    With ``copied``, the copy for reading may serve. It has the same runs; nevertheless, what
    decides must read the database. Raise UnknownNameError for a column or quantity that no run has.
    """
    rows: Iterable[Rows] = ()
    if declared.study in session.tables.study_names():
        names = None if columns is None else stored_names(columns)
        rows = select_rows(
            session, declared.study, run_name, constraint,
            ranges=ranges, lifecycles=lifecycles, names=names, keep=keep, copied=copied,
        )  # fmt: skip
    try:
        return _tabulate(session, declared, rows, columns, quantities=quantities, root=root)
    except CopyDamagedError:
        discard_copy(session, declared.study)
    return read_columns(
        session, declared, run_name, constraint, columns,
        quantities=quantities, ranges=ranges, lifecycles=lifecycles, root=root, keep=keep,
    )  # fmt: skip


def tabulate(
    session: Session,
    declared: Columns,
    records: Iterable[RunRecord],
    columns: Sequence[str] | None = None,
    *,
    quantities: Sequence[str] | None = None,
    root: Path | str = "",
    default: Callable[[ColumnNames], list[str]] = ColumnNames.default,
) -> ColumnTable:
    """Return records of one study, of the session's snapshot, as columns; see ``read_columns``.

    ``default`` chooses the columns if ``columns`` is None.
    """
    rows = map(StoredRows.of, batches(records))
    return _tabulate(
        session, declared, rows, columns, quantities=quantities, root=root, default=default
    )


def _tabulate(
    session: Session,
    declared: Columns,
    rows: Iterable[Rows],
    columns: Sequence[str] | None,
    *,
    quantities: Sequence[str] | None,
    root: Path | str,
    default: Callable[[ColumnNames], list[str]] = ColumnNames.default,
) -> ColumnTable:
    source = ColumnSource(str(root), session.tables.provenance)
    collector, ids = ColumnCollector(declared, source, columns, default), array("i")
    for batch in rows:
        collector.add(batch)
        if quantities is not None:
            ids.extend(batch.values("id"))
    chosen = _chosen(session, declared, collector)
    transaction, committed = session.snapshot
    table = ColumnTable(
        declared.study,
        {column.shown: column.type for column in chosen},
        collector.values(chosen),
        transaction,
        committed,
        length=collector.length,
    )
    if quantities is None:
        return table
    wanted = list(dict.fromkeys(quantities))
    return join_steps(table, wanted, _series(session, declared.study, ids, wanted))


def _chosen(session: Session, declared: Columns, collector: ColumnCollector) -> list[Column]:
    names = collector.names()
    written = collector.written(names)
    found = [names.find(name) for name in written]
    if None in found and declared.study in session.tables.study_names():
        # Runs that were not selected may have the column.
        every = select_rows(session, declared.study, None, ALL, names=stored_names(()))
        names = ColumnNames(declared, dict.fromkeys(one for rows in every for one in rows.shapes()))
        found = [names.find(name) for name in written]
    chosen = []
    for name, column in zip(written, found, strict=True):
        if column is None:
            raise names.unknown(name)
        chosen.append(column)
    return chosen


def _series(
    session: Session, study: str, ids: Sequence[int], names: Sequence[str]
) -> list[dict[str, list[tuple[object, object]]]]:
    """Return the quantities of these names, for each run."""
    if study not in session.tables.study_names():
        raise _no_quantity(study, names[0], ())
    table = session.tables.study(study)
    found = table.series(ids, names)
    pushed = {name for of_run in found for name in of_run}
    missing = [name for name in names if name not in pushed]
    if missing:  # runs that were not selected may have them
        known = table.all_quantity_names()
        for name in missing:
            if name not in known:
                raise _no_quantity(study, name, known)
    return found


def _no_quantity(study: str, name: str, known: Iterable[str]) -> UnknownNameError:
    return UnknownNameError(
        f"no run of study {study!r} has a quantity {name!r}", hint=suggestion(name, sorted(known))
    )
