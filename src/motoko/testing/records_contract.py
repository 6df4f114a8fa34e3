"""What every database must do: ids, series, firings, and the feed of changes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.changes import DeleteRun, EditRun, PushQuantities, RecordFiring, SetVariable
from motoko.core.edits import ApplyOutbox, Claim, EndAttempt, MarkStarted, Retry, SetFields
from motoko.core.states import Lifecycle
from motoko.storage.session import Session
from motoko.testing.clients import Clients, commit, eventually, run_to_end
from motoko.testing.memory import add_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motoko.core.records import RunKey
    from motoko.storage.feed import CommitNotice
    from motoko.testing.clients import Connect


class RecordsContract:
    """The fixtures, and tests of what is kept beside the runs."""

    @pytest.fixture
    def clients(self, connect: Connect) -> Iterator[Clients]:
        """Yield two clients with a session each."""
        clients = Clients(connect)
        yield clients
        for database in clients.databases:
            session = Session(database)
            for name in session.tables.study_names():
                assert session.tables.study(name).recount() == []
            session.close()
        clients.close()

    @pytest.fixture
    def ended(self, clients: Clients) -> RunKey:
        """Return a run that has FINISHED, seen by both sessions."""
        key = add_run(clients.first, "mult", {"x": 1.0})
        run_to_end(clients.first, key, "t1", Lifecycle.FINISHED)
        clients.commit_first()
        clients.meet()
        return key

    # -- ids, series, firings --------------------------------------------------------------

    def test_no_id_is_given_twice(self, clients: Clients) -> None:
        """Threads of both clients reserve at once."""
        given: list[int] = []

        def take(session: Session) -> None:
            for _ in range(10):
                first, _job = session.reserve("mult", 3, 0)
                given.extend(range(first, first + 3))

        threads = [
            threading.Thread(target=take, args=(session,))
            for session in (clients.first, clients.second)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(given) == list(range(1, 61))

    @pytest.mark.parametrize("sizes", [[1], [499, 1, 1], [500, 500], [1001], [499, 2, 1500]])
    def test_series_of_any_length(self, clients: Clients, sizes: list[int]) -> None:
        """They are kept in order, wherever their parts begin and end."""
        key = add_run(clients.first, "mult", {"x": 1.0})
        clients.first.add(EditRun(key, Claim("l", "t", 0.0)))
        clients.first.add(EditRun(key, MarkStarted("t", 0.0, "l")))
        clients.commit_first()
        pushed: list[tuple[int, int]] = []
        for position, size in enumerate(sizes, start=1):
            points = tuple((step, step * step) for step in range(len(pushed), len(pushed) + size))
            pushed.extend(points)
            for _ in range(2):  # what was harvested once is not taken again
                clients.first.add(PushQuantities(key, "t", position, "e", points))
                clients.first.add(EditRun(key, ApplyOutbox("t", position, 0.0)))
                clients.commit_first()
        clients.first.add(PushQuantities(key, "another attempt's", 99, "e", ((0, 0),)))
        clients.first.add(EditRun(key, EndAttempt("t", Lifecycle.FAILED, 1.0, "l")))
        clients.first.add(PushQuantities(key, "t", 99, "e", ((0, 0),)))
        clients.commit_first()
        clients.meet()
        table = clients.second.tables.study("mult")
        assert table.quantity(key.id, "e") == pushed
        assert table.quantity_names(key.id) == ["e"]
        assert table.quantity(key.id, "f") is None
        clients.second.add(EditRun(key, Retry(2.0, "test")))
        clients.second.add(EditRun(key, Claim("l", "u", 3.0)))
        clients.commit_second()
        assert clients.second.tables.study("mult").quantity(key.id, "e") is None

    def test_a_firing_is_open_until_it_is_done(self, clients: Clients, ended: RunKey) -> None:
        """Its record follows runs that moved; ``once`` is remembered by run."""
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
        assert tables.once_records("test", "e") == {("mult", ended.id)}
        firing = tables.firing(("test", "e", "k"))
        assert firing is not None
        assert (firing["status"], firing["opened"], firing["done"]) == ("done", 1.0, 2.0)
        assert [key for key, _ in tables.firings("test")] == [("test", "e", "k")]
        assert tables.firings("tes") == []

    def test_ended_runs_are_found_by_their_scripts(self, clients: Clients) -> None:
        """Those of the last attempt count, and only of the run name that is asked for."""
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
        clients.meet()
        table = clients.second.tables.study("mult")
        assert table.outdated("new", "a") == [keys[4].id]
        assert table.outdated("new", "b") == [keys[5].id]
        assert table.outdated("old", "a") == [keys[2].id, keys[6].id]
        assert table.outdated("newer", "a") == [keys[2].id, keys[4].id, keys[6].id]
        assert table.outdated("newer", "c") == []

    # -- the change feed -------------------------------------------------------------------

    def test_own_commits_are_published_with_their_source(self, clients: Clients) -> None:
        """Subscribers learn which runs and whether variables were touched."""
        heard: list[CommitNotice] = []
        end = clients.databases[0].feed.subscribe(heard.append)
        session = clients.session(source="me")
        key = add_run(session, "mult", {"x": 1.0})
        session.add(SetVariable(None, "n", 1))
        commit(clients.databases[0], session)
        mine = [found for found in heard if found.source == "me"]
        assert [(found.runs, found.variables) for found in mine] == [(frozenset({key}), True)]
        end()
        session.add(SetVariable(None, "n", 2))
        commit(clients.databases[0], session)
        assert len([found for found in heard if found.source == "me"]) == 1

    def test_a_subscriber_that_fails_does_not_undo_a_commit(self, clients: Clients) -> None:
        """Its author is told nothing of it, for the commit is made."""

        def fail(_commit: CommitNotice) -> None:
            raise RuntimeError("the loop is closed")

        end = clients.databases[0].feed.subscribe(fail)
        clients.first.add(SetVariable(None, "n", 1))
        clients.commit_first()
        end()
        assert clients.first.tables.variable(None, "n") == 1

    def test_another_clients_commits_are_told_and_looked_up(
        self, clients: Clients, ended: RunKey
    ) -> None:
        """Created, changed and deleted runs are known by their objects, and so are variables."""
        touched: set[RunKey] = set()
        variables = [False]

        commits: list[CommitNotice] = []
        end = clients.databases[1].feed.subscribe(commits.append)

        def look() -> bool:
            known, commits[:] = commits[:], []
            clients.second.refresh()
            for found in known:
                runs, more = clients.second.classify(found.oids)
                touched.update(runs | found.runs)
                variables[0] = variables[0] or more or found.variables
            return bool(touched) and variables[0]

        def told(*changes: Any) -> set[RunKey]:
            touched.clear()
            variables[0] = False
            for change in changes:
                clients.first.add(change)
            clients.first.add(SetVariable(None, "n", len(changes)))
            clients.commit_first()
            eventually(look)
            return set(touched)

        new = add_run(clients.first, "add", {"x": 3.0})
        assert told() == {new}
        assert told(EditRun(ended, SetFields({"y": 1}))) == {ended}
        assert told(EditRun(new, SetFields({"y": 1})), DeleteRun(ended)) == {new, ended}
        end()
