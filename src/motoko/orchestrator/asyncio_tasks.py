"""asyncio tasks: interrupt, end and inspect them."""

from __future__ import annotations

import asyncio
import inspect
import logging
from asyncio.tasks import _unregister_task  # documented under "Extending asyncio"
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Mapping

CANCEL_TIMEOUT: Final = 5.0  # seconds that user code may take to end after it was cancelled
AS_COMPLETED: Final = "as_completed.<locals>._on_completion"
SHIELD: Final = "shield.<locals>._outer_done_callback"

logger = logging.getLogger("motoko.orchestrator")


class Interruptible:
    """Awaits a coroutine; ``interrupt`` raises an error in it, at the await where it is."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self._task: asyncio.Task[Any] | None = None
        self._error: BaseException | None = None

    @property
    def coroutine(self) -> Coroutine[Any, Any, Any]:
        """Return what is awaited."""
        return self._coroutine

    def interrupt(self, error: BaseException) -> bool:
        """Raise ``error`` in the coroutine, in this turn of the loop or the next.

        Returns False where the coroutine has ended, or another error is on its way. To be called
        in the event loop, from another task or a callback.
        """
        if self._task is None or self._error is not None:
            return False
        self._error = error
        self._task.cancel()  # ends what it waits for; it is told of the error instead
        return True

    def __await__(self) -> Generator[Any, Any, Any]:
        self._task = asyncio.current_task()
        value: Any = None
        error: BaseException | None = None
        try:
            while True:
                if self._error is not None:
                    error, self._error = self._error, None
                    if self._task is not None:
                        self._task.uncancel()
                try:
                    if error is None:
                        awaited = self._coroutine.send(value)
                    else:
                        awaited = self._coroutine.throw(error)
                except StopIteration as done:
                    return done.value
                value = error = None
                try:
                    value = yield awaited
                except BaseException as raised:  # noqa: BLE001 - it is the coroutine's to handle
                    error = raised
        finally:
            self._task = None


async def end_tasks(
    tasks: Mapping[asyncio.Task[Any], str], seconds: float = CANCEL_TIMEOUT
) -> None:
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


async def end_other_tasks(seconds: float = CANCEL_TIMEOUT) -> None:
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
