"""Requests about runs: try them again, cancel them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from motoko.core.changes import EditRun
from motoko.core.edits import Cancel, Retry
from motoko.core.states import ACTIVE, FAILURES, Lifecycle
from motoko.errors import StateError
from motoko.operations import selection
from motoko.storage.scripts import scripts_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from motoko.api.workflow import Workflow
    from motoko.core.edits import RunEdit
    from motoko.core.records import RunKey, RunRecord

BATCH: Final = 500  # runs changed in one commit


def failed_runs(
    workflow: Workflow,
    *,
    study: str | None = None,
    constraints: Sequence[str] = (),
    run_name: str | None = None,
) -> list[RunRecord]:
    """Return the runs that ended badly and satisfy all constraints."""
    found = _matching(workflow, study, constraints, run_name)
    return [record for record in found if record.lifecycle in FAILURES]


def outdated(
    workflow: Workflow,
    *,
    study: str | None = None,
    constraints: Sequence[str] = (),
    run_name: str | None = None,
) -> list[RunRecord]:
    """Return the ended runs whose scripts are not those of today."""
    digests = {
        name: scripts_digest(manager.bd_config) for name, manager in workflow.task_managers.items()
    }
    found = _matching(workflow, study, constraints, run_name)
    return [r for r in found if r.lifecycle.is_terminal and r.scripts != digests[r.study]]


def cancellable(
    workflow: Workflow,
    *,
    study: str | None = None,
    constraints: Sequence[str] = (),
    run_name: str | None = None,
) -> list[RunRecord]:
    """Return the runs that have not ended and satisfy all constraints."""
    found = _matching(workflow, study, constraints, run_name)
    waiting = ACTIVE | {Lifecycle.CREATED}
    return [record for record in found if record.lifecycle in waiting]


def attempts_under_way(workflow: Workflow, run_name: str) -> frozenset[str]:
    """Return the tokens of the attempts of a run name that have not ended."""
    found = _matching(workflow, None, (), run_name)
    return frozenset(r.token for r in found if r.lifecycle in ACTIVE and r.token is not None)


def retry(workflow: Workflow, records: Iterable[RunRecord], cause: str) -> list[RunKey]:
    """Send these runs back to CREATED; returns those that were not there already."""
    return _change(workflow, records, Retry(workflow.store.now(), cause, again=True))


def cancel(workflow: Workflow, records: Iterable[RunRecord], cause: str) -> list[RunKey]:
    """Cancel these runs: at once if they wait, otherwise through their launcher."""
    return _change(workflow, records, Cancel(workflow.store.now(), cause))


def _matching(
    workflow: Workflow, study: str | None, constraints: Sequence[str], run_name: str | None
) -> list[RunRecord]:
    parsed = selection.parse(workflow, study, constraints)
    return selection.matching(workflow, parsed, run_name)


def _change(workflow: Workflow, records: Iterable[RunRecord], edit: RunEdit) -> list[RunKey]:
    keys = [record.key for record in records]
    done: list[RunKey] = []
    for start in range(0, len(keys), BATCH):
        batch = keys[start : start + BATCH]
        try:
            workflow.store.autocommit_scope.write(
                *(EditRun(key, edit, blind=True) for key in batch)
            )
            done += batch
        except StateError:  # some moved meanwhile: one by one, those that still can be
            done += [key for key in batch if _change_one(workflow, key, edit)]
    return done


def _change_one(workflow: Workflow, key: RunKey, edit: RunEdit) -> bool:
    try:
        workflow.store.autocommit_scope.write(EditRun(key, edit, blind=True))
    except StateError:
        return False
    return True
