"""The Workflow object outside an execution: loading the orchestrator, constraints."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from motoko.config import study_file
from motoko.errors import ConfigError, ConstraintError, ParameterError, UnknownNameError
from motoko.server.lifecycle import stop_server
from motoko.storage.database import Database
from motoko.storage.schema import create_tables
from motoko.storage.session import run_transaction
from motoko.workflow import Workflow

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

STEPS = """\
from pathlib import Path

with Path(__file__).with_name("imports").open("a") as file:
    file.write("imported\\n")

CALLS = []


def populate_arg_parser(parser):
    CALLS.append("parser")


async def main(workflow):
    CALLS.append("main")
"""
STUDIES = {
    "first": "{job: {x: float}, run: {entry: float}}",
    "second": "{job: {x: float}, run: {energy: float}}",
    "third": "{job: {x: float}, run: {gain: float}}",
}


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Workflow]:
    names = ", ".join(f"{name}: " for name in STUDIES)
    (tmp_path / "motoko.yaml").write_text(
        f"task_managers: {{{names}, open: }}\norchestrator: steps.main\n"
    )
    (tmp_path / "steps.py").write_text(STEPS)
    for name, text in {**STUDIES, "open": "{job: {x: float}}"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "bd.yaml").write_text(text)
        (tmp_path / name / "launch.sh").write_text("true\n")
    database = Database.in_memory()
    run_transaction(
        database, lambda root: create_tables(root, [*STUDIES, "open"]), initialising=True
    )
    workflow = Workflow(tmp_path, database=database)
    workflow.run_name = "a"
    yield workflow
    workflow.close()
    database.close()


def test_the_orchestrator_is_imported_once(workflow: Workflow, tmp_path: Path) -> None:
    module = workflow.load_orchestrator_module()
    module.populate_arg_parser(None)
    workflow.execute()
    assert workflow.get_orchestrator_function() is module.main
    assert workflow.load_orchestrator_module() is module
    assert module.CALLS == ["parser", "main"]
    assert (tmp_path / "imports").read_text() == "imported\n"


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_a_selection_warns_once_of_a_possibly_misspelt_name(
    workflow: Workflow, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        assert not workflow.open.select("stat = FINISHED")
    workflow.open.select("x > 0") & "stat = FAILED"
    (warning,) = warnings(caplog)
    assert "study 'open'" in warning
    assert "did you mean 'state'" in warning
    workflow.open.select("stage = 3")
    assert len(warnings(caplog)) == 2


@pytest.mark.parametrize(
    ("condition", "study", "expected"),
    [
        ("enrgy > 1", "second", "Did you mean 'energy'?"),
        ("entr > 1", "first", "Did you mean 'entry'?"),
        ("entry = high", "first", "column 'entry' is a float"),
    ],
)
def test_a_refused_constraint_names_the_nearest_name_of_all_studies(
    workflow: Workflow, condition: str, study: str, expected: str
) -> None:
    del workflow.task_managers["open"]  # it accepts any field
    with pytest.raises(ConstraintError) as caught:
        workflow.add_action("e", event=condition)
    assert f"study {study!r}" in str(caught.value)
    assert expected in str(caught.value)
    assert caught.value.__notes__ == ["in the condition of event 'e'"]
    assert workflow.actions == {}


def test_a_field_of_some_studies_selects_only_from_them(workflow: Workflow) -> None:
    del workflow.task_managers["open"]
    workflow.add_action("e", event="energy > 1")
    action = workflow.actions["__all__"]["e"]
    assert action.constraints is not None
    assert list(action.constraints) == ["second"]


def test_run_params_must_be_a_dictionary(workflow: Workflow) -> None:
    manager: Any = workflow.open
    with pytest.raises(ParameterError, match=r"study 'open': run_params is \[1\], not a dict"):
        manager.create_task([1], x=1.0)


def test_an_unreadable_script(workflow: Workflow, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(study_file, "open_regular", refused)
    with pytest.raises(ConfigError, match=r"launch\.sh cannot be read: Permission denied"):
        workflow.open.create_task(x=1.0)
    assert len(workflow.open.select()) == 0


def test_variables_need_no_create_call(tmp_path: Path) -> None:
    (tmp_path / "motoko.yaml").write_text("task_managers: {s: }\norchestrator: steps.main\n")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "bd.yaml").write_text("job: {x: float}\n")
    (tmp_path / "s" / "launch.sh").write_text("true\n")
    workflow = Workflow(tmp_path)
    try:
        assert workflow.vars.get("n", 7) == 7
        assert list(workflow.vars) == []
        with pytest.raises(UnknownNameError):
            _ = workflow.vars.n
        assert not workflow.store.state.database.exists()  # reading does not create it
        workflow.vars.n = Path("a")
        assert workflow.vars.n == Path("a")
        workflow.run_name = "a"
        assert workflow.s.create_task(x=1).ids == [1]
        workflow.close()
        again = Workflow(tmp_path)  # another client, which reads with the allow-list of classes
        assert again.vars.n == Path("a")
        again.close()
    finally:
        workflow.close()
        stop_server(workflow.store.state)
