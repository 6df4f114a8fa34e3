"""Convert the arguments of registration calls to actions and error handlers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from motoko.core.constraints import parse_each
from motoko.core.firing import ConditionKind
from motoko.errors import ConstraintError, EventError
from motoko.orchestrator.actions import (
    ALL,
    Action,
    check_callback,
    code_digest,
    condition_kind,
    is_run_filter,
    no_action,
)
from motoko.orchestrator.failures import ErrorHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from motoko.api.task_manager import TaskManager
    from motoko.core.constraints import Constraint
    from motoko.orchestrator.actions import EventCallback, EventCondition

logger = logging.getLogger("motoko.api.workflow")


def build_action(
    name: str,
    task: str,
    managers: Sequence[TaskManager],
    condition: EventCondition,
    callback: EventCallback | None,
    get_params: Callable[[], Any] | None,
    *,
    once: bool,
) -> Action:
    """Return an action for the studies of these managers; ``task`` may be ALL.

    Raise EventError or ConstraintError.
    """
    callback = no_action if callback is None else callback
    check_callback(name, callback)
    _check_get_params(f"event {name!r}", get_params)
    kind = condition_kind(name, condition)
    studies = tuple(manager.name for manager in managers)
    constraints = _parse(name, managers, condition)
    task = task if task == ALL else studies[0]
    code = code_digest(callback)
    return Action(
        name, task, studies, kind, condition, callback, get_params, once, constraints, code
    )


def build_error_handler(
    managers: Sequence[TaskManager],
    condition: EventCondition,
    callback: EventCallback,
    get_params: Callable[[], Any] | None,
    kwargs: dict[str, Any],
) -> ErrorHandler:
    """Return an error handler for the studies of these managers."""
    check_callback("error handler", callback)
    _check_get_params("error handler", get_params)
    constraints = None
    if not is_run_filter(condition):
        constraints = _parse("error handler", managers, condition)
        if constraints is None:
            raise EventError(
                "the condition of an error handler must be a constraint or a function f(run, job)"
            )
    studies = tuple(manager.name for manager in managers)
    return ErrorHandler(condition, studies, constraints, callback, get_params, kwargs)


def _check_get_params(what: str, get_params: Any) -> None:
    if get_params is not None and not callable(get_params):
        raise EventError(f"{what}: get_params is not a function")


def _parse(
    name: str, managers: Sequence[TaskManager], condition: Any
) -> Mapping[str, Constraint] | None:
    """Return the constraint for each study, None if the condition is a function."""
    if condition_kind(name, condition) is not ConditionKind.CONSTRAINT:
        return None
    try:
        parsed = parse_each(condition, [manager.columns for manager in managers])
    except ConstraintError as error:
        error.add_note(f"in the condition of event {name!r}")
        raise
    for constraint in parsed.values():
        for warning in constraint.warnings:
            logger.warning("event %s: %s", name, warning)
    return parsed
