"""The runs that ended since the last look are found from commits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from motoko.core.changes import EditRun
from motoko.core.edits import Cancel, Claim, EndAttempt, Retry, SetFields, SetLabel
from motoko.core.states import Lifecycle
from motoko.storage.ended_runs import EndedRuns, NewEnds
from motoko.storage.feed import CommitNotice
from motoko.storage.session import Session
from motoko.testing import add_run, empty_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motoko.core.edits import RunEdit
    from motoko.core.records import RunKey
    from motoko.storage.database import Database

pytestmark = pytest.mark.unit


class Place:
    """A database, a writer, and a reader that looks for ended runs of the run name ``test``."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.writer = Session(database)
        self.reader = Session(database)
        self.ended = EndedRuns(database, "test")

    def create(self, number: int, run_name: str = "test") -> list[RunKey]:
        existing = len(self.writer.tables.study("s"))
        jobs = [{"x": existing + n} for n in range(number)]
        keys = [add_run(self.writer, "s", job, run_name=run_name) for job in jobs]
        self.commit()
        return keys

    def edit(self, key: RunKey, *edits: RunEdit) -> None:
        for one in edits:
            self.writer.add(EditRun(key, one))
        self.commit()

    def end(self, key: RunKey, outcome: str = "FINISHED") -> None:
        self.edit(
            key, Claim("l", f"t{key}", 0.0), EndAttempt(f"t{key}", Lifecycle(outcome), 0.0, "l")
        )

    def commit(self) -> None:
        self.database.submit(self.writer.commit).result()

    def look(self, *, refresh: bool = True) -> dict[str, NewEnds]:
        if refresh:
            self.reader.refresh()
        return self.ended.look(self.reader, ["s", "t"])


@pytest.fixture
def place() -> Iterator[Place]:
    database = empty_database(["s", "t"])
    made = Place(database)
    yield made
    made.ended.close()
    made.writer.close()
    made.reader.close()
    database.close()


def test_each_end_is_found_once(place: Place) -> None:
    first, second, third = place.create(3)
    place.end(first)
    assert place.look() == {}
    place.end(second, "FAILED")
    place.edit(third, Cancel(0.0, "test"))
    assert place.look() == {"s": NewEnds([2, 3], [2, 3])}
    assert place.look() == place.look() == {}
    place.edit(second, Retry(0.0, "test"))
    assert place.look() == {}
    place.end(second)
    assert place.look() == {"s": NewEnds([2], [])}


def test_a_change_of_an_ended_run_is_no_end(place: Place) -> None:
    early, late = place.create(2)
    place.end(early)
    place.look()
    place.end(late)
    place.edit(early, SetFields({"y": 1}), SetLabel("SEEN", 0.0, "test"))
    assert place.look() == {"s": NewEnds([2], [])}
    place.edit(late, SetFields({"y": 1}))
    assert place.look() == {}


def test_other_run_names_are_left_out(place: Place) -> None:
    own, other = place.create(1) + place.create(1, "other")
    place.look()
    place.end(own)
    place.end(other)
    assert place.look() == {"s": NewEnds([1], [])}


def test_a_commit_that_the_snapshot_lacks_is_found_at_the_next_look(place: Place) -> None:
    (key,) = place.create(1)
    place.look()
    place.end(key)
    assert place.look(refresh=False) == {}
    assert place.look() == {"s": NewEnds([1], [])}


def test_commits_of_other_processes_are_looked_up(place: Place) -> None:
    (key,) = place.create(1)
    place.look()
    place.end(key)
    place.reader.refresh()
    oid = place.reader.tables.study("s").trees["runs"][key.id]._p_oid
    place.ended._commits[:] = [CommitNotice(oids=frozenset([oid]))]
    assert place.look() == {"s": NewEnds([1], [])}


@pytest.mark.parametrize(
    "notice",
    [CommitNotice(everything=True), CommitNotice(oids=frozenset(bytes([n]) for n in range(200)))],
)
def test_without_a_list_of_changes_active_runs_are_read(
    place: Place, notice: CommitNotice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("motoko.storage.ended_runs.MOST_OBJECTS", 100)
    active, _ = place.create(2)
    place.edit(active, Claim("l", "t", 0.0))
    place.look()
    place.edit(active, EndAttempt("t", Lifecycle.LOST, 0.0, "l"))
    place.ended._commits[:] = [notice]
    assert place.look() == {"s": NewEnds([1], [1])}


def test_it_stops_following_commits(place: Place) -> None:
    place.ended.close()
    place.create(1)
    assert place.ended._commits == []
