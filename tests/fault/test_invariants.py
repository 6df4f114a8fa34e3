"""The invariant checks detect missing safety mechanisms."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from motoko.launcher.control import running_launchers
from motoko.server.lifecycle import stop_server
from motoko.server.state_dir import StateDir
from motoko.workflow import Workflow
from tests.support import invariants, workflow_processes
from tests.support.forked import Forked
from tests.support.process import main
from tests.support.workloads import Workload, fan_out, make_fan_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.fault

PATIENCE = 90.0
LEASE = 0.6
STALLED = 4


@dataclass
class Stage:
    """The processes of one scenario; ``mutant`` names the mechanism they leave out."""

    work: Workload
    scratch: Path
    started: list[Forked] = field(default_factory=list)

    def start(self, kind: str, mutant: str = "", fault: str = "", *, lease: float = 30.0) -> Forked:
        """Start an orchestrator with this lease in seconds, or a launcher; wait until ready."""
        directory = str(self.work.directory)
        arguments = {
            "launcher": ["launcher", directory],
            "orchestrator": ["run", "--workflow", directory, "--run_name", self.work.run_name,
                             *self.work.arguments],
        }  # fmt: skip
        environment = {
            **os.environ,
            "MOTOKO_TEST_LEASE": str(lease),
            "MOTOKO_TEST_MUTANT": mutant,
            "MOTOKO_FAULT": fault,
            "MOTOKO_FAULT_LOG": str(self.points),
        }
        process = Forked(
            main, arguments[kind], directory=self.work.directory, environment=environment,
            output=self.scratch / "output", session=True,
        )  # fmt: skip
        self.started.append(process)
        if kind == "launcher":
            state = StateDir.of(self.work.directory)
            wait_until(lambda: process.pid in {r.process.pid for r in running_launchers(state)})
        return process

    @property
    def points(self) -> Path:
        """Return the log of fault points."""
        return self.scratch / "points"

    def passed(self, point: str) -> bool:
        """Return whether a fault point (name and passage) was passed."""
        return self.points.exists() and f"{point} " in self.points.read_text()

    def starts(self, run: str) -> int:
        """Return how many attempts of a run started."""
        lines = invariants.read_log(self.work.log, self.work.run_name)
        return sum(line.what == invariants.START and line.run == run for line in lines)

    def forwarded(self) -> int:
        """Return how many runs were forwarded."""
        workflow = self.workflow()
        try:
            found: int = workflow.run_vars.get("forwarded", 0)
            return found
        finally:
            workflow.close()

    def workflow(self) -> Workflow:
        """Open the workflow."""
        workflow = Workflow(self.work.directory)
        workflow.run_name = self.work.run_name
        return workflow

    def check(self) -> list[str]:
        """Return the violated invariants."""
        work, workflow = self.work, self.workflow()
        try:
            return invariants.check(
                workflow, work.run_name, once=work.once, expected=work.expected, log=work.log
            )
        finally:
            workflow.close()

    def open_gate(self) -> None:
        """Let waiting runs continue."""
        self.work.gate.touch()

    def close(self) -> None:
        """End remaining processes."""
        self.open_gate()
        for process in self.started:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self.started:
            process.wait(PATIENCE)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    directory = tmp_path / "wf"
    make_fan_out(directory, gate=True)
    made = Stage(fan_out(directory, "test", 2), tmp_path)
    yield made
    made.close()
    wait_until(lambda: not workflow_processes.wrappers(directory))
    stop_server(StateDir.of(directory))
    workflow_processes.wait_until_none_left(tmp_path)


@pytest.mark.parametrize("mutant", ["", "no_once"])
def test_without_once_records_a_run_is_counted_twice(stage: Stage, mutant: str) -> None:
    stage.start("launcher")
    first = stage.start("orchestrator")
    wait_until(lambda: stage.forwarded() == 1)
    first.kill()
    first.wait()

    again = stage.start("orchestrator", mutant)
    wait_until(lambda: not mutant or stage.forwarded() == 2)
    stage.open_gate()

    assert again.wait(PATIENCE) == 0
    wrong = stage.check()
    if mutant:
        assert "event src.forward, once for each run, was done 2 times for 'src.1'" in wrong
        assert "run_vars.forwarded is 3, should be 2" in wrong
    else:
        assert wrong == []


@pytest.mark.parametrize("mutant", ["", "record_first"])
def test_a_firing_recorded_before_its_effect_is_lost(stage: Stage, mutant: str) -> None:
    stage.start("launcher")
    first = stage.start("orchestrator", mutant, "orchestrator.before_commit:kill:1")
    assert first.wait(PATIENCE) == -signal.SIGKILL
    stage.open_gate()

    again = stage.start("orchestrator", mutant)

    assert again.wait(PATIENCE) == (STALLED if mutant else 0)
    wrong = stage.check()
    if mutant:
        assert "run_vars.forwarded is 1, should be 2" in wrong
        assert "run_vars.sum is missing, should be 5" in wrong
    else:
        assert wrong == []


@pytest.mark.parametrize("mutant", ["", "no_fence"])
def test_an_unfenced_suspended_orchestrator_counts_twice(stage: Stage, mutant: str) -> None:
    stage.start("launcher")
    sleeper = stage.start("orchestrator", mutant, "orchestrator.before_done:stop:1", lease=LEASE)
    wait_until(lambda: stage.passed("orchestrator.before_done 1"))
    time.sleep(LEASE + 0.2)
    heir = stage.start("orchestrator", lease=LEASE)
    wait_until(lambda: stage.forwarded() == 1)

    sleeper.send_signal(signal.SIGCONT)
    if mutant:
        wait_until(lambda: stage.forwarded() == 2)
    else:
        assert sleeper.wait(PATIENCE) == 1
    stage.open_gate()

    heir.wait(PATIENCE)
    wrong = stage.check()
    if mutant:
        assert any("forwarded is 3" in line or "done 2 times" in line for line in wrong)
    else:
        assert heir.returncode == 0
        assert wrong == []


def test_a_started_run_is_not_started_again(stage: Stage) -> None:
    first = stage.start("launcher")
    orchestrator = stage.start("orchestrator")
    wait_until(lambda: stage.starts("src.2") == 1)
    first.kill()
    first.wait()

    stage.start("launcher")
    stage.open_gate()

    assert orchestrator.wait(PATIENCE) == 0
    wait_until(lambda: not workflow_processes.wrappers(stage.work.directory))
    assert stage.starts("src.2") == 1
    assert stage.check() == []
