"""Telling whether a task waits for other tasks only, and for nothing else that could happen.

asyncio does not say what a future depends on, so the ways to wait for tasks are recognised one by
one. What is not recognised may be completed by a thread, a timer or a socket.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, Final

from motoko.orchestrator.interruptible import Interruptible

if TYPE_CHECKING:
    from collections.abc import Mapping

AS_COMPLETED: Final = "as_completed.<locals>._on_completion"
SHIELD: Final = "shield.<locals>._outer_done_callback"


def waits_for_tasks(task: asyncio.Task[Any]) -> bool:
    """Return whether a task waits for tasks, directly or in one of asyncio's and anyio's ways.

    These are ``gather``, ``shield``, ``wait``, ``as_completed`` and task groups.
    """
    waited = getattr(task, "_fut_waiter", None)
    return waited is not None and (_ends_with_tasks(waited) or _is_in_group(task, waited))


def _ends_with_tasks(waited: Any) -> bool:
    if isinstance(waited, asyncio.Task):
        return True
    children = getattr(waited, "_children", None)  # gather
    if children is not None:
        return all(map(_ends_with_tasks, children))
    for callback, _ in getattr(waited, "_callbacks", None) or ():
        if getattr(callback, "__qualname__", None) == SHIELD:
            return _ends_with_tasks(inspect.getclosurevars(callback).nonlocals.get("inner"))
    return False


def _is_in_group(task: asyncio.Task[Any], waited: Any) -> bool:
    """Return whether the code that waits is one that waits for several tasks."""
    frames = _frames(task)
    if not frames:
        return False
    name, variables = frames[-1]
    if name == "asyncio.tasks._wait":
        return all(map(_ends_with_tasks, variables["fs"]))
    if name == "asyncio.queues.Queue.get" and len(frames) > 1:
        caller = frames[-2][0]
        known = caller.startswith("asyncio.tasks.") and caller.endswith("._wait_for_one")
        unfinished = _unfinished(variables["self"]) if known else ()
        return bool(unfinished) and all(map(_ends_with_tasks, unfinished))
    # asyncio's and anyio's task groups: their own tasks only
    return getattr(variables.get("self"), "_on_completed_fut", None) is waited


def _unfinished(queue: Any) -> tuple[Any, ...]:
    """Return what ``as_completed`` waits for that puts results in this queue."""
    for task in asyncio.all_tasks():
        for callback, _ in getattr(task, "_callbacks", None) or ():
            if getattr(callback, "__qualname__", None) == AS_COMPLETED:
                variables = inspect.getclosurevars(callback).nonlocals
                if variables.get("done") is queue:
                    return tuple(variables["todo"])
            elif getattr(getattr(callback, "__self__", None), "_done", None) is queue:  # 3.13
                return tuple(callback.__self__._todo)  # noqa: SLF001 - nothing public lists them
    return ()


def _frames(task: asyncio.Task[Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return name and variables of the coroutines that a task is in, the innermost one last."""
    found: list[tuple[str, Mapping[str, Any]]] = []
    coroutine: Any = task.get_coro()
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        module = frame.f_globals.get("__name__", "")
        found.append((f"{module}.{frame.f_code.co_qualname}", frame.f_locals))
        coroutine = coroutine.cr_await
        if inspect.isgenerator(coroutine) and coroutine.gi_frame is not None:
            owner = coroutine.gi_frame.f_locals.get("self")
            coroutine = owner.coroutine if isinstance(owner, Interruptible) else None
    return found
