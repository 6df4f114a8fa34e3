"""Conditions are called in turns: after actions that have just started, and past blocked ones."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest

from motoko.orchestrator import condition_runner
from motoko.orchestrator.condition_runner import ConditionRunner
from motoko.runtime.ports import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

pytestmark = pytest.mark.unit

T = TypeVar("T")
PATIENCE = 60.0  # seconds


class Tasks:
    """A task supervisor without its guards."""

    ending = False

    def __init__(self) -> None:
        self.tasks: dict[asyncio.Task[None], str] = {}
        self.errors: list[BaseException] = []

    def start(self, work: Callable[[], Awaitable[Any]], description: str) -> asyncio.Task[None]:
        async def guarded() -> None:
            try:
                await work()
            except ValueError as error:
                self.errors.append(error)

        task = asyncio.get_running_loop().create_task(guarded())
        self.tasks[task] = description
        task.add_done_callback(self.tasks.pop)
        return task

    def describe(self, task: asyncio.Task[None], description: str) -> None:
        if task in self.tasks:
            self.tasks[task] = description


class Step:
    """Work that records its calls; ``block`` waits for ``release``."""

    def __init__(
        self, log: list[str], name: str, *, expected: float = 0.0, steps: int = 1,
        block: bool = False, error: Exception | None = None,
    ) -> None:  # fmt: skip
        self.expected = expected
        self.description = name
        self.release = threading.Event()
        self._log, self._steps, self._error = log, steps, error
        if not block:
            self.release.set()

    def step(self, _deadline: float) -> bool:
        assert self.release.wait(PATIENCE)
        self._log.append(self.description)
        self._steps -= 1
        return not self._steps

    def finish(self) -> None:
        self._log.append(f"{self.description} done")
        if self._error is not None:
            raise self._error


class Conditions:
    """A runner with the state that it asks for."""

    def __init__(self) -> None:
        self.tasks: Any = Tasks()
        self.log: list[str] = []
        self.busy = False
        self.prepared: list[Callable[[], None]] = []
        self.results = asyncio.Event()
        self.runner = ConditionRunner(
            cast("Any", self.tasks),
            SYSTEM.clock,
            is_busy=lambda: self.busy,
            prepare=self.prepare,
            on_results=self.results.set,
        )

    def prepare(self) -> None:
        if self.prepared:
            self.prepared.pop(0)()

    async def end(self) -> None:
        while self.tasks.tasks:
            await asyncio.wait(tuple(self.tasks.tasks), timeout=PATIENCE)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 - threads change it
                await asyncio.sleep(0)


def run(body: Callable[[Conditions], Coroutine[Any, Any, T]]) -> T:
    async def main() -> T:
        return await body(Conditions())

    return asyncio.run(main())


def test_all_work_is_done_once_quick_work_first() -> None:
    async def body(conditions: Conditions) -> None:
        log, runner = conditions.log, conditions.runner
        runner.add_long(Step(log, "walk", steps=2))
        runner.add(Step(log, "slow", expected=1.0))
        runner.add(Step(log, "quick"))
        conditions.prepared.append(lambda: runner.add(Step(log, "new")))
        runner.start()
        runner.start()
        await conditions.end()
        steps = [entry for entry in log if not entry.endswith("done")]
        assert steps == ["quick", "new", "slow", "walk", "walk"]
        assert sorted(set(log) - set(steps)) == ["new done", "quick done", "slow done", "walk done"]
        assert conditions.results.is_set()

    run(body)


def test_other_work_gives_way_while_actions_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(condition_runner, "HEAD_START", PATIENCE)

    async def body(conditions: Conditions) -> None:
        conditions.busy = True
        waiting = asyncio.create_task(conditions.runner.give_way())
        entered = threading.Event()
        await asyncio.to_thread(entered.wait, 3 * condition_runner.TURN)
        for _ in range(10):
            conditions.runner.wake()
            await asyncio.sleep(0)
        assert not waiting.done()
        conditions.busy = False
        conditions.runner.wake()
        async with asyncio.timeout(PATIENCE):
            await waiting

    run(body)


def test_work_begins_when_nothing_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(condition_runner, "HEAD_START", PATIENCE)

    async def body(conditions: Conditions) -> None:
        conditions.busy = True
        conditions.runner.add(Step(conditions.log, "a"))
        conditions.runner.start()
        for _ in range(10):
            conditions.runner.wake()
            await asyncio.sleep(0)
        assert conditions.log == []
        conditions.busy = False
        conditions.runner.wake()
        await conditions.end()
        assert conditions.log == ["a", "a done"]

    run(body)


def test_work_begins_after_a_while_in_a_process_that_is_always_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(condition_runner, "HEAD_START", 0.0)

    async def body(conditions: Conditions) -> None:
        conditions.busy = True
        conditions.runner.add(Step(conditions.log, "a"))
        conditions.runner.start()
        await conditions.end()
        assert conditions.log == ["a", "a done"]

    run(body)


@pytest.mark.parametrize("expected", [0.0, 1.0])
def test_blocked_work_delays_no_other(expected: float) -> None:
    async def body(conditions: Conditions) -> None:
        log, runner = conditions.log, conditions.runner
        blocked = [Step(log, f"blocked {n}", expected=expected, block=True) for n in range(3)]
        for work in blocked:
            runner.add(work)
        runner.add(Step(log, "free", expected=expected))
        runner.start()
        await conditions.until(lambda: "free done" in log)
        assert log == ["free", "free done"]
        await conditions.until(lambda: len(conditions.tasks.tasks) == 3)
        assert sorted(conditions.tasks.tasks.values()) == [f"blocked {n}" for n in range(3)]
        for work in blocked:
            work.release.set()
        await conditions.end()
        assert {f"blocked {n} done" for n in range(3)} <= set(log)

    run(body)


def test_work_that_blocked_in_the_middle_continues() -> None:
    async def body(conditions: Conditions) -> None:
        work = Step(conditions.log, "walk", steps=2, block=True)
        conditions.runner.add_long(work)
        conditions.runner.start()
        await conditions.until(lambda: len(conditions.tasks.tasks) == 1)
        work.release.set()
        await conditions.end()
        assert conditions.log == ["walk", "walk", "walk done"]

    run(body)


def test_an_exception_is_raised_in_a_task() -> None:
    async def body(conditions: Conditions) -> None:
        conditions.runner.add(Step(conditions.log, "a", error=ValueError("bad")))
        conditions.runner.start()
        await conditions.end()
        assert [str(error) for error in conditions.tasks.errors] == ["bad"]

    run(body)


def test_no_work_begins_at_the_end() -> None:
    async def body(conditions: Conditions) -> None:
        conditions.tasks.ending = True
        conditions.runner.add(Step(conditions.log, "a"))
        conditions.runner.start()
        with contextlib.suppress(ValueError):
            await conditions.end()
        assert conditions.log == []

    run(body)
