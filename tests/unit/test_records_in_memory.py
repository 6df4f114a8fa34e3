"""Records stay in memory only if requested."""

from __future__ import annotations

import pytest

from motoko.storage.database import Database
from motoko.storage.schema import create_tables
from motoko.storage.session import Session, run_transaction
from motoko.testing import add_run
from motoko.testing.memory import commit

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("keep", [True, False])
def test_unkept_records_are_released_unless_in_use(keep: bool) -> None:
    database = Database.in_memory()
    run_transaction(database, lambda root: create_tables(root, ["mult"]), initialising=True)
    session = Session(database)
    keys = [add_run(session, "mult", {"x": float(n)}) for n in range(5)]
    commit(database, session)

    reader = Session(database)  # has its own cache, because the other one is open
    table = reader.tables.study("mult")
    before = reader.run(keys[0])  # already in use
    found = list(table.records([key.id for key in keys], keep=keep))
    assert [record.key for record in found] == keys
    assert found[0] == before
    ghosts = [table.trees["runs"][key.id]._p_changed is None for key in keys]
    assert ghosts == [False] + [not keep] * 4
    assert [record.job for record in table.records([key.id for key in keys])] == [
        {"x": float(n)} for n in range(5)
    ]
    reader.close()
    session.close()
    database.close()
