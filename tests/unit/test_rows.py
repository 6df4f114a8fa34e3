"""Columns of runs, however these are stored: alone, in a block, edited, compacted or not stored."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.changes import DeleteRun, EditRun
from motoko.core.constraints import Columns, parse
from motoko.core.edits import Claim, Requeue, SetFields, SetJob, SetLabel
from motoko.core.records import RunKey
from motoko.core.run_targets import MAX_ID
from motoko.core.states import FAILURES, Lifecycle
from motoko.errors import UnknownNameError
from motoko.storage import query, record_reader, run_store
from motoko.storage.columns import read_columns, tabulate
from motoko.storage.commit import run_transaction
from motoko.storage.compaction import compact_step
from motoko.storage.session import Session
from motoko.testing import add_run, empty_database
from motoko.testing.memory import commit, finish_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from motoko.core.records import RunRecord
    from motoko.core.run_columns import ColumnTable
    from motoko.storage.database import Database

pytestmark = pytest.mark.unit

STUDY = "mult"
DECLARED = Columns(STUDY, {"x": "float"}, {"y": "float"})
QUERIES: dict[str, tuple[str | None, str, Sequence[tuple[int, int]], Any]] = {
    "all": (None, "", (), None),
    "run name": ("a", "", (), None),
    "state": (None, "state = LABELLED", (), None),
    "states": ("b", "state in (FINISHED, LABELLED, CREATED)", (), None),
    "ids": (None, "id > 3 and id < 21", (), None),
    "ranges": (None, "", ((2, 5), (9, 9), (17, MAX_ID)), None),
    "failed": ("b", "", (), FAILURES),
    "value": (None, "y > 2", (), None),
    "values": ("b", "y > 2 and x != 500 and id < 20", ((2, 14),), FAILURES),
    "parameter": (None, "x > 4", (), None),
    "other values": (None, "not (y = 33 or x < 4)", (), None),
    "no value": (None, "y != 3", (), None),
    "own": (None, "state = LABELLED or exit_code = 0 or attempt = 1", (), None),
    "nothing": ("c", "", (), None),
}
OWN: dict[str, Callable[[RunRecord], Any]] = {
    "id": lambda run: run.id,
    "run_name": lambda run: run.run_name,
    "x": lambda run: run.job["x"],
    "y": lambda run: run.fields.get("y"),
    "note": lambda run: run.fields.get("note"),
    "state": lambda run: run.state,
    "attempt": lambda run: run.tries,
    "reason": lambda run: run.reason,
    "machine_name": lambda run: run.options.get("machine_name"),
    "created": lambda run: run.history[0].time,
    "ended": lambda run: 9.0 if run.lifecycle.is_terminal else None,
}


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    """A database with runs stored in all ways."""
    database = empty_database([STUDY])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_store, "BLOCK", 7)
        patch.setattr(run_store, "LEAST", 4)
        create(database, "a", 9)  # a block of 7, and two alone
        create(database, "b", 14)  # two blocks
        for _ in range(3):
            create(database, "a", 1)
        for run_id in (2, 7):  # these attempts do not count
            edit(database, run_id, Claim("me", "early", 2.0), Requeue("early", 3.0, "not started"))
        for run_id in (*range(1, 8), *range(10, 17), 24):
            finish(database, run_id, Lifecycle.FINISHED if run_id % 3 else Lifecycle.FAILED)
        compact(database)
    edit(database, 3, SetFields({"y": 33.0, "note": [1, {"k": 2}]}))
    edit(database, 11, SetFields({"y": 0.0}), SetJob({"x": 500.0}, 11, b"other", 5.0, "test"))
    edit(database, 12, SetFields({"y": None}))
    edit(database, 13, SetLabel("LABELLED", 5.0, "test"))
    change(database, *(DeleteRun(RunKey(STUDY, run_id)) for run_id in (5, 9, 16, 18)))
    yield database
    database.close()


@pytest.fixture(params=["bulk", "index"])
def session(
    request: pytest.FixtureRequest, database: Database, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Session]:
    monkeypatch.setattr(run_store, "TOGETHER", 2)
    monkeypatch.setattr(query, "MANY", 10**9 if request.param == "bulk" else 0.5)
    monkeypatch.setattr(record_reader, "BATCH", 5)
    monkeypatch.setattr(record_reader, "FIRST_BATCH", 5)
    with contextlib.closing(Session(database)) as session:
        yield session


def create(database: Database, run_name: str, number: int) -> None:
    with contextlib.closing(Session(database)) as session:
        first = session.tables.study(STUDY).last_id + 1
        for x in range(first, first + number):
            add_run(session, STUDY, {"x": float(x)}, run_name=run_name, at=1.0)
        commit(database, session)


def change(database: Database, *changes: Any) -> None:
    with contextlib.closing(Session(database)) as session:
        for one in changes:
            session.add(one)
        commit(database, session)


def edit(database: Database, run_id: int, *edits: Any) -> None:
    change(database, *(EditRun(RunKey(STUDY, run_id), one) for one in edits))


def finish(database: Database, run_id: int, outcome: Lifecycle) -> None:
    with contextlib.closing(Session(database)) as session:
        session.add(EditRun(RunKey(STUDY, run_id), SetFields({"y": float(run_id)})))
        finish_run(session, RunKey(STUDY, run_id), f"t{run_id}", outcome, at=9.0)
        commit(database, session)


def compact(database: Database) -> None:
    low: int | None = 0
    while low is not None:
        start = low
        step = run_transaction(database, lambda t, s=start: compact_step(t.study(STUDY), s))  # type: ignore[misc]
        low = step.following


def stored(session: Session, name: str) -> list[RunRecord]:
    """Return the records that a query should find, one by one."""
    run_name, constraint, ranges, lifecycles = QUERIES[name]
    parsed = parse(constraint, DECLARED)
    table = session.tables.study(STUDY)
    records = [table.run(i) for i in range(1, 40) if table.has_run(i)]
    return [
        run
        for run in records
        if run_name in (None, run.run_name)
        and parsed.matches(run)
        and (not ranges or any(low <= run.id <= high for low, high in ranges))
        and (lifecycles is None or run.lifecycle in lifecycles)
    ]


def read(session: Session, name: str, columns: list[str] | None = None) -> ColumnTable:
    run_name, constraint, ranges, lifecycles = QUERIES[name]
    return read_columns(
        session, DECLARED, run_name, parse(constraint, DECLARED), columns,
        ranges=ranges, lifecycles=lifecycles,
    )  # fmt: skip


@pytest.mark.parametrize("name", QUERIES)
def test_columns_have_the_values_of_all_runs_by_id(session: Session, name: str) -> None:
    table = read(session, name, list(OWN))
    for column, value_of in OWN.items():
        found = [
            value.timestamp() if column in ("created", "ended") and value else value
            for value in table.values[column]
        ]
        assert found == [value_of(run) for run in stored(session, name)], column


@pytest.mark.parametrize("name", QUERIES)
def test_default_columns_are_those_of_the_selected_runs(session: Session, name: str) -> None:
    records = stored(session, name)
    table, expected = read(session, name), tabulate(session, DECLARED, records)
    assert (table.types, len(table)) == (expected.types, len(records))
    assert {k: list(v) for k, v in table.values.items()} == expected.values


@pytest.mark.parametrize("number", [0, 1, 2])
def test_constraints_compare_the_attempts_that_users_see(session: Session, number: int) -> None:
    parsed = parse(f"attempt = {number}", DECLARED)
    records = stored(session, "all")
    expected = [run.id for run in records if run.tries == number]
    assert bool(expected) == (number < 2)
    assert [run.id for run in records if parsed.matches(run)] == expected
    table = read_columns(session, DECLARED, None, parsed, ["id", "attempt"])
    assert list(table.values["id"]) == expected
    assert set(table.values["attempt"]) <= {number}


def test_a_session_reads_its_own_changes(session: Session) -> None:
    add_run(session, STUDY, {"x": 900.0}, run_name="a")
    session.add(EditRun(RunKey(STUDY, 2), SetFields({"y": -1.0})))
    session.add(DeleteRun(RunKey(STUDY, 12)))
    table = read(session, "all", ["id", "x", "y"])
    assert table.values["id"] == [run.id for run in stored(session, "all")]
    assert table.values["y"][1] == -1.0
    assert (table.values["x"][-1], 12 in table.values["id"]) == (900.0, False)


def test_values_in_a_table_may_be_changed(session: Session) -> None:
    for _ in range(2):
        (value,) = [note for note in read(session, "all", ["note"]).values["note"] if note]
        assert value == [1, {"k": 2}]
        value[1]["k"] = 3


def test_a_column_that_only_other_runs_have_is_empty(session: Session) -> None:
    assert set(read(session, "failed", ["note"]).values["note"]) == {None}
    with pytest.raises(UnknownNameError, match="has no column 'nota'"):
        read(session, "all", ["nota"])
