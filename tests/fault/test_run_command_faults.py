"""``motoko run`` killed at fault points of all its processes: the same command resumes it."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from motoko.workflow import Workflow
from tests.support import invariants, victims
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
    ("files.before_rename", 1),  # it notes that the server is there for its time only
    ("creation.before_named", 1),  # the database is made
    ("files.before_rename", 2),  # the server runs
    ("files.before_rename", 3),  # it notes that the launcher is there for its time only
    ("orchestrator.lease_taken", 1),
    ("storage.ids_reserved", 1),
    ("main.before_commit", 1),
    ("main.after_commit", 1),  # the first runs are created
    ("orchestrator.confirmed", 1),
    ("orchestrator.after_commit", 1),  # a firing is open
    ("orchestrator.before_done", 1),
    ("orchestrator.after_commit", 2),  # at least one more of them, or of their ends
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
    """All is as if nothing had been killed, and nothing is left running."""
    workflow = Workflow(work.directory, look=True)
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
    victims.wait_until_none_left(tmp_path)


@pytest.mark.parametrize(("point", "passage"), POINTS)
def test_killed_anywhere_the_same_command_goes_on(
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
def test_what_it_has_started_is_started_again(
    work: Workload, tmp_path: Path, point: str, passage: int
) -> None:
    """Each of them is killed when it has come so far."""
    log = tmp_path / "points"
    done = run(work, MOTOKO_FAULT=f"{point}:kill:{passage}", MOTOKO_FAULT_LOG=str(log))
    assert f"{point} {passage} " in log.read_text()
    assert done.returncode == 0, done.stderr
    if point.startswith("launcher."):  # a server is started again by whoever misses it first
        assert "it was started again" in done.stderr
    check(work, tmp_path)
