"""What the server remembers of recent commits is bounded by objects and by bytes of the file."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
import transaction
from persistent.mapping import PersistentMapping
from ZODB.DB import DB

from motoko.server import recent_commits
from motoko.server.file_storage import AtomicFileStorage
from motoko.server.recent_commits import RecentCommits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.unit

COMMITS = 8
WRITTEN = 3  # objects by each commit


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[AtomicFileStorage]:
    """A storage with COMMITS commits, each of WRITTEN new objects and the root."""
    storage = AtomicFileStorage(tmp_path / "file.db")
    with contextlib.closing(storage):
        database = DB(storage)
        connection = database.open(transaction.TransactionManager())
        for number in range(COMMITS):
            for at in range(WRITTEN):
                connection.root()[f"{number}.{at}"] = PersistentMapping(text="x" * 100)
            connection.transaction_manager.commit()
        connection.close()
        yield storage


def commits_of(storage: AtomicFileStorage) -> list[tuple[bytes, list[bytes]]]:
    return [(one.tid, [record.oid for record in one]) for one in storage.iterator()]


def test_the_last_commits_are_those_of_the_last_bytes(
    storage: AtomicFileStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = commits_of(storage)
    assert storage.lastInvalidations(100) == commits
    assert storage.lastInvalidations(2) == commits[-2:]
    size = (storage.getSize() - 4) // len(commits)
    monkeypatch.setattr(recent_commits, "BYTES", 2 * size)
    found = storage.lastInvalidations(100)
    assert 1 < len(found) < COMMITS
    assert found == commits[-len(found) :]
    monkeypatch.setattr(recent_commits, "BYTES", 1)
    assert storage.lastInvalidations(100) == commits[-1:]


def test_a_new_file_has_no_commits(tmp_path: Path) -> None:
    with contextlib.closing(AtomicFileStorage(tmp_path / "new.db")) as storage:
        assert storage.lastInvalidations(100) == []


def test_commits_are_forgotten_beyond_a_number_of_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_commits, "OBJECTS", 10)
    kept = RecentCommits([(b"4", [b"a"] * 4), (b"3", [b"b"] * 4), (b"2", [b"c"] * 4)])
    assert [commit_id for commit_id, _ in kept] == [b"4", b"3"]
    kept.insert(0, (b"5", [b"d"] * 2))
    assert [commit_id for commit_id, _ in kept] == [b"5", b"4", b"3"]
    kept.insert(0, (b"6", [b"e"]))
    assert [commit_id for commit_id, _ in kept] == [b"6", b"5", b"4"]
    kept.pop()  # as ZEO drops the oldest beyond a number of commits
    kept.insert(0, (b"7", [b"f"] * 7))
    assert [commit_id for commit_id, _ in kept] == [b"7", b"6", b"5"]
    kept.insert(0, (b"8", [b"g"] * 50))
    assert kept == [(b"8", [b"g"] * 50)]
