"""Sessions that read the state of the database at an earlier transaction."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from motoko.core.changes import DeleteRun, EditRun
from motoko.core.edits import SetFields
from motoko.core.records import RunKey
from motoko.errors import PastStateError
from motoko.server.safe_file import SafeFileStorage
from motoko.storage.database import Database
from motoko.storage.query import query_database
from motoko.storage.session import Session
from motoko.testing import add_run
from motoko.testing.memory import commit, empty_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.core.records import RunRecord

pytestmark = pytest.mark.unit


@pytest.fixture(params=["memory", "file"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    file = request.param == "file"
    storage = Database(SafeFileStorage(tmp_path / "a.db")) if file else Database.in_memory()
    with contextlib.closing(storage):
        yield empty_database(["s"], storage)


def change(database: Database) -> str:
    """Change, add and delete a run; return the transaction before."""
    with contextlib.closing(Session(database)) as session:
        first, second = (add_run(session, "s", {"x": x}, y=0.0) for x in (1.0, 2.0))
        commit(database, session)
        before = session.snapshot[0]
        session.add(EditRun(first, SetFields({"y": 1.0}), blind=True))
        session.add(DeleteRun(second))
        add_run(session, "s", {"x": 3.0})
        commit(database, session)
    return before


def records(session: Session, keep: bool) -> list[RunRecord]:
    table = session.tables.study("s")
    return list(table.records(table.ids(None), keep=keep))


def fields(session: Session) -> dict[int, object]:
    found = records(session, keep=False)
    assert found == records(session, keep=True)
    return {record.id: record.fields.get("y") for record in found}


def test_a_session_reads_an_earlier_state(database: Database) -> None:
    before = change(database)
    assert query_database(database, fields) == {1: 1.0, 3: None}
    assert query_database(database, fields, at=before) == {1: 0.0, 2: 0.0}
    assert query_database(database, lambda s: s.snapshot[0], at=before) == before
    now = query_database(database, lambda s: s.snapshot[0])
    assert query_database(database, fields, at=now) == {1: 1.0, 3: None}


def test_a_packed_state_is_an_error(database: Database) -> None:
    before = change(database)
    database.pack(keep=-10.0)
    for keep in (False, True):
        with pytest.raises(PastStateError, match=before):
            query_database(database, lambda s, keep=keep: records(s, keep), at=before)  # type: ignore[misc]


@pytest.mark.parametrize("at", ["0" * 15 + "1", "7" + "f" * 15, "f" * 16])
def test_the_state_at_a_foreign_transaction_is_an_error(database: Database, at: str) -> None:
    change(database)
    with pytest.raises(PastStateError, match=at):
        query_database(database, fields, at=at)


def test_an_earlier_state_keeps_its_runs_when_they_change_during_the_session(
    database: Database,
) -> None:
    before = change(database)
    with contextlib.closing(Session(database, at=before)) as session:
        query_database(database, lambda s: _set(database, s))
        assert session.run(RunKey("s", 1)).fields["y"] == 0.0


def _set(database: Database, session: Session) -> None:
    session.add(EditRun(RunKey("s", 1), SetFields({"y": 7.0}), blind=True))
    commit(database, session)
