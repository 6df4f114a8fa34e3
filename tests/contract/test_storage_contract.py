"""The storage contract in memory, on a file and through a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ZODB.FileStorage import FileStorage

from motoko.core.changes import EditRun
from motoko.core.edits import Cancel
from motoko.server.lifecycle import stop_server
from motoko.server.state_dir import StateDir
from motoko.storage.consistency import check_study
from motoko.storage.database import Database
from motoko.storage.schema import create_database, create_tables
from motoko.storage.session import Session, run_transaction
from motoko.testing import add_run, empty_database
from motoko.testing.storage_contract import StorageContract

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from motoko.testing.memory import Clients

    Connect = Callable[[], Database]

pytestmark = pytest.mark.contract

STUDIES = ("mult", "add")


class MergingContract(StorageContract):
    """Databases that merge concurrent changes of one number."""

    def test_counting_causes_no_conflicts(
        self, clients: Clients, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keys = [add_run(clients.first, "mult", {"x": float(n)}) for n in range(200)]
        clients.first.add(EditRun(keys[100], Cancel(1.0, "test")))
        clients.commit_first()
        clients.synchronize()
        repeated: list[object] = []
        monkeypatch.setattr(Session, "_reapply", lambda *call: repeated.append(call))
        for session, ids in ((clients.first, keys[:30]), (clients.second, keys[-40:])):
            for key in ids:
                session.add(EditRun(key, Cancel(1.0, "test")))
        clients.commit_first()
        clients.commit_second()
        clients.synchronize()
        assert repeated == []
        table = clients.first.tables.study("mult")
        assert table.counts() == {"CREATED": 129, "CANCELLED": 71}
        assert check_study(table) == []


class TestInMemory(StorageContract):
    @pytest.fixture
    def connect(self) -> Iterator[Connect]:
        database = empty_database(STUDIES)
        yield lambda: database
        database.close()


class TestOnFile(MergingContract):
    @pytest.fixture
    def connect(self, tmp_path: Path) -> Iterator[Connect]:
        database = empty_database(STUDIES, Database(FileStorage(str(tmp_path / "wf.db"))))
        yield lambda: database
        database.close()


def _reset(root: Any) -> None:
    del root["motoko"]
    create_tables(root, STUDIES)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateDir]:
    state = StateDir.of(tmp_path_factory.mktemp("workflow"))
    create_database(state, STUDIES)
    yield state
    stop_server(state)


class TestThroughAServer(MergingContract):
    @pytest.fixture
    def connect(self, server: StateDir) -> Iterator[Connect]:
        opened: list[Database] = []

        def connect() -> Database:
            opened.append(Database.connect(str(server.socket())))
            return opened[-1]

        database = connect()
        database.submit(lambda: run_transaction(database, _reset, initialising=True)).result()
        yield connect
        for database in opened:
            database.close()
