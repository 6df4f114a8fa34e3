"""The storage contract in memory, on a file and through a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ZODB.FileStorage import FileStorage

from motoko.server.lifecycle import stop_server
from motoko.server.state_dir import StateDir
from motoko.storage.database import Database
from motoko.storage.schema import create_database, create_tables
from motoko.storage.session import run_transaction
from motoko.testing import empty_database
from motoko.testing.storage_contract import StorageContract

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Connect = Callable[[], Database]

pytestmark = pytest.mark.contract

STUDIES = ("mult", "add")


class TestInMemory(StorageContract):
    @pytest.fixture
    def connect(self) -> Iterator[Connect]:
        database = empty_database(STUDIES)
        yield lambda: database
        database.close()


class TestOnFile(StorageContract):
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


class TestThroughAServer(StorageContract):
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
