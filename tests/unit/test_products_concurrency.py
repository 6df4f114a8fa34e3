"""A runner shared by threads and tasks calls each step once."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from motoko.errors import CycleError, ProductWarning
from motoko.graph import Node, fresh_because, stale_because
from motoko.products import WorkflowProducts, WorkflowRunner, workflow_step
from tests.support.products import Config, module_of, step_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.unit

PATIENCE = 60.0


class Gate:
    """A step whose call blocks until `expected` builds wait for its product."""

    def __init__(self, expected: int) -> None:
        self.called = 0
        self._expected = expected
        self._came = 0
        self._all = threading.Event()

    def on_event(self, event: str, name: str) -> None:
        """Observe a runner."""
        if (event, name) == ("building", "a"):
            self._came += 1
            if self._came == self._expected:
                self.open()

    def open(self) -> None:
        """Release the call."""
        self._all.set()

    def step(self) -> Callable[..., Any]:
        """Return the step as a function."""

        def make() -> object:
            self.called += 1
            assert self._all.wait(PATIENCE)
            return object()

        return workflow_step(make, produces="a")

    def awaited_step(self) -> Callable[..., Any]:
        """Return the step as a coroutine function."""

        async def make() -> object:
            self.called += 1
            while not self._all.is_set():  # noqa: ASYNC110 - observers run in threads too
                await asyncio.sleep(0.001)
            return object()

        return workflow_step(make, produces="a")


def in_threads(number: int, function: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(number) as pool:
        calls = [pool.submit(function) for _ in range(number)]
        return [call.result(PATIENCE) for call in calls]


@pytest.mark.parametrize("awaited", [False, True])
def test_in_threads_a_step_is_called_once(awaited: bool) -> None:
    gate, called = Gate(3), list[str]()
    step = gate.awaited_step() if awaited else gate.step()
    runner = WorkflowRunner(module_of(step, step_of("b", "a", called=called)), None)
    runner.observe(gate.on_event)
    got = in_threads(3, lambda: (runner.get("b"), runner.get("a")))
    assert gate.called == 1
    assert called == ["b"]
    assert got[0][1] is got[1][1] is got[2][1]


@pytest.mark.parametrize("awaited", [False, True])
async def test_in_tasks_a_step_is_called_once(awaited: bool) -> None:
    gate, called = Gate(2), list[str]()
    step = gate.awaited_step() if awaited else gate.step()
    runner = WorkflowRunner(module_of(step, step_of("b", "a", called=called)), None)
    runner.observe(gate.on_event)
    async with asyncio.timeout(PATIENCE):
        one, other = await asyncio.gather(runner.get_async("b"), runner.get_async("b"))
    assert one is other
    assert gate.called == 1
    assert called == ["b"]


def test_waiting_builds_raise_the_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(2)
    good = gate.step()

    def make() -> None:
        good()
        raise ZeroDivisionError

    runner = WorkflowRunner(module_of(workflow_step(make, produces="a")), None)
    claimed = runner.calls._claim

    @contextlib.contextmanager
    def noticed(step: Any) -> Iterator[Any]:
        with claimed(step) as other:
            if other is not None:  # from here on it receives the outcome
                gate.open()
            yield other

    monkeypatch.setattr(runner.calls, "_claim", noticed)

    def fails() -> bool:
        with pytest.raises(ZeroDivisionError):
            runner.get("a")
        return True

    assert in_threads(2, fails) == [True, True]
    assert gate.called == 1


async def test_a_waiting_build_calls_the_step_if_the_other_is_cancelled() -> None:
    called: list[int] = []
    started = asyncio.Event()

    async def make() -> str:
        called.append(1)
        started.set()
        if len(called) == 1:
            await asyncio.Event().wait()
        return "made"

    runner = WorkflowRunner(module_of(workflow_step(make, produces="a")), None)
    first = asyncio.create_task(runner.get_async("a"))
    async with asyncio.timeout(PATIENCE):
        await started.wait()
        came = asyncio.Event()
        runner.observe(lambda event, _: came.set() if event == "building" else None)
        second = asyncio.create_task(runner.get_async("a"))
        await came.wait()
        first.cancel()
        assert await second == "made"
    assert len(called) == 2


async def test_a_waiting_task_can_be_cancelled() -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def make() -> str:
        started.set()
        await go_on.wait()
        return "made"

    runner = WorkflowRunner(module_of(workflow_step(make, produces="a")), None)
    first = asyncio.create_task(runner.get_async("a"))
    async with asyncio.timeout(PATIENCE):
        await started.wait()
        came = asyncio.Event()
        runner.observe(lambda event, _: came.set() if event == "building" else None)
        second = asyncio.create_task(runner.get_async("a"))
        await came.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        go_on.set()
        assert await first == "made"


def test_a_step_may_get_products_in_its_threads() -> None:
    called: list[str] = []
    runners: list[WorkflowRunner] = []

    def make() -> list[Any]:
        return [runners[0].get("b"), *in_threads(3, lambda: runners[0].get("c"))]

    module = module_of(
        workflow_step(make, produces="a"),
        step_of("b", called=called),
        step_of("c", "b", called=called),
    )
    runners.append(WorkflowRunner(module, None))
    assert runners[0].get("a") == ["b()", *["c(b())"] * 3]
    assert called == ["b", "c"]


async def test_in_a_loop_a_step_may_get_products_itself() -> None:
    called: list[str] = []
    runners: list[WorkflowRunner] = []

    def make() -> Any:
        return runners[0].get("b")

    async def make_z(a: Any) -> Any:
        return [a, await runners[0].get_async("c")]

    module = module_of(
        workflow_step(make, produces="a"),
        workflow_step(make_z, produces="z", requires="a"),
        step_of("b", called=called),
        step_of("c", "b", called=called),
    )
    runners.append(WorkflowRunner(module, None))
    async with asyncio.timeout(PATIENCE):
        assert await runners[0].get_async("z") == ["b()", "c(b())"]
    assert called == ["b", "c"]


def test_a_step_that_gets_its_own_product_is_a_cycle() -> None:
    runners: list[WorkflowRunner] = []

    def make_a() -> Any:
        return runners[0].get("b")

    def make_b() -> Any:
        return runners[0].get("a")

    module = module_of(workflow_step(make_a, produces="a"), workflow_step(make_b, produces="b"))
    runners.append(WorkflowRunner(module, None))
    with pytest.raises(CycleError) as caught:
        runners[0].get("a")
    assert caught.value.path == ("a", "b", "a")


def test_steps_in_two_threads_that_wait_for_each_other_are_a_cycle() -> None:
    runners: list[WorkflowRunner] = []
    both = threading.Barrier(2)

    def make_a() -> Any:
        both.wait(PATIENCE)
        return runners[0].get("b")

    def make_b() -> Any:
        both.wait(PATIENCE)
        return runners[0].get("a")

    module = module_of(workflow_step(make_a, produces="a"), workflow_step(make_b, produces="b"))
    runners.append(WorkflowRunner(module, None))
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(runners[0].get, name) for name in "ab"]
        for call in calls:
            assert isinstance(call.exception(PATIENCE), CycleError)


def test_concurrent_loads_return_one_object(tmp_path: Path) -> None:
    products = WorkflowProducts(products_dir=tmp_path)
    products.save("a", [1, 2])
    runner = WorkflowRunner(module_of(), Config(), products)
    load, both = products.load, threading.Barrier(2)

    def load_together(name: str, **options: Any) -> Any:
        both.wait(PATIENCE)
        return load(name, **options)

    products.load = load_together  # type: ignore[method-assign]
    one, other = in_threads(2, lambda: runner.get("a"))
    assert one is other


def awaited_node(name: str, made: list[str]) -> Node:
    async def act() -> None:
        made.append(name)

    def look() -> Any:
        return fresh_because("made") if name in made else stale_because("not made")

    return Node(name, (), look, act, value=lambda: f"value of {name}")


async def test_in_a_loop_a_damaged_product_causes_one_warning(tmp_path: Path) -> None:
    called: list[str] = []
    products = WorkflowProducts(products_dir=tmp_path)
    node = awaited_node("a", ["a"])
    module = module_of(step_of("b", "a", called=called))
    WorkflowRunner(module, Config(), products, nodes=[node]).get("b")
    (tmp_path / "b.yaml").write_text("damaged")
    with pytest.warns(ProductWarning) as seen:
        assert WorkflowRunner(module, Config(), products, nodes=[node]).get("b")
    assert len(seen) == 1
    assert called == ["b", "b"]


async def test_in_a_loop_get_returns_ready_products_of_coroutine_functions() -> None:
    made, called = ["a"], list[str]()
    events: list[tuple[str, str]] = []
    module = module_of(step_of("b", "a", called=called))

    def new() -> WorkflowRunner:
        return WorkflowRunner(module, None, nodes=[awaited_node("a", made)])

    runner = new()
    runner.observe(lambda event, name: events.append((event, name)))
    assert runner.get("a") == "value of a"
    assert events == [("loaded", "a")]
    assert runner.get("b") == "b(value of a)"
    made.clear()
    with pytest.raises(Exception, match="get_async"):
        new().get("a")
    assert await new().get_async("a") == "value of a"
