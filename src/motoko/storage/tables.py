"""All tables of a workflow's database in one snapshot: studies, variables, firings, leases.

Root layout, below the key ``motoko``::

    version    int, of this layout (schema.py); written_by: the Motoko that wrote it
    studies    OOBTree   study name -> study table (study_table.py)
    variables  OOBTree   (scope, name) -> PersistentMapping {"value": plain value}
                         scope "" is workflow.vars, "=NAME" is run_vars of run name NAME
    firings    OOBTree   (run name, event, key) -> PersistentMapping; with a journal while open:
                         calls: OOBTree (lane, number) -> (kind, study, runs or None, failed)
                         written: lane -> (number of calls, assignments since the last)
    open       OOTreeSet of the keys of open firings
    once       OOTreeSet of (run name, event, study, run id) done under once=True
    handled    OOTreeSet of (run name, study, run id, attempt) that done firings handled; absent
               until there is one
    unlisted   True if a version without ``handled`` recorded firings; else absent
    leases     OOBTree   name -> PersistentMapping {"token", "holder", "place"}
                         place: inode number of the database's directory when it was acquired
    renewals   OOBTree   name -> PersistentMapping {"at": seconds since the epoch, "report"}
    removals   OOTreeSet of (study, id) of deleted runs whose directories may still exist; absent
               until a run is deleted
    holds      PersistentMapping {"kind": "holds", "rules", "runs"}, see core/holds.py. One object:
               each claim checks that it did not change
    provenance OOBTree   reference (digest) -> the facts of attempts, as a tuple
    notifications  OOBTree (run name, execution, event, target) -> dict, see notifications.py;
                         absent until there is one
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from BTrees.OOBTree import OOBTree, OOTreeSet
from persistent.mapping import PersistentMapping

from motoko.core.holds import NO_HOLDS, Holds, RemoveHolds
from motoko.core.provenance import Provenance
from motoko.core.records import RunKey
from motoko.core.replay import Call, Entries
from motoko.core.values import MISSING
from motoko.errors import UnknownNameError, suggestion
from motoko.runtime.files import file_identity
from motoko.storage.bulk_read import stored_data, stream_keys
from motoko.storage.created_runs import CreatedRuns
from motoko.storage.run_counts import LAST
from motoko.storage.study_table import StudyTable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from motoko.core.changes import RecordFiring
    from motoko.core.holds import HoldEdit, Scope
    from motoko.core.records import RunRecord

JOURNAL: Final = ("calls", "written")
NO_RUN: Final = RunKey("", 0)  # of a firing without runs


class Tables:
    """All tables in the snapshot of one connection."""

    def __init__(self, root: Any) -> None:
        self._root = root["motoko"]
        self._connection = getattr(root, "_p_jar", None)
        self._studies: dict[str, StudyTable] = {}
        self.reads: set[str] | None = None  # collects the studies and variables that are read

    def study(self, name: str) -> StudyTable:
        """Return one study's table; UnknownNameError if it was never created."""
        if self.reads is not None:
            self.reads.add(name)
        table = self._studies.get(name)
        if table is None:
            stored = self._root["studies"].get(name)
            if stored is None:
                raise UnknownNameError(
                    f"the workflow's database has no study {name!r}",
                    hint=suggestion(name, self.study_names()),
                )
            table = self._studies[name] = StudyTable(name, stored)
        return table

    def study_names(self) -> list[str]:
        """Return the names of all studies, sorted."""
        return list(self._root["studies"])

    def flush(self) -> None:
        """Store what was inserted. Call it before the commit."""
        for table in self._studies.values():
            table.flush()

    def complete_record(self, record: RunRecord) -> RunRecord:
        """Return a run's record with its whole history."""
        return self.study(record.study).complete(record)

    # -- variables -------------------------------------------------------------------------

    def variable(self, scope: str | None, name: str) -> Any:
        """Return a variable's plain value, MISSING if it was never set."""
        if self.reads is not None:
            self.reads.add(f"{'vars' if scope is None else 'run_vars'}.{name}")
        stored = self._root["variables"].get((_scope(scope), name))
        return MISSING if stored is None else stored["value"]

    def variable_names(self, scope: str | None) -> list[str]:
        """Return the names of a scope's variables, sorted."""
        prefix = _scope(scope)
        return [name for _, name in self._root["variables"].keys((prefix, ""), (prefix, LAST))]

    def set_variable(self, scope: str | None, name: str, value: Any) -> None:
        """Set a variable, or remove it if the value is MISSING."""
        variables = self._root["variables"]
        key = (_scope(scope), name)
        if value is MISSING:
            if key in variables:
                # Written once more: concurrent changes conflict, and other clients are notified.
                variables[key]._p_changed = True
                del variables[key]
        elif key in variables:
            variables[key]["value"] = value
        else:
            variables[key] = PersistentMapping({"kind": "variable", "value": value})

    # -- deleted runs ----------------------------------------------------------------------

    def delete_run(self, key: RunKey) -> None:
        """Delete a run, and record that its directories must be removed."""
        self.study(key.study).delete(key.id)
        if key.id in self.holds.ids(key.study):
            self.edit_holds(RemoveHolds(runs=[key]))
        self._root.setdefault("removals", OOTreeSet()).insert(tuple(key))

    def pending_removals(self) -> list[RunKey]:
        """Return the deleted runs whose directories may still exist."""
        return [RunKey(study, run_id) for study, run_id in self._root.get("removals", ())]

    def complete_removals(self, keys: Iterable[RunKey]) -> None:
        """Record that the directories of these deleted runs are removed."""
        pending = self._root.get("removals", ())
        for key in keys:
            if tuple(key) in pending:
                pending.remove(tuple(key))

    # -- holds -----------------------------------------------------------------------------

    @property
    def stored_holds(self) -> Any:
        """The persistent object of all holds, None in an older database."""
        return self._root.get("holds")

    @property
    def holds_version(self) -> bytes | None:
        """A value that changes with every commit to the holds, None before the first."""
        stored = self.stored_holds
        if stored is None or stored._p_jar is None:
            return None
        stored._p_activate()
        return bytes(stored._p_serial)  # noqa: SLF001 - ZODB's public names begin so

    @property
    def holds(self) -> Holds:
        """All holds."""
        stored = self.stored_holds
        if stored is None:
            return NO_HOLDS
        stored._p_activate()
        holds = getattr(stored, "_v_holds", None)
        if holds is None:
            holds = Holds.of(stored.data)
            stored._v_holds = holds  # noqa: SLF001 - ZODB's names of cached values begin so
        assert isinstance(holds, Holds)
        return holds

    def edit_holds(self, edit: HoldEdit) -> None:
        """Hold or release runs."""
        changed = edit.apply(self.holds)
        if changed == self.holds:
            return
        stored = self._root.setdefault("holds", PersistentMapping())
        stored.data = {"kind": "holds", **changed.stored()}
        stored._v_holds = changed  # noqa: SLF001 - ZODB's names of cached values begin so

    def created(self, study: str) -> CreatedRuns:
        """Return the CREATED runs of a study."""
        return CreatedRuns(self.study(study), self.holds)

    def held_singly(self, scope: Scope) -> list[RunKey]:
        """Return the runs with a hold of their own in a study and run name (None: all)."""
        of_study, run_name = scope
        return [
            record.key
            for study in self.holds.runs
            if of_study in (None, study) and study in self._root["studies"]
            for record in self.study(study).records(self.holds.ids(study))
            if run_name in (None, record.run_name)
        ]

    # -- provenance ------------------------------------------------------------------------

    def provenance(self, reference: bytes) -> Provenance | None:
        """Return the facts under a reference, None if they are unknown."""
        stored = self._root.get("provenance", {}).get(reference)
        return None if stored is None else Provenance.of(stored)

    def add_provenance(self, facts: Provenance) -> None:
        """Store facts under their reference, unless they are stored."""
        table = self._root.setdefault("provenance", OOBTree())
        if facts.reference not in table:
            table[facts.reference] = facts.stored()

    # -- notifications ---------------------------------------------------------------------

    def notification(self, key: tuple[str, ...]) -> Any:
        """Return the data of a notification, None if it is not recorded."""
        return self._root.get("notifications", {}).get(tuple(key))

    def notifications(self) -> list[tuple[tuple[str, str, str, str], Any]]:
        """Return the keys and the data of all notifications."""
        return list(self._root.get("notifications", {}).items())

    def set_notification(self, key: tuple[str, ...], data: dict[str, Any]) -> None:
        """Record a notification. Concurrent changes of one key conflict."""
        self._root.setdefault("notifications", OOBTree())[tuple(key)] = data

    # -- firings ---------------------------------------------------------------------------

    def record_firing(self, firing: RecordFiring) -> None:
        """Record a firing as open or done."""
        stored = self._root["firings"].get(firing.id)
        if stored is None:
            stored = self._root["firings"][firing.id] = PersistentMapping(
                {
                    "kind": "firing",
                    "trigger": firing.trigger,
                    "runs": [tuple(key) for key in firing.runs],
                    "opened": firing.at,
                    **({"code": firing.code} if firing.code else {}),
                }
            )
        stored["status"] = firing.status
        if firing.status == "open":
            self._root["open"].insert(firing.id)
            _add_entries(stored, firing.entries)
            return
        for name in JOURNAL:
            stored.pop(name, None)
        stored["done"] = firing.at
        if firing.handled:
            stored["handled"] = [(key.study, key.id, attempt) for key, attempt in firing.handled]
            for one in stored["handled"]:
                self._root.setdefault("handled", OOTreeSet()).insert((firing.id[0], *one))
        if firing.id in self._root["open"]:
            self._root["open"].remove(firing.id)
        if firing.once:
            run_name, event, _ = firing.id
            for study, run_id in firing.runs or (NO_RUN,):
                self._root["once"].insert((run_name, event, study, run_id))

    def firing(self, firing_id: tuple[str, str, str]) -> dict[str, Any] | None:
        """Return one recorded firing as plain data."""
        stored = self._root["firings"].get(firing_id)
        return None if stored is None else _plain_firing(stored)

    def journal(self, firing_id: tuple[str, str, str]) -> Entries:
        """Return the recorded results of an open firing's calls."""
        stored = self._root["firings"].get(firing_id, {})
        calls = tuple(
            Call(lane, number, kind, study, _keys(runs), failed)
            for (lane, number), (kind, study, runs, failed) in stored.get("calls", {}).items()
        )
        return Entries(calls, dict(stored.get("written", {})))

    def firings(self, run_name: str | None = None) -> list[tuple[tuple[str, str, str], Any]]:
        """Return the recorded firings of one run name or of all, as (id, plain data)."""
        low = None if run_name is None else (run_name, "", "")
        high = None if run_name is None else (run_name, LAST, "")
        return [
            (key, _plain_firing(stored)) for key, stored in self._root["firings"].items(low, high)
        ]

    def handled_failures(
        self, run_name: str, failures: Collection[tuple[str, int, int]]
    ) -> set[tuple[str, int, int]]:
        """Return those of the (study, run id, attempt) that done firings handled."""
        listed = self._root.get("handled", ())
        found = {one for one in failures if (run_name, *one) in listed}
        if "unlisted" in self._root and len(found) < len(failures):
            found |= self._unlisted_failures(run_name).intersection(failures)
        return found

    def _unlisted_failures(self, run_name: str) -> set[tuple[str, int, int]]:
        """Return what ``handled`` lacks if an older version recorded firings."""
        items = list(self._root["firings"].values((run_name, "", ""), (run_name, LAST, "")))
        states = zip(items, stored_data(items), strict=True)
        firings = (item.data if data is None else data for item, data in states)
        return {tuple(one) for firing in firings for one in firing.get("handled", ())}

    def open_firings(self, run_name: str, event: str | None = None) -> list[tuple[str, str, str]]:
        """Return the ids of the open firings of one run name, and of one event if given."""
        low = (run_name, event or "", "")
        high = (run_name, LAST if event is None else event, LAST)
        return list(self._root["open"].keys(low, high))

    def once_records(self, run_name: str, event: str) -> Iterator[RunKey]:
        """Yield the runs of an event's done ``once`` firings, ascending; NO_RUN for one without."""
        low, high = (run_name, event, "", 0), (run_name, event, LAST, 0)
        found = stream_keys(self._root["once"], low, high, keep=False)
        return (RunKey(study, run_id) for _, _, study, run_id in found)

    def fired_once(self, run_name: str, event: str, key: RunKey) -> bool:
        """Return whether a ``once`` firing of an event for this run is done."""
        return (run_name, event, key.study, key.id) in self._root["once"]

    def open_firing_ids(self) -> set[tuple[str, str, str]]:
        """Return the ids of all open firings."""
        return set(self._root["open"])

    # -- leases ----------------------------------------------------------------------------

    def lease(self, name: str) -> Any:
        """Return the persistent record of a lease, None if it was never acquired."""
        return self._root["leases"].get(name)

    def renewed_at(self, name: str) -> float:
        """Return the time of the last renewal on the steady clock."""
        stored = self._root["renewals"].get(name)
        return 0.0 if stored is None else float(stored["at"])

    def lease_names(self) -> list[str]:
        """Return the names of all leases ever acquired, sorted."""
        return list(self._root["leases"])

    def write_lease(self, name: str, token: str | None, holder: dict[str, Any]) -> None:
        """Assign the lease to ``token``; None releases it."""
        self._root["leases"].setdefault(name, PersistentMapping()).update(
            {"kind": "lease", "token": token, "holder": holder, "place": self._directory_inode()}
        )

    def lease_belongs_here(self, name: str) -> bool:
        """Return whether a lease was acquired in this database, not in the original of a copy."""
        lease, here = self.lease(name), self._directory_inode()
        acquired_in = None if lease is None else lease.get("place")
        return here is None or acquired_in is None or acquired_in == here

    def _directory_inode(self) -> int | None:
        """Return the inode number of the database's directory, None if it is in memory."""
        database = None if self._connection is None else self._connection.db()
        file: Path | None = getattr(database, "file", None)
        return None if file is None else file_identity(file.parent)

    def renew_lease(self, name: str, at: float, report: dict[str, Any] | None = None) -> None:
        """Record a renewal at the steady time ``at``, with the holder's report."""
        renewal = self._root["renewals"].setdefault(name, PersistentMapping())
        renewal["at"] = at
        if report is not None:
            renewal["report"] = report

    def lease_report(self, name: str) -> dict[str, Any]:
        """Return the last report of the lease's holder, empty if there is none."""
        stored = self._root["renewals"].get(name)
        return {} if stored is None else dict(stored.get("report", {}))

    def boot_time(self, boot: str) -> float | None:
        """Return the recorded time of a boot, in seconds since the epoch."""
        found: float | None = self._root.get("boots", {}).get(boot)
        return found

    def drop_lease(self, name: str) -> None:
        """Delete the lease; a commit in progress of its holder fails."""
        lease = self._root["leases"].get(name)
        if lease is not None:
            # Changed before its deletion: the holder's commits check this very object.
            lease["token"] = None
            del self._root["leases"][name]
        self._root["renewals"].pop(name, None)


def _plain_firing(stored: Any) -> dict[str, Any]:
    return {name: value for name, value in stored.items() if name not in JOURNAL}


def _add_entries(stored: Any, entries: Entries) -> None:
    # A tree: each commit of an action with thousands of awaits writes only its last calls.
    if entries.calls and "calls" not in stored:
        stored["calls"] = OOBTree()
    for call in entries.calls:
        runs = None if call.runs is None else tuple(tuple(key) for key in call.runs)
        stored["calls"][call.lane, call.number] = (call.kind, call.study, runs, call.failed)
    if entries.written is not None:
        stored["written"] = dict(entries.written)


def _keys(runs: Iterable[tuple[str, int]] | None) -> tuple[RunKey, ...] | None:
    return None if runs is None else tuple(RunKey(*key) for key in runs)


def _scope(scope: str | None) -> str:
    return "" if scope is None else f"={scope}"
