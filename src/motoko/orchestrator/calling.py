"""Calling user functions, and what their exits mean."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from motoko.errors import MotokoError
from motoko.orchestrator.actions import accepted_arguments
from motoko.storage.threads import run_in_user_thread

if TYPE_CHECKING:
    from collections.abc import Mapping


def is_normal_exit(error: SystemExit) -> bool:
    """Return whether ``sys.exit`` was called with success: that sets ``finished``."""
    return error.code is None or error.code == 0


def problem_of(error: BaseException) -> Exception:
    """Return what to raise for an exit, or for a group of exceptions that may hold one."""
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
    """Call a user's callback with what its signature takes: a sync one in a thread."""
    kwargs = accepted_arguments(function, offered)
    if inspect.iscoroutinefunction(function):
        return await function(**kwargs)
    result = await run_in_user_thread(lambda: function(**kwargs))
    # Not whatever can be awaited: a selection that is returned is an answer, not a wait.
    return await result if inspect.iscoroutine(result) else result
