"""The number of jobs is stored, counted once for an older table, and checked by a recount."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.changes import DeleteRun, EditRun
from motoko.core.edits import SetJob
from motoko.core.parameter_space import run_identity
from motoko.core.records import RunKey
from motoko.storage.consistency import check_indexes, check_study
from motoko.storage.run_counts import JOBS
from motoko.storage.session import Session, run_transaction
from motoko.testing import add_run, empty_database
from motoko.testing.memory import commit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from motoko.storage.database import Database
    from motoko.storage.tables import Tables

pytestmark = pytest.mark.unit


@pytest.fixture
def database() -> Iterator[Database]:
    """Return a database with two runs of the job x = 0 and one of x = 1, as runs 1 to 3."""
    with closing(empty_database(["s"])) as database, closing(Session(database)) as session:
        add_run(session, "s", {"x": 0})
        add_run(session, "s", {"x": 0}, run_name="other")
        add_run(session, "s", {"x": 1})
        commit(database, session)
        yield database


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """Return a session with the runs."""
    with closing(Session(database)) as session:
        yield session


def jobs(session: Session) -> int:
    session.refresh()
    table = session.tables.study("s")
    assert check_study(table) == []
    assert len(table.jobs) == len(table.jobs.ids())
    return len(table.jobs)


def change_counts(database: Database, change: Callable[[Any], None]) -> None:
    def work(tables: Tables) -> None:
        change(tables.study("s").trees["counts"])

    database.submit(lambda: run_transaction(database, work)).result()


def move(session: Session, run_id: int, job: dict[str, int]) -> None:
    _, job_id = session.reserve("s", 0, 1)
    identity = run_identity("s", "test", job, {}, 0)
    session.add(EditRun(RunKey("s", run_id), SetJob(job, job_id, identity, 0.0, "user")))


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize(
    ("change", "number"),
    [
        ("none", 2), ("a new job", 3), ("an existing job", 2), ("one of two runs", 2),
        ("the last run of a job", 1), ("all runs", 0), ("a run to a new job", 3),
        ("the last run to the other job", 1),
    ],
)  # fmt: skip
def test_the_number_follows_all_changes(
    database: Database, session: Session, change: str, number: int, stored: bool
) -> None:
    if not stored:
        change_counts(database, lambda counts: counts.pop(JOBS))
        assert jobs(session) == 2
    if change == "a new job":
        add_run(session, "s", {"x": 2})
    elif change == "an existing job":
        add_run(session, "s", {"x": 1}, run_name="other")
    elif change == "one of two runs":
        session.add(DeleteRun(RunKey("s", 1)))
    elif change == "the last run of a job":
        session.add(DeleteRun(RunKey("s", 3)))
    elif change == "the last run to the other job":
        session.add(DeleteRun(RunKey("s", 1)))  # it has the identity that run 3 gets
        move(session, 3, {"x": 0})
    elif change == "all runs":
        for run_id in (1, 2, 3):
            session.add(DeleteRun(RunKey("s", run_id)))
    elif change != "none":
        move(session, 1, {"x": 5})
    commit(database, session)
    assert jobs(session) == number


def test_processes_that_add_jobs_at_the_same_time_are_both_counted(
    database: Database, session: Session
) -> None:
    with closing(Session(database)) as other:
        other.refresh()
        add_run(session, "s", {"x": 2})
        add_run(other, "s", {"x": 3})
        commit(database, session)
        commit(database, other)
        assert jobs(other) == jobs(session) == 4


def test_a_recount_reports_a_wrong_number(database: Database, session: Session) -> None:
    change_counts(database, lambda counts: counts[JOBS].change(1))
    session.refresh()
    (problem,) = check_study(session.tables.study("s"))
    assert str(JOBS) in problem
    with database.snapshot() as connection:
        (problem,) = check_indexes(connection.root())
    assert str(JOBS) in problem
