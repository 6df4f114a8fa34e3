"""Finding runs that can go, ending those that go on, and deleting them with their directories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from motoko.core.changes import DeleteRun, EditRun
from motoko.core.states import ACTIVE
from motoko.errors import ConflictError, MotokoError, UnknownRunError
from motoko.launcher import directory_removal
from motoko.operations import cancel, selection
from motoko.operations.cancel import END_SECONDS
from motoko.storage.leases import live_orchestrators
from motoko.storage.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from motoko.api.workflow import Workflow
    from motoko.core.records import RunKey, RunRecord
    from motoko.launcher.directory_removal import Obstacle
    from motoko.operations.cancel import CancelResult
    from motoko.storage.store import WorkflowStore

BATCH: Final = 500  # runs deleted in one commit


@dataclass(frozen=True, slots=True)
class _Unmoved:
    """Changes nothing, and has the commit looked at again where the run has moved meanwhile."""

    def apply(self, run: RunRecord) -> RunRecord:
        return run

    def conflicts_with(self, seen: RunRecord, fresh: RunRecord) -> bool:
        return (seen.lifecycle, seen.attempt) != (fresh.lifecycle, fresh.attempt)


@dataclass(frozen=True, slots=True)
class CleanupPlan:
    """Runs that would be deleted; ``active`` are those that have to be cancelled first."""

    runs: Sequence[RunRecord]

    @property
    def active(self) -> list[RunRecord]:
        """Return the runs that are SUBMITTED or START."""
        return [record for record in self.runs if record.lifecycle in ACTIVE]


def candidates(
    workflow: Workflow,
    *,
    study: str | None = None,
    constraints: Sequence[str] = (),
    run_name: str | None = None,
) -> CleanupPlan:
    """Return the runs that satisfy all constraints; without any, those that have ended.

    Raises ConstraintError, UnknownNameError.
    """
    parsed = selection.parse(workflow, study, constraints)
    found = selection.matching(workflow, parsed, run_name)
    return CleanupPlan([r for r in found if constraints or r.lifecycle.is_terminal])


def end(
    workflow: Workflow, runs: Iterable[RunRecord], *, patience: float = END_SECONDS
) -> CancelResult:
    """Cancel runs that go on, their scheduler jobs included; returns what became of them.

    Where no launcher works, one is started that ends them, and stopped afterwards. MotokoError
    where an orchestrator works with one of the run names. Blocks for ``patience`` seconds at most.
    """
    records = list(runs)
    _check_unused(workflow.store, {record.run_name for record in records})
    return cancel.cancel(workflow, records, "motoko clean", wait=True, patience=patience)


@dataclass(frozen=True, slots=True)
class Deleted:
    """Which runs were deleted; ``kept`` were not, since their directories cannot be removed.

    ``left`` are directories of deleted runs that could not be removed, whose removal is pending.
    """

    runs: Sequence[RunKey]
    kept: Mapping[RunKey, Sequence[Obstacle]]
    left: Sequence[Obstacle]


def delete(workflow: Workflow, runs: Iterable[RunRecord]) -> Deleted:
    """Delete runs, then their directories, then what earlier deletions left of theirs.

    A run that is still active is spared, and one whose directories cannot be removed.
    MotokoError if an orchestrator works with one of the run names.
    """
    store = workflow.store
    records = list(runs)
    _check_unused(store, {record.run_name for record in records})
    deleted: list[RunKey] = []
    kept: dict[RunKey, Sequence[Obstacle]] = {}
    left: list[Obstacle] = []
    for start in range(0, len(records) or 1, BATCH):
        keys = [record.key for record in records[start : start + BATCH]]
        for key in keys:
            problems = directory_removal.find_obstacles(store.runs_root(key.study), key.id)
            if problems:
                kept[key] = problems
        deleted += _delete(store, [key for key in keys if key not in kept])
        left = directory_removal.remove_pending(store)
    return Deleted(deleted, kept, left)


def pending(workflow: Workflow) -> int:
    """Return how many deleted runs still have directories that are to be removed."""
    with workflow.store.autocommit_scope.read() as session:
        return len(session.tables.pending_removals())


def _check_unused(store: WorkflowStore, run_names: set[str]) -> None:
    with store.autocommit_scope.read() as session:
        busy = live_orchestrators(session.tables, store.steady())
    for run_name in sorted(run_names & busy.keys()):
        raise MotokoError(
            f"run name {run_name!r} has an orchestrator: {busy[run_name]}",
            hint="Nothing was deleted. Stop it first: `motoko orchestrator stop`.",
        )


def _delete(store: WorkflowStore, keys: Sequence[RunKey]) -> list[RunKey]:
    session = Session(store.database)
    try:
        while True:
            gone = list(_deletable(session, keys))
            try:
                for key in gone:
                    session.add(EditRun(key, _Unmoved()))
                    session.add(DeleteRun(key))
                store.database.submit(session.commit).result()
            except ConflictError:
                session.refresh()  # somebody moved one of them: look again
                continue
            return gone
    finally:
        session.close()


def _deletable(session: Session, keys: Iterable[RunKey]) -> Iterator[RunKey]:
    for key in keys:
        try:
            record = session.run(key)
        except UnknownRunError:
            continue
        if record.lifecycle not in ACTIVE:
            yield key
