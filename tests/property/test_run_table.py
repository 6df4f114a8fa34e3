"""The run table against a model of plain dictionaries, with two concurrent clients."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test
from ZODB.FileStorage import FileStorage

from motoko.storage import run_store, sorted_parts
from motoko.storage.commit import run_transaction
from motoko.storage.compaction import Step, compact_step
from motoko.storage.database import Database
from motoko.storage.identities import Identities
from motoko.storage.run_counts import RunCounts
from motoko.testing import empty_database
from tests.support.run_table import STUDY, RunTableMachine

if TYPE_CHECKING:
    from motoko.storage.tables import Tables

pytestmark = pytest.mark.property

SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


class InMemory(RunTableMachine):
    def open_databases(self) -> tuple[Database, Database]:
        database = empty_database([STUDY])
        return database, database


class InBlocks(InMemory):
    """Every new run is stored in a block, and blocks are compacted at any time."""

    def __init__(self) -> None:
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr("motoko.storage.run_store.LEAST", 1)
        self._patch.setattr("motoko.storage.run_store.BLOCK", 2)
        self._patch.setattr("motoko.storage.query.BULK", 0)
        super().__init__()

    @rule(low=st.integers(0, 3))
    def compact(self, low: int) -> None:
        following: int | None = low
        while following is not None:
            following = self._compact_from(following)

    @rule(who=InMemory.clients)
    def compact_beside_edits(self, who: int) -> None:
        """End all runs, and compact them while edits of them are not yet committed."""
        self.run_all_to_end(who)
        for run in tuple(self.pair[who].view):
            self.set_field(who, run, name="y", blind=False)
        self.compact(low=0)
        self.commit(who)

    def _compact_from(self, low: int) -> int | None:
        def compact(tables: Tables) -> Step:
            return compact_step(tables.study(STUDY), low)

        database = self.databases[0]
        return database.submit(lambda: run_transaction(database, compact)).result().following

    def teardown(self) -> None:
        super().teardown()
        self._patch.undo()


class Single(InBlocks):
    """Every new run is stored alone, and blocks are made of them at any time."""

    def __init__(self) -> None:
        super().__init__()
        self._patch.setattr("motoko.storage.run_store.LEAST", 10)

    @rule(low=st.integers(0, 3))
    def compact(self, low: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("motoko.storage.run_store.LEAST", 1)
            super().compact(low)


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
TestInBlocks = InBlocks.TestCase
TestInBlocks.settings = TestInMemory.settings
TestSingle = Single.TestCase
TestSingle.settings = TestInMemory.settings
TestOnFile = OnFile.TestCase
TestOnFile.settings = settings(
    max_examples=50, stateful_step_count=40, deadline=None, suppress_health_check=SLOW
)


def no_numbers(numbers: RunCounts, keys: object) -> list[Any]:
    return []


def check_nothing(*_: object) -> None:
    pass


def find_in_parts(index: Identities, digest: bytes) -> int | None:
    return sorted_parts.get(index._older, digest) or None


MUTANTS: dict[str, tuple[type[InMemory], object, str, Any]] = {
    "a stored count is not updated": (InMemory, RunCounts, "lengths", no_numbers),
    "sorted parts without the recent tree": (InMemory, Identities, "get", find_in_parts),
    "an edit does not check its block": (InBlocks, run_store, "check_current", check_nothing),
    "an edit does not check its table": (Single, run_store, "check_current", check_nothing),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_caught(monkeypatch: pytest.MonkeyPatch, mutant: str) -> None:
    machine, *place = MUTANTS[mutant]
    monkeypatch.setattr(*place)
    once = settings(TestInMemory.settings, derandomize=True, database=None, phases=[Phase.generate])
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run_state_machine_as_test(machine, settings=once)


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
