"""Many runs are read together, with the same result as one by one."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.changes import CreateRun, DeleteRun, EditRun
from motoko.core.edits import SetFields
from motoko.core.parameter_space import job_identity, run_identity
from motoko.core.records import RunRecord
from motoko.errors import DatabaseDamagedError, ForbiddenClassError
from motoko.server.lifecycle import stop_server
from motoko.storage.session import Session
from motoko.storage.store import WorkflowStore
from motoko.testing import add_run, empty_database
from motoko.testing.memory import commit
from tests.support.serving import kill_server, make

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.server.state_dir import StateDir
    from motoko.storage.database import Database

pytestmark = pytest.mark.integration

RUNS = 1100  # in three batches


def fill(session: Session, database: Database, number: int) -> None:
    first, _ = session.reserve("mult", number, number)
    for run_id in range(first, first + number):
        job = {"x": run_id}
        record = RunRecord(
            study="mult", id=run_id, job_id=run_id, run_name="a", job=job,
            identity=run_identity("mult", "a", job, {}, 0), fields={"y": "t" * (run_id % 7)},
        )  # fmt: skip
        session.add(CreateRun(record, job_identity(job)))
    commit(database, session)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateDir]:
    state = make(tmp_path_factory.mktemp("bulk"))
    store = WorkflowStore(state, {})
    with contextlib.closing(store), contextlib.closing(Session(store.database)) as session:
        fill(session, store.database, RUNS)
        for run_id in (2, 700):
            session.add(DeleteRun(session.tables.study("mult").run(run_id).key))
        commit(store.database, session)
    yield state
    stop_server(state)


def read(session: Session, **options: Any) -> list[RunRecord]:
    table = session.tables.study("mult")
    return list(table.records(table.ids(None), **options))


@pytest.mark.parametrize("read_only", [False, True])
def test_records_read_together_equal_those_read_one_by_one(
    state: StateDir, read_only: bool
) -> None:
    with contextlib.closing(WorkflowStore(state, {}, read_only=read_only)) as store:
        together = Session(store.database)
        one_by_one = Session(store.database)
        found = read(together, keep=False)
        ids = together.tables.study("mult").ids(None, id_min=500, id_max=900)
        assert found == [one_by_one.run(record.key) for record in found]
        assert len(found) == RUNS - 2
        assert ids == [run_id for run_id in range(500, 901) if run_id != 700]
        assert found == read(together, keep=False) == read(together) == read(together, keep=False)
        together.close()
        one_by_one.close()


def test_changes_of_the_session_are_read_too(state: StateDir) -> None:
    with contextlib.closing(WorkflowStore(state, {})) as store:
        session = Session(store.database)
        key = session.tables.study("mult").run(900).key
        session.add(EditRun(key, SetFields({"y": "changed"})))
        new = add_run(session, "mult", {"x": -1})
        found = {record.key: record for record in read(session, keep=False)}
        assert found[key].fields["y"] == "changed"
        assert found[new].job == {"x": -1}
        session.close()


def test_a_command_reads_on_from_the_file_if_the_server_dies(tmp_path: Path) -> None:
    state = make(tmp_path / "w")
    store = WorkflowStore(state, {})
    with contextlib.closing(store), contextlib.closing(Session(store.database)) as session:
        fill(session, store.database, RUNS)
    with contextlib.closing(WorkflowStore(state, {}, read_only=True)) as store:
        session = Session(store.database)
        table = session.tables.study("mult")
        records = table.records(table.ids(None), keep=False)
        first = next(records)
        kill_server(state)
        assert [record.id for record in (first, *records)] == list(range(1, RUNS + 1))
        session.close()


def damaged(data: bytes) -> bytes:
    return data[:-20]


def foreign(_: bytes) -> bytes:
    return b"cposix\ngetcwd\n." + b"cposix\ngetcwd\n)R."


@pytest.mark.parametrize(
    ("change", "error"),
    [(damaged, DatabaseDamagedError), (foreign, ForbiddenClassError)],
)
@pytest.mark.parametrize("position", [0, 1])
def test_a_damaged_record_among_others_is_an_error(
    monkeypatch: pytest.MonkeyPatch, change: Any, error: type[Exception], position: int
) -> None:
    with contextlib.closing(empty_database(["mult"])) as database:
        with contextlib.closing(Session(database)) as session:
            fill(session, database, 3)

        def load_many(oids: list[bytes], tid: bytes) -> Iterator[Any]:
            for number, oid in enumerate(oids):
                data, *rest = database._storage.loadBefore(oid, tid)
                yield (change(data) if number == position else data, *rest)

        monkeypatch.setattr(database._storage, "load_many", load_many, raising=False)
        database._db.cacheMinimize()
        with contextlib.closing(Session(database)) as session, pytest.raises(error):
            read(session, keep=False)
