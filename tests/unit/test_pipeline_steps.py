"""Models and steps of pipelines."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pydantic
import pytest

from motoko.errors import GraphError
from motoko.pipeline import BaseModel, Runner, State, Step, Workflow
from tests.support.pipeline import AddModel, Anything, Invert, Returning, numbers

pytestmark = pytest.mark.unit

HERE = "tests.support.pipeline"


class Color(Enum):
    RED = "red"


class Inner(BaseModel):
    values: tuple[int, ...] = (1, 2)


class Outer(BaseModel):
    inner: Inner = Inner()
    color: Color = Color.RED
    path: Path = Path("a/b")
    number: UUID = UUID(int=3)
    moment: datetime = datetime(2020, 1, 2, tzinfo=UTC)
    array: Any = None
    modelled: dict[str, Any] | None = None


def test_a_model_is_a_pydantic_model_without_extra_fields() -> None:
    assert issubclass(BaseModel, pydantic.BaseModel)
    assert AddModel(a=1, b=2).run() == {"sum": 3}
    with pytest.raises(ValueError, match="c"):
        AddModel(a=1, b=2, c=3)  # type: ignore[call-arg]


def test_models_are_written_as_path_and_contents() -> None:
    model = AddModel(a=1, b=2)
    written = {"model": f"{HERE}.AddModel", "contents": {"a": 1, "b": 2}}
    assert model.getUri() == model.get_uri() == f"{HERE}.AddModel"
    assert model.toDict() == written
    assert json.loads(model.toJson()) == written
    assert AddModel.fromDict(written) == AddModel.fromJson(model.to_json()) == model
    assert BaseModel.from_json(model.to_json()) == model


def test_models_with_all_kinds_of_fields_are_restored() -> None:
    model = Outer(array=np.arange(6.0).reshape(2, 3), modelled={"x": [Inner(values=(5,))]})
    read = Outer.from_json(model.to_json())
    assert read == model
    assert type(read.color) is Color
    assert read != Outer(array=np.arange(6.0))


def test_a_model_of_another_class_is_refused() -> None:
    text = AddModel(a=1, b=2).to_json()
    with pytest.raises(TypeError, match="this is a AddModel, not a Invert"):
        Invert.from_json(text)
    with pytest.raises(TypeError, match=r"json\.JSONDecoder is not a pydantic model"):
        BaseModel.from_dict({"model": "json.JSONDecoder", "contents": {}})


def test_a_class_is_stored_as_its_path() -> None:
    step = Step(model=AddModel, inputs={"x": "a"}, outputs={"sum": "total"})
    assert step.model == f"{HERE}.AddModel"
    assert step == Step(f"{HERE}.AddModel", {"x": "a"}, {"sum": "total"})
    assert Step.from_json(step.to_json()) == step


def test_a_local_class_is_a_model_but_cannot_be_serialised() -> None:
    class Local(AddModel):
        pass

    step = Step(Local, {"x": "a", "y": "b"}, {"sum": "total"})
    assert step.run(numbers()) == {"total": 5}
    with pytest.raises(ValueError, match="class in a function") as caught:
        State({"one": Local(a=1, b=2)}).to_json()
    assert "Local" in str(caught.value)


def test_a_single_step_reads_runs_and_posts() -> None:
    state = numbers()
    step = Step(AddModel, {"x": "a", "y": "b"}, {"sum": "total"})
    assert step.run(state) == {"total": 5}
    assert state.extract("total") == 5


def test_unconnected_outputs_are_dropped() -> None:
    state = State({"n": 4})
    assert Step(Invert, {"n": "x"}, {"y": "out"}).run(state) == {"out": 0.25}
    assert state.names() == ["n", "out"]


def test_the_last_of_two_names_for_one_field_is_used() -> None:
    state = State({"n": 4, "m": 8})
    assert Step(Invert, {"n": "x", "m": "x"}, {"y": "out"}).run(state) == {"out": 0.125}


def test_input_and_output_names_of_a_step() -> None:
    step = Step(AddModel, {"x": "a", "y": "b"}, {"sum": "total"})
    state = numbers()
    assert step.getStateInputNames() == ["x", "y"]
    assert step.getModelInputNames() == ["a", "b"]
    assert step.getModelOutputNames() == ["sum"]
    assert step.getStateOutputNames() == ["total"]
    state_input = step.extractStateInputFromState(state)
    assert state_input == {"x": 2, "y": 3}
    model_input = step.extractModelInputFromStateInput(state_input)
    assert model_input == {"a": 2, "b": 3}
    model = step.extractModelFromModelInput(model_input)
    assert model == AddModel(a=2, b=3)
    state_output = step.extractStateOutputFromModelOutput({"sum": 5})
    assert state_output == {"total": 5}
    step.postStateOutputToState(state_output, state)
    assert state.extract("total") == 5


@pytest.mark.parametrize(
    ("path", "first_line", "hint"),
    [
        (
            f"{HERE}.AdModel",
            f"model '{HERE}.AdModel': {HERE} has no 'AdModel'",
            "Did you mean 'AddModel'?",
        ),
        (
            "tests.support.pipelin.AddModel",
            "model 'tests.support.pipelin.AddModel': tests.support has no 'pipelin'",
            "Did you mean 'pipeline'?",
        ),
        ("jsn.Model", "model 'jsn.Model': the module 'jsn' does not exist", "Did you mean 'json'?"),
        ("", "model '' is not a dotted path", "Write package.module.Name."),
    ],
)
def test_an_unknown_model_is_named(path: str, first_line: str, hint: str) -> None:
    with pytest.raises(ModuleNotFoundError) as caught:
        Step(path).run(State())
    assert str(caught.value).splitlines() == [first_line, f"  {hint}"]
    assert isinstance(caught.value, GraphError)


@pytest.mark.parametrize("path", ["json.dumps", "json", "json.JSONDecoder"])
def test_objects_that_are_not_models_are_refused(path: str) -> None:
    with pytest.raises(TypeError, match=f"^{path} is not a model"):
        Step(path).run(State())


def test_exceptions_of_an_imported_module_propagate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wrong_inside.py").write_text("import no_such_module_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'no_such_module_at_all'$"):
        Step("wrong_inside.Model").run(State())


@pytest.mark.parametrize("result", [None, [1], "text", 5])
def test_a_result_that_is_not_a_dictionary_is_refused(result: object) -> None:
    state = State({"r": result})
    with pytest.raises(TypeError, match=r"Returning\.run\(\) returned a \w+, no dictionary"):
        Step(Returning, {"r": "result"}, {"x": "y"}).run(state)
    assert state.names() == ["r"]


def test_a_result_that_lacks_a_key() -> None:
    state = State({"r": {"heat": 1}})
    with pytest.raises(KeyError) as caught:
        Step(Returning, {"r": "result"}, {"haet": "y"}).run(state)
    first, second = str(caught.value).splitlines()
    assert first == f"{HERE}.Returning.run() returned no 'haet', which the step must pass on"
    assert second == "  Did you mean 'heat'?"


def test_an_unknown_name_in_the_state() -> None:
    with pytest.raises(KeyError) as caught:
        Step(Anything, {"totl": "data"}).run(State({"total": 1}))
    assert str(caught.value) == "the state has no 'totl'\n  Did you mean 'total'?"


def test_a_value_of_a_wrong_type() -> None:
    with pytest.raises(pydantic.ValidationError, match="AddModel"):
        Step(AddModel, {"x": "a", "y": "b"}).run(State({"x": "two", "y": 3}))


def test_a_value_of_a_wrong_type_is_reported_with_its_state_name() -> None:
    workflow = Workflow([Step(AddModel, {"x": "a", "y": "b"})])
    with pytest.raises(pydantic.ValidationError) as caught:
        workflow.run(State({"x": "two", "y": 3}))
    assert caught.value.__notes__ == [
        "a is 'x' of the state",
        f"in step 0 ({HERE}.AddModel) of the workflow",
    ]


@pytest.mark.parametrize("model", [None, 3])
def test_invalid_models_are_refused_immediately(model: Any) -> None:
    with pytest.raises(ValueError, match=r"a class with run\(\), its dotted path, or a node"):
        Step(model)


def test_a_class_without_run_is_not_a_model() -> None:
    with pytest.raises(TypeError, match=r"State is not a model: it has no method run\(\)"):
        Step(State).run(State())


def test_wrong_types_are_refused_immediately() -> None:
    with pytest.raises(pydantic.ValidationError):
        Runner(3, State())  # type: ignore[arg-type]
    with pytest.raises(pydantic.ValidationError):
        Step(AddModel, {"x": 3})  # type: ignore[dict-item]
