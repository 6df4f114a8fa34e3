"""Builds in an event loop do not block it and await coroutines concurrently."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from contextvars import ContextVar
from functools import partial

import pytest

from motoko.errors import BuildError, GraphError
from motoko.graph import STALE, Graph, Node, Status, order_by_level
from tests.support.step_graphs import ASYMMETRIC, DIAMOND, FAILING, NodeFactory

pytestmark = pytest.mark.unit


@pytest.fixture
def factory() -> NodeFactory:
    return NodeFactory()


async def test_build_is_equivalent_to_run(factory: NodeFactory) -> None:
    report = await factory.graph(ASYMMETRIC).build("e", order=order_by_level)
    assert report.complete
    assert factory.executed == ["a", "x", "d", "b", "c", "e"]
    factory.executed.clear()
    assert (await factory.graph(ASYMMETRIC).build("e")).statuses == {"e": Status.FRESH}
    assert factory.executed == []


async def test_a_failure_blocks_only_its_dependents(factory: NodeFactory) -> None:
    report = await factory.graph(FAILING).build("all", keep_going=True)
    assert sorted(factory.executed) == ["aside", "left", "right", "top"]
    assert report.names(Status.BLOCKED) == ["all", "bottom"]
    with pytest.raises(ZeroDivisionError):
        report.raise_failure()


async def test_checks_and_actions_do_not_block_the_loop(factory: NodeFactory) -> None:
    loop = asyncio.get_running_loop()
    events = threading.Event()

    def wait_for_the_loop() -> None:
        # Returns only if the loop runs during this wait.
        events.clear()
        loop.call_soon_threadsafe(events.set)
        assert events.wait(timeout=120)

    def is_fresh() -> object:
        wait_for_the_loop()
        return STALE

    node = Node("a", (), is_fresh, wait_for_the_loop)  # type: ignore[arg-type]
    report = await Graph([node]).build()
    report.raise_failure()


async def test_coroutines_run_concurrently_and_functions_one_at_a_time() -> None:
    both = asyncio.Barrier(2)
    two, met = threading.Barrier(2), []

    def function() -> None:
        with suppress(threading.BrokenBarrierError):
            two.wait(timeout=0.1)
            met.append("two functions at a time")

    async def meet() -> None:
        async with asyncio.timeout(120):
            await both.wait()

    # Each node has a separate action: nodes that share one are executed once.
    nodes = [Node(f"f{i}", action=partial(function)) for i in range(4)]
    nodes += [Node(f"c{i}", action=partial(meet)) for i in range(2)]
    report = await Graph(nodes).build(threads=1)
    assert report.complete
    assert met == []


async def test_functions_may_run_concurrently() -> None:
    many = 40  # more than the loop's default threads
    barrier = threading.Barrier(many)
    nodes = [Node(str(i), action=lambda: barrier.wait(timeout=120)) for i in range(many)]
    assert (await Graph(nodes).build(threads=many)).complete


async def test_observers_are_called_in_the_loops_thread(factory: NodeFactory) -> None:
    threads: set[int] = set()
    graph = factory.graph(DIAMOND)
    await graph.build(observers=[lambda event: threads.add(threading.get_ident())])
    assert threads == {threading.get_ident()}


async def test_functions_run_in_the_callers_context() -> None:
    variable: ContextVar[str] = ContextVar("variable")
    variable.set("mine")
    seen: list[str] = []
    await Graph([Node("a", action=lambda: seen.append(variable.get("nobody's")))]).build()
    assert seen == ["mine"]


async def test_a_shared_action_is_executed_once(factory: NodeFactory) -> None:
    async def both() -> None:
        factory.executed.append("both")
        await asyncio.sleep(0)
        factory.made.update("xy")

    graph = Graph([Node(name, (), factory.check_of(name), both) for name in "xy"])
    assert (await graph.build()).complete
    assert factory.executed == ["both"]


async def test_cancelling_cancels_coroutines_and_waits_for_functions() -> None:
    started, release = asyncio.Event(), threading.Event()
    ended: list[str] = []

    async def coroutine() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("coroutine")

    def function() -> None:
        assert release.wait(timeout=120)
        ended.append("function")

    nodes = [Node("f", action=function), Node("c", action=coroutine)]
    task = asyncio.create_task(Graph(nodes).build())
    await started.wait()
    task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(ended) == ["coroutine", "function"]


async def test_an_action_cancelled_from_outside_has_failed(factory: NodeFactory) -> None:
    async def action() -> None:
        raise asyncio.CancelledError

    report = await Graph([Node("a", action=action), factory.node("b", "a")]).build(keep_going=True)
    assert report.statuses == {"a": Status.FAILED, "b": Status.BLOCKED}
    with pytest.raises(BuildError, match="'a' was cancelled"):
        report.raise_failure()


async def test_run_refuses_coroutines_in_a_running_loop() -> None:
    async def action() -> None: ...

    with pytest.raises(GraphError, match=r"await graph\.build"):
        Graph([Node("a", action=action)]).run()


def test_run_awaits_coroutines_in_its_own_loop(factory: NodeFactory) -> None:
    async def action() -> None:
        await asyncio.sleep(0)
        factory.executed.append("c")

    graph = Graph(
        [factory.node("a"), Node("c", ("a",), lambda: STALE, action), factory.node("d", "c")]
    )
    assert graph.run("d").complete
    assert factory.executed == ["a", "c", "d"]
