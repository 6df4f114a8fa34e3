"""Registered (condition, action) pairs; how user functions are recognised and called."""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeAlias, TypeVar

from motoko.core.firing import ConditionKind
from motoko.errors import EventError, MotokoError
from motoko.runtime.untrusted_files import FileContent, read_file
from motoko.storage.threads import run_in_user_thread

if TYPE_CHECKING:
    from motoko.core.constraints import Constraint

P = ParamSpec("P")
T = TypeVar("T")

EventCallback: TypeAlias = Callable[..., Awaitable[Any] | Any]
EventCondition: TypeAlias = str | list[str] | Callable[..., Any] | None

ALL = "__all__"
_EVENT_MARK = "__motoko_event__"
MAX_SOURCE: Final = 16 * 2**20  # bytes of a module that its digest covers


@dataclass(frozen=True, slots=True)
class Action:
    """A condition, and the callback to call when it holds.

    ``constraints`` holds the parsed constraint for each study if the condition is a constraint.
    ``code`` is the digest of the callback's module.
    """

    name: str
    task: str
    studies: tuple[str, ...]
    kind: ConditionKind
    condition: EventCondition
    callback: EventCallback
    get_params: Callable[[], Any] | None = None
    once: bool = False
    constraints: Mapping[str, Constraint] | None = None
    code: str = ""

    @property
    def id(self) -> str:
        """Return the name under which firings are recorded, unique within the workflow."""
        return self.name if self.task == ALL else f"{self.task}.{self.name}"

    @property
    def where(self) -> str:
        """Return the callback's location, for messages."""
        return location(self.callback)


ActionRegistry: TypeAlias = dict[str, dict[str, Action]]


def location(function: Any) -> str:
    """Return ``name (file:line)`` of a function."""
    name = getattr(function, "__qualname__", None) or repr(function)
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    return name if code is None else f"{name} ({code.co_filename}:{code.co_firstlineno})"


def code_digest(function: Any) -> str:
    """Return a digest of the file that defines a function, empty if it cannot be read."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    path = "" if code is None else os.path.realpath(code.co_filename)
    found = read_file(path, limit=MAX_SOURCE) if path else FileContent()
    return hashlib.blake2b(found.data, digest_size=8).hexdigest() if found.data else ""


def event(func: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Mark an action as one that may be rerun after a conflict.

    The action is called again on fresh data if another process changed its runs or the data that
    it wrote. The effects of the first call are discarded.
    """

    @functools.wraps(func)
    async def action(*args: P.args, **kwargs: P.kwargs) -> T:
        return await func(*args, **kwargs)

    setattr(action, _EVENT_MARK, True)
    return action


def is_event(func: Any) -> bool:
    """Return whether a function was decorated with ``@event``."""
    return getattr(func, _EVENT_MARK, False) is True


def no_action(*_args: Any, **_kwargs: Any) -> None:
    """Do nothing."""


def _parameter_names(f: Any) -> list[str] | None:
    if not callable(f):
        return None
    try:
        return list(inspect.signature(f).parameters)
    except (TypeError, ValueError):
        return None


def is_run_filter(f: Any) -> bool:
    """Return whether ``f`` is a condition ``f(run, job)``."""
    return _parameter_names(f) == ["run", "job"]


def is_workflow_filter(f: Any) -> bool:
    """Return whether ``f`` is a condition ``f(workflow, task_manager)``."""
    return _parameter_names(f) == ["workflow", "task_manager"]


def is_no_param_func(f: Any) -> bool:
    """Return whether ``f`` is a condition ``f()``."""
    return _parameter_names(f) == []


def is_async(function: Any) -> bool:
    """Return whether a function or a callable object is async."""
    while isinstance(function, functools.partial):
        function = function.func
    called = getattr(type(function), "__call__", None)  # noqa: B004 - its kind is needed
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


def condition_kind(name: str, condition: Any) -> ConditionKind:
    """Return a condition's kind; EventError if it is not a condition."""
    if isinstance(condition, str | list | tuple):
        return ConditionKind.CONSTRAINT
    if inspect.isgeneratorfunction(condition) or inspect.isasyncgenfunction(condition):
        raise EventError(
            f"event {name!r}: the condition {location(condition)} is a generator function",
            hint="Return true or false; a condition may await, but not yield.",
        )
    if is_run_filter(condition):
        return ConditionKind.RUN_FILTER
    if is_workflow_filter(condition):
        return ConditionKind.TASK_MANAGER_FILTER
    if is_no_param_func(condition):
        return ConditionKind.NO_ARGUMENTS
    names = _parameter_names(condition)
    shown = repr(condition) if names is None else f"{location(condition)}, f({', '.join(names)})"
    raise EventError(
        f"event {name!r}: {shown} is not a condition",
        hint="A condition is a constraint ('state = FINISHED'), a list of them, or a function "
        "f(run, job), f(workflow, task_manager) or f().",
    )


def accepted_arguments(function: Any, offered: Mapping[str, Any]) -> dict[str, Any]:
    """Return the offered keyword arguments that a callback's signature accepts."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return dict(offered)
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return dict(offered)
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = {p.name for p in parameters if p.kind in by_name}
    return {name: value for name, value in offered.items() if name in names}


def check_callback(name: str, callback: Any) -> None:
    """Raise EventError unless ``callback`` can be an action."""
    if not callable(callback):
        raise EventError(f"event {name!r}: the action is {callback!r}, not a function")
    if inspect.isgeneratorfunction(callback) or inspect.isasyncgenfunction(callback):
        raise EventError(
            f"event {name!r}: {location(callback)} is a generator function",
            hint="An action is a plain or an async function; it may await, but not yield.",
        )


def to_run_list(result: Any) -> list[Any] | None:
    """Return the runs in a condition's result; None if it is a plain value.

    Runs are a selection, a run list, or any list or tuple of runs or of (run, job).
    """
    from motoko.handles.run import Run

    if isinstance(result, str | bytes | Mapping) or not isinstance(result, Iterable):
        return None
    items = list(result)
    runs = [item[0] if isinstance(item, tuple) and item else item for item in items]
    return runs if all(isinstance(run, Run) for run in runs) else None


def is_normal_exit(error: SystemExit) -> bool:
    """Return whether ``sys.exit`` reported success, which sets ``finished``."""
    return error.code is None or error.code == 0


def to_exception(error: BaseException) -> Exception:
    """Return an exception to raise for an exit, or for a group that may contain one."""
    if isinstance(error, ExceptionGroup):
        return error
    found = _first_exit(error)
    if found is None:
        problem = MotokoError(f"{type(error).__name__} was raised: {error}")
    else:
        problem = MotokoError(f"sys.exit({found.code!r}) was called")
    problem.__notes__ = getattr(error, "__notes__", [])
    return problem.with_traceback((found or error).__traceback__)


def _first_exit(error: BaseException) -> SystemExit | None:
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_first_exit, error.exceptions)), None)
    return error if isinstance(error, SystemExit) else None


async def call(function: Any, offered: Mapping[str, Any]) -> Any:
    """Call a user's callback with the arguments that it accepts: a sync one in a thread."""
    kwargs = accepted_arguments(function, offered)
    if inspect.iscoroutinefunction(function):
        return await function(**kwargs)
    return await call_in_thread(lambda: function(**kwargs))


async def call_in_thread(function: Callable[[], Any]) -> Any:
    """Call a user's function in a thread; await a coroutine that it returns.

    Another awaitable, such as a selection, is a result.
    """
    result = await run_in_user_thread(function)
    return await result if inspect.iscoroutine(result) else result
