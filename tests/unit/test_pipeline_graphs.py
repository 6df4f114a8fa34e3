"""The shared test graphs as pipelines, which run in list order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from motoko.errors import GraphError
from motoko.graph import Status
from motoko.pipeline import BaseModel, State, Step, Workflow
from tests.support.pipeline import Anything, One, arithmetic, numbers, state_of, workflow_of
from tests.support.step_graphs import ASYMMETRIC, DIAMOND, FAILING

if TYPE_CHECKING:
    from motoko.graph import StatusChange

pytestmark = pytest.mark.unit


class EventLog(list[tuple[str, Status]]):
    """Records the events of an observer, without checks."""

    def __call__(self, event: StatusChange) -> None:
        if event.status is not Status.UNDECIDED:
            self.append((event.name, event.status))


def ran(workflow: Workflow, names: tuple[str, ...]) -> list[str]:
    return [names[index] for index in workflow.steps_ran]


def test_a_diamond_runs_in_list_order() -> None:
    workflow, state, events = workflow_of(DIAMOND), state_of(DIAMOND), EventLog()
    assert workflow.run(state, observers=[events]) == {
        "bottom": "bottom(left(top()), right(top()))"
    }
    assert ran(workflow, tuple(DIAMOND.requires)) == ["top", "left", "right", "bottom"]
    assert events == [
        (f"{index}. One", status)
        for index in range(4)
        for status in (Status.STALE, Status.BUILDING, Status.BUILT)
    ]
    events.clear()
    workflow.run(state, observers=[events])
    assert events == [(f"{index}. One", Status.FRESH) for index in range(4)]


def test_only_dependents_of_a_change_run_in_a_diamond() -> None:
    workflow, state = workflow_of(DIAMOND), state_of(DIAMOND, mutable=True)
    workflow.run(state)
    state.post("RIGHT", name="seed of right")
    workflow.steps_ran.clear()
    assert workflow.run(state) == {"bottom": "bottom(left(top()), RIGHT(top()))"}
    assert workflow.steps_ran == [2, 3]
    assert workflow.steps_skipped == [0, 1]


def test_an_asymmetric_graph_runs_as_listed() -> None:
    workflow = workflow_of(ASYMMETRIC)
    assert workflow.run(state_of(ASYMMETRIC)) == {"e": "e(d(a()), c(b(a())), x())"}
    assert ran(workflow, tuple(ASYMMETRIC.requires)) == ["a", "b", "c", "d", "x", "e"]


def test_a_failure_ends_the_run() -> None:
    workflow, state, events = workflow_of(FAILING), state_of(FAILING), EventLog()
    with pytest.raises(ZeroDivisionError, match="left"):
        workflow.run(state, observers=[events])
    assert ran(workflow, tuple(FAILING.requires)) == ["top"]
    assert events[-1] == ("1. One", Status.FAILED)
    assert "right" not in state


def test_with_keep_going_independent_steps_run() -> None:
    workflow, state, events = workflow_of(FAILING), state_of(FAILING), EventLog()
    with pytest.raises(ZeroDivisionError, match="left"):
        workflow.run(state, keep_going=True, observers=[events])
    assert ran(workflow, tuple(FAILING.requires)) == ["top", "right", "aside"]
    assert [event for event in events if event[1] in (Status.FAILED, Status.BLOCKED)] == [
        ("1. One", Status.FAILED),
        ("3. One", Status.BLOCKED),
        ("5. One", Status.BLOCKED),
    ]
    for name in ("left", "bottom", "all"):
        assert name not in state


def test_with_keep_going_old_values_of_a_failed_step_are_not_used() -> None:
    workflow, state = workflow_of(FAILING), state_of(DIAMOND, mutable=True)
    state.post("aside", name="seed of aside")
    state.post("all", name="seed of all")
    workflow.run(state)
    state.post("left!", name="seed of left")
    state.post("BOTTOM", name="seed of bottom")
    workflow.steps_ran.clear()
    with pytest.raises(ZeroDivisionError):
        workflow.run(state, keep_going=True)
    assert workflow.steps_ran == []
    assert state.extract("bottom") == "bottom(left(top()), right(top()))"
    state.post("left", name="seed of left")
    workflow.run(state)
    assert workflow.steps_ran == [1, 3, 5]


def test_the_last_preceding_writer_of_a_name_is_required() -> None:
    def passing(source: str, target: str) -> Step:
        return Step(Anything, {source: "data"}, {"data": target})

    workflow = Workflow(
        [passing("a", "b"), passing("a", "b"), passing("b", "c"), passing("c", "b")]
    )
    graph = workflow.graph(State({"a": 1}, mutable=True))
    names = [*graph.nodes]
    assert [graph.nodes[name].requires for name in names] == [(), (), (names[1],), (names[2],)]
    assert workflow.run(State({"a": 1}, mutable=True)) == {"b": 1}
    assert workflow.steps_ran == [0, 1, 2, 3]


class Meeting(BaseModel):
    """Waits until `expected` models are running."""

    name: str
    expected: int
    at_work: object

    async def run(self) -> dict[str, Any]:
        at_work = cast("list[str]", self.at_work)
        at_work.append(self.name)
        while len(at_work) < self.expected:  # noqa: ASYNC110 - events belong to one loop
            await asyncio.sleep(0)
        return {"name": self.name}


class Slow(Meeting):
    async def run(self) -> dict[str, Any]:
        await asyncio.sleep(0.05)
        return await super().run()


def meeting(name: str, target: str) -> Step:
    fields = {f"name {name}": "name", "expected": "expected", "at work": "at_work"}
    return Step(Meeting, fields, {"name": target})


def joined(*reads: str) -> Step:
    fields = dict(zip(reads, ("first", "second", "third"), strict=False))
    return Step(One, {"seed": "seed", **fields}, {"value": "z"})


async def test_in_a_loop_coroutines_are_awaited_concurrently() -> None:
    workflow = Workflow([meeting("a", "x"), meeting("b", "y"), joined("x", "y")])
    state = State({"name a": "a", "name b": "b", "expected": 2, "at work": [], "seed": "end"})
    async with asyncio.timeout(120):
        assert await workflow.run_async(state) == {"z": "end(a, b)"}
    assert sorted(workflow.steps_ran) == [0, 1, 2]
    assert workflow.steps_ran[-1] == 2


async def test_in_a_loop_steps_that_write_one_name_keep_their_order() -> None:
    first = meeting("a", "x")
    first.model = Slow.get_uri()
    workflow = Workflow([first, meeting("b", "x"), joined("x")])
    state = State({"name a": "a", "name b": "b", "expected": 1, "at work": [], "seed": "end"}, True)
    assert await workflow.run_async(state) == {"z": "end(b)"}
    assert workflow.steps_ran == [0, 1, 2]


async def test_in_a_loop_inputs_are_not_overwritten_early() -> None:
    reads = {"name a": "name", "expected": "expected", "at work": "at_work"}
    writes = Step(Anything, {"new": "data"}, {"data": "name a"})
    state = State({"name a": "a", "new": "b", "expected": 1, "at work": []}, True)
    workflow = Workflow([Step(Slow, reads, {"name": "x"}), writes])
    await workflow.run_async(state)
    assert workflow.steps_ran == [0, 1]


async def test_in_a_loop_steps_are_skipped_and_failures_end_the_run() -> None:
    workflow, state = workflow_of(DIAMOND), state_of(DIAMOND)
    for _ in range(2):
        assert await workflow.run_async(state) == {"bottom": "bottom(left(top()), right(top()))"}
    for steps in (workflow.steps_ran, workflow.steps_skipped):
        assert sorted(steps) == [0, 1, 2, 3]
        assert (steps[0], steps[3]) == (0, 3)  # the order of the others varies
    workflow = workflow_of(FAILING)
    with pytest.raises(ZeroDivisionError, match="left") as caught:
        await workflow.run_async(state_of(FAILING), keep_going=True)
    assert caught.value.__notes__ == ["in step 1 (tests.support.pipeline.One) of the workflow"]
    assert sorted(ran(workflow, tuple(FAILING.requires))) == ["aside", "right", "top"]
    assert await Workflow().run_async(State()) is None


def test_without_a_loop_coroutines_are_awaited_serially() -> None:
    state = State({"name a": "a", "expected": 1, "at work": []})
    assert Workflow(meeting("a", "x")).run(state) == {"x": "a"}


async def test_in_a_loop_run_suggests_the_method_for_coroutines() -> None:
    state = State({"name a": "a", "expected": 1, "at work": []})
    with pytest.raises(GraphError, match="run_async"):
        Workflow(meeting("a", "x")).run(state)


def test_explain_names_the_changes() -> None:
    workflow, state = arithmetic(), numbers(mutable=True)
    assert str(workflow.explain(state)).splitlines() == [
        "1. MultiplyModel: undecided: step 0 runs first",
        "  0. AddModel: stale: no output of an earlier run is kept",
    ]
    workflow.run(state)
    assert str(workflow.explain(state)) == (
        "1. MultiplyModel: fresh: its input is the same as before"
    )
    assert workflow.explain(numbers()).fresh  # the cached outputs would be posted
    state.post(7, name="k")
    assert str(workflow.explain(state)).startswith("1. MultiplyModel: stale: factor has changed")
    assert workflow.explain(state, 0).fresh
    workflow.use_extracts = False
    assert "the kept inputs and outputs are not used" in str(workflow.explain(state, 0))
    assert workflow.steps_ran == [0, 1]


def test_a_workflow_is_drawn_and_dry_run() -> None:
    workflow, state = arithmetic(), numbers()
    graph = workflow.graph(state)
    assert '"0. AddModel" -> "1. MultiplyModel"' in graph.dot()
    report = graph.run(dry_run=True)
    assert set(report.statuses.values()) == {Status.WOULD_BUILD}
    workflow.run(state)
    assert set(workflow.graph(state).run(dry_run=True).statuses.values()) == {Status.FRESH}
    assert workflow.steps_ran == [0, 1]
