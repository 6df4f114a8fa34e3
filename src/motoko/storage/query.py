"""Queries over the runs of a workflow."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Final, TypeVar

from motoko.core.records import RunKey
from motoko.core.states import FAILURES, NON_TERMINAL, TERMINAL
from motoko.errors import UnknownRunError
from motoko.storage.session import Session
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from motoko.core.constraints import Constraint
    from motoko.core.records import RunRecord
    from motoko.core.states import Lifecycle
    from motoko.storage.database import Database
    from motoko.storage.scope import Scope

T = TypeVar("T")

BULK: Final = 2000  # from so many runs, indexes are cheaper than records


def query_database(database: Database, query: Callable[[Session], T]) -> T:
    """Run ``query`` in a session that is closed afterwards."""
    with contextlib.closing(Session(database)) as session:
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
