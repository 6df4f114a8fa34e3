"""Sessions: a connection, an explicit transaction, and the list of its changes.

A session applies changes to its connection, where its reads see them, and records them. If a commit
conflicts, it takes a fresh snapshot, checks the records that its changes write or rely on, and
applies the changes again. Only if another session changed those does it raise ConflictError.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

import transaction
from persistent.mapping import PersistentMapping
from ZODB.POSException import POSKeyError, ReadConflictError
from ZODB.TimeStamp import TimeStamp
from ZODB.utils import p64, u64

from motoko.core.changes import (
    Change,
    CreateRun,
    DeleteRun,
    EditHolds,
    EditRun,
    PushQuantities,
    RecordFiring,
    RecordProvenance,
    SetVariable,
)
from motoko.core.records import RunKey, RunRecord
from motoko.core.values import values_equal
from motoko.errors import ConflictError, StorageError
from motoko.storage.commit import (
    MANY_RUNS,
    abort,
    collector_paused,
    commit_with_retry,
    run_transaction,
)
from motoko.storage.contention import COMMIT_CONFLICTS, LARGE_CONFLICTS, PriorityLock
from motoko.storage.feed import notice_of
from motoko.storage.identities import steps_after
from motoko.storage.run_block import changed_keys
from motoko.storage.schema import check_version
from motoko.storage.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from motoko.storage.database import Database
    from motoko.storage.leases import LeaseGuard

__all__ = ["Session", "run_transaction"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _AppliedChange:
    """A change, and the value that it replaced when it was first applied."""

    change: Change
    former: Any = None


class Session:
    """One snapshot of the database and a list of changes to it. Not thread-safe.

    ``at``: only read, in the state at this transaction, in hexadecimal. ``check`` raises if the
    tables have a format that the caller cannot read.
    """

    def __init__(
        self,
        database: Database,
        *,
        guard: LeaseGuard | None = None,
        source: object = None,
        at: str | None = None,
        check: Callable[[Any], object] = check_version,
    ) -> None:
        self._database = database
        self._guard = guard
        self.source = source
        self._manager = transaction.TransactionManager(explicit=True)
        self._connection = database.open(self._manager, at)
        self._manager.begin()
        try:
            check(self._connection.root())
        except BaseException:
            abort(self._manager)
            self._connection.close()
            raise
        self.tables = Tables(self._connection.root())
        self._changes: list[_AppliedChange] = []
        self._relied_on: dict[RunKey, tuple[bytes | None, RunRecord | None]] = {}
        self._relied_on_holds: bytes | None = None
        self._read_ids: set[RunKey] = set()
        self.replaced_keys: dict[RunKey, RunKey] = {}
        self._open = True

    # -- reading ---------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether the session has changes to commit."""
        return bool(self._changes)

    @property
    def snapshot(self) -> tuple[str, datetime]:
        """The id of the newest commit in the snapshot, in hexadecimal, and its time."""
        storage = self._connection._storage  # noqa: SLF001 - ZODB has no public name for it
        before = self._connection.before or storage._start  # noqa: SLF001
        newest = p64(u64(before) - 1)
        return newest.hex(), datetime.fromtimestamp(TimeStamp(newest).timeTime(), UTC)

    @property
    def file(self) -> Path | None:
        """The file of the database, None if there is none."""
        return self._database.file

    def run(self, key: RunKey) -> RunRecord:
        """Return the record of one run."""
        key = self.present(key)
        return self.tables.study(key.study).run(key.id)

    def complete_record(self, key: RunKey) -> RunRecord:
        """Return the record of one run, with its whole history."""
        return self.tables.complete_record(self.run(key))

    def rely_on(self, keys: Iterable[RunKey]) -> None:
        """Refuse to commit if another session changes one of these runs."""
        own: dict[RunKey, RunRecord] = {}  # before the edits of this session
        for applied in reversed(self._changes):
            if isinstance(applied.change, EditRun):
                own[self.present(applied.change.key)] = applied.former
        for key in keys:
            if key not in self._relied_on:
                version = self.tables.study(key.study).version(key.id)
                self._relied_on[key] = version, own.get(key) or self._existing(key)

    def rely_on_holds(self) -> None:
        """Refuse to commit if another session changes the holds."""
        self._relied_on_holds = self.tables.holds_version

    def record_read_id(self, key: RunKey) -> None:
        """Record that user code read this id, so that the commit cannot exchange it."""
        self._read_ids.add(key)

    def classify(
        self,
        oids: Iterable[bytes],
        keys_of: Callable[[Mapping[str, Any]], Iterable[RunKey]] = changed_keys,
    ) -> tuple[set[RunKey], bool]:
        """Return the runs among the objects of a commit, and whether any is a variable.

        ``keys_of`` returns the runs of the data in an object.
        """
        runs: set[RunKey] = set()
        variables = False
        indexes = self._database.index_oids
        unknown = [oid for oid in oids if oid not in indexes]
        self._connection.prefetch(unknown)
        for oid in unknown:
            try:
                item = self._connection.get(oid)
            except (POSKeyError, ReadConflictError):  # deleted, or newer than this snapshot
                continue
            if not isinstance(item, PersistentMapping):
                indexes.add(oid)  # a tree stays a tree: do not load it next time
                continue
            data = item.data
            runs.update(keys_of(data))
            variables = variables or data.get("kind") == "variable"
        return runs, variables

    # -- writing ---------------------------------------------------------------------------

    def add(self, change: Change) -> None:
        """Apply a change to this snapshot and record it for the commit, or raise without effect."""
        self._database.check_writable()
        self._changes.append(_AppliedChange(change, self._apply(change)))

    def reserve(self, study: str, runs: int, jobs: int) -> tuple[int, int]:
        """Reserve ids in a commit of their own; return the first run id and first job id."""

        def reserve(tables: Tables) -> tuple[int, int]:
            return tables.study(study).reserve(runs, jobs)

        # In this thread: the committer may be waiting for the scope that the caller holds.
        return run_transaction(self._database, reserve)

    def _apply(self, change: Change) -> Any:
        tables = self.tables
        if isinstance(change, EditRun):
            key = self.present(change.key)
            return tables.study(key.study).edit(key.id, change.edit)[0]
        if isinstance(change, CreateRun):
            tables.study(change.record.study).insert(change.record, change.job_identity)
        elif isinstance(change, SetVariable):
            former = tables.variable(change.scope, change.name)
            tables.set_variable(change.scope, change.name, change.value)
            return former
        elif isinstance(change, RecordFiring):
            tables.record_firing(self._with_present_keys(change))
        elif isinstance(change, RecordProvenance):
            tables.add_provenance(change.facts)
        elif isinstance(change, EditHolds):
            tables.edit_holds(change.edit)
        else:
            key = self.present(change.key)
            table = tables.study(key.study)
            if isinstance(change, PushQuantities):
                table.push(replace(change, key=key))
            else:
                tables.delete_run(key)
        return None

    def _with_present_keys(self, firing: RecordFiring) -> RecordFiring:
        calls = tuple(
            call if call.runs is None else replace(call, runs=tuple(map(self.present, call.runs)))
            for call in firing.entries.calls
        )
        entries = replace(firing.entries, calls=calls)
        return replace(firing, runs=tuple(map(self.present, firing.runs)), entries=entries)

    def present(self, key: RunKey) -> RunKey:
        """Return the run that another process created instead of this one, else the key."""
        return self.replaced_keys.get(key, key)

    # -- the end of a transaction ----------------------------------------------------------

    def refresh(self) -> None:
        """Drop pending changes and take a fresh snapshot."""
        self._begin()
        self._changes = []
        self._relied_on = {}
        self._relied_on_holds = None
        self._read_ids = set()

    def commit(self) -> None:
        """Commit the pending changes, and take a fresh snapshot; call it in the committer thread.

        If that fails, all changes are dropped: ConflictError if another session changed the same
        records, Fenced if another process holds the lease, ServerError without a server.
        """
        if not self._changes:
            self.refresh()
            return
        changes = tuple(self._changes)

        def prepare(attempt: int) -> None:
            if attempt:
                self._reapply(changes)
            self._check_guard()
            self._check_relied_on()
            self.tables.flush()

        database = self._database
        conflicts = COMMIT_CONFLICTS if len(changes) < MANY_RUNS else LARGE_CONFLICTS
        try:
            with (
                PriorityLock(database.commit_lock, database.runtime, conflicts=conflicts) as lock,
                collector_paused(len(changes)),
            ):
                commit_with_retry(database, self._manager, self._connection, prepare, lock)
        except BaseException:
            self.refresh()
            raise
        notice = notice_of((c.change for c in self._changes), self.present, self.source)
        self.refresh()
        database.feed.publish(notice)
        created = Counter(c.change.record.study for c in changes if isinstance(c.change, CreateRun))
        for study, count in created.items():
            self._tidy_identities(study, steps=steps_after(count))

    def _tidy_identities(self, study: str, steps: int) -> None:
        """Make some steps in the indexes of a study, each a commit of its own.

        A step that fails is left to a later commit.
        """

        def prepare(attempt: int) -> bool:
            if attempt:
                self._begin()
            return self.tables.study(study).tidy_identities()

        database = self._database
        for _ in range(steps):
            try:
                with PriorityLock(database.commit_lock, database.runtime) as lock:
                    if not commit_with_retry(
                        database, self._manager, self._connection, prepare, lock
                    ):
                        return
            except StorageError as error:
                log.debug("the identities of %s stay as they are: %s", study, error)
                return
            finally:
                self._begin()

    def _begin(self) -> None:
        abort(self._manager)
        self._manager.begin()
        self.tables = Tables(self._connection.root())

    def _check_guard(self) -> None:
        if self._guard is None:
            return
        lease = self.tables.lease(self._guard.name)
        if lease is None or lease["token"] != self._guard.token:
            raise self._guard.fenced()
        self._connection.readCurrent(lease)

    def _check_relied_on(self) -> None:
        for key, (version, _) in self._relied_on.items():
            if version is not None and self.tables.study(key.study).has_run(key.id):
                self.tables.study(key.study).rely_on(key.id)
        if self._relied_on_holds is not None:
            self._connection.readCurrent(self.tables.stored_holds)

    def _reapply(self, changes: tuple[_AppliedChange, ...]) -> None:
        """Take a fresh snapshot, check it, and apply all changes to it."""
        self._begin()
        for key, (version, record) in self._relied_on.items():
            # Compaction changes the version of a run, but not its record.
            is_same = self.tables.study(key.study).version(key.id) == version
            if not is_same and self._existing(key) != record:
                self._conflict(f"run {key} was changed")
        if self._relied_on_holds not in (None, self.tables.holds_version):
            self._conflict("runs were held or released")
        self._changes = []
        self.replaced_keys = {}
        for applied in changes:
            change = self._checked(applied)
            if change is not None:
                self.add(change)

    def _checked(self, applied: _AppliedChange) -> Change | None:
        """Return a change as it applies to the fresh snapshot, None if it has nothing to do."""
        change = applied.change
        if isinstance(change, CreateRun):
            return self._checked_creation(change)
        if isinstance(change, EditRun) and not change.blind:
            self._check_edit(change, applied.former)
        elif isinstance(change, SetVariable) and not change.blind:
            if not values_equal(self.tables.variable(change.scope, change.name), applied.former):
                self._conflict(f"workflow variable {change.name!r} was changed")
        elif isinstance(change, DeleteRun):
            key = self.present(change.key)
            return change if self.tables.study(key.study).has_run(key.id) else None
        return change

    def _checked_creation(self, change: CreateRun) -> CreateRun | None:
        table = self.tables.study(change.record.study)
        existing = table.find(change.record.identity)
        if existing is not None:
            old, new = change.record.key, RunKey(change.record.study, existing)
            if old in self._read_ids:
                self._conflict(f"run {new} was created")
            self.replaced_keys[old] = new
            return None
        job_id = table.jobs.find(change.job_identity)
        if job_id is None or job_id == change.record.job_id:
            return change
        return replace(change, record=replace(change.record, job_id=job_id))

    def _check_edit(self, change: EditRun, former: RunRecord) -> None:
        key = self.present(change.key)
        if not self.tables.study(key.study).has_run(key.id):
            self._conflict(f"run {key} was deleted")
        if key == change.key and change.edit.conflicts_with(former, self.run(key)):
            self._conflict(f"run {key} was changed")

    def _existing(self, key: RunKey) -> RunRecord | None:
        table = self.tables.study(key.study)
        return table.run(key.id) if table.has_run(key.id) else None

    def _conflict(self, event: str) -> NoReturn:
        raise ConflictError(
            f"{event} by another process or action during this transaction",
            hint="Decorate the action with @event: then it is run again on fresh data.",
        )

    def close(self) -> None:
        """Close the connection; uncommitted changes are dropped."""
        if self._open:
            self._open = False
            abort(self._manager)
            self._connection.close()
