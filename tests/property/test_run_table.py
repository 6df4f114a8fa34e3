"""The run table against a model of plain dictionaries, with two concurrent clients."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from ZODB.FileStorage import FileStorage

from motoko.storage.database import Database
from motoko.testing import empty_database
from tests.support.run_table import STUDY, RunTableMachine

pytestmark = pytest.mark.property

SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


class InMemory(RunTableMachine):
    def open_databases(self) -> tuple[Database, Database]:
        database = empty_database([STUDY])
        return database, database


class OnFile(RunTableMachine):
    can_reopen: ClassVar[bool] = True

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        super().__init__()

    def open_databases(self) -> tuple[Database, Database]:
        database = Database(FileStorage(str(self.directory / "wf.db")))
        empty_database([STUDY], database)
        return database, database

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.directory)


TestInMemory = InMemory.TestCase
TestInMemory.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=SLOW
)
TestOnFile = OnFile.TestCase
TestOnFile.settings = settings(
    max_examples=50, stateful_step_count=40, deadline=None, suppress_health_check=SLOW
)


def test_a_run_is_deleted_and_recreated_in_one_transaction() -> None:
    machine = InMemory()
    try:
        run = machine.create(who=0, x=0, name="a", replicate=0)
        machine.commit(who=0)
        machine.delete(who=0, run=run)
        assert machine.create(who=0, x=0, name="a", replicate=0) != run
        machine.commit(who=0)
        machine.views_are_as_modelled()
        machine.what_is_committed_is_as_modelled()
        assert len(machine.committed) == 1
    finally:
        machine.teardown()
