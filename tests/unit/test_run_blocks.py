"""Runs in blocks: concurrent changes conflict as those of single runs, and are all notified."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from persistent.mapping import PersistentMapping
from ZODB.serialize import ObjectWriter

from motoko.core.changes import DeleteRun, EditRun
from motoko.core.constraints import Columns, parse
from motoko.core.edits import Cancel, SetFields, SetJob
from motoko.core.parameter_space import run_identity
from motoko.core.records import RunKey
from motoko.core.run_blocks import decode_runs, encode_runs
from motoko.core.values import MISSING
from motoko.errors import ConflictError, UnknownRunError
from motoko.storage import query, run_store
from motoko.storage.consistency import check_study
from motoko.storage.query import select_runs
from motoko.storage.session import Session
from motoko.testing import add_run, empty_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motoko.core.changes import Change
    from motoko.storage.database import Database

pytestmark = pytest.mark.unit

STUDY = "mult"
RUNS = run_store.BLOCK + run_store.LEAST + 3
FIRST = RunKey(STUDY, 1)


@pytest.fixture(scope="module")
def created() -> Iterator[Database]:
    """A database with RUNS runs from one commit."""
    database = empty_database([STUDY])
    session = Session(database)
    for x in range(RUNS):
        add_run(session, STUDY, {"x": float(x)})
    commit(database, session)
    session.close()
    yield database
    database.close()


@pytest.fixture
def database() -> Iterator[Database]:
    """A database with one block, of LEAST runs."""
    database = empty_database([STUDY])
    session = Session(database)
    for x in range(run_store.LEAST):
        add_run(session, STUDY, {"x": float(x)})
    commit(database, session)
    session.close()
    yield database
    database.close()


@pytest.fixture
def pair(database: Database) -> Iterator[tuple[Session, Session]]:
    sessions = Session(database), Session(database)
    yield sessions
    for session in sessions:
        session.close()


def commit(database: Database, session: Session) -> None:
    database.submit(session.commit).result()


def own_objects(session: Session) -> dict[int, Any]:
    blocks = session.tables.study(STUDY).trees["blocks"].values()
    return {run_id: item for block in blocks for run_id, item in block["own"].items()}


# -- the layout ------------------------------------------------------------------------------


def test_an_edited_run_is_stored_as_zodb_stores_any_object(
    database: Database, pair: tuple[Session, Session]
) -> None:
    one, _ = pair
    values = {"text": "é", "many": [1, 2.5, None, {"a": (True, b"x")}], "same": ["t", "t"]}
    one.add(EditRun(FIRST, SetFields(values)))
    commit(database, one)
    item = own_objects(one)[FIRST.id]
    item._p_activate()
    stored, _ = item._p_jar.db().storage.load(item._p_oid)
    assert stored == ObjectWriter(item).serialize(item)


def test_runs_of_one_commit_are_blocks(created: Database) -> None:
    session = Session(created)
    trees = session.tables.study(STUDY).trees
    sizes = [block["block"][3] for block in trees["blocks"].values()]
    assert sizes == [run_store.BLOCK, run_store.LEAST + 3]
    assert not trees["runs"]
    session.close()


def test_records_are_read_in_any_order_and_without_missing_ones(created: Database) -> None:
    session = Session(created)
    table = session.tables.study(STUDY)
    ids = [RUNS, 1, run_store.BLOCK + 1, RUNS + 1, run_store.BLOCK, 0, 7]
    found = list(table.records(ids))
    assert [record.id for record in found] == [i for i in ids if 0 < i <= RUNS]
    assert [record.job["x"] for record in found] == [record.id - 1.0 for record in found]
    assert found[1] == table.run(1)
    session.close()


def test_few_runs_are_single_objects() -> None:
    database = empty_database([STUDY])
    session = Session(database)
    for x in range(run_store.LEAST - 1):
        add_run(session, STUDY, {"x": float(x)})
    commit(database, session)
    trees = session.tables.study(STUDY).trees
    assert (len(trees["runs"]), len(trees["blocks"])) == (run_store.LEAST - 1, 0)
    session.close()
    database.close()


def test_runs_with_different_parameters_share_a_block(database: Database) -> None:
    session = Session(database)
    jobs: list[dict[str, Any]] = [
        {"x": float(n)} if n % 2 else {"name": f"n{n}"} for n in range(1000, 1000 + run_store.LEAST)
    ]
    keys = [add_run(session, STUDY, job) for job in jobs]
    commit(database, session)
    assert len(session.tables.study(STUDY).trees["blocks"]) == 2
    assert [session.run(key).job for key in keys] == jobs
    session.close()


def test_new_runs_can_be_edited_and_deleted_before_the_commit(database: Database) -> None:
    session = Session(database)
    keys = [add_run(session, STUDY, {"x": 1000.0 + n}) for n in range(run_store.LEAST)]
    session.add(EditRun(keys[0], SetFields({"y": 1})))
    session.add(DeleteRun(keys[1]))
    commit(database, session)
    assert session.run(keys[0]).fields == {"y": 1}
    with pytest.raises(UnknownRunError):
        session.run(keys[1])
    assert check_study(session.tables.study(STUDY)) == []
    session.close()


def test_values_that_an_older_block_lacks_have_their_defaults(created: Database) -> None:
    session = Session(created)
    records = list(session.tables.study(STUDY).records(range(1, 4)))
    columns = encode_runs(records)
    for name in ("retry_base", "firing", "provenance", "archived", "copied"):
        del columns[name]
    assert list(decode_runs(STUDY, range(1, 4), range(3), columns.get)) == records
    session.close()


# -- concurrent changes ----------------------------------------------------------------------

CHANGES: dict[str, Change] = {
    "edit": EditRun(FIRST, SetFields({"y": 2})),
    "cancel": EditRun(FIRST, Cancel(0.0, "test"), blind=True),
    "delete": DeleteRun(FIRST),
}


@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize("other", CHANGES)
def test_a_change_of_a_run_that_a_commit_relies_on_conflicts(
    database: Database, pair: tuple[Session, Session], other: str, edited: bool
) -> None:
    one, two = pair
    if edited:  # it has an object of its own
        one.add(EditRun(FIRST, SetFields({"y": 0})))
        commit(database, one)
        two.refresh()
    one.rely_on([FIRST])
    one.add(EditRun(RunKey(STUDY, 2), SetFields({"y": 1})))
    two.add(CHANGES[other])
    commit(database, two)
    with pytest.raises(ConflictError):
        commit(database, one)


def test_a_change_of_a_neighbour_does_not_conflict(
    database: Database, pair: tuple[Session, Session]
) -> None:
    one, two = pair
    one.rely_on([FIRST])
    one.add(EditRun(RunKey(STUDY, 2), SetFields({"y": 1})))
    for neighbour in (3, 50):
        two.add(EditRun(RunKey(STUDY, neighbour), SetFields({"y": 2})))
        commit(database, two)
    commit(database, one)
    assert sorted(own_objects(one)) == [1, 2, 3, 50]
    assert check_study(one.tables.study(STUDY)) == []


@pytest.mark.parametrize("change", [CHANGES["edit"], DeleteRun(FIRST)], ids=["edit", "delete"])
def test_the_first_edit_conflicts_with_a_concurrent_one(
    database: Database, pair: tuple[Session, Session], change: Change
) -> None:
    one, two = pair
    one.add(EditRun(FIRST, SetFields({"y": 1})))
    two.add(change)
    commit(database, two)
    with pytest.raises(ConflictError):
        commit(database, one)


def test_edits_without_conflict_both_count(
    database: Database, pair: tuple[Session, Session]
) -> None:
    one, two = pair
    one.add(EditRun(FIRST, SetFields({"y": 1})))
    two.add(EditRun(FIRST, SetFields({"z": 2})))
    commit(database, two)
    commit(database, one)
    assert one.run(FIRST).fields == {"y": 1, "z": 2}


def test_the_version_of_a_run_changes_with_its_commits_only(database: Database) -> None:
    session = Session(database)

    def version() -> bytes | None:
        return session.tables.study(STUDY).version(1)

    versions = [version()]
    for key in (RunKey(STUDY, 2), FIRST, RunKey(STUDY, 3), FIRST):
        session.add(EditRun(key, SetFields({"y": object_count(versions)})))
        commit(database, session)
        versions.append(version())
    assert versions[0] == versions[1]
    assert versions[2] == versions[3]
    assert len({*versions, None}) == 4
    session.close()


def object_count(items: list[Any]) -> int:
    return len(items)


# -- the change feed -------------------------------------------------------------------------


def changed_objects(session: Session) -> dict[bytes, Any]:
    """Return the objects of the last commit of a session, as other processes learn of them."""
    connection = session.tables.study(STUDY).trees._p_jar
    storage = connection._storage
    oids = [number.to_bytes(8, "big") for number in range(len(storage))]
    written = [oid for oid in oids if storage.load(oid)[1] == storage.lastTransaction()]
    return {oid: connection.get(oid) for oid in written}


def test_other_processes_learn_of_created_edited_and_deleted_runs(database: Database) -> None:
    session = Session(database)
    new = [add_run(session, STUDY, {"x": 1000.0 + n}) for n in range(run_store.LEAST)]
    for expected, changes in (
        (set(new), ()),
        ({FIRST}, [EditRun(FIRST, SetFields({"y": 1}))]),
        ({FIRST}, [EditRun(FIRST, SetFields({"y": MISSING}))]),
        ({FIRST, new[5]}, [DeleteRun(FIRST), DeleteRun(new[5])]),
    ):
        for change in changes:
            session.add(change)
        commit(database, session)
        written = changed_objects(session)
        assert any(isinstance(item, PersistentMapping) for item in written.values())
        assert session.classify(written) == (expected, False)
    session.close()


# -- scans -----------------------------------------------------------------------------------


def found(session: Session, text: str) -> list[int]:
    constraint = parse(text, Columns(STUDY, {"x": "float"}, {}))
    return [key.id for key in select_runs(session, STUDY, None, constraint)]


def test_scans_find_runs_in_blocks_and_single_ones(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "BULK", 0)
    session = Session(database)
    single = add_run(session, STUDY, {"x": 1000.0})
    session.add(EditRun(FIRST, SetFields({"y": 1})))
    session.add(DeleteRun(RunKey(STUDY, 3)))
    commit(database, session)
    new = add_run(session, STUDY, {"x": 1001.0})
    assert found(session, "x < 4 or x >= 1000") == [1, 2, 4, single.id, new.id]
    assert found(session, "x = 5 and id < 6") == []
    assert found(session, "x = 5 and id > 5") == [6]
    session.close()


def test_scans_follow_changed_parameters(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "BULK", 0)
    session = Session(database)
    job = {"x": 1000.0}
    session.add(EditRun(FIRST, SetJob(job, RUNS, run_identity(STUDY, "", job, {}, 0), 0.0, "test")))
    commit(database, session)
    assert found(session, "x = 0") == []
    assert found(session, "x = 1000") == [1]
    assert check_study(session.tables.study(STUDY)) == []
    session.close()
