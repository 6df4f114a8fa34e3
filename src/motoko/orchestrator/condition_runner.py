"""Call Python conditions in threads, for a short time each turn.

Between turns, changes are read and due actions start: conditions wait until the actions that just
started have committed. One that blocks keeps its thread, and the others continue in another one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

import anyio

from motoko.storage.threads import run_in_user_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from motoko.orchestrator.task_supervisor import TaskSupervisor
    from motoko.runtime.ports import Clock

TURN: Final = 0.001  # seconds after which a thread begins no further work
HEAD_START: Final = 0.05  # seconds for which conditions wait for actions that have just started
PATIENCE: Final = 0.02  # seconds after which work that blocks is left to its thread
SLOW: Final = 0.005  # seconds of work that is expected to block
SLOW_PATIENCE: Final = 0.002


class Work(Protocol):
    """The evaluation of a condition. ``expected``: the seconds that it took before."""

    expected: float

    @property
    def description(self) -> str:
        """The text that names it in warnings."""

    def step(self, deadline: float) -> bool:
        """Work in a thread, to ``deadline`` or further; return whether this was the last step.

        Keep exceptions for ``finish``.
        """

    def finish(self) -> None:
        """Apply the results, or raise the exception, in the event loop."""


class _Queues:
    """The open work, quick work first. Threads and the event loop share it."""

    def __init__(self) -> None:
        self._quick: deque[Work] = deque()
        self._slow: deque[Work] = deque()
        self._long: deque[Work] = deque()

    def add(self, work: Work) -> None:
        (self._quick if work.expected < SLOW else self._slow).append(work)

    def add_long(self, work: Work) -> None:
        """Add work of many steps, or its next ones, after all other work."""
        self._long.append(work)

    def __bool__(self) -> bool:
        """Whether there is work."""
        return bool(self._quick or self._slow or self._long)

    def pop(self, *, quick: bool) -> Work | None:
        """Take the next work, None if there is none; ``quick``: only work of this kind."""
        for queue in (self._quick,) if quick else (self._quick, self._slow, self._long):
            try:
                return queue.popleft()
            except IndexError:  # even if it was not empty a moment ago
                continue
        return None


class _Turn:
    """The work of one thread in one turn. ``released``: another thread continues."""

    def __init__(self, queues: _Queues, clock: Clock) -> None:
        self._queues = queues
        self._clock = clock
        self._first = self._current = queues.pop(quick=False)
        self.finished: deque[Work] = deque()
        self.released = False
        self.ended = asyncio.Event()

    @property
    def patience(self) -> float:
        slow = self._first is not None and self._first.expected >= SLOW
        return SLOW_PATIENCE if slow else PATIENCE

    @property
    def description(self) -> str:
        """The description of the current work."""
        return "the conditions" if self._current is None else self._current.description

    def run(self) -> None:
        """Work until the turn ends; call it in a thread."""
        deadline = self._clock.monotonic() + TURN
        while self._current is not None:
            if self._current.step(deadline):
                self.finished.append(self._current)
            else:
                self._queues.add_long(self._current)
            if self.released or self._clock.monotonic() >= deadline:
                return
            self._current = self._queues.pop(quick=True)


class ConditionRunner:
    """Executes work in turns, while there is any.

    ``is_busy`` returns whether changes are being read or actions have just started. Before each
    turn, ``prepare`` adds work; ``on_results`` is called after it if something is finished.
    """

    def __init__(
        self,
        tasks: TaskSupervisor,
        clock: Clock,
        *,
        is_busy: Callable[[], bool],
        prepare: Callable[[], None],
        on_results: Callable[[], None],
    ) -> None:
        self._tasks = tasks
        self._clock = clock
        self._is_busy = is_busy
        self._prepare = prepare
        self._on_results = on_results
        self._queues = _Queues()
        self._running = False
        self._wake = asyncio.Event()

    def add(self, work: Work) -> None:
        """Add work, which begins after a call of ``start``."""
        self._queues.add(work)

    def add_long(self, work: Work) -> None:
        """Add work of many steps, after all other work."""
        self._queues.add_long(work)

    def start(self) -> None:
        """Begin with the work, unless it is running."""
        if not self._running and not self._tasks.ending:
            self._running = True
            self._tasks.start(self._run, "the conditions")

    def wake(self) -> None:
        """Call ``is_busy`` again, after a change of its result."""
        self._wake.set()

    async def give_way(self) -> None:
        """Let all threads work, and wait a short time for actions that have just started."""
        await anyio.sleep(TURN)  # a mere turn of the loop rarely gives another thread Python's lock
        await self._wait_for_actions()

    async def _run(self) -> None:
        try:
            while not self._tasks.ending:
                await self._wait_for_actions()
                self._prepare()
                if not self._queues:
                    break
                await self._take_turn()
        finally:
            self._running = False

    async def _wait_for_actions(self) -> None:
        deadline = self._clock.monotonic() + HEAD_START
        while self._is_busy() and (left := deadline - self._clock.monotonic()) > 0:
            self._wake.clear()
            with anyio.move_on_after(left):
                await self._wake.wait()

    async def _take_turn(self) -> None:
        turn = _Turn(self._queues, self._clock)
        task = self._tasks.start(lambda: self._execute(turn), turn.description)
        with anyio.move_on_after(turn.patience):
            await turn.ended.wait()
        if not turn.ended.is_set():
            turn.released = True
            self._tasks.describe(task, turn.description)
            self._finish(turn)

    async def _execute(self, turn: _Turn) -> None:
        try:
            await run_in_user_thread(turn.run)
        finally:
            turn.ended.set()
        self._finish(turn)
        if self._queues:
            self.start()

    def _finish(self, turn: _Turn) -> None:
        if not turn.finished:
            return
        while turn.finished:
            turn.finished.popleft().finish()
        self._on_results()
