"""The runs of a study as columns."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.changes import EditRun, PushQuantities
from motoko.core.constraints import Columns, parse
from motoko.core.edits import Cancel, Claim, EndAttempt, MarkStarted, Requeue, Retry
from motoko.core.provenance import AttemptTimes, attempt_times
from motoko.core.states import FAILURES, Lifecycle
from motoko.errors import UnknownNameError
from motoko.storage.columns import read_columns
from motoko.storage.session import Session
from motoko.testing import add_run, memory_store, study_config
from motoko.testing.memory import commit, finish_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motoko.core.edits import RunEdit
    from motoko.core.records import RunKey
    from motoko.core.run_columns import ColumnTable
    from motoko.storage.store import WorkflowStore

pytestmark = pytest.mark.unit

JOB = {"x": "float", "nproc": "int", "both": "int"}
RUN = {"y": "float", "both": "str"}
DECLARED = Columns("s", JOB, RUN)


@pytest.fixture
def store() -> Iterator[WorkflowStore]:
    studies = {"s": study_config("s", JOB, run=RUN), "t": study_config("t", {"a": "int"})}
    with contextlib.closing(memory_store(studies)) as store:
        yield store


@pytest.fixture
def session(store: WorkflowStore) -> Iterator[Session]:
    with contextlib.closing(Session(store.database)) as session:
        yield session


def add(session: Session, x: float, **more: Any) -> RunKey:
    return add_run(session, "s", {"x": x, "nproc": 2, "both": 1}, **more)


def rows(table: ColumnTable) -> list[tuple[Any, ...]]:
    return list(table.rows())


def test_columns_hold_the_values_of_runs_and_none_for_missing_ones(session: Session) -> None:
    first, second = add(session, 0.5, y=2.0), add(session, 1.5, both="text")
    finish_run(session, first, "t", Lifecycle.FINISHED)
    table = read_columns(
        session, DECLARED, None, columns=["id", "x", "y", "runs.both", "jobs.both", "outcome"]
    )
    assert table.types == {
        "id": "int", "x": "float", "y": "float", "runs.both": "str", "jobs.both": "int",
        "outcome": "str",
    }  # fmt: skip
    assert rows(table) == [
        (first.id, 0.5, 2.0, None, 1, "FINISHED"),
        (second.id, 1.5, None, "text", 1, None),
    ]


def test_names_of_default_columns_are_those_of_constraints(session: Session) -> None:
    add(session, 0.5, duration=3, z=[1])
    table = read_columns(session, DECLARED, root="/w/BD-s-runs")
    assert table.names[:9] == (
        "id", "run_name", "x", "jobs.nproc", "jobs.both", "y", "runs.both", "runs.duration", "z",
    )  # fmt: skip
    assert "duration" in table.names
    assert table.types["z"] is None
    assert table.values["directory"] == ["/w/BD-s-runs/run-1"]


def test_a_list_in_a_table_is_a_copy(session: Session) -> None:
    key = add(session, 0.5, z=[1])
    read_columns(session, DECLARED, columns=["z"]).values["z"][0].append(2)
    assert session.run(key).fields["z"] == [1]


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("yy", "study 's' has no column 'yy'", "Did you mean 'y'?"),
        ("both", "ambiguous", "jobs.both or runs.both"),
        ("nproc", "ambiguous", "jobs.nproc or runs.nproc"),
        ("jobs.y", "no column 'jobs.y'", ""),
        ("job.x", "no column 'job.x'", ""),
        ("", "no column ''", "Known: id"),
        ("a\x1b[2J", "no column", ""),
    ],
)
def test_an_unknown_column_is_an_error_with_the_nearest_one(
    session: Session, name: str, message: str, hint: str
) -> None:
    add(session, 0.5, y=2.0)
    with pytest.raises(UnknownNameError) as caught:
        read_columns(session, DECLARED, columns=["id", name])
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_a_field_of_unselected_runs_is_a_column(session: Session) -> None:
    add(session, 0.5, z=1)
    add(session, 1.5)
    table = read_columns(session, DECLARED, None, parse("x > 1", DECLARED), ["id", "z"])
    assert rows(table) == [(2, None)]


def test_runs_are_selected_by_run_name_constraint_and_lifecycle(session: Session) -> None:
    first = add(session, 0.5, run_name="a")
    add(session, 1.5, run_name="a")
    add(session, 0.5, run_name="b")
    finish_run(session, first, "t", Lifecycle.LOST)

    def ids(run_name: str | None, text: str = "", **more: Any) -> list[int]:
        constraint = parse(text, DECLARED)
        return read_columns(session, DECLARED, run_name, constraint, ["id"], **more).values["id"]

    assert ids(None) == [1, 2, 3]
    assert ids("a") == [1, 2]
    assert ids(None, "x < 1") == [1, 3]
    assert ids(None, lifecycles=FAILURES) == [1]
    assert ids("b", lifecycles=FAILURES) == []
    assert ids("c") == []


def test_a_study_without_a_table_or_runs_has_the_declared_columns(session: Session) -> None:
    for name in ("s", "new"):
        table = read_columns(session, Columns(name, JOB, RUN))
        assert {"x", "y", "jobs.both", "runs.both", "state"} <= set(table.names)
        assert len(table) == 0
        assert rows(table) == []


def test_the_transaction_is_the_newest_one_in_the_snapshot(
    store: WorkflowStore, session: Session
) -> None:
    add(session, 0.5)
    commit(store.database, session)
    one = read_columns(session, DECLARED)
    with contextlib.closing(Session(store.database)) as other:
        add_run(other, "t", {"a": 1})
        commit(store.database, other)
    assert read_columns(session, DECLARED).transaction == one.transaction
    session.refresh()
    two = read_columns(session, DECLARED)
    assert two.transaction > one.transaction
    assert one.committed is not None
    assert two.committed is not None
    assert one.committed <= two.committed
    assert abs((two.committed - datetime.now(UTC)).total_seconds()) < 600


FAILED, CREATED = Lifecycle.FAILED, Lifecycle.CREATED


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([], (None, None)),
        ([Cancel(5.0, "user")], (None, 5.0)),
        ([Claim("l", "t", 1.0)], (None, None)),
        ([Claim("l", "t", 1.0), MarkStarted("t", 2.0, "l")], (2.0, None)),
        (
            [
                Claim("l", "t", 1.0),
                MarkStarted("t", 2.0, "l"),
                EndAttempt("t", FAILED, 4.5, "l", 1, retries=1),
            ],
            (2.0, 4.5),
        ),
        (
            [
                Claim("l", "t", 1.0),
                MarkStarted("t", 2.0, "l"),
                EndAttempt("t", FAILED, 4.5, "l", 1, retries=1),
                Claim("l", "u", 6.0),
            ],
            (None, None),
        ),
        (
            [Claim("l", "t", 1.0), MarkStarted("t", 2.0, "l"), Requeue("t", 3.0, "l")],
            (2.0, 3.0),
        ),
        (
            [
                Claim("l", "t", 1.0),
                MarkStarted("t", 2.0, "l"),
                EndAttempt("t", FAILED, 3.0, "l", 1),
                Retry(9.0, "user"),
            ],
            (2.0, 3.0),
        ),
    ],
)
def test_times_are_those_of_the_last_attempt(
    session: Session, edits: list[RunEdit], expected: tuple[float | None, float | None]
) -> None:
    key = add(session, 0.5)
    for edit in edits:
        session.add(EditRun(key, edit))
    run = session.run(key)
    times = attempt_times(run, run.attempt)
    assert (times.started, times.ended) == expected


@pytest.mark.parametrize(
    ("started", "ended", "expected"),
    [(5.0, 3.0, 0.0), (5.0, 7.5, 2.5), (None, 7.5, None), (5.0, None, None)],
)
def test_a_duration_is_never_negative(
    started: float | None, ended: float | None, expected: float | None
) -> None:
    assert AttemptTimes(None, started, ended, None).duration == expected


# -- quantities --------------------------------------------------------------------------------


def push(session: Session, key: RunKey, **series: list[tuple[int, Any]]) -> None:
    token = f"t{key.id}"
    session.add(EditRun(key, Claim("l", token, 1.0)))
    for number, (name, points) in enumerate(series.items(), 1):
        session.add(PushQuantities(key, token, number, name, tuple(points)))


def test_quantities_are_joined_on_the_step(session: Session) -> None:
    first, second, _ = add(session, 0.5), add(session, 1.5), add(session, 2.5)
    push(session, first, e=[(0, 1.0), (10, 2.0), (5, 1.5)], f=[(5, [1, [2]]), (5, [3, [4]])])
    push(session, second, e=[(0, 7)])
    table = read_columns(session, DECLARED, columns=["id"], quantities=["e", "f"])
    assert table.types == {"id": "int", "step": "int", "e": None, "f[0]": None, "f[1]": None}
    assert rows(table) == [
        (first.id, 0, 1.0, None, None),
        (first.id, 5, 1.5, 1, 2),
        (first.id, 5, None, 3, 4),
        (first.id, 10, 2.0, None, None),
        (second.id, 0, 7, None, None),
    ]
    assert len(table) == 5


def test_a_quantity_with_the_name_of_a_column_gets_another_one(session: Session) -> None:
    key = add(session, 0.5, y=2.0, step=3)
    push(session, key, y=[(1, 0.5)])
    table = read_columns(session, DECLARED, columns=["y", "step"], quantities=["y"])
    assert table.names == ("y", "step", "quantities.step", "quantities.y")
    assert rows(table) == [(2.0, 3, 1, 0.5)]


def test_an_unknown_quantity_is_an_error_with_the_nearest_one(session: Session) -> None:
    key = add(session, 0.5)
    add(session, 1.5)
    push(session, key, energy=[(1, 0.5)])
    with pytest.raises(UnknownNameError) as caught:
        read_columns(session, DECLARED, quantities=["enregy"])
    assert caught.value.hint == "Did you mean 'energy'?"
    # Only another run has it: no error.
    constraint = parse("x > 1", DECLARED)
    table = read_columns(session, DECLARED, None, constraint, ["id"], quantities=["energy"])
    assert rows(table) == []


def test_a_long_series_is_read_whole(session: Session) -> None:
    points = [(step, step / 2) for step in range(1700)]  # several chunks
    push(session, add(session, 0.5), e=points)
    table = read_columns(session, DECLARED, columns=[], quantities=["e"])
    assert rows(table) == points
