"""``motoko.testing.simulate``, and typed orchestrators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import motoko
from motoko.errors import RunFailed, UnknownNameError, WorkflowStalled
from motoko.testing import failing, simulate
from tests.docs import typed_orchestrator

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit

MAIN = """
async def main(workflow, n=2):
    await workflow.solve.create_task(n=list(range(n)))
    await workflow.total.create_task()
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "motoko.yaml").write_text(
        "task_managers: {solve: , total: }\naliases: {s: solve}\norchestrator: orchestrator.main\n"
    )
    for name, study in {"solve": "job: {n: int}\nrun: {y: float}\n", "total": "job: {}\n"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "bd.yaml").write_text(study)
        (tmp_path / name / "launch.sh").write_text("exit 1\n")
    (tmp_path / "orchestrator.py").write_text(MAIN)
    return tmp_path


def test_functions_replace_scripts(directory: Path) -> None:
    files = sorted(directory.rglob("*"))
    with simulate(directory, {"solve": lambda job: {"y": job["n"] ** 2}}) as workflow:
        workflow.execute(n=3)
        assert [run.y for run in workflow.solve.select().runs] == [0.0, 1.0, 4.0]
        assert workflow.total.select("state = FINISHED").ids == [1]
        assert workflow.run_name == "test"
    assert sorted(directory.rglob("*")) == files


def test_an_alias_names_a_study(directory: Path) -> None:
    with simulate(directory, {"s": lambda _: {"y": 1}}, run_name="a") as workflow:
        workflow.execute()
        assert workflow.solve.select("y = 1").ids == [1, 2]


def test_an_unknown_study_is_refused(directory: Path) -> None:
    with pytest.raises(UnknownNameError, match="solv"), simulate(directory, {"solv": lambda _: {}}):
        pass


def test_failed_runs_are_failures_of_the_orchestrator(directory: Path) -> None:
    with simulate(directory, {"solve": lambda job: failing() if job["n"] else None}) as workflow:
        with pytest.raises(RunFailed) as caught:
            workflow.execute()
        assert [run.job.n for run in caught.value.runs] == [1]


def test_an_exception_in_a_function_ends_the_test(directory: Path) -> None:
    def broken(job: Any) -> Any:
        return {"y": job["m"]}

    with pytest.raises(KeyError, match="m") as caught, simulate(directory, {"s": broken}) as work:
        work.execute()
    assert isinstance(caught.value.__context__, RunFailed)
    assert "KeyError: 'm'" in str(caught.value.__context__)


def test_a_workflow_without_progress_ends(directory: Path) -> None:
    (directory / "orchestrator.py").write_text(
        "async def main(workflow):\n    await workflow.solve.select('n > 5')\n"
    )
    with simulate(directory) as workflow, pytest.raises(WorkflowStalled):
        workflow.execute()


def test_the_typed_orchestrator_works(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with simulate(directory) as workflow:
        workflow.orchestrator_function = typed_orchestrator.main
        workflow.execute(sizes=[1, 2])
        assert sorted(job.n for _, job in workflow.solve.select()) == [1, 2, 10, 20]
    assert capsys.readouterr().out == "0 runs failed\n"


def test_public_names_are_importable() -> None:
    for name in motoko.__all__:
        assert getattr(motoko, name) is not None
    assert not hasattr(motoko, "Runz")
