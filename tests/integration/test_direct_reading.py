"""Read the database file directly, beside a server that writes to it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from ZODB.utils import p64, u64

from motoko.core.changes import EditRun
from motoko.core.edits import Cancel, SetFields
from motoko.core.records import RunKey
from motoko.runtime.files import private_directory
from motoko.server import file_storage
from motoko.server.client import InspectionStorage
from motoko.server.file_storage import AtomicFileStorage
from motoko.server.lifecycle import stop_server
from motoko.server.safe_file import saved_position, unindexed_bytes
from motoko.server.state_dir import StateDir
from motoko.storage.database import Database, _DatabaseFile
from motoko.storage.schema import create_database, write_database
from motoko.storage.session import Session
from motoko.storage.store import WorkflowStore
from motoko.testing import add_run
from motoko.testing.memory import commit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    found = StateDir.of(tmp_path)
    private_directory(found.path)
    return found


@pytest.fixture
def served(state: StateDir) -> Iterator[StateDir]:
    create_database(state, ["s"])
    yield state
    stop_server(state)


def fill(database: Database, runs: int = 50) -> None:
    with closing(Session(database)) as session:
        for number in range(runs):
            add_run(session, "s", {"x": number}, text="y" * 40 * number)
        commit(database, session)
        for number in range(1, runs, 3):
            session.add(EditRun(RunKey("s", number), SetFields({"z": number})))
        commit(database, session)


def opened(path: Path) -> Database:
    """Open a file for writing in this process, without a server."""
    return Database(AtomicFileStorage(path))


def test_every_object_is_the_same_as_through_filestorage(state: StateDir) -> None:
    """Small and large ones, also as of earlier transactions."""
    write_database(state.database, ["s"])
    with closing(opened(state.database)) as database:
        fill(database)
    storage = _DatabaseFile(state.database, state.database.stat().st_size)
    plain = super(_DatabaseFile, storage).loadBefore
    last = storage.lastTransaction()
    oids = list(storage._index)
    assert len(oids) > 50
    for oid in oids:
        for tid in (p64(u64(last) + 1), last, p64(u64(last) - 1), b"\0" * 8):
            assert storage.loadBefore(oid, tid) == plain(oid, tid)
    storage.close()


def test_a_direct_reader_sees_the_last_commit_of_a_running_server(served: StateDir) -> None:
    writer = WorkflowStore(served, {})
    reader = WorkflowStore(served, {}, read_only=True)
    reader.direct = True
    try:
        fill(writer.database)
        with reader.autocommit_scope.read() as session:
            assert session.tables.study("s").counts() == {"CREATED": 50}
            assert session.run(RunKey("s", 4)).fields["z"] == 4
        assert isinstance(reader.database._storage, _DatabaseFile)
        reader.close()
        writer.autocommit_scope.write(EditRun(RunKey("s", 1), Cancel(1.0, "test")))
        with reader.autocommit_scope.read() as session:
            assert session.tables.study("s").counts() == {"CREATED": 49, "CANCELLED": 1}
    finally:
        reader.close()
        writer.close()


def test_a_file_far_behind_its_index_is_read_through_the_server(
    served: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("motoko.storage.store.DIRECT_BYTES", -1)
    reader = WorkflowStore(served, {}, read_only=True)
    reader.direct = True
    with reader.autocommit_scope.read() as session:
        assert session.tables.study_names() == ["s"]
    assert isinstance(reader.database._storage, InspectionStorage)
    reader.close()


def test_a_server_saves_its_index_as_the_file_grows(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_storage, "INDEX_BYTES", 20_000)
    write_database(state.database, ["s"])
    with closing(opened(state.database)) as database:
        for number in range(1, 9):
            fill(database, 10 * number)
            largest = max(20_000, state.database.stat().st_size // file_storage.INDEX_SHARE)
            assert unindexed_bytes(state.database) <= largest + 70_000  # of one commit
        assert saved_position(state.database) > 50_000


def test_a_commit_succeeds_if_the_index_cannot_be_saved(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_storage, "INDEX_BYTES", 0)
    write_database(state.database, ["s"])
    with closing(opened(state.database)) as database:

        def full(_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as broken:
            broken.setattr(AtomicFileStorage, "_save_index", full)
            fill(database, 3)
        with closing(Session(database)) as session:
            assert len(session.tables.study("s")) == 3
