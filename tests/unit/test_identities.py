"""Identities move from a tree to sorted parts. No run is made twice, and no deleted one returns."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest
from ZODB.POSException import ConflictError

from motoko.core.changes import DeleteRun, EditRun
from motoko.core.edits import SetJob
from motoko.core.parameter_space import run_identity
from motoko.core.records import RunKey
from motoko.storage import sorted_parts
from motoko.storage.commit import collector_paused
from motoko.storage.consistency import check_study
from motoko.storage.identities import Identities
from motoko.storage.session import Session, run_transaction
from motoko.testing import add_run, empty_database
from tests.support.identities import DIGESTS, INDEX, Client, empty_table, open_index, small_parts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.storage.database import Database

pytestmark = pytest.mark.unit

X, Y, Z = DIGESTS[1:4]


@pytest.fixture(autouse=True)
def _parts_are_small() -> Iterator[None]:
    with small_parts():
        yield


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Client, Client]]:
    with open_index(tmp_path / "wf.db") as database:
        clients = Client(database), Client(database)
        yield clients
        for client in clients:
            client.close()


def _unchecked_tree(index: Identities) -> Any:
    return index._table[index.name]


@pytest.mark.parametrize(
    ("mutant", "frozen_first"), [("", True), ("", False), ("unchecked tree", True)]
)
def test_no_run_is_made_twice_while_its_identity_moves(
    pair: tuple[Client, Client], monkeypatch: pytest.MonkeyPatch, mutant: str, frozen_first: bool
) -> None:
    """A client looks for a run, another makes it and moves its identity, the first makes it too."""
    if mutant:
        monkeypatch.setattr(Identities, "_tree", _unchecked_tree)
    slow, quick = pair
    assert slow.index.get(X) is None
    if frozen_first:
        quick.freeze()
    quick.index.add(X, 1)
    quick.commit()
    if not frozen_first:
        quick.freeze()
    quick.finish_steps()
    slow.index.add(X, 2)
    if mutant:
        slow.commit()  # the second run of this identity is made
        return
    with pytest.raises(ConflictError):
        slow.commit()
    assert slow.index.get(X) == 1


def _parts_only(index: Identities, digest: bytes) -> int | None:
    return sorted_parts.get(index._older, digest) or None


@pytest.mark.parametrize("mutant", ["", "sorted parts without the recent tree"])
def test_the_newest_identities_are_found(
    pair: tuple[Client, Client], monkeypatch: pytest.MonkeyPatch, mutant: str
) -> None:
    if mutant:
        monkeypatch.setattr(Identities, "get", _parts_only)
    first, second = pair
    first.index.add(X, 1)
    first.commit()
    second.begin()
    assert second.index.get(X) == (None if mutant else 1)


def _remove_without_tombstone(index: Identities, digest: bytes) -> None:
    index._tree().pop(digest, None)


@pytest.mark.parametrize("mutant", ["", "no tombstone"])
def test_a_deleted_identity_does_not_return(
    pair: tuple[Client, Client], monkeypatch: pytest.MonkeyPatch, mutant: str
) -> None:
    """Its tombstone is in the tree, in a part, and merged with newer parts before the older one."""
    if mutant:
        monkeypatch.setattr(Identities, "remove", _remove_without_tombstone)
    client, other = pair
    for digest in DIGESTS:
        client.index.add(digest, 1)
    client.freeze()
    client.finish_steps()
    client.index.remove(X)
    client.commit()
    seen = []
    for number in range(2, 20):
        other.begin()
        seen.append(other.index.get(X))
        client.index.add(Y if number % 2 else Z, number)
        client.freeze()
        client.finish_steps()
    assert set(seen) == ({1} if mutant else {None})


def test_an_identity_is_used_again_after_its_deletion(pair: tuple[Client, Client]) -> None:
    client, other = pair
    for number in range(1, 6):
        client.index.add(X, number)
        client.freeze()
        client.finish_steps()
        other.begin()
        assert other.index.get(X) == number
        client.index.remove(X)
        client.commit()
        assert client.index.items() == {}


def test_two_clients_that_make_the_same_step_do_it_once(pair: tuple[Client, Client]) -> None:
    first, second = pair
    for number, digest in enumerate(DIGESTS, 1):
        first.index.add(digest, number)
    first.freeze()
    second.begin()
    assert first.index.step(0)
    assert second.index.step(0)
    first.commit()
    with pytest.raises(ConflictError):
        second.commit()
    second.finish_steps()
    assert second.index.items() == {digest: n for n, digest in enumerate(DIGESTS, 1)}
    assert list(second.index.problems()) == []


def test_a_step_is_bounded() -> None:
    """However large the tree of an older database is, a step moves few entries."""
    index = Identities(empty_table(), INDEX)
    for number, digest in enumerate(DIGESTS, 1):
        index.add(digest, number)
    moved = []
    while index.step(len(DIGESTS)):
        building = index._parts["building"]
        moved.append(building["part"]["size"] if building else 0)
    assert moved == [0, 3, 6, 9, 12, 15, 0]


def test_a_number_that_is_not_reserved_moves_nothing() -> None:
    index = Identities(empty_table(), INDEX)
    index.add(X, 4)
    assert not index.step(4)
    assert index.step(5)


# -- in the table of a study ------------------------------------------------------------------


@pytest.fixture
def database() -> Iterator[Database]:
    database = empty_database(["s"])
    yield database
    database.close()


def _parts(session: Session, index: str) -> Any:
    return session.tables.study("s").trees.get(f"{index}_parts")


def test_commits_that_create_runs_move_identities(database: Database) -> None:
    session = Session(database)
    keys = []
    for number in range(40):
        keys.append(add_run(session, "s", {"x": number}))
        database.submit(session.commit).result()
    table = session.tables.study("s")
    assert len(table.trees["by_identity"]) <= 5
    assert len(table.trees["by_job"]) <= 5
    assert check_study(table) == []
    assert [add_run(session, "s", {"x": number}) for number in range(40)] == keys
    session.close()


def test_runs_with_moved_identities_are_edited_and_deleted(database: Database) -> None:
    session = Session(database)
    keys = [add_run(session, "s", {"x": number}) for number in range(20)]
    database.submit(session.commit).result()
    while run_transaction(database, lambda tables: tables.study("s").tidy_identities()):
        pass
    session.refresh()
    assert not session.tables.study("s").trees["by_identity"]
    for key in keys[:5]:
        session.add(DeleteRun(key))
    for key in keys[5:10]:
        job = {"x": key.id + 100}
        identity = run_identity("s", "test", job, {}, 0)
        session.add(EditRun(key, SetJob(job, key.id + 100, identity, 0.0, "user")))
    database.submit(session.commit).result()
    assert check_study(session.tables.study("s")) == []
    again = [add_run(session, "s", {"x": number}) for number in range(10)]
    assert [key.id for key in again] == list(range(21, 31))
    assert add_run(session, "s", {"x": 106}) == RunKey("s", 6)
    database.submit(session.commit).result()
    assert check_study(session.tables.study("s")) == []
    session.close()


@pytest.mark.parametrize("damage", ["heads", "digests", "numbers", "firsts", "size"])
def test_a_recount_reports_damaged_parts(database: Database, damage: str) -> None:
    session = Session(database)
    for number in range(12):
        add_run(session, "s", {"x": number})
    database.submit(session.commit).result()
    while run_transaction(database, lambda tables: tables.study("s").tidy_identities()):
        pass
    session.refresh()
    assert check_study(session.tables.study("s")) == []
    part = _parts(session, "by_identity")["sources"][0]
    if damage == "heads":
        part["heads"][1]["heads"] = bytes(len(part["heads"][1]["heads"]))
    elif damage == "digests":
        part["leaves"][1]["digests"] = bytes(len(part["leaves"][1]["digests"]))
    elif damage == "numbers":
        part["leaves"][1]["numbers"] = part["leaves"][0]["numbers"]
    elif damage == "firsts":
        part["firsts"] = (*part["firsts"][:-1], b"\xff" * 16)
    else:
        part["size"] += 1
    assert any("by_identity" in line for line in check_study(session.tables.study("s")))
    session.close()


# -- Python's collector ------------------------------------------------------------------------


@pytest.mark.parametrize(("runs", "enabled"), [(1, True), (100_000, False)])
def test_the_collector_pauses_for_many_runs_only(runs: int, enabled: bool) -> None:
    with collector_paused(runs):
        assert gc.isenabled() is enabled
        with collector_paused(runs):
            pass
        assert gc.isenabled() is enabled
    with pytest.raises(ZeroDivisionError), collector_paused(runs):
        raise ZeroDivisionError
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off() -> None:
    gc.disable()
    try:
        with collector_paused(100_000):
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
