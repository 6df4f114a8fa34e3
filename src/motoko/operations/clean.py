"""Delete runs and their directories."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from motoko.core.changes import DeleteRun, EditRun
from motoko.core.edits import RunEdit
from motoko.core.records import RunKey
from motoko.core.states import ACTIVE
from motoko.errors import ConflictError
from motoko.launcher import directory_removal
from motoko.operations import bulk_edit, cancel
from motoko.operations.preview import DirectoryUsage, Preview
from motoko.operations.usage import check_leases_free
from motoko.storage.query import existing_records
from motoko.storage.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from motoko.api.workflow import Workflow
    from motoko.core.records import RunRecord
    from motoko.operations.bulk_edit import RunSelection
    from motoko.operations.cancel import CancelResult
    from motoko.storage.store import WorkflowStore

BATCH: Final = 500  # runs deleted in one commit


class _SameAttempt(RunEdit):
    """An edit without effect that conflicts if the run has changed lifecycle or attempt."""

    __slots__ = ()
    depends_on = ("lifecycle", "attempt")


@dataclass(frozen=True, slots=True)
class CleanupResult:
    """The outcome of a deletion.

    ``kept``: runs not deleted because of obstacles in their directories. ``left``: obstacles in
    directories of deleted runs; their removal is pending.
    """

    deleted: Sequence[RunKey]
    kept: Mapping[RunKey, Sequence[str]]
    left: Sequence[str]


def preview_cleanup(
    workflow: Workflow, selection: RunSelection, *, measure: bool = False
) -> Preview:
    """Return the selected runs; of a study without constraints or ids, only ended ones.

    With ``measure``, measure their directories.
    """
    studies = selection.studies(workflow).items()
    chosen = {study for study, ids in studies if ids or selection.constraints}
    found = bulk_edit.preview_selected(
        workflow, selection, lambda r: r.study in chosen or r.lifecycle.is_terminal
    )
    return replace(found, usage=_usage(workflow.store, found.keys)) if measure else found


def _usage(store: WorkflowStore, keys: Iterable[RunKey]) -> DirectoryUsage:
    ids: dict[str, set[int]] = {}
    for key in keys:
        ids.setdefault(key.study, set()).add(key.id)
    measured = [
        directory_removal.measure(store.runs_root(study), of_study)
        for study, of_study in ids.items()
    ]
    return DirectoryUsage(sum(n for n, _ in measured), sum(size for _, size in measured))


def cancel_active(
    workflow: Workflow, runs: Iterable[RunRecord], *, timeout: float = cancel.CANCEL_TIMEOUT
) -> CancelResult:
    """Cancel active runs and wait until they have ended, at most ``timeout`` seconds.

    Raise LeaseHeld if one of their run names has an orchestrator.
    """
    records = list(runs)
    _check_no_orchestrator(workflow.store, records)
    return cancel.cancel(workflow, records, "motoko clean", wait=True, timeout=timeout)


def delete(workflow: Workflow, runs: Iterable[RunRecord]) -> CleanupResult:
    """Delete runs, their directories, and the rest of earlier deletions.

    Skip active runs, and runs whose directories cannot be removed. Raise LeaseHeld if one of
    their run names has an orchestrator.
    """
    store = workflow.store
    records = list(runs)
    _check_no_orchestrator(store, records)
    deleted: list[RunKey] = []
    kept: dict[RunKey, Sequence[str]] = {}
    left: list[str] = []
    for start in range(0, len(records) or 1, BATCH):
        keys = [record.key for record in records[start : start + BATCH]]
        for study in {key.study for key in keys}:
            ids = {key.id for key in keys if key.study == study}
            faults = directory_removal.find_obstacles(store.runs_root(study), ids)
            kept |= {RunKey(study, run_id): problems for run_id, problems in faults.items()}
        deleted += _delete(store, [key for key in keys if key not in kept])
        left = directory_removal.remove_pending(store)
    return CleanupResult(deleted, kept, left)


def pending_removals(workflow: Workflow) -> int:
    """Return the number of deleted runs whose directories still exist."""
    with workflow.store.autocommit_scope.read() as session:
        return len(session.tables.pending_removals())


def _check_no_orchestrator(store: WorkflowStore, records: Iterable[RunRecord]) -> None:
    run_names = {record.run_name for record in records}
    check_leases_free(store, run_names, hint="Stop it first: `motoko orchestrator stop`.")


def _delete(store: WorkflowStore, keys: Sequence[RunKey]) -> list[RunKey]:
    session = Session(store.database)
    try:
        while True:
            existing = existing_records(session, keys)
            deleted = [record.key for record in existing if record.lifecycle not in ACTIVE]
            try:
                for key in deleted:
                    session.add(EditRun(key, _SameAttempt()))
                    session.add(DeleteRun(key))
                store.database.submit(session.commit).result()
            except ConflictError:
                session.refresh()
                continue
            return deleted
    finally:
        session.close()
