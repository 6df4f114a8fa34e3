"""Register actions and error handlers: the arguments of the calls are checked and converted."""

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
    is_no_param_func,
    is_run_filter,
    is_workflow_filter,
    no_action,
)
from motoko.orchestrator.failures import ErrorHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from motoko.api.task_manager import TaskManager
    from motoko.core.constraints import Constraint
    from motoko.orchestrator.actions import ActionRegistry, EventCallback, EventCondition
    from motoko.orchestrator.awaiting import AwaitContext

logger = logging.getLogger("motoko.api.workflow")


class ActionRegistration:
    """The registered actions and error handlers of a workflow."""

    context: AwaitContext
    task_managers: dict[str, TaskManager]

    def __init__(self) -> None:
        self.actions: ActionRegistry = {}
        self._error_handlers: list[ErrorHandler] = []

    def task_manager(self, study: str) -> TaskManager:
        """Return the task manager of a study or alias."""
        raise NotImplementedError

    def add_action(
        self,
        event_name: str,
        task: str = ALL,
        event: EventCondition = None,
        get_params: Callable[[], Any] | None = None,
        f: EventCallback | None = None,
        *,
        once: bool = False,
    ) -> None:
        """Register an action and the condition under which it fires.

        ``event`` is a constraint or a list of them, ``f(run, job)``, ``f(workflow, task_manager)``
        or ``f()``. With ``once``, at most one firing per run completes. The action replaces an
        earlier one with the same task and name. Raise EventError or ConstraintError.
        """
        managers = self._managers_of(task)
        action = _build_action(event_name, task, managers, event, f, get_params, once=once)
        self.actions.setdefault(action.task, {})[event_name] = action
        if self.context.execution is not None:
            self.context.execution.register(action)

    def _managers_of(self, task: str) -> list[TaskManager]:
        return [*self.task_managers.values()] if task == ALL else [self.task_manager(task)]

    def add_error_handler(
        self,
        event: EventCondition = "state = FAILED",
        f: EventCallback = no_action,
        *,
        task: str = ALL,
        get_params: Callable[[], Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Register a function that is called with unhandled failed runs.

        The default condition selects every failure. After the handlers the workflow ends and
        ``execute`` raises. ``task`` and ``get_params`` are as in ``add_action``. ``kwargs`` are
        passed to ``f``, with ``workflow`` and ``runs``.
        """
        handler = _build_error_handler(self._managers_of(task), event, f, get_params, kwargs)
        if self.context.execution is not None:
            self.context.execution.failures.add_handler(handler)
        else:
            self._error_handlers.append(handler)

    is_run_filter = staticmethod(is_run_filter)
    is_workflow_filter = staticmethod(is_workflow_filter)
    is_no_param_func = staticmethod(is_no_param_func)

    def _registered(self) -> list[Action]:
        return [action for group in self.actions.values() for action in group.values()]


def _build_action(
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


def _build_error_handler(
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
