"""Evaluate conditions: constraints from indexes and records, Python conditions in threads."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from motoko.core.firing import ConditionKind
from motoko.handles.run import run_job_pairs
from motoko.orchestrator.actions import call_in_thread, is_async, to_run_list
from motoko.storage.query import select_runs
from motoko.storage.threads import run_in_thread, run_in_user_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from motoko.core.records import RunKey, RunRecord
    from motoko.orchestrator.actions import Action
    from motoko.orchestrator.change_listener import ChangeSet
    from motoko.storage.session import Session
    from motoko.storage.store import WorkflowStore


@dataclass(frozen=True, slots=True)
class Matches:
    """The evaluated runs, or all runs of a study, and those of them that satisfy a condition."""

    event: str
    evaluated: frozenset[RunKey] | str
    matching: frozenset[RunKey]


@dataclass(frozen=True, slots=True)
class Truth:
    """Whether a condition that returned no runs holds."""

    event: str
    study: str
    holds: bool


def evaluate_constraint(
    session: Session, action: Action, changes: ChangeSet, run_name: str, *, full: bool
) -> list[Matches]:
    """Evaluate a constraint for the changed runs, or for all runs."""
    assert action.constraints is not None
    results: list[Matches] = []
    for study, constraint in action.constraints.items():
        if full or changes.everything:
            keys = frozenset(select_runs(session, study, run_name, constraint))
            results.append(Matches(action.id, study, keys))
            continue
        records = [
            r for r in changes.records.values() if r.study == study and r.run_name == run_name
        ]
        removed = {key for key in changes.removed if key.study == study}
        evaluated = frozenset(removed.union(record.key for record in records))
        if evaluated:
            matching = frozenset(r.key for r in records if constraint.matches(r))
            results.append(Matches(action.id, evaluated, matching))
    return results


async def evaluate_run_filter(
    condition: Any, store: WorkflowStore, read_records: Callable[[], list[RunRecord]]
) -> frozenset[RunKey]:
    """Return the keys of the records for which ``f(run, job)`` is true."""
    if is_async(condition):
        found = await run_in_thread(lambda: run_job_pairs(store, read_records()))
        return frozenset([run.key for run, job in found if await condition(run, job)])

    def evaluate() -> list[tuple[RunKey, Any]]:
        results = [
            (run.key, condition(run, job)) for run, job in run_job_pairs(store, read_records())
        ]
        return [(key, r if inspect.iscoroutine(r) else bool(r)) for key, r in results]

    results = await run_in_user_thread(evaluate)
    return frozenset([key for key, r in results if (await r if inspect.iscoroutine(r) else r)])


async def evaluate_function(
    action: Action, workflow: Any, task_manager: Any, study: str
) -> Matches | Truth:
    """Evaluate ``f(workflow, task_manager)`` or ``f()``."""
    no_arguments = action.kind is ConditionKind.NO_ARGUMENTS
    arguments = () if no_arguments else (workflow, task_manager)
    condition: Any = action.condition
    if is_async(condition):
        result = await condition(*arguments)
    else:
        result = await call_in_thread(lambda: condition(*arguments))
    # Reading a selection may query the database.
    runs = await run_in_thread(lambda: to_run_list(result))
    if runs is None:
        return Truth(action.id, study, bool(result))
    return Matches(action.id, study, frozenset(run.key for run in runs))
