"""Long histories: the record keeps the end, chunks beside it the rest; readers get all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from motoko.core import archived_history
from motoko.core.changes import DeleteRun, EditRun
from motoko.core.edits import (
    ApplyOutbox,
    Claim,
    EndAttempt,
    MarkStarted,
    Retry,
    SetFields,
    SetLabel,
    SetReason,
)
from motoko.core.provenance import attempt_times
from motoko.core.reasons import RunFacts, state_reasons
from motoko.core.records import RunKey, RunRecord, Transition, decode_record, encode_record
from motoko.core.states import Lifecycle
from motoko.storage.consistency import check_study
from motoko.storage.history_archive import CHUNK
from motoko.storage.session import Session
from motoko.testing import add_run, empty_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motoko.core.edits import RunEdit

pytestmark = pytest.mark.unit


@pytest.fixture
def session() -> Iterator[Session]:
    database = empty_database(["s"])
    session = Session(database)
    yield session
    session.close()
    database.close()


def _commit(session: Session) -> None:
    session._database.submit(session.commit).result()


def _whole(records: list[RunRecord]) -> list[Transition]:
    """Return the history that edits without an archive give."""
    return [entry for record in records for entry in record.history]


def _attempt(number: int, labels: int, at: float) -> list[RunEdit]:
    token = f"t{number}"
    reasons = [SetReason(token, at + 0.1, f"reason {n}", "launcher") for n in range(labels)]
    by_script = [ApplyOutbox(token, n + 1, at + 2, {}, f"S{n}") for n in range(labels)]
    return [
        *([Retry(at, "user")] if number > 1 else []),
        Claim("launcher", token, at),
        *reasons,
        MarkStarted(token, at + 1, "launcher"),
        *by_script,
        EndAttempt(token, Lifecycle.FAILED, at + 3, "launcher", 1),
        *[SetLabel(f"L{n}", at + 4, "user") for n in range(labels)],
    ]


@pytest.mark.parametrize("labels", [0, 1, 20, 60, 130])
def test_records_and_readers_agree_with_an_unlimited_history(
    session: Session, monkeypatch: pytest.MonkeyPatch, labels: int
) -> None:
    """After every edit: what readers of the record compute, and the whole history."""
    key = add_run(session, "s", {"x": 1.0})
    table = session.tables.study("s")
    expected = session.run(key)
    for edit in (e for number in (1, 2) for e in _attempt(number, labels, 10.0 * number)):
        expected = edit.apply(expected)
        session.add(EditRun(key, edit))
        record = session.run(key)
        assert len(record.history) - record.copied <= archived_history.TAIL
        assert record.copied <= 2 * len(Lifecycle)
        assert table.complete(record) == expected
        assert record.history[0] == expected.history[0]
        assert record.history[-1] == expected.history[-1]
        assert attempt_times(record, record.attempt) == attempt_times(expected, expected.attempt)
        facts: Any = RunFacts
        if record.lifecycle.is_terminal:
            assert state_reasons(record, facts) == state_reasons(expected, facts)
    _commit(session)
    assert session.complete_record(key) == expected
    assert check_study(session.tables.study("s")) == []


def test_chunks_are_bounded_and_go_with_the_run(session: Session) -> None:
    keys = [add_run(session, "s", {"x": float(x)}) for x in range(2)]
    for key in keys:
        for edit in _attempt(1, 0, 1.0):
            session.add(EditRun(key, edit))
        for n in range(2 * CHUNK):
            session.add(EditRun(key, SetLabel(f"L{n}", 5.0, "user")))
    _commit(session)
    table = session.tables.study("s")
    chunks = dict(table.trees["histories"].items())
    assert {run_id for run_id, _ in chunks} == {1, 2}
    assert max(len(chunk["moves"]) for chunk in chunks.values()) == CHUNK
    assert len(table.complete(table.run(1)).history) == 4 + 2 * CHUNK
    session.add(DeleteRun(keys[0]))
    _commit(session)
    table = session.tables.study("s")
    assert {run_id for run_id, _ in table.trees["histories"]} == {2}
    assert check_study(table) == []


def test_only_the_whole_history_loads_chunks(session: Session) -> None:
    key = add_run(session, "s", {"x": 1.0})
    for edit in _attempt(1, 100, 1.0):
        session.add(EditRun(key, edit))
    _commit(session)
    table = session.tables.study("s")
    chunk = next(iter(table.trees["histories"].values()))
    chunk._p_deactivate()
    session.add(EditRun(key, SetFields({"y": 1})))
    session.add(EditRun(key, SetLabel("NEW", 9.0, "user")))
    _commit(session)
    assert session.run(key).label == "NEW"
    assert chunk._p_changed is None  # not loaded
    assert session.complete_record(key).history[-1].state == "NEW"
    assert chunk._p_changed is False


def test_a_record_from_an_older_snapshot_is_completed_without_later_entries(
    session: Session,
) -> None:
    key = add_run(session, "s", {"x": 1.0})
    for edit in _attempt(1, 60, 1.0):
        session.add(EditRun(key, edit))
    _commit(session)
    record, whole = session.run(key), session.complete_record(key)
    for n in range(100):
        session.add(EditRun(key, SetLabel(f"M{n}", 9.0, "user")))
    _commit(session)
    assert session.tables.complete_record(record) == whole


def test_a_long_history_of_an_older_format_is_read_and_archived(session: Session) -> None:
    key = add_run(session, "s", {"x": 1.0})
    for edit in _attempt(1, 0, 1.0):
        session.add(EditRun(key, edit))
    _commit(session)
    stored = session.tables.study("s").trees["runs"][key.id]
    version, *values = encode_record(session.run(key))["record"]
    entries = [(5.0, f"L{n}", "user", 1) for n in range(700)]
    values[7] = (*values[7], *entries)
    stored.data = {"record": (3, *values)}
    stored._v_record = None
    record = decode_record(stored.data)
    assert version == 4
    assert len(record.history) == 704
    session.add(EditRun(key, SetLabel("NEW", 9.0, "user")))
    _commit(session)
    assert len(session.run(key).history) < 10
    assert session.complete_record(key).history[:-1] == record.history
    assert check_study(session.tables.study("s")) == []


@pytest.mark.parametrize("damage", ["a chunk", "an entry", "an orphan"])
def test_a_recount_reports_lost_history(session: Session, damage: str) -> None:
    key = add_run(session, "s", {"x": 1.0})
    for edit in _attempt(1, 60, 1.0):
        session.add(EditRun(key, edit))
    _commit(session)
    table = session.tables.study("s")
    tree = table.trees["histories"]
    if damage == "a chunk":
        del tree[tree.minKey()]
    elif damage == "an entry":
        tree[tree.minKey()]["moves"] = tree[tree.minKey()]["moves"][1:]
    else:
        tree[7, 0] = tree[tree.minKey()]
    assert any("history" in line for line in check_study(table))
    assert RunKey("s", 1) == key
