"""``motoko adopt``: a parameter is added to a study with results."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from motoko.storage.consistency import check_database_file
from motoko.workflow import Workflow
from tests.support.command_line import Shell, small_workflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

MAIN = """
async def main(workflow):
    given = {"gamma": 0.1} if "gamma" in workflow.s.bd_config.job else {}
    await workflow.s.create_task(x=[1, 2, 3], **given)
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """Return a workflow whose study has three runs and a new parameter."""
    shell = small_workflow(tmp_path, main=MAIN)
    with Workflow(tmp_path) as workflow:
        workflow.run_name = "a"
        workflow.s.create_task(x=[1, 2, 3])
    shell.write({"s/bd.yaml": "job: {x: int, gamma: float}\n"})
    yield shell
    shell.close()


def gammas(shell: Shell) -> list[object]:
    assert check_database_file(shell.directory / ".wf" / "wf.db") == []
    with Workflow(shell.directory, read_only=True) as workflow:
        workflow.run_name = "a"
        return [job.get("gamma") for _, job in workflow.s.select()]


def test_a_workflow_continues_with_its_runs_after_a_parameter_was_added(shell: Shell) -> None:
    assert "motoko adopt" in shell.ok("info")
    shown = shell.ok("adopt", "s", "--set", "gamma=0.1", "--dry-run")
    assert "3 runs would adopt gamma=0.1" in shown
    asked = shell.run("adopt", "s", "--set", "gamma=0.1")
    assert asked.returncode == 2
    assert "--yes" in asked.stderr
    assert gammas(shell) == [None] * 3
    done = shell.ok("adopt", "s.1-2", "s.3", "--run_name", "a", "--set", "gamma=0.1", "--yes")
    assert done == "3 runs adopted gamma=0.1\n"
    assert shell.ok("adopt", "s", "--set", "gamma=0.1").startswith("nothing to change")
    shell.ok("run", "--run_name", "a")
    assert shell.counts("s", "a") == {"FINISHED": 3}
    assert gammas(shell) == [0.1] * 3
    assert "motoko adopt gamma=0.1" in shell.ok("history", "s.1")


def test_wrong_arguments_are_named(shell: Shell) -> None:
    for arguments, words in {
        ("--set", "gamma=1"): "needs the runs of one study",
        ("s",): "needs --set NAME=VALUE or --drop NAME",
        ("s", "--set", "gamma"): "'gamma' is not NAME=VALUE",
        ("s.9", "--set", "gamma=1"): "no run 9",
        ("t", "--set", "gamma=1"): "'t'",
        ("s", "--run_name", "b", "--set", "gamma=1"): "'b'",
    }.items():
        done = shell.run("adopt", *arguments, "--dry-run")
        assert done.returncode in {1, 2}
        assert words in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("point", "expected"),
    [("storage.before_commit:kill:2", None), ("storage.after_commit:kill:2", 0.1)],
)
def test_a_killed_adoption_changes_all_runs_or_none(
    shell: Shell, point: str, expected: float | None
) -> None:
    """The first commit reserves the ids of the new jobs."""
    shell.ok("info")
    killed = Shell(shell.directory, {"MOTOKO_FAULT": point})
    done = killed.run("adopt", "s", "--set", "gamma=0.1", "--yes")
    assert done.returncode == -signal.SIGKILL
    assert gammas(shell) == [expected] * 3
    shell.ok("adopt", "s", "--set", "gamma=0.1", "--yes")
    assert gammas(shell) == [0.1] * 3
