"""Kill the orchestrator at each of its fault points; the next one resumes."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from motoko.launcher.control import start_launcher, stop_launcher
from motoko.runtime import fault_points
from motoko.server.lifecycle import stop_server
from motoko.server.state_dir import StateDir
from motoko.workflow import Workflow
from tests.support import invariants, workflow_processes
from tests.support.command_line import Shell
from tests.support.workloads import fan_out, make_fan_out

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.workloads import Workload

pytestmark = pytest.mark.fault

COUNT = 6
POINTS = [
    ("orchestrator.lease_acquired", 1),
    ("orchestrator.confirmed", 1),
    ("orchestrator.before_commit", 1),  # the segment that creates
    ("orchestrator.after_commit", 1),  # its firing is open
    ("orchestrator.before_commit", 2),
    ("orchestrator.before_done", 1),  # the segment that counts
    ("orchestrator.after_commit", 2),
    ("main.before_commit", 1),
    ("main.after_commit", 1),  # the runs are created, nothing is awaited yet
    ("main.after_commit", 3),
    ("storage.before_commit", 1),  # the lease is taken
    ("storage.after_commit", 1),
    ("storage.after_commit", 3),
    ("storage.ids_reserved", 1),
    ("storage.ids_reserved", 2),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workflow with a server and a launcher; every test uses its own run name."""
    place = tmp_path_factory.mktemp("served")
    directory = place / "wf"
    state = StateDir.of(directory)
    try:
        make_fan_out(directory)
        start_launcher(state)
        yield directory
    finally:
        stop_launcher(state, stop_runs=True)
        stop_server(state)
    workflow_processes.wait_until_none_left(place)


def orchestrate(work: Workload, **environment: str) -> subprocess.CompletedProcess[str]:
    shell = Shell(work.directory, environment)
    return shell.run("orchestrator", "start", "--run_name", work.run_name, *work.arguments)


def check(work: Workload) -> list[str]:
    workflow = Workflow(work.directory)
    workflow.run_name = work.run_name
    try:
        wrong = invariants.check(
            workflow, work.run_name, once=work.once, expected=work.expected, log=work.log
        )
        found = {name: len(workflow.task_manager(name).select()) for name in work.runs}
        return wrong if found == work.runs else [*wrong, f"{found} runs, not {work.runs}"]
    finally:
        workflow.close()


def test_every_fault_point_of_the_orchestrator_is_tested() -> None:
    wanted = {
        n for n in fault_points.POINTS if n.split(".")[0] in ("orchestrator", "main", "storage")
    }
    assert {name for name, _ in POINTS} == wanted


@pytest.mark.parametrize(("point", "passage"), POINTS)
def test_an_orchestrator_killed_anywhere_resumes_with_the_same_result(
    served: Path, tmp_path: Path, point: str, passage: int
) -> None:
    work = fan_out(served, f"{point} {passage}", COUNT)
    log = tmp_path / "points"
    killed = orchestrate(work, MOTOKO_FAULT=f"{point}:kill:{passage}", MOTOKO_FAULT_LOG=str(log))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    # Not always the last line: another thread may pass a point before the signal arrives.
    assert any(line.startswith(f"{point} {passage} ") for line in log.read_text().splitlines())
    assert check(work) != []

    again = orchestrate(work)

    assert again.returncode == 0, again.stderr
    assert check(work) == []
