"""Kill ``motoko run`` at fault points of all its processes; the same command resumes."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from motoko.workflow import Workflow
from tests.support import invariants, workflow_processes
from tests.support.command_line import Shell, finish
from tests.support.workloads import fan_out, make_fan_out

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.workloads import Workload

pytestmark = pytest.mark.fault

COUNT = 3
POINTS = [
    ("files.before_rename", 1),  # the server is recorded as temporary
    ("creation.before_named", 1),  # the database is made
    ("files.before_rename", 2),  # the server runs
    ("files.before_rename", 3),  # the launcher is recorded as temporary
    ("orchestrator.lease_acquired", 1),
    ("storage.ids_reserved", 1),
    ("main.before_commit", 1),
    ("main.after_commit", 1),  # the first runs are created
    ("orchestrator.confirmed", 1),
    ("orchestrator.after_commit", 1),  # a firing is open
    ("orchestrator.before_done", 1),
    ("orchestrator.after_commit", 2),  # at least one more start or end
]


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Workload]:
    directory = tmp_path / "wf"
    make_fan_out(directory, database=False)
    yield fan_out(directory, "test", COUNT)
    Shell(directory).close()


def run(work: Workload, **environment: str) -> subprocess.CompletedProcess[str]:
    arguments = ["run", "--run_name", work.run_name, *work.arguments]
    return finish(Shell(work.directory, environment).start(*arguments))


def check(work: Workload, tmp_path: Path) -> None:
    """Check that results are complete and no process is left."""
    workflow = Workflow(work.directory, read_only=True)
    workflow.run_name = work.run_name
    try:
        wrong = invariants.check(
            workflow, work.run_name, once=work.once, expected=work.expected, log=work.log
        )
        found = {name: len(workflow.task_manager(name).select()) for name in work.runs}
    finally:
        workflow.close()
    assert wrong == []
    assert found == work.runs
    workflow_processes.wait_until_none_left(tmp_path)


@pytest.mark.parametrize(("point", "passage"), POINTS)
def test_the_same_command_resumes_after_a_kill_at_any_point(
    work: Workload, tmp_path: Path, point: str, passage: int
) -> None:
    log = tmp_path / "points"
    killed = run(work, MOTOKO_FAULT=f"{point}:kill:{passage}", MOTOKO_FAULT_LOG=str(log))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert f"{point} {passage} " in log.read_text()

    again = run(work)

    assert again.returncode == 0, again.stderr
    check(work, tmp_path)


@pytest.mark.parametrize(
    ("point", "passage"),
    [("server.before_finish", 7), ("server.after_finish", 8), ("launcher.started", 4)],
)
def test_killed_services_are_restarted(
    work: Workload, tmp_path: Path, point: str, passage: int
) -> None:
    """Each process is killed at its fault point."""
    log = tmp_path / "points"
    done = run(work, MOTOKO_FAULT=f"{point}:kill:{passage}", MOTOKO_FAULT_LOG=str(log))
    assert f"{point} {passage} " in log.read_text()
    assert done.returncode == 0, done.stderr
    if point.startswith("launcher."):  # the first process that needs the server restarts it
        assert "it was restarted" in done.stderr
    check(work, tmp_path)
