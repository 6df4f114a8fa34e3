"""The orchestrator killed at each of its fault points; the next one goes on where it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from motoko.launcher.daemon import start_launcher, stop_launcher
from motoko.runtime import faults
from motoko.storage.address import StateDirectory
from motoko.storage.server import stop_server
from motoko.testing import invariants
from motoko.workflow import Workflow
from tests.support import victims
from tests.support.workloads import Workload, fan_out, make_fan_out

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.fault

PATIENCE = 60.0
COUNT = 6
POINTS = [
    ("orchestrator.lease_taken", 1),
    ("orchestrator.confirmed", 1),
    ("orchestrator.before_commit", 1),  # the stretch that creates
    ("orchestrator.after_commit", 1),  # its firing is open
    ("orchestrator.before_commit", 2),
    ("orchestrator.before_done", 1),  # the stretch that counts
    ("orchestrator.after_commit", 2),
    ("main.before_commit", 1),
    ("main.after_commit", 1),  # the runs are created, nothing is awaited yet
    ("main.after_commit", 3),
    ("storage.ids_reserved", 1),
    ("storage.ids_reserved", 2),
]


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Workload]:
    directory = tmp_path / "wf"
    state = StateDirectory.of(directory)
    try:
        make_fan_out(directory)
        start_launcher(state)
        yield fan_out(directory, "test", COUNT)
    finally:
        stop_launcher(state, stop_runs=True)
        stop_server(state)
    assert victims.left(tmp_path) == []


def orchestrate(work: Workload, **environment: str) -> subprocess.CompletedProcess[str]:
    arguments = ["orchestrator", "start", "--run_name", work.run_name, *work.arguments]
    return subprocess.run(
        [sys.executable, "-m", "motoko", *arguments],
        cwd=work.directory, env={**os.environ, **environment}, timeout=PATIENCE,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip


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


def test_no_point_of_the_orchestrator_is_left_out() -> None:
    wanted = {n for n in faults.POINTS if n.split(".")[0] in ("orchestrator", "main", "storage")}
    assert {name for name, _ in POINTS} == wanted


@pytest.mark.parametrize(("point", "passage"), POINTS)
def test_killed_anywhere_it_goes_on_and_comes_to_the_same(
    work: Workload, tmp_path: Path, point: str, passage: int
) -> None:
    log = tmp_path / "points"
    killed = orchestrate(work, MOTOKO_FAULT=f"{point}:kill:{passage}", MOTOKO_FAULT_LOG=str(log))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert log.read_text().splitlines()[-1].startswith(f"{point} {passage} ")
    assert check(work) != []

    again = orchestrate(work)

    assert again.returncode == 0, again.stderr
    assert check(work) == []
