"""Compare the run table with its model, with two clients of a real server."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings

from motoko.server.lifecycle import stop_server
from motoko.server.state_dir import StateDir
from motoko.storage.database import Database
from motoko.storage.schema import create_database, create_tables
from motoko.storage.session import run_transaction
from motoko.testing.memory import eventually
from tests.support.run_table import STUDY, RunTableMachine, compare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motoko.storage.session import Session

pytestmark = pytest.mark.integration


def _anew(root: Any) -> None:
    del root["motoko"]
    create_tables(root, [STUDY])


class OnAServer(RunTableMachine):
    state: ClassVar[StateDir]

    def __init__(self) -> None:
        database = Database.connect(str(self.state.socket()))
        database.submit(lambda: run_transaction(database, _anew, initialising=True)).result()
        database.close()
        super().__init__()

    def open_databases(self) -> tuple[Database, Database]:
        address = str(self.state.socket())
        return Database.connect(address), Database.connect(address)

    def refresh(self, session: Session) -> None:
        """Wait until commits of the other client have arrived."""

        def arrived() -> bool:
            session.refresh()
            try:
                compare(session, self.committed)
            except (AssertionError, LookupError):
                return False
            return True

        eventually(arrived)


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    directory = Path(tempfile.mkdtemp())
    OnAServer.state = StateDir.of(directory)
    create_database(OnAServer.state, [STUDY])
    yield
    stop_server(OnAServer.state)
    shutil.rmtree(directory)


TestOnAServer = OnAServer.TestCase
TestOnAServer.settings = settings(
    max_examples=12,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
