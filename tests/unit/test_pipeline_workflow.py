"""Workflows: executed steps, skipped steps and cached values."""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from motoko.pipeline import Extracts, State, Step, Workflow
from tests.support.pipeline import (
    AddModel,
    Anything,
    Changing,
    Invert,
    MultiplyModel,
    Returning,
    arithmetic,
    numbers,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.unit

HERE = "tests.support.pipeline"


def identity() -> Workflow:
    """Return a workflow with one step that returns its input."""
    return Workflow([Step(Anything, {"value": "data"}, {"data": "out"})])


def test_the_result_is_that_of_the_last_step() -> None:
    state = numbers()
    workflow = arithmetic()
    assert workflow.run(state) == {"final": 20}
    assert state.extract("total") == 5
    assert workflow.stepsRan == [0, 1]
    assert workflow.stepsSkipped == []


def test_an_empty_workflow_returns_no_result() -> None:
    assert Workflow(steps=[]).run(State()) is None
    assert Workflow().run(State()) is None


def test_steps_may_be_dictionaries_or_a_single_step() -> None:
    step = Step(AddModel, {"x": "a", "y": "b"}, {"sum": "total"})
    fields = {"model": AddModel, "inputs": {"x": "a", "y": "b"}, "outputs": {"sum": "total"}}
    assert Workflow(steps=step) == Workflow(steps=[fields]) == Workflow(fields)
    workflow = Workflow()
    workflow.addStep(step)
    workflow.add_step(fields)
    workflow.add_step(step.to_dict())
    assert workflow.steps == [step, step, step]


@pytest.mark.parametrize("wrong", [3, "json.Model", None, {"modell": "x"}])
def test_objects_that_are_not_steps_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="Invalid step: "):
        Workflow(steps=[wrong])
    with pytest.raises(ValueError, match="Invalid step: "):
        Workflow().add_step(wrong)
    if not isinstance(wrong, dict):
        with pytest.raises(ValueError, match="Invalid step: "):
            Workflow(steps=wrong)


def test_inputs_and_outputs_are_cached_by_index() -> None:
    workflow = arithmetic()
    workflow.run(numbers())
    assert workflow.modelInputs.data == {0: {"a": 2, "b": 3}, 1: {"value": 5, "factor": 4}}
    assert workflow.modelOutputs.data == {0: {"sum": 5}, 1: {"product": 20}}
    assert workflow.getModelInput(0) == {"a": 2, "b": 3}
    assert workflow.getModelOutput(0) == {"sum": 5}
    assert workflow.getModel(1) == MultiplyModel(value=5, factor=4)
    for get in (workflow.getModelInput, workflow.getModelOutput, workflow.getModel):
        with pytest.raises(KeyError, match="step 7 does not exist: the workflow has steps 0 to 1"):
            get(7)
        with pytest.raises(KeyError, match="step -1 does not exist"):
            get(-1)
    with pytest.raises(KeyError, match=r"no input of step 0 \(.*AddModel\) is kept\n  It has not"):
        arithmetic().get_model(0)
    with pytest.raises(KeyError, match="the workflow has no steps"):
        Workflow().get_model_output(0)
    beyond = Workflow(modelInputs={0: {"a": 2}})
    with pytest.raises(KeyError, match="step 0 does not exist"):
        beyond.get_model(0)


def test_the_whole_output_is_cached() -> None:
    workflow = Workflow([Step(Invert, {"n": "x"}, {"y": "out"})])
    workflow.run(State({"n": 4}))
    assert workflow.get_model_output(0) == {"y": 0.25, "x": 4}


def test_a_step_with_equal_input_is_skipped_and_recorded() -> None:
    state, workflow = numbers(), arithmetic()
    workflow.run(state)
    assert workflow.run(state) == {"final": 20}
    assert workflow.run(state) == {"final": 20}
    assert workflow.steps_ran == [0, 1]
    assert workflow.steps_skipped == [0, 1, 0, 1]


def test_a_skipped_step_posts_to_a_new_state() -> None:
    workflow = arithmetic()
    workflow.run(numbers())
    state = numbers()
    assert workflow.run(state) == {"final": 20}
    assert workflow.steps_skipped == [0, 1]
    assert (state.extract("total"), state.extract("final")) == (5, 20)


@pytest.mark.parametrize("mutable", [False, True])
def test_a_skipped_step_posts_only_missing_values(mutable: bool) -> None:
    workflow = arithmetic()
    workflow.run(numbers())
    state = State({"x": 2, "y": 3, "k": 4, "final": "mine"}, mutable)
    workflow.run(state)
    assert workflow.steps_skipped == [0, 1]
    assert (state.extract("total"), state.extract("final")) == (5, "mine")


def test_only_the_dependents_of_a_change_run_again() -> None:
    state, workflow = numbers(mutable=True), arithmetic()
    workflow.run(state)
    state.post(10, name="k")
    assert workflow.run(state) == {"final": 50}
    assert (workflow.steps_ran, workflow.steps_skipped) == ([0, 1, 1], [0])
    state.post(3, name="x")
    state.post(2, name="y")  # another input with the same sum
    assert workflow.run(state) == {"final": 50}
    assert (workflow.steps_ran, workflow.steps_skipped) == ([0, 1, 1, 0], [0, 1])


def test_a_forced_run_on_a_populated_immutable_state_is_refused() -> None:
    state, workflow = numbers(), arithmetic()
    workflow.run(state)
    workflow.useExtracts = False
    with pytest.raises(ValueError, match="Cannot mutate key: total"):
        workflow.run(state)
    assert workflow.run(numbers()) == {"final": 20}
    assert workflow.steps_ran == [0, 1, 0, 1]


def test_the_model_is_not_called_if_its_output_cannot_be_posted() -> None:
    value: list[Any] = []
    workflow = Workflow([Step(Changing, {"value": "data"}, {"length": "out"})])
    with pytest.raises(ValueError, match="Cannot mutate key: out"):
        workflow.run(State({"value": value, "out": 1}))
    assert value == []
    with pytest.raises(ValueError, match="Cannot mutate key: out"):
        workflow.steps[0].run(State({"value": value, "out": 1}))
    assert value == []


def test_use_extracts_false_always_runs() -> None:
    state = numbers(mutable=True)
    workflow = Workflow(arithmetic().steps, useExtracts=False)
    workflow.run(state)
    workflow.run(state)
    assert (workflow.steps_ran, workflow.steps_skipped) == ([0, 1, 0, 1], [])
    assert 0 in workflow.model_outputs


def test_populate_extracts_false_caches_nothing() -> None:
    state = numbers(mutable=True)
    workflow = Workflow(arithmetic().steps, populate_extracts=False)
    assert workflow.populateExtracts is False
    workflow.run(state)
    workflow.run(state)
    assert workflow.steps_ran == [0, 1, 0, 1]
    assert workflow.model_inputs.data == workflow.model_outputs.data == {}


def test_without_populating_cached_pairs_stay_consistent() -> None:
    workflow = Workflow([Step(Invert, {"n": "x"}, {"y": "out"})])
    workflow.run(State({"n": 1}))
    workflow.populate_extracts = False
    with pytest.raises(ZeroDivisionError):
        workflow.run(State({"n": 0}))
    assert workflow.run(State({"n": 2})) == {"out": 0.5}
    assert workflow.run(State({"n": 1})) == {"out": 1.0}
    assert (workflow.steps_ran, workflow.steps_skipped) == ([0, 0], [0])


def test_a_failing_model_ends_the_run_and_keeps_earlier_outputs() -> None:
    workflow = Workflow(
        [
            Step(AddModel, {"x": "a", "y": "b"}, {"sum": "total"}),
            Step(Invert, {"total": "x"}, {"y": "out"}),
            Step(Anything, {"x": "data"}, {"data": "never"}),
        ]
    )
    state = State({"x": 2, "y": -2}, mutable=True)
    with pytest.raises(ZeroDivisionError) as caught:
        workflow.run(state)
    assert caught.value.__notes__ == [f"in step 1 ({HERE}.Invert) of the workflow"]
    assert (workflow.steps_ran, workflow.steps_skipped) == ([0], [])
    assert "never" not in state
    assert workflow.get_model_input(1) == {"x": 0}
    assert workflow.get_model(1) == Invert(x=0)
    with pytest.raises(KeyError):
        workflow.get_model_output(1)
    with pytest.raises(ZeroDivisionError):
        workflow.run(state)
    assert (workflow.steps_ran, workflow.steps_skipped) == ([0], [0])


def test_a_step_that_failed_leaves_no_stale_output() -> None:
    workflow = Workflow([Step(Invert, {"n": "x"}, {"y": "out"})])
    assert workflow.run(State({"n": 1})) == {"out": 1.0}
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            workflow.run(State({"n": 0}))
    assert workflow.run(State({"n": 2})) == {"out": 0.5}
    assert workflow.run(State({"n": 1})) == {"out": 1.0}
    assert (workflow.steps_ran, workflow.steps_skipped) == ([0, 0, 0], [])


def test_an_interrupted_step_leaves_no_stale_output(monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = identity()
    workflow.run(State({"value": 1}))

    def interrupted(self: Anything) -> dict[str, Any]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Anything, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            workflow.run(State({"value": 2}))
    assert workflow.run(State({"value": 2})) == {"out": 2}
    assert workflow.steps_skipped == []


def change_list(value: Any) -> None:
    value[0].append(9)


def change_array(value: Any) -> None:
    value[0, 0] = 9


def change_frame(value: Any) -> None:
    value.loc[0, "a"] = 9


def change_cell(value: Any) -> None:
    value.loc[0, "cells"].append(9)


def change_object(value: Any) -> None:
    value.inner["x"] = 9


class Custom:
    """Equal to everything."""

    def __init__(self) -> None:
        self.inner = {"x": 1}

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (lambda: [[1], 2], change_list),
        (lambda: np.array([[1.0, np.nan]]), change_array),
        (lambda: np.array([["a", None]], dtype=object), change_array),
        (lambda: pd.DataFrame({"a": [1, 2], "cells": [[1], [2]]}), change_frame),
        (lambda: pd.DataFrame({"a": [1, 2], "cells": [[1], [2]]}), change_cell),
        (Custom, change_object),
    ],
    ids=["list", "array", "objects", "frame", "cell", "object"],
)
def test_an_input_changed_in_place_is_detected(
    make: Callable[[], Any], change: Callable[[Any], None]
) -> None:
    value = make()
    workflow, state = identity(), State({"value": value}, mutable=True)
    workflow.run(state)
    workflow.run(state)
    assert (workflow.steps_ran, workflow.steps_skipped) == ([0], [0])
    change(value)
    workflow.run(state)
    assert (workflow.steps_ran, workflow.steps_skipped) == ([0, 0], [0])
    workflow.run(State({"value": make()}))
    assert workflow.steps_ran == [0, 0, 0]


def test_the_cached_input_is_the_original_if_the_model_changes_it() -> None:
    workflow = Workflow([Step(Changing, {"value": "data"}, {"length": "n"})])
    for _ in range(2):
        assert workflow.run(State({"value": ["a"]})) == {"n": 2}
    assert workflow.get_model_input(0) == {"data": ["a"]}
    assert workflow.steps_skipped == [0]


def test_changing_returned_values_does_not_change_cached_ones() -> None:
    workflow = identity()
    result = workflow.run(State({"value": [1]}))
    assert result is not None
    result["out"].append(2)
    for _ in range(2):
        again = workflow.run(State({"value": [1]}))
        assert again == {"out": [1]}
        assert again is not None
        again["out"].append(3)
    workflow.get_model_output(0)["data"].append(4)
    workflow.get_model_input(0)["data"].append(4)
    assert workflow.run(State({"value": [1]})) == {"out": [1]}
    assert workflow.steps_skipped == [0, 0, 0]


def test_opaque_values_always_count_as_changed() -> None:
    lock = threading.Lock()
    workflow, state = identity(), State({"value": [lock]}, mutable=True)
    workflow.run(state)
    workflow.run(state)
    assert workflow.steps_ran == [0, 0]
    assert workflow.get_model_input(0)["data"][0] is lock


def test_uncopyable_objects_always_count_as_changed() -> None:
    workflow, state = identity(), State({"value": Uncopied()}, mutable=True)
    workflow.run(state)
    workflow.run(state)
    assert workflow.steps_ran == [0, 0]


class Uncopied(Custom):
    def __deepcopy__(self, memo: object) -> Any:
        raise RuntimeError("not me")


def test_a_different_model_at_the_same_index_is_not_skipped() -> None:
    workflow = identity()
    workflow.run(State({"value": [1]}))
    workflow.steps[0] = Step(Wrapped, {"value": "data"}, {"data": "out"})
    assert "its output was made by" in str(workflow.explain(State({"value": [1]})))
    assert workflow.run(State({"value": [1]})) == {"out": ([1],)}
    assert workflow.steps_ran == [0, 0]


class Wrapped(Anything):
    def run(self) -> dict[str, Any]:
        return {"data": (self.data,)}


def test_an_output_connected_later_is_posted_from_the_cache() -> None:
    workflow = Workflow([Step(Invert, {"n": "x"}, {"y": "out"})])
    workflow.run(State({"n": 4}))
    workflow.steps[0] = Step(Invert, {"n": "x"}, {"x": "former"})
    assert workflow.run(State({"n": 4})) == {"former": 4}
    assert workflow.steps_skipped == [0]


def test_an_output_that_cannot_be_posted_is_not_cached() -> None:
    workflow = Workflow([Step(Returning, {"value": "result"}, {"x": "out"})])
    for _ in range(2):
        with pytest.raises(KeyError, match="returned no 'x'"):
            workflow.run(State({"value": {"y": 1}}))
    assert 0 not in workflow.model_outputs


def test_an_unknown_name_is_refused_before_any_step_runs() -> None:
    workflow = arithmetic()
    with pytest.raises(KeyError) as caught:
        workflow.run(State({"x": 2, "y": 3, "kk": 4}))
    assert str(caught.value).splitlines() == [
        f"step 1 ({HERE}.MultiplyModel) reads 'k', which neither the state nor an earlier step has",
        "  Did you mean 'kk'?",
    ]
    assert workflow.steps_ran == []


def test_a_name_that_is_written_too_late_is_refused() -> None:
    workflow = Workflow(reversed(arithmetic().steps))
    with pytest.raises(KeyError, match=r"step 0 .* reads 'total'.*\n  Step 1 writes it, too late"):
        workflow.run(numbers())


def test_an_unknown_model_is_refused_before_any_step_runs() -> None:
    workflow = arithmetic()
    workflow.add_step({"model": f"{HERE}.Modle", "inputs": {"final": "x"}})
    with pytest.raises(ModuleNotFoundError, match="has no 'Modle'") as caught:
        workflow.run(numbers())
    assert caught.value.__notes__ == [f"in step 2 ({HERE}.Modle) of the workflow"]
    assert workflow.steps_ran == []


def test_objects_that_are_not_states_are_refused() -> None:
    with pytest.raises(TypeError, match="a dict is not a state\n  Use State"):
        arithmetic().run({"x": 2})  # type: ignore[arg-type]


def test_a_workflow_is_restored_from_json_with_its_extracts() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    state = State({"value": {"frame": frame, "array": np.arange(3)}})
    workflow = identity()
    workflow.run(state)
    workflow.use_extracts = False
    read = Workflow.fromJson(workflow.toJson())
    assert read == workflow
    assert (read.steps_ran, read.useExtracts) == ([0], False)
    read.use_extracts = True
    read.run(state)
    assert (read.steps_ran, read.steps_skipped) == ([0], [0])


def test_extracts() -> None:
    extracts = Extracts(data={0: {"a": 1}})
    extracts.add(2, {"b": np.arange(3)})
    assert 0 in extracts
    assert 1 not in extracts
    assert extracts.get(0) == {"a": 1}
    assert extracts.equal(2, {"b": np.arange(3)})
    assert not extracts.equal(2, {"b": np.arange(4)})
    assert not extracts.equal(1, {})
    with pytest.raises(KeyError, match="no values of step 1 are kept"):
        extracts.get(1)
    assert Extracts.from_json(extracts.to_json()) == extracts
    workflow = Workflow(
        arithmetic().steps,
        modelInputs={0: {"a": 2, "b": 3}},
        modelOutputs=Extracts(data={0: {"sum": 50}}),
    )
    assert workflow.run(numbers()) == {"final": 200}
    assert workflow.steps_skipped == [0]


def test_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    state, workflow = numbers(), arithmetic()
    workflow.run(state)
    workflow.run(state)
    assert caplog.messages == [
        f"Running Step  0. {HERE}.AddModel...",
        "done.",
        f"Running Step  1. {HERE}.MultiplyModel...",
        "done.",
        f"Skipped Step  0. {HERE}.AddModel.",
        f"Skipped Step  1. {HERE}.MultiplyModel.",
    ]
    assert {record.name for record in caplog.records} == {"motoko.pipeline"}


def test_without_logging_configuration_lines_go_to_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("motoko.pipeline")
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "handlers", [])
    level = logger.level
    try:
        identity().run(State({"value": 1}))
    finally:
        logger.setLevel(level)
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith(f" :: INFO :: Running Step  0. {HERE}.Anything...")
    assert second.endswith(" :: INFO :: done.")


def test_the_pipeline_imports_neither_numpy_nor_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "numpy")
    monkeypatch.delitem(sys.modules, "pandas")
    workflow = identity()
    workflow.run(State({"value": {1: (2, {3})}}))
    assert Workflow.from_json(workflow.to_json()) == workflow
    assert "numpy" not in sys.modules
