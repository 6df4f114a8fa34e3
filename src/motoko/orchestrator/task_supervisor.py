"""The asyncio tasks of one execution: an error in any of them ends the workflow."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.abc

from motoko.errors import MotokoError
from motoko.orchestrator.actions import to_exception
from motoko.orchestrator.asyncio_tasks import end_tasks
from motoko.orchestrator.loop_monitor import LoopBlockMonitor
from motoko.runtime.completion import to_completion

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

SUPERVISED: Final = "motoko.supervised"  # the name of tasks that may run user code


class TaskSupervisor:
    """Starts tasks, keeps the first error, and cancels everything at the end.

    ``on_failure`` is awaited with the first error. ``on_task_end`` is called after each task.
    """

    def __init__(
        self,
        on_failure: Callable[[BaseException], Awaitable[None]],
        on_task_end: Callable[[], None],
    ) -> None:
        self._on_failure = on_failure
        self._on_task_end = on_task_end
        self._loop = asyncio.get_running_loop()
        self._services: anyio.abc.TaskGroup | None = None
        self._scopes: set[anyio.CancelScope] = set()
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._cancelled = False
        self._done = asyncio.Event()
        self.in_flight = 0
        self.failure: BaseException | None = None
        self.ending = False

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Accept tasks within the block; cancel the remaining services at its end."""
        try:
            async with anyio.create_task_group() as services:
                self._services = services
                yield
                services.cancel_scope.cancel()
        finally:
            self._services = None

    @property
    def is_open(self) -> bool:
        """Whether tasks are accepted, and the workflow is not ending."""
        return self._services is not None and not self.ending

    def start_service(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run ``work`` without keeping the workflow from ending."""
        if self._services is not None:
            self._services.start_soon(self._run_service, work)

    async def _run_service(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - every error ends the workflow
            await self._fail(error)

    def start(self, work: Callable[[], Awaitable[Any]], description: str) -> asyncio.Task[None]:
        """Run ``work`` in a new task; the workflow does not end before it.

        ``description`` names it in warnings. No task group waits for it, because user code may
        swallow the cancellation.
        """
        assert self._services is not None
        self.in_flight += 1
        task = self._loop.create_task(self._run_guarded(work), name=SUPERVISED)
        self._tasks[task] = description
        task.add_done_callback(self._forget)
        return task

    def describe(self, task: asyncio.Task[None], description: str) -> None:
        """Replace the description of a task that ``start`` returned."""
        if task in self._tasks:
            self._tasks[task] = description

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if not task.cancelled():
            task.exception()  # a KeyboardInterrupt has ended the loop already

    async def _run_guarded(self, work: Callable[[], Awaitable[Any]]) -> None:
        try:
            with anyio.CancelScope() as scope:
                self._scopes.add(scope)
                if self.ending or self._cancelled:
                    scope.cancel()
                try:
                    await work()
                finally:
                    self._scopes.discard(scope)
        except asyncio.CancelledError as error:
            if self.ending or self._cancelled:
                raise
            problem = MotokoError("a task that was waited for has been cancelled")
            problem.__notes__ = getattr(error, "__notes__", [])
            await self._fail(problem)
        except (SystemExit, BaseExceptionGroup) as error:
            await self._fail(to_exception(error))
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - such as pytest's Failed
            await self._fail(error)
        finally:
            self.in_flight -= 1
            self._on_task_end()

    async def _fail(self, error: BaseException) -> None:
        try:
            if self.failure is None:
                self.failure = error
                await self._on_failure(error)
        finally:
            self._finish()

    def finish(self) -> None:
        """End the workflow, from any thread: cancel every task at its next await."""
        self._loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        self.ending = True
        self._cancel()
        self.end()

    def _cancel(self) -> None:
        for scope in tuple(self._scopes):
            scope.cancel()

    def end(self) -> None:
        """Let ``join`` return."""
        self._done.set()

    async def join(self) -> None:
        """Wait for the end; then cancel the tasks and wait for them."""
        try:
            with LoopBlockMonitor(self._tasks):
                await self._done.wait()
        finally:
            self._cancelled = True
            self._cancel()
            await to_completion(end_tasks(dict(self._tasks)))
