"""Records stay in memory only if requested."""

from __future__ import annotations

from contextlib import closing

import pytest

from motoko.cli.tables import names_text
from motoko.core.changes import EditRun
from motoko.core.edits import Claim, EndAttempt
from motoko.core.states import Lifecycle
from motoko.storage.database import Database
from motoko.storage.schema import create_tables
from motoko.storage.session import Session, run_transaction
from motoko.testing import add_run, empty_database
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


@pytest.mark.parametrize(("most", "first"), [(2, [1, 2]), (None, [1, 2, 3]), (0, [])])
def test_ids_under_a_reason_are_the_first_ones_with_the_number_of_all(
    most: int | None, first: list[int]
) -> None:
    with closing(empty_database(["s"])) as database, closing(Session(database)) as session:
        for n in range(4):
            key = add_run(session, "s", {"x": n})
            reason = "odd" if n < 3 else None
            for edit in (
                Claim("launcher", "t", 0.0),
                EndAttempt("t", Lifecycle.FINISHED, 0.0, "launcher", 0, reason),
            ):
                session.add(EditRun(key, edit))
        commit(database, session)
        table = session.tables.study("s")
        assert table.finished_by_reason("test", most) == {"odd": (first, 3)}
        assert table.finished_by_reason("other", most) == {}
        assert len(table.jobs) == 4


@pytest.mark.parametrize(
    ("number", "text"), [(2, "s.1, s.2"), (7, "s.1, s.2, ... (7 runs)"), (None, "s.1, s.2")]
)
def test_names_that_are_left_out_are_counted(number: int | None, text: str) -> None:
    assert names_text(["s.1", "s.2"], number) == text
