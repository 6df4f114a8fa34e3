"""The changes of the database that follow from pending updates of attempts."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from motoko.core.changes import EditRun, RecordProvenance
from motoko.core.edits import (
    EditSequence,
    EndAttempt,
    MarkStarted,
    Requeue,
    SetReason,
    TransferAttempt,
)
from motoko.core.provenance import UNKNOWN, last_reference
from motoko.core.states import Lifecycle
from motoko.launcher.attempt_files import mark_ended
from motoko.launcher.attempt_outcome import (
    AttemptOutcome,
    check_fields,
    outcome_of_exit,
)
from motoko.launcher.attempt_records import describe_missing_exit, outbox_loss, whole_outbox
from motoko.launcher.harvest import (
    MAX_FIELD_CHARACTERS,
    OutboxUpdate,
    convert_fields,
    drop_oversized_fields,
    read_updates,
)
from motoko.printable import join_names

if TYPE_CHECKING:
    from motoko.core.changes import Change
    from motoko.core.edits import RunEdit
    from motoko.launcher.attempts import Attempt, AttemptEnd, PendingUpdates
    from motoko.storage.store import WorkflowStore
    from motoko.storage.tables import Tables

# Size of the outboxes and the fields of their runs in one commit; further outboxes wait.
MAX_COMMIT_BYTES: Final = 8 * 2**20
OUTBOX_TRUNCATED: Final = "its outbox was not read completely"
SHOWN_LINES: Final = 3  # damaged lines to log of each reading
SHOWN_TEXT: Final = 200  # characters to log of a type mismatch, whose value may be long
NO_LONGER_HELD: Final = "no longer held"

log = logging.getLogger(__name__)


class AttemptChanges:
    """The changes of one commit, and the attempts' new state once they are committed.

    ``unfinished``: ended attempts with outboxes too large for this commit.
    """

    def __init__(self, store: WorkflowStore, launcher: str) -> None:
        self.changes: list[Change] = []
        self.unfinished: list[Attempt] = []
        self._store = store
        self._launcher = launcher
        self._cause = f"launcher {launcher}"
        self._outbox_updates: list[tuple[Attempt, OutboxUpdate]] = []
        self._bytes = 0

    def add(self, updates: PendingUpdates, tables: Tables) -> None:
        """Add the changes that follow from the updates, and read the attempts' outboxes."""
        now = self._store.now()
        ended_or_requeued = updates.ended_or_requeued()
        for attempt in updates.adopted:
            self._edit(attempt, TransferAttempt(attempt.token, self._launcher))
        for attempt in updates.started:
            if attempt not in ended_or_requeued:
                self._start(attempt, now, tables)
        for attempt in updates.with_output:
            if attempt not in ended_or_requeued and not self._is_full():
                self._read_outbox(attempt, now)
        for attempt, text in updates.reasons:
            if attempt not in ended_or_requeued:
                reason = SetReason(attempt.token, now, text or None, text or NO_LONGER_HELD)
                self._edit(attempt, reason)
        for attempt, cause, delay in updates.requeued:
            not_before = self._store.steady() + delay if delay else 0.0
            self._edit(attempt, Requeue(attempt.token, now, cause, not_before))
        for end in updates.ended:
            self._end(end, tables)

    def on_committed(self) -> None:
        """Advance the attempts' outbox offsets."""
        for attempt, update in self._outbox_updates:
            attempt.outbox_offset = update.end_offset
            attempt.reported_failure = _reported_failure(attempt, update)

    def _edit(self, attempt: Attempt, edit: RunEdit) -> None:
        self._add(EditRun(attempt.key, edit))

    def _add(self, change: Change) -> None:
        """Add a change; successive edits of one run become one, such as its start and its end."""
        last = self.changes[-1] if self.changes else None
        if isinstance(last, EditRun) and isinstance(change, EditRun) and last.key == change.key:
            change = EditRun(change.key, EditSequence((last.edit, change.edit)))
            self.changes.pop()
        self.changes.append(change)

    def _is_full(self) -> bool:
        return self._bytes > MAX_COMMIT_BYTES

    def _start(self, attempt: Attempt, default: float, tables: Tables) -> None:
        identity = None if attempt.process is None else attempt.process.plain()
        at = attempt.started_at if attempt.started_at is not None else default
        reference = self._reference_with_host(attempt, tables)
        self._edit(attempt, MarkStarted(attempt.token, at, self._cause, identity, reference))

    def _reference_with_host(self, attempt: Attempt, tables: Tables) -> bytes:
        """Return a reference that includes the host of a batch job, UNKNOWN if there is no need."""
        facts = tables.provenance(last_reference(attempt.record)) if attempt.host else None
        if facts is None or facts.host is not None:
            return UNKNOWN
        facts = replace(facts, host=attempt.host)
        self.changes.append(RecordProvenance(facts))
        return facts.reference

    def _read_outbox(
        self, attempt: Attempt, now: float, whole: bytes | None = None
    ) -> OutboxUpdate:
        update = read_updates(attempt.paths.outbox, attempt.outbox_offset, whole=whole)
        update = drop_oversized_fields(update, attempt.record.fields)
        self._bytes += update.end_offset - attempt.outbox_offset
        self._bytes += min(attempt.outbox_offset, MAX_FIELD_CHARACTERS)
        for line in update.damaged_lines[:SHOWN_LINES]:
            log.warning("run %s: a damaged line of its outbox is ignored: %s", attempt.key, line)
        attempt.damaged_lines += len(update.damaged_lines)
        update = self._convert_fields(attempt, update)
        for change in update.changes(attempt.key, attempt.token, now):
            self._add(change)
        self._outbox_updates.append((attempt, update))
        return update

    def _convert_fields(self, attempt: Attempt, update: OutboxUpdate) -> OutboxUpdate:
        if not update.fields:
            return update
        types = self._store.field_types(attempt.key.study)
        fields, mismatches = convert_fields(update.fields, types, f"run {attempt.key}")
        for name in sorted(mismatches.keys() - attempt.type_mismatches):
            log.warning(
                "%s; bd.yaml declares it as %s, the script's value is kept",
                mismatches[name][:SHOWN_TEXT], types[name],
            )  # fmt: skip
        attempt.type_mismatches |= mismatches.keys()
        return replace(update, fields=fields)

    def _end(self, end: AttemptEnd, tables: Tables) -> None:
        attempt, options = end.attempt, end.attempt.options
        if self._is_full():
            self.unfinished.append(attempt)
            return
        if not attempt.start_recorded and attempt.started_at is not None:
            self._start(attempt, end.time, tables)
        whole = whole_outbox(attempt.paths)
        if whole is None:
            mark_ended(attempt.paths)
        if attempt.stop_reason is Lifecycle.CREATED:
            cause = f"requeued by launcher {self._launcher}"
            self._edit(attempt, Requeue(attempt.token, end.time, cause))
            return
        update = self._read_outbox(attempt, end.time, whole)
        if update.has_more and attempt.stop_reason is None:
            self.unfinished.append(attempt)
            return
        found = self._outcome(end, update, tables, whole)
        edit = EndAttempt(
            attempt.token, found.state, end.time, self._cause, found.exit_code, found.reason,
            options.retries, options.retry_delay, self._store.runtime.rng.uniform(0.8, 1.2),
            self._store.steady(),
        )  # fmt: skip
        self._edit(attempt, edit)
        level = logging.WARNING if found.reason else logging.INFO
        log.log(level, "run %s: %s %s", attempt.key, found.state, found.reason or "")

    def _outcome(
        self, end: AttemptEnd, update: OutboxUpdate, tables: Tables, whole: bytes | None
    ) -> AttemptOutcome:
        attempt = end.attempt
        loss = outbox_loss(attempt.paths, attempt.outbox_offset, whole)
        fault = end.fault or update.fault or loss
        if fault is None and end.status is None:
            fault = describe_missing_exit(attempt.paths)
        found = end.outcome or outcome_of_exit(
            end.status,
            stopped=attempt.stop_reason,
            failed=_reported_failure(attempt, update),
            timeout=attempt.options.timeout,
            fault=fault,
        )
        if update.has_more:  # a stopped attempt does not wait for the rest of its outbox
            found = found.with_reason(OUTBOX_TRUNCATED)
        if found.state is Lifecycle.FINISHED:
            found = self._check_results(attempt, found, update, tables)
        if attempt.remaining_processes:
            names = join_names(attempt.remaining_processes)
            found = found.with_reason(f"it left processes that cannot be ended: {names}")
        return found

    def _check_results(
        self, attempt: Attempt, found: AttemptOutcome, update: OutboxUpdate, tables: Tables
    ) -> AttemptOutcome:
        study = self._store.studies[attempt.key.study]
        if study.run:
            table = tables.study(attempt.key.study)
            known = table.run(attempt.key.id).fields if table.has_run(attempt.key.id) else {}
            given = known.keys() | update.fields.keys()
            found = check_fields(found, study.run, given, required=study.require_fields)
        if lines := attempt.damaged_lines:
            subject = (
                "1 line of its outbox is" if lines == 1 else f"{lines} lines of its outbox are"
            )
            found = found.with_reason(f"{subject} damaged and not among its results")
        return found


def _reported_failure(attempt: Attempt, update: OutboxUpdate) -> str | None:
    if update.finished:
        return None
    return update.failure if update.failure is not None else attempt.reported_failure
