"""Leaving tasks that do not end when they are cancelled.

User code may swallow the cancellation. Whoever ends an event loop would wait for such a task for
ever, so it is named and removed from the tasks of the loop.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio.tasks import _unregister_task  # documented under "Extending asyncio"
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

PATIENCE: Final = 5.0  # seconds that user code may take to end after it was cancelled

logger = logging.getLogger("motoko.orchestrator")


async def end_tasks(tasks: Mapping[asyncio.Task[Any], str], seconds: float = PATIENCE) -> None:
    """Wait until cancelled tasks have ended; name and leave those that have not in time."""
    if not tasks:
        return
    _, left = await asyncio.wait(tasks, timeout=seconds)
    for task in left:
        logger.warning(
            "%s did not end within %g s after it was cancelled, and is left%s",
            tasks[task], seconds, _place(task),
        )  # fmt: skip
        _unregister_task(task)
        left_task: Any = task
        left_task._log_destroy_pending = False  # noqa: SLF001 - what is left is no news


async def end_other_tasks(seconds: float = PATIENCE) -> None:
    """Cancel all other tasks of the running loop, and leave those that do not end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await end_tasks({task: f"task {task.get_name()}" for task in others}, seconds)


def _place(task: asyncio.Task[Any]) -> str:
    """Return the line of user code at which a task waits; that of its innermost coroutine."""
    place = ""
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None)
        if frame is not None and not _own(frame.f_globals.get("__name__", "")):
            place = f" at {frame.f_code.co_filename}:{frame.f_lineno}"
        awaited = getattr(awaited, "cr_await", None)
    return place


def _own(module: str) -> bool:
    return module.partition(".")[0] in ("motoko", "anyio", "asyncio")
