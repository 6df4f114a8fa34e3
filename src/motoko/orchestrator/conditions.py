"""Asking conditions: constraints from indexes and records, Python conditions in threads."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from motoko.core.firing import ConditionKind
from motoko.core.records import RunKey
from motoko.handles.run import pairs
from motoko.orchestrator.actions import is_async, to_run_list
from motoko.storage.threads import run_in_thread, run_in_user_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from motoko.core.constraints import Constraint
    from motoko.core.records import RunRecord
    from motoko.orchestrator.actions import Action
    from motoko.orchestrator.change_listener import ChangeSet
    from motoko.storage.session import Session
    from motoko.storage.store import WorkflowStore


@dataclass(frozen=True, slots=True)
class Matches:
    """Which of the asked runs satisfy an event's condition.

    ``asked`` is a study where all its runs were asked.
    """

    event: str
    asked: frozenset[RunKey] | str
    matching: frozenset[RunKey]


@dataclass(frozen=True, slots=True)
class Truth:
    """Whether a condition holds that named no runs."""

    event: str
    study: str
    holds: bool


def select_runs(
    session: Session, study: str, run_name: str | None, constraint: Constraint
) -> list[RunKey]:
    """Return the runs of a run name that satisfy a constraint, in id order."""
    table = session.tables.study(study)
    plan = constraint.plan()
    ids = table.ids(run_name, states=plan.states, id_min=plan.id_min, id_max=plan.id_max)
    if plan.exact:
        return [RunKey(study, run_id) for run_id in ids]
    found = table.records(ids, keep=False)  # often all runs there are, and seldom again
    return [record.key for record in found if constraint.matches(record)]


def evaluate_constraint(
    session: Session, action: Action, news: ChangeSet, run_name: str, *, fully: bool
) -> list[Matches]:
    """Ask a constraint of what the news touched, or of all runs."""
    answers: list[Matches] = []
    assert action.constraints is not None
    for study, constraint in action.constraints.items():
        if fully or news.everything:
            keys = frozenset(select_runs(session, study, run_name, constraint))
            answers.append(Matches(action.id, study, keys))
            continue
        records = [r for r in news.records.values() if r.study == study and r.run_name == run_name]
        asked = frozenset(r.key for r in records) | {k for k in news.gone if k.study == study}
        if asked:
            matching = frozenset(r.key for r in records if constraint.matches(r))
            answers.append(Matches(action.id, asked, matching))
    return answers


async def _call(condition: Any, *args: Any) -> Any:
    """Call a condition: a sync one off the loop, an async one on it."""
    if is_async(condition):
        return await condition(*args)
    result = await run_in_user_thread(lambda: condition(*args))
    # Not whatever can be awaited: a selection that is returned is an answer, not a wait.
    return await result if inspect.iscoroutine(result) else result


async def evaluate_run_filter(
    condition: Any, store: WorkflowStore, records: Callable[[], list[RunRecord]]
) -> frozenset[RunKey]:
    """Return the keys of those ``records()`` for which ``f(run, job)`` is true."""
    if is_async(condition):
        found = await run_in_thread(lambda: pairs(store, records()))
        return frozenset([run.key for run, job in found if await condition(run, job)])

    def work() -> list[tuple[RunKey, Any]]:
        answers = [(run.key, condition(run, job)) for run, job in pairs(store, records())]
        return [(key, a if inspect.iscoroutine(a) else bool(a)) for key, a in answers]

    answers = await run_in_user_thread(work)
    return frozenset([key for key, a in answers if (await a if inspect.iscoroutine(a) else a)])


async def evaluate_function(
    action: Action, workflow: Any, task_manager: Any, study: str
) -> Matches | Truth:
    """Ask ``f(workflow, task_manager)`` or ``f()``."""
    if action.kind is ConditionKind.PLAIN:
        result = await _call(action.condition)
    else:
        result = await _call(action.condition, workflow, task_manager)
    # Reading a selection may touch the database: off the loop, in the asking scope.
    runs = await run_in_thread(lambda: to_run_list(result))
    if runs is None:
        return Truth(action.id, study, bool(result))
    return Matches(action.id, study, frozenset(run.key for run in runs))
