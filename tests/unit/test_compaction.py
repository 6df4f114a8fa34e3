"""Compaction changes no run, whatever happens at the same time."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.changes import DeleteRun, EditRun
from motoko.core.edits import Claim, EndAttempt, MarkStarted, SetFields, SetLabel
from motoko.core.records import RunKey, RunRecord
from motoko.core.states import Lifecycle
from motoko.errors import ConflictError
from motoko.storage import compaction, run_store
from motoko.storage.commit import commit_with_retry, run_transaction
from motoko.storage.compaction import Step, compact_step
from motoko.storage.consistency import check_study
from motoko.storage.run_block import RunBlock
from motoko.storage.session import Session
from motoko.testing import add_run, empty_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from motoko.core.changes import Change
    from motoko.storage.database import Database
    from motoko.storage.tables import Tables

pytestmark = pytest.mark.unit

STUDY = "mult"
RUNS = 6
FIRST = RunKey(STUDY, 1)
SECOND = RunKey(STUDY, 2)


@pytest.fixture(params=["block", "single"])
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A database with RUNS runs: as one block, or as single runs, which become a block."""
    monkeypatch.setattr(run_store, "BLOCK", RUNS)
    monkeypatch.setattr(run_store, "LEAST", 1 if request.param == "block" else RUNS + 1)
    monkeypatch.setattr(compaction, "EDITED", 0.0)
    database = empty_database([STUDY])
    with contextlib.closing(Session(database)) as session:
        for x in range(RUNS):
            add_run(session, STUDY, {"x": float(x)})
        commit(database, session)
    monkeypatch.setattr(run_store, "LEAST", 1)
    yield database
    database.close()


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with contextlib.closing(Session(database)) as session:
        yield session


def commit(database: Database, session: Session) -> None:
    database.submit(session.commit).result()


def change(database: Database, *changes: Change) -> None:
    with contextlib.closing(Session(database)) as session:
        for one in changes:
            session.add(one)
        commit(database, session)


def finish(database: Database, ids: Iterable[int] = range(1, RUNS + 1)) -> None:
    """Let runs finish."""
    for run_id in ids:
        key, token = RunKey(STUDY, run_id), f"t{run_id}"
        change(database, EditRun(key, Claim("launcher", token, 1.0)))
        change(database, EditRun(key, MarkStarted(token, 2.0, "launcher")))
        ended = EndAttempt(token, Lifecycle.FINISHED, 3.0, "launcher")
        change(database, EditRun(key, SetFields({"y": run_id})), EditRun(key, ended))


def compact(database: Database, low: int = 0) -> Step:
    def step(tables: Tables) -> Step:
        return compact_step(tables.study(STUDY), low)

    return database.submit(lambda: run_transaction(database, step)).result()


def records(database: Database) -> dict[int, RunRecord]:
    with contextlib.closing(Session(database)) as session:
        table = session.tables.study(STUDY)
        assert check_study(table) == []
        return {record.id: record for record in table.records(range(1, RUNS + 10))}


def layout(database: Database) -> tuple[list[list[int]], list[int]]:
    """Return the ids of the runs of each block, and of those with objects of their own."""
    with contextlib.closing(Session(database)) as session:
        trees = session.tables.study(STUDY).trees
        blocks = [RunBlock(item) for item in trees["blocks"].values()]
        own = [*trees["runs"], *(run_id for block in blocks for run_id in block.own)]
        return [list(block.ids) for block in blocks], sorted(own)


def edit(key: RunKey = FIRST, **fields: Any) -> EditRun:
    return EditRun(key, SetFields(fields))


# -- alone -----------------------------------------------------------------------------------


def test_ended_runs_become_columns(database: Database) -> None:
    finish(database)
    before = records(database)
    assert compact(database) == Step(True, RUNS + 1)
    assert records(database) == before
    assert layout(database) == ([[1, 2, 3, 4, 5, 6]], [])
    assert compact(database) == Step(False, None)


def test_active_runs_stay_as_they_are(database: Database) -> None:
    finish(database, [1, 2, 4, 5, 6])
    before = records(database)
    blocks, own = layout(database)
    if compact(database).compacted:  # single runs: the others need not wait for it
        assert layout(database) == ([[1, 2, 4, 5, 6]], [3])
        change(database, edit(z=1))
        before = records(database)
        assert compact(database).compacted
        assert layout(database) == ([[1, 2, 4, 5, 6]], [3])
    else:
        assert layout(database) == (blocks, own)
    assert records(database) == before
    finish(database, [3])
    before = records(database)
    assert compact(database).compacted
    assert layout(database) == ([[1, 2, 3, 4, 5, 6]], [])
    assert records(database) == before


def test_deleted_runs_leave_nothing(database: Database) -> None:
    finish(database)
    compact(database)
    change(database, DeleteRun(SECOND))
    before = records(database)
    compact(database)
    assert layout(database)[1] == []
    assert records(database) == before
    change(database, *(DeleteRun(RunKey(STUDY, run_id)) for run_id in before))
    compact(database)
    assert layout(database) == ([], [])
    assert records(database) == {}


def test_compacted_runs_are_edited_deleted_and_compacted_again(database: Database) -> None:
    finish(database)
    compact(database)
    change(database, edit(z=1), EditRun(SECOND, SetLabel("GOOD", 4.0, "test")))
    change(database, DeleteRun(RunKey(STUDY, RUNS)))
    before = records(database)
    assert (before[1].fields["z"], before[2].state, len(before)) == (1, "GOOD", RUNS - 1)
    assert compact(database).compacted
    assert records(database) == before
    assert layout(database) == ([[1, 2, 3, 4, 5]], [])


def test_other_processes_see_no_changed_run(database: Database) -> None:
    finish(database)
    with contextlib.closing(Session(database)) as session:
        before = session.classify(written(session))[0]
        assert before
        compact(database)
        session.refresh()
        objects = written(session)
        assert objects
        assert session.classify(objects) == (set(), False)


def written(session: Session) -> set[bytes]:
    """Return the objects that the last commit wrote."""
    storage = session._connection.db().storage
    (last,) = storage.iterator(storage.lastTransaction())
    return {record.oid for record in last}


# -- beside other commits --------------------------------------------------------------------


@pytest.mark.parametrize(("compacted", "mutant"), [(False, ""), (True, ""), (False, "unchecked")])
def test_an_edit_in_progress_is_kept(
    database: Database,
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
    compacted: bool,
    mutant: str,
) -> None:
    finish(database)
    if mutant:
        monkeypatch.setattr(run_store, "check_current", check_nothing)
    if compacted:
        compact(database)
        change(database, edit(z=0))
    session.refresh()
    session.add(edit(SECOND, z=2))
    session.add(edit(w=1))
    compact(database)
    commit(database, session)
    with contextlib.closing(Session(database)) as after:
        found = {run_id: after.run(RunKey(STUDY, run_id)).fields for run_id in (1, 2)}
    if mutant:  # the edits are lost
        assert found == {1: {"y": 1}, 2: {"y": 2}}
    else:
        assert found == {
            1: {"y": 1, "w": 1, **({"z": 0} if compacted else {})},
            2: {"y": 2, "z": 2},
        }


@pytest.mark.parametrize("own", [False, True])
def test_an_edit_beside_the_end_and_the_compaction_of_its_run_is_kept(
    database: Database, session: Session, own: bool
) -> None:
    if own:  # the run has an object of its own
        change(database, edit(z=0))
    session.refresh()
    session.add(edit(w=1))
    finish(database)
    compact(database)
    commit(database, session)
    assert {name: records(database)[1].fields[name] for name in "wy"} == {"w": 1, "y": 1}


def check_nothing(*_: Any) -> None:
    """Let a commit succeed whatever others changed."""


@pytest.mark.parametrize(("compacted", "mutant"), [(False, ""), (True, ""), (False, "unchecked")])
def test_a_compaction_in_progress_keeps_a_later_edit(
    database: Database, monkeypatch: pytest.MonkeyPatch, compacted: bool, mutant: str
) -> None:
    finish(database)
    if compacted:
        compact(database)
        change(database, edit(z=0))
    if mutant:
        monkeypatch.setattr(compaction, "check_current", check_nothing)

    def edit_meanwhile(attempt: int) -> None:
        if not attempt:
            change(database, edit(w=1), edit(SECOND, w=2))

    compact_beside(database, edit_meanwhile)
    found = records(database)
    if mutant:  # the edits are lost
        assert "w" not in found[1].fields.keys() | found[2].fields.keys()
        return
    assert (found[1].fields["w"], found[2].fields["w"]) == (1, 2)
    compact(database)
    assert records(database) == found


def test_a_compaction_in_progress_keeps_a_deletion(database: Database) -> None:
    finish(database)

    def delete_meanwhile(attempt: int) -> None:
        if not attempt:
            change(database, DeleteRun(FIRST))

    compact_beside(database, delete_meanwhile)
    assert 1 not in records(database)


def compact_beside(database: Database, meanwhile: Callable[[int], None]) -> None:
    """Compact, and call ``meanwhile`` before each commit of the step."""
    with contextlib.closing(Session(database)) as session:

        def prepare(attempt: int) -> None:
            if attempt:
                session._begin()
            compact_step(session.tables.study(STUDY))
            meanwhile(attempt)

        commit_with_retry(database, session._manager, session._connection, prepare)


def test_a_commit_that_relies_on_a_run_does_not_conflict(
    database: Database, session: Session
) -> None:
    finish(database)
    session.refresh()
    session.rely_on([FIRST])
    session.add(edit(SECOND, z=1))
    compact(database)
    commit(database, session)
    assert records(database)[2].fields["z"] == 1


def test_a_commit_that_relies_on_a_run_still_conflicts_with_its_edits(
    database: Database, session: Session
) -> None:
    finish(database)
    session.refresh()
    session.rely_on([FIRST])
    session.add(edit(SECOND, z=1))
    compact(database)
    change(database, edit(z=2))
    with pytest.raises(ConflictError):
        commit(database, session)


# -- the check of the layout -----------------------------------------------------------------

FAULTS = {
    "is not in order": lambda trees: trees["blocks"].insert(3, trees["blocks"].pop(1)),
    "has edited runs that are not its own": lambda trees: trees["blocks"][1]["own"].insert(
        RUNS + 1, trees["blocks"][1]["own"][1]
    ),
    "has runs that are stored alone as well": lambda trees: trees["runs"].insert(
        1, trees["blocks"][1]["own"][1]
    ),
    "index lifecycles is": lambda trees: trees["blocks"][1]["own"][1].data.update(
        {"deleted": (STUDY, 1)}
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_layout_is_found(database: Database, fault: str) -> None:
    finish(database)
    compact(database)
    change(database, edit(z=1))
    with contextlib.closing(Session(database)) as session:
        table = session.tables.study(STUDY)
        assert check_study(table) == []
        FAULTS[fault](table.trees)
        assert any(fault in error for error in check_study(table))
