"""Builds a plan in an event loop without blocking it."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import copy_context

from motoko.errors import BuildError
from motoko.graph.build_state import BuildState, NextAction
from motoko.graph.thread_driver import WorkQueue, build_node, check_freshness, note

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from motoko.graph.build_state import StatusChange
    from motoko.graph.node import Node
    from motoko.graph.orders import Order
    from motoko.graph.thread_driver import Ended


async def run_in_loop(execution: BuildState, order: Order, threads: int) -> None:
    """Ask all nodes first, then deal with them.

    Nodes are asked in a thread, and functions called in threads, at most ``threads`` at a time;
    coroutine functions are awaited here, as many as there are. Events are emitted in the loop.
    Cancelling it cancels the coroutines and waits for the functions at work.
    """
    slots = max(threads, 1)
    with ThreadPoolExecutor(slots + 1, "motoko-graph") as pool:  # one more to ask in
        agenda = WorkQueue(await _visited(execution, pool), order)
        async with asyncio.TaskGroup() as group:
            await _Driver(execution, agenda, slots, pool).run(group)


async def _visited(execution: BuildState, pool: Executor) -> dict[str, tuple[str, ...]]:
    events: list[StatusChange] = []
    emit, execution.emit = execution.emit, events.append
    try:
        edges: dict[str, tuple[str, ...]] = await _in_thread(pool, lambda: build_node(execution))
    finally:
        execution.emit = emit
    for event in events:
        emit(event)
    return edges


class _Driver:
    def __init__(
        self, execution: BuildState, agenda: WorkQueue, slots: int, pool: Executor
    ) -> None:
        self._execution = execution
        self._agenda = agenda
        self._slots = slots
        self._pool = pool
        self._at_work = 0
        self._waiting: list[str] = []
        self._ended: asyncio.Queue[Ended] = asyncio.Queue()

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Deal with all nodes in ``group``."""
        execution = self._execution
        while True:
            while not execution.stopped and (name := self._agenda.take()):
                await self._deal(execution.nodes[name], group)
            if not self._at_work:
                return
            name, result, error = await self._ended.get()
            self._at_work -= 1
            if isinstance(error, asyncio.CancelledError):
                error = BuildError(f"{name!r} was cancelled")
            note(execution, name, result, error)
            self._agenda.settled(name)
            while self._waiting:
                self._agenda.put(self._waiting.pop())

    async def _deal(self, node: Node, group: asyncio.TaskGroup) -> None:
        execution = self._execution
        step = execution.decide(node.name)
        if step is NextAction.ASK:
            answer = await _in_thread(self._pool, lambda: check_freshness(node, ready=True))
            step = execution.answered(node.name, answer)
        if step is NextAction.NOTHING:
            self._agenda.settled(node.name)
            return
        assert node.action is not None
        awaited = node.awaited
        if step is NextAction.WAIT or not (awaited or self._slots):
            self._waiting.append(node.name)
            return
        execution.started(node.name)
        self._at_work += 1
        self._slots -= not awaited
        group.create_task(self._act(node.name, node.action, awaited=awaited))

    async def _act(self, name: str, action: Callable[[], Any], *, awaited: bool) -> None:
        result, error = None, None
        try:
            result = await (action() if awaited else _in_thread(self._pool, action))
        except BaseException as caught:  # noqa: BLE001 - handed on to the driver
            error = caught
        self._slots += not awaited
        self._ended.put_nowait((name, result, error))


async def _in_thread(pool: Executor, function: Callable[[], Any]) -> Any:
    """Return what ``function`` returns, called in a thread; if cancelled, wait for its end."""
    call = copy_context().run
    future = asyncio.get_running_loop().run_in_executor(pool, call, function)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
