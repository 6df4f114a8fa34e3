"""Choosing runs by constraints, in one study or in all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from motoko.core.constraints import parse_each
from motoko.storage.query import select_runs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from motoko.api.workflow import Workflow
    from motoko.core.constraints import Constraint
    from motoko.core.records import RunRecord


def parse(
    workflow: Workflow, study: str | None, constraints: Sequence[str]
) -> Mapping[str, Constraint]:
    """Return the constraints by study, typed for it; ``study`` None: all for which they have sense.

    A column that only some studies have selects from those. ConstraintError where no study
    accepts the constraints, UnknownNameError where there is no such study. Of a study whose
    ``bd.yaml`` is wrong no column is known, so that constraints have no sense for it.
    """
    managers = workflow.task_managers.values() if study is None else [workflow.task_manager(study)]
    unread = workflow.config.unread
    if constraints and unread:
        known = [manager for manager in managers if manager.name not in unread]
        if not known:
            raise next(unread[manager.name] for manager in managers)
        managers = known
    return parse_each(list(constraints), [manager.columns for manager in managers])


def warnings(parsed: Mapping[str, Constraint]) -> list[str]:
    """Return what is perhaps misspelt in parsed constraints."""
    found = (str(w) for constraint in parsed.values() for w in constraint.warnings)
    return list(dict.fromkeys(found))


def matching(
    workflow: Workflow, parsed: Mapping[str, Constraint], run_name: str | None
) -> list[RunRecord]:
    """Return the runs that satisfy parsed constraints; ``run_name`` None: of all run names."""
    found: list[RunRecord] = []
    with workflow.store.autocommit_scope.read() as session:
        known = session.tables.study_names()
        for name, constraint in parsed.items():
            if name in known:
                keys = select_runs(session, name, run_name, constraint)
                found += session.tables.study(name).records(key.id for key in keys)
    return found
