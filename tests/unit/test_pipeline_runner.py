"""Runners: instances, references and reruns."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from motoko.pipeline import Runner, State, StateWithGlueDb, Step, Workflow
from tests.support.pipeline import Invert, arithmetic, numbers

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit

MODULE = """
from motoko.pipeline import State
from tests.support.pipeline import arithmetic, numbers

WORKFLOW = arithmetic()
STATE = numbers()
NUMBER = 3

def create():
    return numbers()
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a reference to a module with a workflow and states."""
    (tmp_path / "things_to_run.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "things_to_run", raising=False)
    return "python://things_to_run"


def test_gallery_example_returns_its_documented_numbers() -> None:
    runner = Runner(workflow=arithmetic(), state=numbers())
    assert runner.run() == {"final": 20}
    assert runner.rerunWorkflow.stepsRan == [0, 1]
    assert runner.rerunWorkflow.stepsSkipped == []
    assert runner.rerunState.extract("total") == 5
    assert runner.rerunWorkflow.getModelInput(0) == {"a": 2, "b": 3}
    assert runner.rerunWorkflow.getModelOutput(0) == {"sum": 5}
    assert runner.rerun() == {"final": 20}
    assert runner.rerunWorkflow.stepsRan == [0, 1]
    assert runner.rerunWorkflow.stepsSkipped == [0, 1]


def test_instances_are_used_without_a_copy() -> None:
    workflow, state = arithmetic(), numbers()
    runner = Runner(workflow, state)
    assert runner.getWorkflow() is workflow
    assert runner.getState() is state
    assert (runner.rerunWorkflow, runner.rerunState) == (None, None)
    runner.run()
    assert runner.getRerunWorkflow() is workflow
    assert runner.getRerunState() is state


def test_references_create_new_objects_for_each_run(module: str) -> None:
    runner = Runner(f"{module}.WORKFLOW", f"{module}.STATE")
    assert runner.run() == {"final": 20}
    workflow, state = runner.rerun_workflow, runner.rerun_state
    assert runner.run() == {"final": 20}
    assert runner.rerun_workflow is not workflow
    assert runner.rerun_state is not state
    assert runner.get_rerun_workflow().steps_ran == [0, 1]
    assert runner.workflow == f"{module}.WORKFLOW"
    assert runner.rerun() == {"final": 20}
    assert runner.get_rerun_workflow().steps_skipped == [0, 1]


def test_a_module_is_executed_once_for_the_first_run(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "things_to_run.py"
    file.write_text(MODULE + f"with open({str(tmp_path / 'log')!r}, 'a') as f:\n    f.write('x')\n")
    runner = Runner(f"{module}.WORKFLOW", numbers())
    runner.get_workflow()
    assert (tmp_path / "log").read_text() == "x"
    runner.get_workflow()
    assert (tmp_path / "log").read_text() == "xx"


def test_objects_of_the_main_program_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    main, workflow = ModuleType("__main__"), arithmetic()
    vars(main).update(WORKFLOW=workflow, create=numbers)
    monkeypatch.setitem(sys.modules, "__main__", main)
    runner = Runner("python://__main__.WORKFLOW", "python://__main__.create")
    for _ in range(2):
        assert runner.run() == {"final": 20}
        assert runner.get_rerun_workflow().steps_ran == [0, 1]
    assert workflow.steps_ran == []


def test_a_reference_to_a_function_is_its_result(module: str) -> None:
    assert Runner(arithmetic(), f"{module}.create").run() == {"final": 20}


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        ("{}.WORKFLO", ModuleNotFoundError, "has no 'WORKFLO'\n  Did you mean 'WORKFLOW'?"),
        ("python://no_such_thing.W", ModuleNotFoundError, "'no_such_thing' does not exist"),
        ("things.W", ModuleNotFoundError, "'things.W' is not a reference\n  A reference is"),
        ("python://", ModuleNotFoundError, "is not a reference"),
        ("{}.NUMBER", TypeError, "NUMBER is a int, not a Workflow"),
        ("{}.STATE", TypeError, "STATE is a State, not a Workflow"),
    ],
)
def test_an_invalid_reference_fails_at_run(
    module: str, reference: str, error: type[Exception], message: str
) -> None:
    runner = Runner(reference.format(module), numbers())
    with pytest.raises(error) as caught:
        runner.run()
    assert message in str(caught.value)


def test_rerun_requires_an_earlier_run() -> None:
    runner = Runner(arithmetic(), numbers())
    with pytest.raises(ValueError, match=r"^Cannot rerun workflow without a rerunWorkflow\n"):
        runner.rerun()
    with pytest.raises(ValueError, match=r"^Cannot rerun workflow without a rerunState\n"):
        runner.getRerunState()


def test_flags_of_rerun_are_kept_on_the_workflow() -> None:
    runner = Runner(arithmetic(), numbers(mutable=True))
    runner.run()
    runner.rerun(useExtracts=False, populateExtracts=False)
    workflow = runner.get_rerun_workflow()
    assert workflow.steps_ran == [0, 1, 0, 1]
    assert (workflow.useExtracts, workflow.populateExtracts) == (False, False)
    runner.rerun()
    assert workflow.steps_ran == [0, 1, 0, 1, 0, 1]
    runner.rerun(True, True)
    assert (workflow.use_extracts, workflow.populate_extracts) == (True, True)
    assert workflow.steps_skipped == [0, 1]
    runner.rerun(use_extracts=False)
    assert workflow.use_extracts is False
    assert runner.getRerunWorkflow(useExtracts=True) is workflow
    assert (workflow.use_extracts, workflow.populate_extracts) == (True, True)
    runner.get_rerun_workflow(use_extracts=False)
    assert workflow.use_extracts is False
    assert workflow.populate_extracts is True


def test_after_a_failing_run_workflow_and_state_are_available() -> None:
    runner = Runner(Workflow(Step(Invert, {"n": "x"}, {"y": "out"})), State({"n": 0}, mutable=True))
    with pytest.raises(ZeroDivisionError):
        runner.run()
    state = runner.get_rerun_state()
    state.post(2, name="n")
    assert runner.rerun() == {"out": 0.5}


def test_a_runner_with_references_is_restored_from_json(module: str) -> None:
    runner = Runner(f"{module}.WORKFLOW", f"{module}.STATE")
    runner.run()
    read = Runner.from_json(runner.to_json())
    assert read == runner
    assert read.rerun_workflow is None
    assert read.run() == {"final": 20}


@pytest.mark.parametrize("kind", [State, StateWithGlueDb])
def test_a_runner_with_instances_is_restored_with_equal_state_classes(
    kind: type[State | StateWithGlueDb],
) -> None:
    runner = Runner(arithmetic(), kind({"x": 2, "y": 3, "k": 4}))
    runner.run()
    read = Runner.fromJson(runner.toJson())
    assert read == runner
    state = read.get_state()
    assert type(state) is kind
    assert state.extract("final") == 20
    assert read.run() == {"final": 20}
    assert read.get_rerun_workflow().steps_skipped == [0, 1]
