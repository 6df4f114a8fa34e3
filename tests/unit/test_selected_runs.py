"""Selections read runs as they are used, and show the state of their first use."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motoko.api.selection import _taken
from motoko.core.changes import DeleteRun, EditRun
from motoko.core.constraints import Columns, Constraint, parse
from motoko.core.edits import Cancel, SetFields
from motoko.core.records import RunKey
from motoko.core.run_targets import merged_ranges
from motoko.storage import record_reader, selected_runs
from motoko.storage.columns import read_columns
from motoko.storage.query import count_runs, query_database, select_records, stream_ids
from motoko.storage.scope import AutocommitScope, SegmentScope
from motoko.storage.session import Session
from motoko.testing import add_run, empty_database
from motoko.testing.memory import commit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from motoko.core.changes import Change
    from motoko.storage.database import Database
    from motoko.storage.scope import Scope

pytestmark = pytest.mark.unit

RUNS = 12
DECLARED = Columns("s", {"x": "float"}, {"y": "float"})
EXACT, BY_VALUE = (parse(text, DECLARED) for text in ("state = CREATED", "y < 100"))
CONSTRAINTS = pytest.mark.parametrize("constraint", [EXACT, BY_VALUE], ids=["exact", "by value"])


@pytest.fixture
def database() -> Iterator[Database]:
    with contextlib.closing(empty_database(["s"])) as database:
        with contextlib.closing(Session(database)) as session:
            for n in range(RUNS):
                add_run(session, "s", {"x": float(n)}, y=0.0)
            commit(database, session)
        yield database


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (selected_runs, "FIRST"), (selected_runs, "BATCH"),
        (record_reader, "FIRST_BATCH"), (record_reader, "BATCH"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, 3)


def script(database: Database) -> Scope:
    return AutocommitScope(lambda: database)


def action(database: Database) -> Scope:
    return SegmentScope(database, cause="test")


def unmatch(run_id: int) -> list[Change]:
    """Return changes after which a run matches neither constraint."""
    key = RunKey("s", run_id)
    edits = (Cancel(0.0, "test"), SetFields({"y": 200.0}))
    return [EditRun(key, edit, blind=True) for edit in edits]


def change_elsewhere(database: Database, *changes: Change, new: int = 0) -> None:
    with contextlib.closing(Session(database)) as session:
        for change in changes:
            session.add(change)
        for n in range(new):
            add_run(session, "s", {"x": 1000.0 + n}, y=0.0)
        commit(database, session)


def ids(scope: Scope, constraint: Constraint) -> Iterator[int]:
    return (r.id for r in selected_runs.iterate_selected(scope, "s", None, constraint))


# -- the state of the first use --------------------------------------------------------------


@CONSTRAINTS
@pytest.mark.parametrize("make_scope", [script, action])
def test_an_iteration_has_the_runs_that_matched_at_its_start(
    database: Database, constraint: Constraint, make_scope: Callable[[Database], Scope]
) -> None:
    iteration = ids(make_scope(database), constraint)
    assert next(iteration) == 1
    change_elsewhere(database, *unmatch(5), *unmatch(12), new=2)
    assert list(iteration) == list(range(2, RUNS + 1))


@CONSTRAINTS
@pytest.mark.parametrize("make_scope", [script, action])
def test_the_loop_may_change_the_runs(
    database: Database, constraint: Constraint, make_scope: Callable[[Database], Scope]
) -> None:
    scope = make_scope(database)
    seen = []
    for run_id in ids(scope, constraint):
        seen.append(run_id)
        scope.write(*unmatch(run_id), *(unmatch(run_id + 1) if run_id == 3 else ()))
    assert seen == list(range(1, RUNS + 1))
    assert list(ids(scope, constraint)) == []


@CONSTRAINTS
def test_an_iteration_includes_earlier_changes_of_its_own_transaction(
    database: Database, constraint: Constraint
) -> None:
    scope = action(database)
    scope.write(*unmatch(8))
    iteration = ids(scope, constraint)
    next(iteration)
    scope.write(*unmatch(9))
    assert list(iteration) == [n for n in range(2, RUNS + 1) if n != 8]


@CONSTRAINTS
def test_runs_deleted_during_an_iteration_are_skipped(
    database: Database, constraint: Constraint
) -> None:
    iteration = ids(script(database), constraint)
    next(iteration)
    change_elsewhere(database, DeleteRun(RunKey("s", 7)))
    assert list(iteration) == [n for n in range(2, RUNS + 1) if n != 7]


@CONSTRAINTS
def test_an_iteration_survives_a_pack_of_its_state(
    database: Database, constraint: Constraint
) -> None:
    iteration = ids(script(database), constraint)
    next(iteration)
    change_elsewhere(database, *unmatch(8))
    database.pack(keep=-10.0)
    assert [n for n in iteration if n != 8] == [n for n in range(2, RUNS + 1) if n != 8]


# -- reading little ----------------------------------------------------------------------------


@CONSTRAINTS
def test_the_first_runs_are_found_without_reading_the_others(
    database: Database, constraint: Constraint
) -> None:
    with contextlib.closing(Session(database)) as session, contextlib.closing(Session(database)):
        database._db.cacheMinimize()
        assert next(stream_ids(session, "s", None, constraint)) == 1
        next(select_records(session, "s", None, constraint))
        table = session.tables.study("s")
        loaded = [n for n in range(1, RUNS + 1) if table.trees["runs"][n]._p_changed is not None]
        assert loaded in ([1], [1, 2, 3])


def test_matching_runs_stay_loaded_and_follow_later_changes(database: Database) -> None:
    constraint = parse("x = 4", DECLARED)
    with contextlib.closing(Session(database)) as session:
        database._db.cacheMinimize()
        (run_id,) = stream_ids(session, "s", None, constraint, keep=True)
        table = session.tables.study("s")
        assert table.trees["runs"][run_id]._p_changed is False
        version = query_database(database, lambda s: s.tables.study("s").version(run_id))
        assert table.version(run_id) == version
        change_elsewhere(database, EditRun(RunKey("s", run_id), SetFields({"y": 5.0})))
        assert table.run(run_id).fields["y"] == 0.0
        session.refresh()
        assert session.run(RunKey("s", run_id)).fields["y"] == 5.0


def test_an_edit_of_a_run_that_a_scan_loaded_is_committed(database: Database) -> None:
    with contextlib.closing(Session(database)) as session:
        database._db.cacheMinimize()
        list(stream_ids(session, "s", None, BY_VALUE, keep=True))
        session.add(EditRun(RunKey("s", 2), SetFields({"y": 3.0})))
        commit(database, session)
    record = query_database(database, lambda s: s.run(RunKey("s", 2)))
    assert record.fields["y"] == 3.0


# -- equal to reading all ------------------------------------------------------------------------


def test_streamed_ids_equal_those_read_together() -> None:
    with contextlib.closing(empty_database(["s"])) as database:
        with contextlib.closing(Session(database)) as session:
            for n in range(400):
                add_run(session, "s", {"x": float(n)}, run_name="ab"[n % 2])
            commit(database, session)
            for n in range(1, 400, 7):
                session.add(EditRun(RunKey("s", n), Cancel(0.0, "test"), blind=True))
            commit(database, session)
        with contextlib.closing(Session(database)) as session:
            table = session.tables.study("s")
            queries: list[dict[str, Any]] = [
                {}, {"states": ["CREATED"]}, {"states": ["CREATED", "CANCELLED"]},
                {"lifecycles": ["CANCELLED", "FAILED"]}, {"states": ["other"]},
            ]  # fmt: skip
            for query in queries:
                for run_name in (None, "a", "none"):
                    for low, high in ((None, None), (1, 1), (57, 201), (200, 100), (390, 1000)):
                        limits: dict[str, Any] = {"id_min": low, "id_max": high}
                        expected = table.ids(run_name, **query, **limits)
                        assert list(table.stream_ids(run_name, **query, **limits)) == expected
                    assert table.count(run_name, **query) == len(table.ids(run_name, **query))


@pytest.mark.parametrize("text", ["", "state = CREATED", "id > 4", "y < 100", "y < 100, id < 9"])
def test_a_count_is_the_number_of_the_runs(database: Database, text: str) -> None:
    change_elsewhere(database, *unmatch(2), *unmatch(6))
    constraint = parse(text, DECLARED)
    options: dict[str, Any]
    for options in ({}, {"ranges": [(2, 5), (3, 8)]}, {"lifecycles": ["CANCELLED"]}):
        with contextlib.closing(Session(database)) as session:
            found = list(select_records(session, "s", None, constraint, **options))
            number = count_runs(session, "s", None, constraint, **options)
            assert number == len(found) == len({record.id for record in found})


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40))))
def test_merged_ranges_have_the_same_ids(ranges: list[tuple[int, int]]) -> None:
    ranges = [(min(pair), max(pair)) for pair in ranges]
    merged = merged_ranges(ranges)
    listed = [n for low, high in merged for n in range(low, high + 1)]
    assert listed == sorted({n for low, high in ranges for n in range(low, high + 1)})


BOUND = st.none() | st.integers(-15, 15) | st.just(10**30)


@given(st.slices(20) | st.builds(slice, BOUND, BOUND, BOUND))
def test_a_slice_of_a_stream_is_that_of_a_list(wanted: slice) -> None:
    items = list(range(RUNS))
    if wanted.step == 0:
        with pytest.raises(ValueError, match="zero"):
            _taken(iter(items), wanted)
    else:
        assert list(_taken(iter(items), wanted)) == items[wanted]


def test_columns_of_later_batches_are_complete(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = EditRun(RunKey("s", 10), SetFields({"z": "late", "x": 1}), blind=True)
    change_elsewhere(database, late)
    for names in (None, ["z", "jobs.x", "id"], ["runs.x", "y"]):
        tables = []
        for size in (1, 5, 1000):
            monkeypatch.setattr(record_reader, "BATCH", size)
            monkeypatch.setattr(record_reader, "FIRST_BATCH", size)
            with contextlib.closing(Session(database)) as session:
                tables.append(read_columns(session, DECLARED, columns=names))
        assert tables[0] == tables[1] == tables[2]
        assert len(tables[0]) == RUNS
        assert all(len(values) == RUNS for values in tables[0].values.values())
    assert tables[0].values["runs.x"] == [None] * 9 + [1, None, None]
