"""Queries over the runs of a workflow."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from typing import TYPE_CHECKING, Final, TypeVar

from motoko.core.constraints.row_filter import compile_filter
from motoko.core.records import RunKey
from motoko.core.run_columns import stored_names
from motoko.core.run_rows import selector
from motoko.core.run_targets import MAX_ID, merged_ranges, missing_runs, unknown_run_name
from motoko.core.states import ACTIVE, FAILURES, NON_TERMINAL
from motoko.errors import UnknownRunError
from motoko.storage.orchestrator_leases import run_names
from motoko.storage.read_copy import copied_runs
from motoko.storage.record_reader import MOST_KEPT, batches
from motoko.storage.session import Session
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from motoko.core.constraints import Constraint
    from motoko.core.records import RunRecord
    from motoko.core.run_rows import Part, Rows
    from motoko.core.run_targets import IdRange
    from motoko.core.states import Lifecycle
    from motoko.storage.database import Database
    from motoko.storage.scope import Scope
    from motoko.storage.study_table import StudyTable

T = TypeVar("T")

BULK: Final = 2000  # from so many runs, indexes are cheaper than records
MANY: Final = 4  # a query for more than one in so many runs reads all of them, and no index


def query_database(
    database: Database, query: Callable[[Session], T], *, at: str | None = None
) -> T:
    """Run ``query`` in a session that is closed afterwards.

    ``at``: in the state at this transaction; PastStateError if the database lacks a part of it.
    """
    with contextlib.closing(Session(database, at=at)) as session:
        return query(session)


async def query_in_thread(database: Database, query: Callable[[Session], T]) -> T:
    """Run ``query`` in a worker thread, in a session that is closed afterwards."""
    return await run_in_thread(lambda: query_database(database, query))


def select_runs(
    session: Session, study: str, run_name: str | None, constraint: Constraint
) -> list[RunKey]:
    """Return the runs of a run name that satisfy a constraint, in id order."""
    plan = constraint.plan()
    if not plan.exact:
        ids = stream_ids(session, study, run_name, constraint)
        return [RunKey(study, run_id) for run_id in ids]
    table = session.tables.study(study)
    found = table.ids(run_name, states=plan.states, id_min=plan.id_min, id_max=plan.id_max)
    return [RunKey(study, run_id) for run_id in found]


def stream_ids(
    session: Session,
    study: str,
    run_name: str | None,
    constraint: Constraint,
    *,
    after: int = 0,
    keep: bool = False,
) -> Iterator[int]:
    """Yield the ids of the runs that satisfy a constraint, ascending, from ``after`` + 1.

    It reads runs only if indexes do not suffice, and then they stay cached with ``keep``. No run
    must change meanwhile.
    """
    table = session.tables.study(study)
    ids = _candidates(table, run_name, constraint, [(after + 1, MAX_ID)])
    if constraint.plan().exact:
        return ids
    select = _selector(run_name, constraint)
    found = (table.runs.rows(batch, select, keep=keep) for batch in batches(ids))
    return (run_id for rows in found for run_id in rows.values("id"))


def count_runs(
    session: Session,
    study: str,
    run_name: str | None,
    constraint: Constraint,
    *,
    ranges: Sequence[IdRange] = (),
    lifecycles: Iterable[Lifecycle] | None = None,
) -> int:
    """Return the number of runs that ``select_records`` yields, from counts if they suffice."""
    table, plan = session.tables.study(study), constraint.plan()
    bounded = ranges or plan.id_min is not None or plan.id_max is not None
    if plan.exact and not bounded and None in (plan.states, lifecycles):
        return table.count(run_name, states=plan.states, lifecycles=lifecycles)
    lifecycles = None if lifecycles is None else frozenset(lifecycles)
    if plan.exact:
        return sum(1 for _ in _candidates(table, run_name, constraint, ranges, lifecycles))
    names = stored_names(())
    found = select_rows(
        session, study, run_name, constraint, ranges=ranges, lifecycles=lifecycles, names=names
    )
    return sum(map(len, found))


def check_runs_exist(session: Session, study: str, ranges: Iterable[IdRange]) -> None:
    """Raise UnknownRunError for a range without runs of a study."""
    tables = session.tables
    table = tables.study(study) if study in tables.study_names() else None
    for low, high in ranges:
        if table is None or not table.has_ids(low, high):
            near = [] if table is None else table.ids_around(low, high)
            raise missing_runs(study, (low, high), near)


def check_run_name_exists(session: Session, run_name: str) -> None:
    """Raise RunNameError if the name never had a run, an orchestrator or a firing."""
    tables = session.tables
    studies = [tables.study(name) for name in tables.study_names()]
    if not any(study.had_run_name(run_name) for study in studies):
        known = {name for study in studies for name in study.run_names()} | {*run_names(tables)}
        if run_name not in known:
            raise unknown_run_name(run_name, sorted(known))


def select_records(
    session: Session,
    study: str,
    run_name: str | None,
    constraint: Constraint,
    *,
    ranges: Sequence[IdRange] = (),
    lifecycles: Iterable[Lifecycle] | None = None,
    keep: bool = True,
) -> Iterator[RunRecord]:
    """Yield the records of the runs that satisfy a constraint, in id order.

    ``ranges``: only runs with these ids; ``lifecycles``: only runs in these lifecycle states.
    ``keep``: they stay cached. No run must change meanwhile.
    """
    table = session.tables.study(study)
    lifecycles = None if lifecycles is None else frozenset(lifecycles)
    ids = _candidates(table, run_name, constraint, ranges, lifecycles)
    where = None if constraint.plan().exact else _where(run_name, constraint, lifecycles)
    return table.records(ids, keep=keep, where=where)


def select_rows(
    session: Session,
    study: str,
    run_name: str | None,
    constraint: Constraint,
    *,
    ranges: Sequence[IdRange] = (),
    lifecycles: Iterable[Lifecycle] | None = None,
    names: Iterable[str] | None = None,
    keep: bool = False,
    copied: bool = False,
) -> Iterator[Rows]:
    """Yield the runs that ``select_records`` yields as rows, many together.

    ``names``: the columns of blocks that the caller uses, None: all. ``copied``: the copy for
    reading may serve; it may raise CopyDamagedError.
    """
    table, plan = session.tables.study(study), constraint.plan()
    lifecycles = None if lifecycles is None else frozenset(lifecycles)
    bounds = _bounds(constraint, ranges)
    most = min(
        table.count(run_name, states=plan.states),
        table.count(run_name, lifecycles=lifecycles),
        sum(high - low + 1 for low, high in bounds if low <= high),
    )
    is_bulk = most >= len(table) / MANY and not (table.runs.has_new or _by_parameter(constraint))
    if copied and is_bulk:
        runs = copied_runs(session, table)
        table = table if runs is None else table.reading(runs)
    select, keep = _selector(run_name, constraint, lifecycles), keep and most <= MOST_KEPT
    if not is_bulk:
        ids = _candidates(table, run_name, constraint, ranges, lifecycles)
        yield from (table.runs.rows(batch, select, keep=keep) for batch in batches(ids))
    else:
        scan = constraint.scan
        for low, high in bounds:
            yield from table.runs.every_row(low, high, select, names, scan=scan, keep=keep)


def _selector(
    run_name: str | None, constraint: Constraint, lifecycles: frozenset[Lifecycle] | None = None
) -> Callable[[Part], Part]:
    """Return a function that takes the selected rows among candidates."""
    plan = constraint.plan()
    select = selector(run_name, plan.states, lifecycles)
    if plan.exact:
        return select
    matching = compile_filter(constraint.tree)
    return lambda rows: matching(select(rows))


def _by_parameter(constraint: Constraint) -> bool:
    """Return whether the database finds a few runs by columns of parameters, edited or not."""
    scan = constraint.scan
    return scan is not None and any(name.startswith("job.") for name in scan.names)


def _bounds(constraint: Constraint, ranges: Sequence[IdRange]) -> list[IdRange]:
    """Return the ranges of ids in which a constraint may hold, ascending."""
    plan = constraint.plan()
    return [
        (max(plan.id_min or low, low), min(plan.id_max or high, high))
        for low, high in merged_ranges(ranges) or [(0, MAX_ID)]
    ]


def _where(
    run_name: str | None, constraint: Constraint, allowed: frozenset[Lifecycle] | None
) -> Callable[[RunRecord], bool]:
    """Return the condition that selects runs among the candidates of an inexact plan."""

    def where(record: RunRecord) -> bool:
        return (
            run_name in (None, record.run_name)
            and (allowed is None or record.lifecycle in allowed)
            and constraint.matches(record)
        )

    return where


def _candidates(
    table: StudyTable,
    run_name: str | None,
    constraint: Constraint,
    ranges: Sequence[IdRange],
    lifecycles: frozenset[Lifecycle] | None = None,
) -> Iterator[int]:
    """Yield the ids of the runs that may satisfy a constraint, ascending."""
    plan, scan = constraint.plan(), constraint.scan
    bounds = _bounds(constraint, ranges)
    if scan is not None and table.count(run_name, states=plan.states) > BULK:
        scanned = (table.scan(scan, low, high) for low, high in bounds)
        return itertools.chain.from_iterable(scanned)
    allowed = None if lifecycles is None else table.id_sets("lifecycles", lifecycles, run_name)
    streams = [
        table.stream_ids(
            run_name, states=plan.states, lifecycles=lifecycles, id_min=low, id_max=high
        )
        for low, high in bounds
    ]
    ids: Iterator[int] = itertools.chain.from_iterable(streams)
    if allowed is not None and plan.states is not None:
        ids = (run_id for run_id in ids if any(run_id in of_state for of_state in allowed))
    return ids


def existing_records(session: Session, keys: Iterable[RunKey]) -> list[RunRecord]:
    """Return the records of those runs that still exist."""
    records = []
    for key in keys:
        with contextlib.suppress(UnknownRunError):
            records.append(session.run(key))
    return records


def read_records(scope: Scope, keys: Iterable[RunKey]) -> list[RunRecord]:
    """Return the records of those runs that still exist, in the scope's snapshot."""
    with scope.read() as session:
        return existing_records(session, keys)


def failed_records(session: Session, run_name: str) -> Iterator[RunRecord]:
    """Yield all failed runs of a run name, whatever their label, without keeping them."""
    for study in session.tables.study_names():
        table = session.tables.study(study)
        ids = table.stream_ids(run_name, lifecycles=FAILURES)
        yield from table.records(ids, keep=False)


def count_active_runs(session: Session, run_name: str) -> dict[str, Counter[Lifecycle]]:
    """Return how many runs of a run name are not in a terminal state, by study and state."""
    found = {}
    for study in session.tables.study_names():
        table = session.tables.study(study)
        counts = table.counts(run_name, index="lifecycles")
        active = Counter({s: counts[s] for s in sorted(NON_TERMINAL) if s in counts})
        if active:
            found[study] = active
    return found


def count_active_attempts(session: Session) -> int:
    """Return the number of runs that are SUBMITTED or START."""
    tables = session.tables
    studies = [tables.study(name) for name in tables.study_names()]
    return sum(study.count(None, lifecycles=ACTIVE) for study in studies)
