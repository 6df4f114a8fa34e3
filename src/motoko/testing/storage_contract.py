"""Contract of every database, as a class of pytest tests to inherit.

A subclass has a fixture ``connect``: a function without arguments that returns a Database with the
empty studies "add" and "mult". Each call returns another client of the same data, or the same
object if the database supports one client only. The fixture closes them.
"""

from __future__ import annotations

import pytest

from motoko.core.changes import DeleteRun, EditRun, SetVariable
from motoko.core.edits import Claim, Retry, SetFields, SetLabel
from motoko.core.records import RunKey
from motoko.core.states import Lifecycle
from motoko.core.values import MISSING
from motoko.errors import ConflictError, Fenced, StateError, UnknownRunError
from motoko.storage.leases import LeaseGuard
from motoko.storage.scope import SegmentScope
from motoko.storage.session import run_transaction
from motoko.testing.memory import Clients, add_run, commit, finish_run
from motoko.testing.records_contract import RecordsContract


class StorageContract(RecordsContract):
    """All the tests. They interleave the sessions of two clients."""

    # -- snapshots -------------------------------------------------------------------------

    def test_a_session_sees_only_its_own_uncommitted_writes(
        self, clients: Clients, ended: RunKey
    ) -> None:
        """An uncommitted write is visible in its session only."""
        clients.first.add(EditRun(ended, SetFields({"y": 3})))
        assert clients.first.run(ended).fields == {"y": 3}
        assert clients.second.run(ended).fields == {}
        clients.commit_first()
        assert clients.second.run(ended).fields == {}
        clients.synchronize()
        assert clients.second.run(ended).fields == {"y": 3}

    def test_dropped_changes_leave_no_trace(self, clients: Clients, ended: RunKey) -> None:
        """After a refresh the session shows and commits no dropped change."""
        other = add_run(clients.first, "mult", {"x": 2.0})
        clients.first.add(EditRun(ended, SetFields({"y": 3})))
        clients.first.add(EditRun(ended, SetLabel("SEEN", 1.0, "test")))
        clients.first.refresh()
        assert clients.first.run(ended).fields == {}
        assert clients.first.run(ended).state == "FINISHED"
        assert not clients.first.tables.study("mult").has_run(other.id)
        clients.first.add(EditRun(ended, SetFields({"z": 4})))
        clients.commit_first()
        assert clients.first.run(ended).fields == {"z": 4}

    def test_a_change_that_is_not_legal_leaves_the_others_as_they_were(
        self, clients: Clients, ended: RunKey
    ) -> None:
        """The error is raised before the write."""
        clients.first.add(EditRun(ended, SetFields({"y": 3})))
        with pytest.raises(StateError):
            clients.first.add(EditRun(ended, Retry(1.0, "test")))
        with pytest.raises(UnknownRunError):
            clients.first.add(EditRun(RunKey("mult", 99), SetFields({"y": 3})))
        clients.commit_first()
        assert clients.first.run(ended).fields == {"y": 3}
        assert clients.first.run(ended).lifecycle is Lifecycle.FINISHED

    def test_a_deleted_run_is_unknown(self, clients: Clients, ended: RunKey) -> None:
        """Its job and identity are deleted too. A new run may have them."""
        clients.first.add(DeleteRun(ended))
        clients.commit_first()
        clients.synchronize()
        for session in (clients.first, clients.second):
            with pytest.raises(UnknownRunError, match=r"no run 1"):
                session.run(ended)
            assert session.tables.study("mult").jobs.ids() == []
        again = add_run(clients.second, "mult", {"x": 1.0})
        clients.commit_second()
        assert again.id > ended.id

    def test_a_snapshot_that_was_packed_away(self, clients: Clients, ended: RunKey) -> None:
        """It shows the same values if they still exist, else it is a conflict."""
        scope = SegmentScope(clients.databases[0], cause="test")
        with scope.read() as session:
            assert session.tables.study_names() == ["add", "mult"]
        clients.second.add(EditRun(ended, SetFields({"y": 1})))
        clients.commit_second()
        clients.synchronize()
        clients.databases[1].pack()
        try:
            with scope.read() as session:
                assert session.run(ended).fields == {}
        except ConflictError:
            session.refresh()
            assert session.run(ended).fields == {"y": 1}
        scope.close()
        assert clients.second.run(ended).fields == {"y": 1}

    # -- conflicts -------------------------------------------------------------------------

    def test_concurrent_requests_for_the_same_run_create_one(self, clients: Clients) -> None:
        """The later commit finds the earlier one's run, and uses it."""
        mine = add_run(clients.first, "mult", {"x": 5.0})
        yours = add_run(clients.second, "mult", {"x": 5.0})
        clients.second.add(EditRun(yours, SetFields({"note": "second"})))
        clients.commit_first()
        clients.commit_second()
        assert mine != yours
        assert clients.second.replaced_keys == {yours: mine}
        assert clients.second.run(yours).id == mine.id
        assert clients.second.tables.study("mult").ids(None) == [mine.id]
        assert clients.second.run(mine).fields == {"note": "second"}

    def test_an_id_that_was_read_is_not_exchanged(self, clients: Clients) -> None:
        """The reader of the id gets a conflict."""
        add_run(clients.first, "mult", {"x": 5.0})
        yours = add_run(clients.second, "mult", {"x": 5.0})
        clients.second.record_read_id(yours)
        clients.commit_first()
        with pytest.raises(ConflictError, match="created by another"):
            clients.commit_second()
        assert not clients.second.pending

    def test_concurrent_requests_for_the_same_point_create_one_job(self, clients: Clients) -> None:
        """Two run names share the job."""
        one = add_run(clients.first, "mult", {"x": 5.0}, run_name="a")
        two = add_run(clients.second, "mult", {"x": 5.0}, run_name="b")
        clients.commit_first()
        clients.commit_second()
        assert clients.second.run(one).job_id == clients.second.run(two).job_id
        assert len(clients.second.tables.study("mult").jobs.ids()) == 1

    def test_a_job_does_not_go_while_it_gets_another_run(
        self, clients: Clients, ended: RunKey
    ) -> None:
        """Deleting a job's last run and giving it a new one at the same time keeps the job."""
        clients.first.add(DeleteRun(ended))
        new = add_run(clients.second, "mult", {"x": 1.0}, run_name="b")
        clients.commit_first()
        clients.commit_second()
        table = clients.second.tables.study("mult")
        assert table.ids(None) == [new.id]
        assert table.jobs.values(clients.second.run(new).job_id) == {"x": 1.0}

    def test_different_fields_of_one_run_are_merged(self, clients: Clients, ended: RunKey) -> None:
        """Fields conflict one by one."""
        clients.first.add(EditRun(ended, SetFields({"y": 1})))
        clients.second.add(EditRun(ended, SetFields({"z": float("nan")})))
        clients.commit_first()
        clients.commit_second()
        fields = clients.second.run(ended).fields
        assert fields["y"] == 1
        assert fields["z"] != fields["z"]

    @pytest.mark.parametrize("blind", [True, False])
    def test_the_same_field_of_one_run(self, clients: Clients, ended: RunKey, blind: bool) -> None:
        """A later blind commit wins; any other is a conflict."""
        clients.first.add(EditRun(ended, SetFields({"y": 1})))
        clients.second.add(EditRun(ended, SetFields({"y": 2}), blind=blind))
        clients.commit_first()
        if blind:
            clients.commit_second()
            assert clients.second.run(ended).fields == {"y": 2}
            return
        with pytest.raises(ConflictError, match=r"mult\.1 was changed by another"):
            clients.commit_second()
        assert clients.second.run(ended).fields == {"y": 1}
        assert not clients.second.pending

    @pytest.mark.parametrize("blind", [True, False])
    def test_the_same_variable(self, clients: Clients, blind: bool) -> None:
        """As for fields. A removal is a change too."""
        clients.first.add(SetVariable(None, "n", 1))
        clients.commit_first()
        clients.synchronize()
        clients.first.add(SetVariable(None, "n", MISSING))
        clients.second.add(SetVariable(None, "n", 2, blind=blind))
        clients.commit_first()
        if blind:
            clients.commit_second()
            assert clients.second.tables.variable(None, "n") == 2
            return
        with pytest.raises(ConflictError, match="'n' was changed"):
            clients.commit_second()
        assert clients.second.tables.variable(None, "n") is MISSING

    def test_a_run_relied_on(self, clients: Clients, ended: RunKey) -> None:
        """A commit that relies on a run fails if the run changed."""
        clients.second.rely_on([ended])
        clients.second.add(SetVariable(None, "total", 1))
        clients.first.add(EditRun(ended, SetFields({"y": 1})))
        clients.commit_first()
        with pytest.raises(ConflictError, match=r"mult\.1 was changed by another"):
            clients.commit_second()
        assert clients.second.tables.variable(None, "total") is MISSING

    def test_a_run_relied_on_that_only_the_session_itself_changes(
        self, clients: Clients, ended: RunKey
    ) -> None:
        """Conflicts of other runs do not count, not even with a field nan."""
        clients.first.add(EditRun(ended, SetFields({"y": float("nan")})))
        clients.commit_first()
        clients.synchronize()
        clients.second.rely_on([ended])
        clients.second.add(EditRun(ended, SetLabel("SEEN", 1.0, "test")))
        theirs = add_run(clients.second, "add", {"x": 2.0})
        ours = add_run(clients.first, "add", {"x": 2.0})
        clients.commit_first()
        clients.commit_second()
        assert clients.second.run(ended).state == "SEEN"
        assert clients.second.replaced_keys == {theirs: ours}

    def test_a_run_that_was_claimed_is_not_claimed_again(self, clients: Clients) -> None:
        """One of two launchers gets a conflict."""
        key = add_run(clients.first, "mult", {"x": 1.0})
        clients.commit_first()
        clients.synchronize()
        clients.first.add(EditRun(key, Claim("one", "t1", 1.0)))
        clients.second.add(EditRun(key, Claim("two", "t2", 1.0)))
        clients.commit_first()
        with pytest.raises(ConflictError):
            clients.commit_second()
        assert clients.second.run(key).launcher == "one"

    def test_a_run_that_was_deleted_while_it_was_changed(
        self, clients: Clients, ended: RunKey
    ) -> None:
        """The lost change is a conflict."""
        clients.first.add(DeleteRun(ended))
        clients.second.add(EditRun(ended, SetFields({"y": 1})))
        clients.commit_first()
        with pytest.raises(ConflictError, match="deleted by another"):
            clients.commit_second()

    def test_a_blind_change_that_became_illegal(self, clients: Clients, ended: RunKey) -> None:
        """The whole commit is refused."""
        other = add_run(clients.first, "mult", {"x": 2.0})
        finish_run(clients.first, other, "t2", Lifecycle.FAILED)
        clients.commit_first()
        clients.synchronize()
        clients.second.add(EditRun(ended, SetFields({"y": 1}), blind=True))
        clients.second.add(EditRun(other, SetLabel("SEEN", 1.0, "test"), blind=True))
        clients.first.add(EditRun(other, Retry(1.0, "test")))
        clients.commit_first()
        with pytest.raises(StateError, match="before it ends"):
            clients.commit_second()
        assert not clients.second.pending
        clients.commit_second()
        assert clients.second.run(ended).fields == {}

    def test_a_lease_that_was_taken_over_fences(self, clients: Clients) -> None:
        """The previous holder commits nothing; renewals cause no conflict."""
        database = clients.databases[0]

        def acquire(token: str) -> None:
            database.submit(
                lambda: run_transaction(database, lambda t: t.write_lease("name", token, {}))
            ).result()

        acquire("mine")
        session = clients.session(guard=LeaseGuard("name", "mine"))
        session.add(SetVariable(None, "n", 1))
        database.submit(
            lambda: run_transaction(database, lambda tables: tables.renew_lease("name", 5.0))
        ).result()
        commit(database, session)
        session.add(SetVariable(None, "n", 2))
        acquire("yours")
        with pytest.raises(Fenced, match="taken over"):
            commit(database, session)
        assert session.tables.variable(None, "n") == 1
        session.add(SetVariable(None, "n", 3))
        with pytest.raises(Fenced):
            commit(database, session)
