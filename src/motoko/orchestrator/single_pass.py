"""Evaluating events now: ``check_events``, ``check_event`` and ``fire_event``."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from motoko.core.firing import ConditionKind
from motoko.orchestrator.actions import Action, event, is_event, to_run_list

if TYPE_CHECKING:
    from collections.abc import Iterable

    from motoko.orchestrator.awaiting import AwaitContext
    from motoko.orchestrator.execution import WorkflowExecution


async def evaluate_once(
    context: AwaitContext, execution: WorkflowExecution, actions: Iterable[Action]
) -> bool:
    """Ask these actions' conditions once, fire what holds, and return when that has ended.

    Returns whether something fired.
    """
    wanted = list(actions)
    if context.execution is not None:
        return await _fired(context.execution, wanted)
    fired: list[bool] = []

    async def check(workflow: Any) -> None:
        del workflow
        fired.append(await _fired(execution, wanted))
        execution.finish()

    await execution.run(check, context, wanted)
    return any(fired)


async def _fired(execution: WorkflowExecution, actions: list[Action]) -> bool:
    def count() -> int:
        known = {event.name for event in execution.engine.events()}
        return sum(execution.engine.fired(a.id) for a in actions if a.id in known)

    before = count()
    await execution.settled(actions)
    return count() > before


async def fire_now(
    context: AwaitContext,
    execution: WorkflowExecution,
    name: str,
    task: str,
    callback: Any,
    trigger: Any,
    get_params: Any,
) -> Any:
    """Fire one action for a given trigger, in transactions, and return what it returned."""
    runs = to_run_list(trigger)
    results: list[Any] = []

    @functools.wraps(callback)
    async def remembering(**kwargs: Any) -> None:
        from motoko.orchestrator.calling import call

        results.append(await call(callback, kwargs))

    params = get_params if get_params is None or callable(get_params) else lambda: get_params
    chosen = list(runs) if runs is not None else bool(trigger)
    action = Action(
        name,
        task,
        tuple(sorted({run.study for run in runs})) if runs else ("",),
        ConditionKind.PLAIN,
        lambda: chosen,
        event(remembering) if is_event(callback) else remembering,
        params,
    )
    await evaluate_once(context, execution, [action])
    return results[-1] if results else None
