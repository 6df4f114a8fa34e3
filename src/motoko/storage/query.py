"""Queries over the runs of a workflow."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Final, TypeVar

from motoko.core.records import RunKey
from motoko.core.run_targets import MAX_ID, missing_runs, unknown_run_name
from motoko.core.states import ACTIVE, FAILURES, NON_TERMINAL, TERMINAL
from motoko.errors import UnknownRunError
from motoko.storage.leases import run_names
from motoko.storage.session import Session
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from motoko.core.constraints import Constraint
    from motoko.core.records import RunRecord
    from motoko.core.run_targets import IdRange
    from motoko.core.states import Lifecycle
    from motoko.storage.database import Database
    from motoko.storage.scope import Scope

T = TypeVar("T")

BULK: Final = 2000  # from so many runs, indexes are cheaper than records


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
    table = session.tables.study(study)
    plan = constraint.plan()
    ids = table.ids(run_name, states=plan.states, id_min=plan.id_min, id_max=plan.id_max)
    if plan.exact:
        return [RunKey(study, run_id) for run_id in ids]
    found = table.records(ids, keep=False)  # often every run, and rarely read again
    return [record.key for record in found if constraint.matches(record)]


def check_runs_exist(session: Session, study: str, ranges: Iterable[IdRange]) -> None:
    """Raise UnknownRunError for a range without runs of a study."""
    tables = session.tables
    table = tables.study(study) if study in tables.study_names() else None
    for low, high in ranges:
        if table is None or not table.has_ids(low, high):
            raise missing_runs(study, (low, high), [] if table is None else table.ids(None))


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
) -> list[RunRecord]:
    """Return the records of the runs that satisfy a constraint, in id order.

    ``ranges``: only runs with these ids; ``lifecycles``: only runs in these lifecycle states.
    ``keep``: they stay cached.
    """
    table = session.tables.study(study)
    plan = constraint.plan()
    wanted = [
        (max(plan.id_min or low, low), min(plan.id_max or high, high))
        for low, high in ranges or [(0, MAX_ID)]
    ]
    parts = [table.ids(run_name, states=plan.states, id_min=a, id_max=b) for a, b in wanted]
    ids = parts[0] if len(parts) == 1 else sorted(set().union(*parts))
    if lifecycles is not None:
        allowed = set(table.ids(run_name, lifecycles=lifecycles))
        ids = [run_id for run_id in ids if run_id in allowed]
    records = table.records(ids, keep=keep)
    return list(records) if plan.exact else [r for r in records if constraint.matches(r)]


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


def terminal_records(session: Session, keys: Iterable[RunKey]) -> list[RunRecord]:
    """Return the records of those runs that are in a terminal state, in order of their end."""
    by_study: dict[str, set[int]] = {}
    for key in keys:
        by_study.setdefault(key.study, set()).add(key.id)
    records: list[RunRecord] = []
    for study, ids in by_study.items():
        table = session.tables.study(study)
        if len(ids) > BULK:
            ids &= set(table.ids(None, lifecycles=TERMINAL))
        records += [r for r in table.records(sorted(ids)) if r.lifecycle.is_terminal]
    return sorted(records, key=lambda record: record.history[-1].time if record.history else 0.0)


def failed_records(session: Session, run_name: str) -> list[RunRecord]:
    """Return all failed runs of a run name, whatever their label."""
    found: list[RunRecord] = []
    for study in session.tables.study_names():
        table = session.tables.study(study)
        found += table.records(table.ids(run_name, lifecycles=FAILURES))
    return found


def count_active_runs(session: Session, run_name: str) -> dict[str, Counter[Lifecycle]]:
    """Return how many runs of a run name are not in a terminal state, by study and state."""
    found = {}
    for study in session.tables.study_names():
        table = session.tables.study(study)
        ids = {state: table.ids(run_name, lifecycles=[state]) for state in sorted(NON_TERMINAL)}
        counts = Counter({state: len(of_state) for state, of_state in ids.items() if of_state})
        if counts:
            found[study] = counts
    return found


def count_active_attempts(session: Session) -> int:
    """Return the number of runs that are SUBMITTED or START."""
    tables = session.tables
    studies = [tables.study(name) for name in tables.study_names()]
    return sum(sum(study.counts_by_run_name(ACTIVE).values()) for study in studies)
