"""Are notifications sent?"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from motoko.core.notifications import NotificationState
from motoko.errors import StorageError
from motoko.operations.doctor.findings import Finding, ok, warning
from motoko.operations.notifications import NotificationOverview
from motoko.storage.database import Database
from motoko.storage.store import WorkflowStore

if TYPE_CHECKING:
    from motoko.operations.doctor.patient import Patient

RECENT_SECONDS: Final = 7 * 86400.0
SUBJECT: Final = "notifications"


def examine_notifications(patient: Patient) -> list[Finding]:
    """Examine the recorded notifications, and whether a notifier runs if one must."""
    if not patient.has_database:
        return []
    with contextlib.suppress(StorageError):  # the check of the database reports it
        return judge(read(patient), patient.runtime.clock.now())
    return []


def read(patient: Patient) -> NotificationOverview:
    """Read the notifications; StorageError without a readable database."""
    database = Database.read_file(patient.state.database, runtime=patient.runtime)
    store = WorkflowStore(patient.state, {}, database=database, runtime=patient.runtime)
    with contextlib.closing(store), store.autocommit_scope.read() as session:
        return NotificationOverview.read(patient.state, session.tables)


def judge(found: NotificationOverview, now: float) -> list[Finding]:
    """Return the findings: about failures of the last week, and a missing notifier."""
    findings = []
    failed = [one for one in found.entries if one.state is NotificationState.FAILED]
    recent = [one for one in failed if now - one.at < RECENT_SECONDS]
    if recent:
        last = recent[-1]
        message = f"{len(recent)} could not be sent; the last one to {last.target}: {last.problem}"
        step = "`motoko notify --test` tests the targets, `motoko notify` lists the messages."
        findings.append(warning("notification-failed", SUBJECT, message, step))
    if found.watched and found.notifier is None:
        message = f"no notifier is running, but {found.watched} executions are to be watched"
        step = "The next orchestrator starts one. Its log is .wf/logs/notifier.log."
        findings.append(warning("notifier-missing", SUBJECT, message, step))
    if not findings and found.entries:
        sent = found.counts.get(NotificationState.SENT.value, 0)
        findings.append(ok("notifications", SUBJECT, f"{sent} sent"))
    return findings
