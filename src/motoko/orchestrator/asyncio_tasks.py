"""asyncio tasks: interrupt, end and inspect them."""

from __future__ import annotations

import asyncio
import inspect
import logging
from asyncio.tasks import _unregister_task  # documented under "Extending asyncio"
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Mapping

CANCEL_TIMEOUT: Final = 5.0  # seconds that user code may take to end after its cancellation
AS_COMPLETED: Final = "as_completed.<locals>._on_completion"
SHIELD: Final = "shield.<locals>._outer_done_callback"

logger = logging.getLogger("motoko.orchestrator")


class Interruptible:
    """Awaits a coroutine; ``interrupt`` raises an error in it, at its current await."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.coroutine = coroutine
        self._task: asyncio.Task[Any] | None = None
        self._error: BaseException | None = None

    def interrupt(self, error: BaseException) -> bool:
        """Raise ``error`` in the coroutine, in this turn of the loop or the next.

        Return False if the coroutine has ended or another error is pending. Call it in the event
        loop, from another task or a callback.
        """
        if self._task is None or self._error is not None:
            return False
        self._error = error
        self._task.cancel()  # ends the await; the coroutine gets the error instead
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
                        awaited = self.coroutine.send(value)
                    else:
                        awaited = self.coroutine.throw(error)
                except StopIteration as done:
                    return done.value
                value = error = None
                try:
                    value = yield awaited
                except BaseException as raised:  # noqa: BLE001 - the coroutine handles it
                    error = raised
        finally:
            self._task = None


async def end_tasks(
    tasks: Mapping[asyncio.Task[Any], str], seconds: float = CANCEL_TIMEOUT
) -> None:
    """Wait until cancelled tasks have ended; name and abandon those that do not end in time.

    User code may swallow the cancellation. An abandoned task is removed from the loop's tasks,
    because the end of the loop would wait for it forever.
    """
    if not tasks:
        return
    _, running = await asyncio.wait(tasks, timeout=seconds)
    for task in running:
        logger.warning(
            "%s did not end within %g s after it was cancelled, and is abandoned%s",
            tasks[task], seconds, _location(task),
        )  # fmt: skip
        _unregister_task(task)
        abandoned: Any = task
        abandoned._log_destroy_pending = False  # noqa: SLF001 - it was reported


async def end_other_tasks(seconds: float = CANCEL_TIMEOUT) -> None:
    """Cancel all other tasks of the running loop, and abandon those that do not end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await end_tasks({task: f"task {task.get_name()}" for task in others}, seconds)


def _location(task: asyncio.Task[Any]) -> str:
    """Return the innermost line of user code at which a task waits."""
    location = ""
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None)
        if frame is not None:
            package = frame.f_globals.get("__name__", "").partition(".")[0]
            if package not in ("motoko", "anyio", "asyncio"):
                location = f" at {frame.f_code.co_filename}:{frame.f_lineno}"
        awaited = getattr(awaited, "cr_await", None)
    return location


# -- inspecting ----------------------------------------------------------------------------
#
# asyncio does not report on what a future depends, so each way to wait for tasks is recognised
# separately. A thread, a timer or a socket may complete any other future.


def waits_for_tasks(task: asyncio.Task[Any]) -> bool:
    """Return whether a task waits only for tasks.

    It may do so directly or with ``gather``, ``shield``, ``wait``, ``as_completed``, or a task
    group of asyncio or anyio.
    """
    future = getattr(task, "_fut_waiter", None)
    return future is not None and (_ends_with_tasks(future) or _is_in_group(task, future))


def _ends_with_tasks(future: Any) -> bool:
    if isinstance(future, asyncio.Task):
        return True
    children = getattr(future, "_children", None)  # gather
    if children is not None:
        return all(map(_ends_with_tasks, children))
    for callback, _ in getattr(future, "_callbacks", None) or ():
        if getattr(callback, "__qualname__", None) == SHIELD:
            return _ends_with_tasks(inspect.getclosurevars(callback).nonlocals.get("inner"))
    return False


def _is_in_group(task: asyncio.Task[Any], future: Any) -> bool:
    """Return whether the task's innermost coroutine waits for several tasks."""
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
    # The task groups of asyncio and anyio.
    return getattr(variables.get("self"), "_on_completed_fut", None) is future


def _unfinished(queue: Any) -> tuple[Any, ...]:
    """Return the unfinished tasks of the ``as_completed`` that puts results in this queue."""
    for task in asyncio.all_tasks():
        for callback, _ in getattr(task, "_callbacks", None) or ():
            if getattr(callback, "__qualname__", None) == AS_COMPLETED:
                variables = inspect.getclosurevars(callback).nonlocals
                if variables.get("done") is queue:
                    return tuple(variables["todo"])
            elif getattr(getattr(callback, "__self__", None), "_done", None) is queue:  # 3.13
                return tuple(callback.__self__._todo)  # noqa: SLF001 - no public list exists
    return ()


def _frames(task: asyncio.Task[Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return name and variables of a task's coroutines, the innermost one last."""
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
