"""Drives a build in an event loop without blocking it."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import copy_context

from motoko.errors import BuildError
from motoko.graph.build_state import BuildState, NextAction
from motoko.graph.plan import WorkQueue
from motoko.graph.thread_driver import check_freshness, record_end, visit_all

TYPE_CHECKING = False  # type checkers assume True; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from motoko.graph.build_state import StatusChange
    from motoko.graph.node import Node
    from motoko.graph.plan import Order
    from motoko.graph.thread_driver import ActionEnd


async def run_in_loop(state: BuildState, order: Order, threads: int) -> None:
    """Check all nodes, then process them.

    Checks and plain functions run in threads, at most ``threads`` functions at a time. Coroutine
    functions are awaited here without a limit. Events are emitted in the loop. Cancellation
    cancels the coroutines and waits for the running functions.
    """
    slots = max(threads, 1)
    with ThreadPoolExecutor(slots + 1, "motoko-graph") as pool:  # one more thread for checks
        edges = await _visit_in_thread(state, pool)
        queue = WorkQueue(edges, order(edges))
        async with asyncio.TaskGroup() as group:
            await _Driver(state, queue, slots, pool).run(group)


async def _visit_in_thread(state: BuildState, pool: Executor) -> dict[str, tuple[str, ...]]:
    events: list[StatusChange] = []
    emit, state.emit = state.emit, events.append
    try:
        edges: dict[str, tuple[str, ...]] = await _in_thread(pool, lambda: visit_all(state))
    finally:
        state.emit = emit
    for event in events:
        emit(event)
    return edges


class _Driver:
    def __init__(self, state: BuildState, queue: WorkQueue, slots: int, pool: Executor) -> None:
        self._state = state
        self._queue = queue
        self._slots = slots
        self._pool = pool
        self._running = 0
        self._waiting: list[str] = []
        self._ended: asyncio.Queue[ActionEnd] = asyncio.Queue()

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Process all nodes; ``group`` runs their actions."""
        state, queue = self._state, self._queue
        while True:
            while not state.stopped and (name := queue.pop()) is not None:
                await self._process(state.nodes[name], group)
            if not self._running:
                return
            name, result, error = await self._ended.get()
            self._running -= 1
            if isinstance(error, asyncio.CancelledError):
                error = BuildError(f"{name!r} was cancelled")
            record_end(state, name, result, error)
            queue.complete(name)
            while self._waiting:
                queue.push(self._waiting.pop())

    async def _process(self, node: Node, group: asyncio.TaskGroup) -> None:
        state = self._state
        step = state.next_action(node.name)
        if step is NextAction.CHECK:
            verdict = await _in_thread(self._pool, lambda: check_freshness(node, ready=True))
            step = state.record_recheck(node.name, verdict)
        if step is NextAction.DONE:
            self._queue.complete(node.name)
            return
        assert node.action is not None
        is_async = node.is_async
        if step is NextAction.WAIT or not (is_async or self._slots):
            self._waiting.append(node.name)
            return
        state.record_start(node.name)
        self._running += 1
        self._slots -= not is_async
        group.create_task(self._run_action(node.name, node.action, is_async=is_async))

    async def _run_action(self, name: str, action: Callable[[], Any], *, is_async: bool) -> None:
        result, error = None, None
        try:
            result = await (action() if is_async else _in_thread(self._pool, action))
        except BaseException as caught:  # noqa: BLE001 - raised by the driver
            error = caught
        self._slots += not is_async
        self._ended.put_nowait((name, result, error))


async def _in_thread(pool: Executor, function: Callable[[], Any]) -> Any:
    """Call ``function`` in a thread; wait for its end even if cancelled."""
    call = copy_context().run
    future = asyncio.get_running_loop().run_in_executor(pool, call, function)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
