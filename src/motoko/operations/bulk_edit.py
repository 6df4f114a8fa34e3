"""Select runs by names and constraints; retry or cancel them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from motoko.core.changes import EditRun
from motoko.core.constraints import parse_each
from motoko.core.edits import Cancel, Retry
from motoko.core.run_targets import RunTarget
from motoko.core.states import ACTIVE, FAILURES
from motoko.errors import StateError
from motoko.operations.preview import Preview, preview
from motoko.storage.query import (
    check_run_name_exists,
    check_runs_exist,
    select_records,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from motoko.api.workflow import Workflow
    from motoko.core.constraints import Constraint
    from motoko.core.edits import RunEdit
    from motoko.core.records import RunKey, RunRecord
    from motoko.core.run_targets import IdRange

BATCH: Final = 500  # runs changed in one commit


@dataclass(frozen=True, slots=True)
class RunSelection:
    """The runs that ``targets`` name and that satisfy all constraints.

    No targets stand for every study, None for every run name.
    """

    targets: Sequence[RunTarget] = ()
    constraints: Sequence[str] = ()
    run_name: str | None = None

    @classmethod
    def parse_texts(
        cls, runs: Iterable[str], constraints: Sequence[str] = (), run_name: str | None = None
    ) -> RunSelection:
        """Return the selection of runs named as ``STUDY`` or ``STUDY.3-9,12``.

        Raise UnknownRunError for other texts.
        """
        return cls([RunTarget.parse(text) for text in runs], constraints, run_name)

    @property
    def is_narrowed(self) -> bool:
        """Whether runs or constraints are given."""
        return bool(self.targets or self.constraints)

    @property
    def names_ids(self) -> bool:
        """Whether runs are named by their ids."""
        return any(target.ranges for target in self.targets)

    def studies(self, workflow: Workflow) -> dict[str, Sequence[IdRange]]:
        """Return the ranges of ids by study; an empty one stands for all runs.

        Raise UnknownNameError for an unknown study.
        """
        if not self.targets:
            return dict.fromkeys(workflow.task_managers, ())
        found: dict[str, Sequence[IdRange]] = {}
        for target in self.targets:
            name = workflow.task_manager(target.study).name
            whole = not target.ranges or found.get(name) == ()
            found[name] = () if whole else (*found.get(name, ()), *target.ranges)
        return found

    def parse(self, workflow: Workflow) -> Mapping[str, Constraint]:
        """Return the constraints, typed for each study that has their columns.

        A study with an invalid ``bd.yaml`` has no known columns, so constraints do not apply to it.
        Raise ConstraintError if they apply to no study, UnknownNameError for an unknown study.
        """
        managers = [workflow.task_managers[name] for name in self.studies(workflow)]
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

    def check_exists(self, workflow: Workflow) -> None:
        """Raise UnknownRunError or RunNameError for runs or a run name that never existed."""
        if not (self.names_ids or self.run_name is not None):
            return
        with workflow.store.autocommit_scope.read() as session:
            for target in self.targets:
                name = workflow.task_manager(target.study).name
                check_runs_exist(session, name, target.ranges)
            if self.run_name is not None:
                check_run_name_exists(session, self.run_name)

    def find(self, workflow: Workflow) -> list[RunRecord]:
        """Return the selected runs, by study and id."""
        found: list[RunRecord] = []
        parsed, ranges = self.parse(workflow), self.studies(workflow)
        keep = not workflow.store.read_only  # to be edited soon
        with workflow.store.autocommit_scope.read() as session:
            existing = session.tables.study_names()
            for name, constraint in parsed.items():
                if name in existing:
                    found += select_records(
                        session, name, self.run_name, constraint, ranges=ranges[name], keep=keep
                    )
        return found


def is_failed(record: RunRecord) -> bool:
    """Return whether a run failed."""
    return record.lifecycle in FAILURES


def is_cancellable(record: RunRecord) -> bool:
    """Return whether a run is not in a terminal state."""
    return not record.lifecycle.is_terminal


def outdated_filter(workflow: Workflow) -> Callable[[RunRecord], bool]:
    """Return a filter of runs in a terminal state whose scripts have changed since."""
    digests = {name: m.bd_config.scripts_digest() for name, m in workflow.task_managers.items()}
    return lambda r: r.lifecycle.is_terminal and r.scripts != digests[r.study]


def preview_selected(
    workflow: Workflow, selection: RunSelection, is_affected: Callable[[RunRecord], bool]
) -> Preview:
    """Return the preview of a command that changes the affected ones of the selected runs.

    It counts the others only if runs are selected by their ids.
    """
    found = preview(selection.find(workflow), is_affected)
    return found if selection.names_ids else replace(found, unaffected={})


def failed_runs(workflow: Workflow, selection: RunSelection) -> list[RunRecord]:
    """Return the selected runs that failed."""
    return [record for record in selection.find(workflow) if is_failed(record)]


def cancellable_runs(workflow: Workflow, selection: RunSelection) -> list[RunRecord]:
    """Return the selected runs that are not in a terminal state."""
    return [record for record in selection.find(workflow) if is_cancellable(record)]


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
