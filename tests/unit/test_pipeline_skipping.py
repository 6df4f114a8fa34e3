"""A step is skipped only if the state has its own outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from motoko.pipeline import State, StateWithGlueDb, Step, Workflow
from tests.support.pipeline import AddModel, Anything, MultiplyModel, arithmetic, numbers

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit


def passing(source: str, target: str) -> Step:
    return Step(Anything, {source: "data"}, {"data": target})


def double(source: str, target: str) -> Step:
    return Step(MultiplyModel, {source: "value", "two": "factor"}, {"product": target})


def test_one_workflow_on_two_states() -> None:
    workflow, first, second = arithmetic(), numbers(mutable=True), numbers(mutable=True)
    second.post(10, name="x")
    assert workflow.run(first) == {"final": 20}
    assert workflow.run(second) == {"final": 52}
    first.post(10, name="x")
    assert "another run has left its 'total'" in str(workflow.explain(first, 0))
    assert workflow.run(first) == {"final": 52}
    assert (first.extract("total"), first.extract("final")) == (13, 52)
    assert workflow.steps_skipped == []
    assert workflow.run(first) == {"final": 52}
    assert workflow.steps_skipped == [0, 1]


def test_outputs_that_were_not_cached_are_still_in_the_state() -> None:
    workflow, state = arithmetic(), numbers(mutable=True)
    workflow.run(state)
    state.post(5, name="x")
    workflow.populate_extracts = False
    assert workflow.run(state) == {"final": 32}
    state.post(2, name="x")
    workflow.populate_extracts = True
    assert workflow.run(state) == {"final": 20}
    assert state.extract("total") == 5


def test_values_of_a_single_step_or_another_workflow_are_replaced() -> None:
    workflow, state = arithmetic(), numbers(mutable=True)
    workflow.run(state)
    for other in (arithmetic().steps[0], arithmetic()):
        state.post(5, name="x")
        other.run(state)
        state.post(2, name="x")
        assert workflow.run(state) == {"final": 20}
        assert state.extract("total") == 5


@pytest.mark.parametrize("kind", [State, StateWithGlueDb])
def test_values_posted_by_the_user_are_kept_and_read(kind: Any) -> None:
    workflow, state = arithmetic(), kind({"x": 2, "y": 3, "k": 4}, mutable=True)
    workflow.run(state)
    state.post(7, name="total")
    assert workflow.run(state) == {"final": 28}
    assert (workflow.steps_ran, workflow.steps_skipped) == ([0, 1, 1], [0])
    assert state.extract("total") == 7


def test_an_equal_value_of_another_run_is_valid() -> None:
    workflow, state = arithmetic(), numbers()
    arithmetic().run(state)
    workflow.run(numbers())
    assert workflow.run(state) == {"final": 20}
    assert workflow.steps_skipped == [0, 1]


def test_stale_values_in_an_immutable_state_are_refused() -> None:
    workflow, first, second = arithmetic(), numbers(), State({"x": 10, "y": 3, "k": 4})
    workflow.run(first)
    workflow.run(second)
    first.delete("x")
    first.post(10, name="x")
    with pytest.raises(ValueError, match="Cannot mutate key: total"):
        workflow.run(first)


def test_a_deleted_name_is_posted_again() -> None:
    workflow, state = arithmetic(), numbers()
    workflow.run(state)
    state.delete("total")
    assert workflow.run(state) == {"final": 20}
    assert state.extract("total") == 5
    assert workflow.steps_skipped == [0, 1]


def test_incomparable_values_are_identified_by_their_run() -> None:
    made = (number for number in range(3))
    workflow = Workflow([Step(Anything, {"n": "data"}, {"data": "out"})])
    workflow.model_inputs.add(0, {"data": 1})
    workflow.model_outputs.add(0, {"data": made})
    state = State({"n": 1})
    for _ in range(2):
        workflow.run(state)
    assert workflow.steps_skipped == [0, 0]
    assert state.extract("out") is made


def test_two_steps_may_write_one_name() -> None:
    workflow = Workflow([double("a", "b"), double("b", "c"), double("c", "b"), passing("b", "d")])
    state = State({"a": 1, "two": 2}, mutable=True)
    for _ in range(3):
        assert workflow.run(state) == {"d": 8}
        assert (state.extract("b"), state.extract("c")) == (8, 4)
    assert "3. Anything: undecided" in str(workflow.explain(state))


def test_a_dry_run_includes_the_posts_of_skipped_steps() -> None:
    workflow = Workflow([double("a", "b"), double("b", "b")])
    workflow.run(State({"a": 1, "two": 2}, mutable=True))
    fresh = State({"a": 1, "two": 2}, mutable=True)
    assert "another run has left its 'b'" in str(workflow.explain(fresh))
    assert "b" not in fresh
    workflow.steps_ran.clear()
    workflow.run(fresh)
    assert (workflow.steps_ran, workflow.steps_skipped) == ([1], [0])


def test_a_later_session_identifies_the_run_of_each_value(tmp_path: Path) -> None:
    def sessions(state: State | StateWithGlueDb) -> Any:
        return type(state).from_json(state.to_json())

    for place in (None, str(tmp_path / "state.db")):
        for state in (numbers(mutable=True), StateWithGlueDb(place, mutable=True)):
            for name, value in {"x": 2, "y": 3, "k": 4}.items():
                state.post(value, name=name)
            workflow = arithmetic()
            workflow.run(state)
            text = workflow.to_json()
            state.post(5, name="x")
            arithmetic().run(state)
            state.post(2, name="x")
            later = sessions(state)
            assert later == state
            read = Workflow.from_json(text)
            assert read.run(later) == {"final": 20}
            assert later.extract("total") == 5
            again = Workflow.from_json(read.to_json())
            assert again.run(sessions(later)) == {"final": 20}
            assert again.steps_skipped == [0, 1]


def test_origins_of_values_do_not_affect_json_and_equality() -> None:
    state = numbers()
    assert state.to_dict()["contents"] == {"backend": {"x": 2, "y": 3, "k": 4}, "mutable": False}
    arithmetic().run(state)
    assert state == State({"x": 2, "y": 3, "k": 4, "total": 5, "final": 20})


def test_workflows_with_equal_runs_are_equal() -> None:
    workflows = [arithmetic(), arithmetic()]
    for workflow in workflows:
        workflow.run(numbers())
    assert workflows[0] == workflows[1]
    workflows[0].run(numbers())
    assert workflows[0] != workflows[1]


def test_a_step_may_read_and_write_one_name() -> None:
    workflow = Workflow([Step(AddModel, {"n": "a", "one": "b"}, {"sum": "n"})])
    state = State({"n": 1, "one": 1}, mutable=True)
    assert [workflow.run(state) for _ in range(3)] == [{"n": 2}, {"n": 3}, {"n": 4}]
