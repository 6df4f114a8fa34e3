"""Builds in an event loop: nothing blocks it, coroutines are awaited together."""

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


async def test_it_builds_what_run_builds(factory: NodeFactory) -> None:
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


async def test_the_loop_is_not_blocked_by_checks_nor_by_actions(factory: NodeFactory) -> None:
    loop = asyncio.get_running_loop()
    events = threading.Event()

    def turn_the_loop() -> None:
        # Returns only if the loop runs during this wait.
        events.clear()
        loop.call_soon_threadsafe(events.set)
        assert events.wait(timeout=120)

    def is_fresh() -> object:
        turn_the_loop()
        return STALE

    node = Node("a", (), is_fresh, turn_the_loop)  # type: ignore[arg-type]
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


async def test_functions_may_run_concurrently_too() -> None:
    many = 40  # more than the threads of a loop
    barrier = threading.Barrier(many)
    nodes = [Node(str(i), action=lambda: barrier.wait(timeout=120)) for i in range(many)]
    assert (await Graph(nodes).build(threads=many)).complete


async def test_events_come_in_the_loops_thread(factory: NodeFactory) -> None:
    threads: set[int] = set()
    graph = factory.graph(DIAMOND)
    await graph.build(observers=[lambda event: threads.add(threading.get_ident())])
    assert threads == {threading.get_ident()}


async def test_functions_see_the_callers_context() -> None:
    variable: ContextVar[str] = ContextVar("variable")
    variable.set("mine")
    seen: list[str] = []
    await Graph([Node("a", action=lambda: seen.append(variable.get("nobody's")))]).build()
    assert seen == ["mine"]


async def test_one_execution_of_a_shared_action(factory: NodeFactory) -> None:
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


async def test_run_reports_that_it_cannot_await_here() -> None:
    async def action() -> None: ...

    with pytest.raises(GraphError, match=r"await graph\.build"):
        Graph([Node("a", action=action)]).run()


def test_run_awaits_coroutines_in_a_new_loop(factory: NodeFactory) -> None:
    async def action() -> None:
        await asyncio.sleep(0)
        factory.executed.append("c")

    graph = Graph(
        [factory.node("a"), Node("c", ("a",), lambda: STALE, action), factory.node("d", "c")]
    )
    assert graph.run("d").complete
    assert factory.executed == ["a", "c", "d"]
