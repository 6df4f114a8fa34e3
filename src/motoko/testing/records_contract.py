"""Contract of every database: ids, series, firings, and the feed of changes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.changes import DeleteRun, EditRun, PushQuantities, RecordFiring, SetVariable
from motoko.core.edits import ApplyOutbox, Claim, EndAttempt, MarkStarted, Retry, SetFields
from motoko.core.records import RunKey
from motoko.core.states import Lifecycle
from motoko.storage import identities
from motoko.storage.consistency import check_study
from motoko.storage.session import Session
from motoko.testing.memory import Clients, add_run, commit, eventually, finish_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motoko.storage.feed import CommitNotice
    from motoko.testing.memory import Connect


class RecordsContract:
    """The fixtures, and tests of all records beside the runs."""

    @pytest.fixture
    def clients(self, connect: Connect) -> Iterator[Clients]:
        """Yield two clients with a session each."""
        clients = Clients(connect)
        yield clients
        for database in clients.databases:
            session = Session(database)
            for name in session.tables.study_names():
                assert check_study(session.tables.study(name)) == []
            session.close()
        clients.close()

    @pytest.fixture
    def ended(self, clients: Clients) -> RunKey:
        """Return a run that has FINISHED, seen by both sessions."""
        key = add_run(clients.first, "mult", {"x": 1.0})
        finish_run(clients.first, key, "t1", Lifecycle.FINISHED)
        clients.commit_first()
        clients.synchronize()
        return key

    # -- ids, series, firings --------------------------------------------------------------

    def test_no_id_is_assigned_twice(self, clients: Clients) -> None:
        """Threads of both clients reserve at the same time."""
        assigned: list[int] = []

        def reserve(session: Session) -> None:
            for _ in range(10):
                first, _job = session.reserve("mult", 3, 0)
                assigned.extend(range(first, first + 3))

        sessions = (clients.first, clients.second)
        threads = [threading.Thread(target=reserve, args=(session,)) for session in sessions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(assigned) == list(range(1, 61))

    def test_two_clients_create_the_same_runs_at_the_same_time(
        self, clients: Clients, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each run is made once, while their identities move to sorted parts."""
        for name, value in {"RECENT": 8, "STEP": 4, "FAN_IN": 2}.items():
            monkeypatch.setattr(identities, name, value)
        made: list[set[RunKey]] = [set(), set()]

        def create(who: int) -> None:
            session = (clients.first, clients.second)[who]
            for start in range(0, 60, 5):
                keys = [add_run(session, "mult", {"x": float(x)}) for x in range(start, start + 8)]
                commit(clients.databases[who], session)
                made[who].update(session.replaced_keys.get(key, key) for key in keys)

        threads = [threading.Thread(target=create, args=(who,)) for who in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        clients.synchronize()
        table = clients.first.tables.study("mult")
        assert made[0] == made[1]
        assert sorted(key.id for key in made[0]) == table.ids(None)
        assert sorted(table.run(run_id).job["x"] for run_id in table.ids(None)) == [*range(63)]

    @pytest.mark.parametrize("sizes", [[1], [499, 1, 1], [500, 500], [1001], [499, 2, 1500]])
    def test_series_of_any_length(self, clients: Clients, sizes: list[int]) -> None:
        """Points stay in order, however they are divided into commits."""
        key = add_run(clients.first, "mult", {"x": 1.0})
        clients.first.add(EditRun(key, Claim("l", "t", 0.0)))
        clients.first.add(EditRun(key, MarkStarted("t", 0.0, "l")))
        clients.commit_first()
        pushed: list[tuple[int, int]] = []
        for position, size in enumerate(sizes, start=1):
            points = tuple((step, step * step) for step in range(len(pushed), len(pushed) + size))
            pushed.extend(points)
            for _ in range(2):  # the second push has no effect
                clients.first.add(PushQuantities(key, "t", position, "e", points))
                clients.first.add(EditRun(key, ApplyOutbox("t", position, 0.0)))
                clients.commit_first()
        clients.first.add(PushQuantities(key, "another attempt's", 99, "e", ((0, 0),)))
        clients.first.add(EditRun(key, EndAttempt("t", Lifecycle.FAILED, 1.0, "l")))
        clients.first.add(PushQuantities(key, "t", 99, "e", ((0, 0),)))
        clients.commit_first()
        clients.synchronize()
        table = clients.second.tables.study("mult")
        assert table.quantity(key.id, "e") == pushed
        assert table.quantity_names(key.id) == ["e"]
        assert table.quantity(key.id, "f") is None
        clients.second.add(EditRun(key, Retry(2.0, "test")))
        clients.second.add(EditRun(key, Claim("l", "u", 3.0)))
        clients.commit_second()
        assert clients.second.tables.study("mult").quantity(key.id, "e") is None

    def test_a_firing_is_open_until_it_is_done(self, clients: Clients, ended: RunKey) -> None:
        """Its record follows runs that moved; ``once`` is recorded for each run."""
        record = RecordFiring(("test", "e", "k"), "open", "", (ended,), 1.0)
        clients.first.add(record)
        clients.commit_first()
        assert clients.first.tables.open_firings("test", "e") == [("test", "e", "k")]
        assert clients.first.tables.open_firings("test", "f") == []
        done = RecordFiring(("test", "e", "k"), "done", "", (ended,), 2.0, once=True)
        clients.first.add(done)
        clients.commit_first()
        tables = clients.first.tables
        assert tables.open_firings("test") == []
        assert list(tables.once_records("test", "e")) == [ended]
        firing = tables.firing(("test", "e", "k"))
        assert firing is not None
        assert (firing["status"], firing["opened"], firing["done"]) == ("done", 1.0, 2.0)
        assert [key for key, _ in tables.firings("test")] == [("test", "e", "k")]
        assert tables.firings("tes") == []

    def test_handled_failures_are_looked_up(self, clients: Clients, ended: RunKey) -> None:
        """An attempt, a run and a run name each make a difference."""
        handled = ((ended, 1), (RunKey("mult", 7), 2))
        record = RecordFiring(("test", "e", "k"), "done", "", (ended,), 1.0, handled=handled)
        clients.first.add(record)
        clients.commit_first()
        clients.synchronize()
        tables = clients.second.tables
        asked = [("mult", ended.id, 1), ("mult", ended.id, 2), ("mult", 7, 2), ("add", 7, 2)]
        assert tables.handled_failures("test", asked) == {("mult", ended.id, 1), ("mult", 7, 2)}
        assert tables.handled_failures("tes", asked) == set()

    def test_ended_runs_are_counted_by_their_scripts(self, clients: Clients) -> None:
        """Only the last attempt and the given run name count."""
        session = clients.first
        keys = [add_run(session, "mult", {"x": float(n)}, run_name="ab"[n % 2]) for n in range(8)]
        for n, key in enumerate(keys):
            session.add(EditRun(key, Claim("l", "t", 0.0, "old" if n < 6 else "new")))
        for key in keys[2:]:
            session.add(EditRun(key, MarkStarted("t", 0.0, "l")))
            session.add(EditRun(key, EndAttempt("t", Lifecycle.FINISHED, 1.0, "l")))
        session.add(EditRun(keys[2], Retry(2.0, "test", again=True)))
        session.add(EditRun(keys[2], Claim("l", "u", 3.0, "new")))
        session.add(EditRun(keys[2], EndAttempt("u", Lifecycle.FAILED, 4.0, "l")))
        session.add(DeleteRun(keys[3]))
        clients.commit_first()
        clients.synchronize()
        table = clients.second.tables.study("mult")
        assert table.count_other_scripts("new", "a") == 1  # keys[4]
        assert table.count_other_scripts("new", "b") == 1  # keys[5]
        assert table.count_other_scripts("old", "a") == 2
        assert table.count_other_scripts("newer", "a") == 3
        assert table.count_other_scripts("newer", "c") == 0

    # -- the change feed -------------------------------------------------------------------

    def test_own_commits_are_published_with_their_source(self, clients: Clients) -> None:
        """The notice lists the changed runs, and whether variables changed."""
        notices: list[CommitNotice] = []
        end = clients.databases[0].feed.subscribe(notices.append)
        session = clients.session(source="me")
        key = add_run(session, "mult", {"x": 1.0})
        session.add(SetVariable(None, "n", 1))
        commit(clients.databases[0], session)
        mine = [found for found in notices if found.source == "me"]
        assert [(found.runs, found.variables) for found in mine] == [(frozenset({key}), True)]
        end()
        session.add(SetVariable(None, "n", 2))
        commit(clients.databases[0], session)
        assert len([found for found in notices if found.source == "me"]) == 1

    def test_a_subscriber_that_fails_does_not_undo_a_commit(self, clients: Clients) -> None:
        """The commit succeeds, and its author gets no error."""

        def fail(_commit: CommitNotice) -> None:
            raise RuntimeError("the loop is closed")

        end = clients.databases[0].feed.subscribe(fail)
        clients.first.add(SetVariable(None, "n", 1))
        clients.commit_first()
        end()
        assert clients.first.tables.variable(None, "n") == 1

    def test_another_clients_commits_are_published_and_classified(
        self, clients: Clients, ended: RunKey
    ) -> None:
        """Objects identify created, changed and deleted runs, and variables."""
        changed: set[RunKey] = set()
        variables = [False]

        commits: list[CommitNotice] = []
        end = clients.databases[1].feed.subscribe(commits.append)

        def classify() -> bool:
            notices, commits[:] = commits[:], []
            clients.second.refresh()
            for found in notices:
                runs, more = clients.second.classify(found.oids)
                changed.update(runs | found.runs)
                variables[0] = variables[0] or more or found.variables
            return bool(changed) and variables[0]

        def published(*changes: Any) -> set[RunKey]:
            changed.clear()
            variables[0] = False
            for change in changes:
                clients.first.add(change)
            clients.first.add(SetVariable(None, "n", len(changes)))
            clients.commit_first()
            eventually(classify)
            return set(changed)

        new = add_run(clients.first, "add", {"x": 3.0})
        assert published() == {new}
        assert published(EditRun(ended, SetFields({"y": 1}))) == {ended}
        assert published(EditRun(new, SetFields({"y": 1})), DeleteRun(ended)) == {new, ended}
        end()
