"""Stops from other processes: runs keep running by default, hung processes are killed."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from motoko.config import load_workflow
from motoko.core.edits import Cancel
from motoko.launcher import control, daemon
from motoko.launcher.control import running_launchers
from motoko.operations import shutdown
from motoko.operations.progress import ProgressReader
from motoko.runtime.daemons import PidFile
from motoko.server import lifecycle
from motoko.server.state_dir import StateDir
from tests.support import workflow_processes
from tests.support.command_line import Shell, finish, small_workflow, wait_until
from tests.support.launching import WorkflowHarness, count_exits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.launcher.control import LauncherProcess
pytestmark = pytest.mark.integration

WAIT = 'while test ! -e "$MOTOKO_TEST_GO"; do sleep 0.05; done\n'


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A workflow of two runs that wait for a file ``go``; one is executed at a time."""
    made = small_workflow(tmp_path / "wf", script=WAIT)
    made.write({"motoko.yaml": "task_managers: {s: }\norchestrator: steps.main\nmax_concurrent: 1"})
    made.environment["MOTOKO_TEST_GO"] = str(tmp_path / "go")
    yield made
    made.run("kill", "--stop-runs", "--yes")
    workflow_processes.wait_until_none_left(tmp_path)


def states(shell: Shell, run_name: str = "a") -> dict[str, int]:
    found = shell.info()
    return dict(found["studies"][0]["counts"].get(run_name, {})) if found["database"] else {}


def wait_until_started(shell: Shell, run_name: str = "a") -> None:
    wait_until(lambda: states(shell, run_name).get("START") == 1, "a run has started")


def causes(shell: Shell) -> str:
    return shell.ok("history", "s.1")


# -- foreground runs stopped by other processes -----------------------------------------------


def test_runs_continue_when_another_process_stops_their_orchestrator(
    shell: Shell,
) -> None:
    process = shell.start("run", "-n", "a")
    wait_until_started(shell)
    shell.ok("orchestrator", "stop", "-n", "a")
    done = finish(process)
    assert done.returncode == 143, done.stderr
    assert "1 run is still running and 1 run waits to start" in done.stderr
    assert len(shell.info()["launchers"]) == 1  # queued runs are executed, too
    assert states(shell) == {"START": 1, "CREATED": 1}
    process = shell.start("run", "-n", "a")
    wait_until(lambda: shell.info()["orchestrators"], "the same command goes on")
    out = shell.ok("kill")
    assert "stopped the orchestrator of run name 'a'" in out
    assert "stopped the launcher" in out
    assert "1 run is still running (1 of 'a'); `motoko kill --stop-runs` stops it" in out
    assert finish(process).returncode == 143
    assert len(workflow_processes.wrappers(shell.directory)) == 1
    assert states(shell) == {"START": 1, "CREATED": 1}
    assert "requeued" not in causes(shell)
    assert shell.ok("kill").startswith("1 run is still running (1 of 'a')")
    assert "stopped 1 run\n" in shell.ok("kill", "--stop-runs", "--yes")
    assert states(shell) == {"CREATED": 2}
    assert shell.ok("kill") == "nothing is running\n"


def test_runs_are_stopped_with_their_foreground_orchestrator_on_request(
    shell: Shell,
) -> None:
    process = shell.start("run", "-n", "a")
    wait_until_started(shell)
    shell.ok("orchestrator", "stop", "-n", "a", "--stop-runs")
    assert finish(process).returncode == 143
    assert states(shell) == {"CREATED": 2}
    records = shell.directory / ".wf"
    wait_until(lambda: not list(records.glob("launcher*.json")), "the launcher ended")


def test_the_runs_that_their_own_launcher_stops_are_counted(shell: Shell) -> None:
    process = shell.start("run", "-n", "a")
    wait_until_started(shell)
    out = shell.ok("kill", "--stop-runs", "--yes")
    assert "stopped the launcher\nstopped 1 run\n" in out
    finish(process)
    assert states(shell) == {"CREATED": 2}


def test_a_temporary_launcher_stays_until_it_adopted_all_runs(shell: Shell) -> None:
    process = shell.start("run", "-n", "a")
    wait_until_started(shell)
    (launcher,) = running_launchers(StateDir.of(shell.directory))
    process.kill()
    finish(process)
    os.kill(launcher.process.pid, signal.SIGKILL)
    # It is temporary like the one before, no process uses the workflow, and the adoption takes
    # longer than the interval in which it checks whether it is needed.
    slow = f"launcher.adopting:sleep={2.5 * daemon.IDLE_POLL_SECONDS}"
    armed = {**shell.environment, "MOTOKO_FAULT": slow}
    assert "stopped 1 run\n" in Shell(shell.directory, armed).ok("kill", "--stop-runs", "--yes")
    assert states(shell) == {"CREATED": 2}


def test_runs_that_a_launcher_could_not_stop_are_reported(shell: Shell) -> None:
    process = shell.start("run", "-n", "a")
    wait_until_started(shell)
    shell.ok("kill")
    assert finish(process).returncode == 143
    armed = {**shell.environment, "MOTOKO_FAULT": "launcher.before_commit:kill"}
    done = Shell(shell.directory, armed).run("kill", "--stop-runs", "--yes")
    assert done.returncode == 1, done.stdout
    assert "the launcher exited before it had stopped 1 run" in done.stderr
    assert "stopped 1 run\n" in shell.ok("kill", "--stop-runs", "--yes")


# -- runs of other run names ------------------------------------------------------------------


def test_remaining_runs_of_all_run_names_are_reported(shell: Shell) -> None:
    shell.write(
        {
            "motoko.yaml": "task_managers: {s: }\norchestrator: steps.main\nmax_concurrent: 3",
            "s/launch.sh": f'test "$MOTOKO_RUN_NAME" = b && exit\n{WAIT}',
        }
    )
    process = shell.start("run", "-n", "a", "--stop-runs")
    wait_until(lambda: states(shell) == {"START": 2}, "two runs have started")
    process.send_signal(signal.SIGINT)
    assert "still running" not in finish(process).stderr
    done = shell.run("run", "-n", "b")
    assert done.returncode == 0, done.stderr
    assert len(workflow_processes.wrappers(shell.directory)) == 2
    assert "2 runs are still running (2 of 'a'); " in done.stderr
    assert shell.info()["launchers"] == []


def test_progress_names_other_run_names_with_active_runs(place: WorkflowHarness) -> None:
    place.create([{"x": 1}, {"x": 2}], run_name="other")
    (key,) = place.create([{"x": 3}], run_name="own")
    reader = ProgressReader(place.store, load_workflow(place.store.workflow_file), "own")
    with place.store.autocommit_scope.read() as session:
        found = reader.read(session)
    assert found.studies["a"].counts == {"CREATED": 1}
    assert found.others == {"other": 2}
    assert [(wait.runs, wait.text) for wait in found.waits] == [(1, "no launcher is running")]
    place.edit(key, Cancel(0.0, "test"))
    with place.store.autocommit_scope.read() as session:
        found = reader.read(session)
    assert found.studies["a"].counts == {"CANCELLED": 1}
    assert (found.failed, list(found.waits), found.others) == (0, [], {})


# -- hung processes and ended runs ------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkflowHarness]:
    """A workflow whose runs wait for a file ``go`` in their study's directory."""
    monkeypatch.setattr(lifecycle, "HANG_SECONDS", 0.5)
    monkeypatch.setattr(lifecycle, "STOP_GRACE", 0.2)
    made = WorkflowHarness.make(
        tmp_path / "wf",
        {"a": "until [ -e ../../go ]; do sleep .05; done\n"},
        options={"max_concurrent": 2},
    )
    yield made
    made.close()


def test_a_hung_server_is_killed_with_all_other_processes(place: WorkflowHarness) -> None:
    place.start()
    key = place.run()
    place.wait_for(key, "START")
    place.store.close()
    record = PidFile(place.state.server_record).read()
    assert record is not None
    os.kill(record.process.pid, signal.SIGSTOP)
    assert shutdown.kill(place.state) == ["the launcher", "the server"]
    assert running_launchers(place.state) == []
    assert not PidFile(place.state.server_record).owner_alive()
    assert place.record(key).lifecycle == "START"


def test_a_hung_launcher_is_killed_and_another_stops_its_runs(
    place: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "STOP_GRACE", 0.2)
    launcher = place.start()
    key = place.run()
    place.wait_for(key, "START")
    os.kill(launcher.process.pid, signal.SIGSTOP)
    post = control.submit

    def impatient(
        state: StateDir, running: LauncherProcess, *arguments: Any, **options: Any
    ) -> None:
        if running.process == launcher.process:
            options["timeout"] = 0.5
        post(state, running, *arguments, **options)

    monkeypatch.setattr(control, "submit", impatient)
    stopped = shutdown.kill(place.state, stop_runs=True)
    assert stopped == ["the launcher", "1 run", "the server"]
    assert running_launchers(place.state) == []
    place.store.close()
    assert place.record(key).lifecycle == "CREATED"
    assert workflow_processes.wrappers(place.directory) == []


def test_runs_that_had_ended_are_not_counted_as_stopped(place: WorkflowHarness) -> None:
    place.start(stop_runs=False)
    key, other = place.run(), place.run()
    place.wait_for(other, "START")
    place.wait_for(key, "START")
    assert shutdown.kill(place.state) == ["the launcher", "the server"]
    runs = place.directory_of(key).parent
    assert place.directory_of(other).parent == runs
    (place.directory / "a" / "go").touch()
    wait_until(lambda: count_exits(runs) == 2, "both have ended")
    assert shutdown.kill(place.state, stop_runs=True) == []
    place.store.close()  # reopen it: its server exited twice
    assert [run.lifecycle for run in place.records([key, other])] == ["FINISHED"] * 2


def test_a_responding_server_is_not_considered_hung(
    place: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "HANG_SECONDS", 60.0)
    assert not lifecycle.is_hung(place.state)
    lifecycle.stop_server(place.state)
    assert not lifecycle.is_hung(place.state)
    assert not lifecycle.is_hung(StateDir.of(place.directory / "nowhere"))
