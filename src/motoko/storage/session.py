"""A session: one connection, one transaction manager, and the list of what is to be done.

Changes are applied to the session's own connection, so that its reads see them, and kept as
instructions. Where a commit conflicts, the session takes a fresh snapshot, checks that nobody
changed what its instructions write or rely on, and applies the list again. Only where somebody did
is ConflictError raised: then the caller has to look again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

import transaction
from persistent.mapping import PersistentMapping
from ZODB.POSException import POSKeyError, ReadConflictError

from motoko.core.changes import (
    Change,
    CreateRun,
    DeleteRun,
    EditRun,
    PushQuantities,
    RecordFiring,
    SetVariable,
)
from motoko.core.records import RunKey, RunRecord, stored_key
from motoko.core.values import values_equal
from motoko.errors import ConflictError, Fenced
from motoko.storage.commit import abort, commit_with_retry, run_transaction
from motoko.storage.contention import PriorityLock
from motoko.storage.feed import CommitNotice
from motoko.storage.schema import check_version
from motoko.storage.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Iterable

    from motoko.storage.database import Database

__all__ = ["LeaseGuard", "Session", "run_transaction"]


@dataclass(frozen=True, slots=True)
class LeaseGuard:
    """A lease that every commit of a session checks."""

    name: str
    token: str

    def fenced(self) -> Fenced:
        """Return the error that says that the lease is somebody else's now."""
        return Fenced(
            f"the lease on {self.name} was taken over by another process",
            hint="Nothing of this transaction was written. Look who runs with `motoko info`.",
        )


@dataclass(frozen=True, slots=True)
class _AppliedChange:
    """An instruction and what it saw when it was first applied."""

    change: Change
    seen: Any = None


class Session:
    """One snapshot of the database and a list of changes to it. Not thread-safe."""

    def __init__(
        self, database: Database, *, guard: LeaseGuard | None = None, source: object = None
    ) -> None:
        self._database = database
        self._guard = guard
        self.source = source
        self._manager = transaction.TransactionManager(explicit=True)
        self._connection = database.open(self._manager)
        self._manager.begin()
        try:
            check_version(self._connection.root())
        except BaseException:
            abort(self._manager)
            self._connection.close()
            raise
        self.tables = Tables(self._connection.root())
        self._entries: list[_AppliedChange] = []
        self._relied_on: dict[RunKey, bytes | None] = {}
        self._read_ids: set[RunKey] = set()
        self.moved: dict[RunKey, RunKey] = {}
        self._open = True

    # -- reading ---------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether there are changes to commit."""
        return bool(self._entries)

    def run(self, key: RunKey) -> RunRecord:
        """Return the record of one run."""
        key = self._now(key)
        return self.tables.study(key.study).run(key.id)

    def rely_on(self, keys: Iterable[RunKey]) -> None:
        """Refuse to commit if one of these runs was changed by somebody else meanwhile."""
        for key in keys:
            self._relied_on.setdefault(key, self.tables.study(key.study).version(key.id))

    def record_read_id(self, key: RunKey) -> None:
        """Remember that user code knows this id, so it cannot be exchanged silently."""
        self._read_ids.add(key)

    def classify(self, oids: Iterable[bytes]) -> tuple[set[RunKey], bool]:
        """Return which runs, and whether variables, are among the objects of a commit."""
        runs: set[RunKey] = set()
        variables = False
        indexes = self._database.index_oids
        unknown = [oid for oid in oids if oid not in indexes]
        self._connection.prefetch(unknown)
        for oid in unknown:
            try:
                item = self._connection.get(oid)
            except (POSKeyError, ReadConflictError):  # gone, or newer than this snapshot
                continue
            if not isinstance(item, PersistentMapping):
                indexes.add(oid)  # a tree stays a tree: the next time it need not be loaded
                continue
            data = item.data
            key = stored_key(data)
            if key is not None:
                runs.add(key)
            variables = variables or data.get("kind") == "variable"
        return runs, variables

    # -- writing ---------------------------------------------------------------------------

    def add(self, change: Change) -> None:
        """Apply a change to this session's view, and remember it for the commit.

        One that cannot be applied raises StateError or UnknownRunError and leaves no trace.
        """
        self._database.check_writable()
        self._entries.append(_AppliedChange(change, self._apply(change)))

    def reserve(self, study: str, runs: int, jobs: int) -> tuple[int, int]:
        """Take ids that nobody else will get, in a commit of their own.

        Returns the first run id and the first job id.
        """

        def take(tables: Tables) -> tuple[int, int]:
            return tables.study(study).reserve(runs, jobs)

        # In this thread: who reserves holds a scope, for which the committer may be waiting.
        return run_transaction(self._database, take)

    def _apply(self, change: Change) -> Any:
        tables = self.tables
        if isinstance(change, CreateRun):
            tables.study(change.record.study).insert(change.record, change.job_identity)
        elif isinstance(change, SetVariable):
            seen = tables.variable(change.scope, change.name)
            tables.set_variable(change.scope, change.name, change.value)
            return seen
        elif isinstance(change, RecordFiring):
            tables.record_firing(self._moved(change))
        else:
            key = self._now(change.key)
            table = tables.study(key.study)
            if isinstance(change, EditRun):
                return table.edit(key.id, change.edit)[0]
            if isinstance(change, PushQuantities):
                table.push(replace(change, key=key))
            else:
                tables.delete_run(key)
        return None

    def _moved(self, firing: RecordFiring) -> RecordFiring:
        calls = tuple(
            call if call.runs is None else replace(call, runs=tuple(map(self._now, call.runs)))
            for call in firing.entries.calls
        )
        entries = replace(firing.entries, calls=calls)
        return replace(firing, runs=tuple(map(self._now, firing.runs)), entries=entries)

    def _now(self, key: RunKey) -> RunKey:
        return self.moved.get(key, key)

    # -- the end of a transaction ----------------------------------------------------------

    def refresh(self) -> None:
        """Drop pending changes and take a fresh snapshot."""
        self._begin()
        self._forget()

    def commit(self) -> None:
        """Commit the pending changes; call it in the committer thread.

        Raises ConflictError where somebody changed what they write or rely on, Fenced where this
        process's lease was taken over, ServerError where the server has gone for good; then all of
        the changes are dropped. Afterwards the session has a fresh snapshot.
        """
        if not self._entries:
            self.refresh()
            return
        entries = tuple(self._entries)

        def prepare(attempt: int) -> None:
            if attempt:
                self._again(entries)
            self._check_guard()
            self._protect()

        try:
            with PriorityLock(self._database.commit_lock, self._database.runtime) as turn:
                commit_with_retry(self._database, self._manager, self._connection, prepare, turn)
        except BaseException:
            self.refresh()
            raise
        commit = self._summary()
        self.refresh()
        self._database.feed.publish(commit)

    def _begin(self) -> None:
        abort(self._manager)
        self._manager.begin()
        self.tables = Tables(self._connection.root())

    def _forget(self) -> None:
        self._entries = []
        self._relied_on = {}
        self._read_ids = set()

    def _check_guard(self) -> None:
        if self._guard is None:
            return
        lease = self.tables.lease(self._guard.name)
        if lease is None or lease["token"] != self._guard.token:
            raise self._guard.fenced()
        self._connection.readCurrent(lease)

    def _protect(self) -> None:
        for key, version in self._relied_on.items():
            if version is not None and self.tables.study(key.study).has_run(key.id):
                self._connection.readCurrent(self.tables.study(key.study).stored_run(key.id))

    def _again(self, entries: tuple[_AppliedChange, ...]) -> None:
        """Take a fresh snapshot, check it, and apply all changes to it."""
        self._begin()
        for key, version in self._relied_on.items():
            if self.tables.study(key.study).version(key.id) != version:
                self._clash(f"run {key} was changed by somebody else")
        self._entries = []
        self.moved = {}
        for entry in entries:
            self._apply_again(entry)

    def _apply_again(self, entry: _AppliedChange) -> None:
        change = entry.change
        if isinstance(change, CreateRun):
            table = self.tables.study(change.record.study)
            existing = table.find(change.record.identity)
            if existing is not None:
                old, new = change.record.key, RunKey(change.record.study, existing)
                if old in self._read_ids:
                    self._clash(f"run {new} was created by somebody else at the same time")
                self.moved[old] = new
                return
            job_id = table.find_job(change.job_identity)
            if job_id is not None and job_id != change.record.job_id:
                change = replace(change, record=replace(change.record, job_id=job_id))
        elif isinstance(change, EditRun) and not change.blind:
            self._check_no_conflict(change, entry.seen)
        elif isinstance(change, SetVariable) and not change.blind:
            if not values_equal(self.tables.variable(change.scope, change.name), entry.seen):
                self._clash(f"workflow variable {change.name!r} was changed by somebody else")
        elif isinstance(change, DeleteRun):
            key = self._now(change.key)
            if not self.tables.study(key.study).has_run(key.id):
                return
        self.add(change)

    def _check_no_conflict(self, change: EditRun, seen: RunRecord) -> None:
        key = self._now(change.key)
        if not self.tables.study(key.study).has_run(key.id):
            self._clash(f"run {key} was deleted by somebody else")
        if key == change.key and change.edit.conflicts_with(seen, self.run(key)):
            self._clash(f"run {key} was changed by somebody else")

    def _clash(self, message: str) -> NoReturn:
        raise ConflictError(
            f"{message} while this transaction was under way",
            hint="Decorate the action with @event: then it is run again on fresh data.",
        )

    def _summary(self) -> CommitNotice:
        runs: set[RunKey] = set()
        variables = False
        for entry in self._entries:
            if isinstance(entry.change, CreateRun):
                runs.add(entry.change.record.key)
            elif isinstance(entry.change, EditRun | DeleteRun | PushQuantities):
                runs.add(self._now(entry.change.key))
            elif isinstance(entry.change, SetVariable):
                variables = True
        return CommitNotice(runs=frozenset(runs), variables=variables, source=self.source)

    def close(self) -> None:
        """Give the connection back; uncommitted changes are dropped."""
        if self._open:
            self._open = False
            abort(self._manager)
            self._connection.close()
