"""Select runs by constraints; retry or cancel them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from motoko.core.changes import EditRun
from motoko.core.constraints import parse_each
from motoko.core.edits import Cancel, Retry
from motoko.core.states import ACTIVE, FAILURES, Lifecycle
from motoko.errors import StateError
from motoko.storage.query import select_runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from motoko.api.workflow import Workflow
    from motoko.core.constraints import Constraint
    from motoko.core.edits import RunEdit
    from motoko.core.records import RunKey, RunRecord

BATCH: Final = 500  # runs changed in one commit


@dataclass(frozen=True, slots=True)
class RunSelection:
    """The runs that satisfy all constraints; None stands for every study or run name."""

    study: str | None = None
    constraints: Sequence[str] = ()
    run_name: str | None = None

    def parse(self, workflow: Workflow) -> Mapping[str, Constraint]:
        """Return the constraints, typed for each study that has their columns.

        A study with an invalid ``bd.yaml`` has no known columns, so constraints do not apply to it.
        Raise ConstraintError if they apply to no study, UnknownNameError for an unknown study.
        """
        managers = list(workflow.task_managers.values())
        if self.study is not None:
            managers = [workflow.task_manager(self.study)]
        unread = workflow.config.unread
        if self.constraints and unread:
            readable = [manager for manager in managers if manager.name not in unread]
            if not readable:
                raise unread[managers[0].name]
            managers = readable
        return parse_each(list(self.constraints), [manager.columns for manager in managers])

    def warnings(self, workflow: Workflow) -> list[str]:
        """Return warnings about column names that are probably misspelt."""
        parsed = self.parse(workflow).values()
        return list(dict.fromkeys(str(w) for constraint in parsed for w in constraint.warnings))

    def find(self, workflow: Workflow) -> list[RunRecord]:
        """Return the selected runs, by study and id."""
        found: list[RunRecord] = []
        parsed = self.parse(workflow)
        with workflow.store.autocommit_scope.read() as session:
            existing = session.tables.study_names()
            for name, constraint in parsed.items():
                if name in existing:
                    keys = select_runs(session, name, self.run_name, constraint)
                    found += session.tables.study(name).records(key.id for key in keys)
        return found


def failed_runs(workflow: Workflow, selection: RunSelection) -> list[RunRecord]:
    """Return the selected runs that failed."""
    return [r for r in selection.find(workflow) if r.lifecycle in FAILURES]


def outdated_runs(workflow: Workflow, selection: RunSelection) -> list[RunRecord]:
    """Return the selected runs in a terminal state whose scripts have changed since."""
    digests = {name: m.bd_config.scripts_digest() for name, m in workflow.task_managers.items()}
    found = selection.find(workflow)
    return [r for r in found if r.lifecycle.is_terminal and r.scripts != digests[r.study]]


def cancellable_runs(workflow: Workflow, selection: RunSelection) -> list[RunRecord]:
    """Return the selected runs that are not in a terminal state."""
    waiting = ACTIVE | {Lifecycle.CREATED}
    return [r for r in selection.find(workflow) if r.lifecycle in waiting]


def active_attempts(workflow: Workflow, run_name: str) -> frozenset[str]:
    """Return the tokens of the active attempts of a run name."""
    found = RunSelection(run_name=run_name).find(workflow)
    return frozenset(r.token for r in found if r.lifecycle in ACTIVE and r.token is not None)


def retry(workflow: Workflow, records: Iterable[RunRecord], cause: str) -> list[RunKey]:
    """Send runs back to CREATED; return those that changed."""
    return _edit(
        workflow, [record.key for record in records], Retry(workflow.store.now(), cause, again=True)
    )


def cancel(workflow: Workflow, records: Iterable[RunRecord], cause: str) -> list[RunKey]:
    """Cancel CREATED runs at once, others through their launcher; return those that changed."""
    return _edit(workflow, [record.key for record in records], Cancel(workflow.store.now(), cause))


def _edit(
    workflow: Workflow, keys: Sequence[RunKey], edit: RunEdit, batch_size: int = BATCH
) -> list[RunKey]:
    changed: list[RunKey] = []
    for start in range(0, len(keys), batch_size):
        batch = keys[start : start + batch_size]
        try:
            workflow.store.autocommit_scope.write(*(EditRun(k, edit, blind=True) for k in batch))
            changed += batch
        except StateError:  # some changed state meanwhile: edit each run that still allows it
            if batch_size > 1:
                changed += _edit(workflow, batch, edit, 1)
    return changed
