"""Commands that work while a study has invalid files: inspect, cancel and stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from motoko.runtime.daemons import PidFile
from motoko.server.state_dir import StateDir
from tests.support import workflow_processes
from tests.support.command_line import Shell, small_workflow, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

WAIT = 'while test ! -e "$MOTOKO_TEST_GO"; do sleep 0.05; done\n'
STEPS = """\
async def main(workflow, **params):
    runs = [workflow.s.create_task(x=[1, 2]), workflow.t.create_task(x=[1, 2])]
    for some in runs:
        await some.settled()
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A workflow of two studies with two runs each that run until stopped."""
    made = small_workflow(tmp_path / "wf", script=WAIT)
    yaml = "task_managers: {s: , t: }\norchestrator: steps.main\nmax_concurrent: 4"
    study = (made.directory / "s" / "bd.yaml").read_text()
    made.write({"motoko.yaml": yaml, "steps.py": STEPS, "t/bd.yaml": study, "t/launch.sh": WAIT})
    made.environment["MOTOKO_TEST_GO"] = str(tmp_path / "go")
    made.ok("create")
    made.ok("launcher")
    made.ok("orchestrator", "start", "--detach", "-n", "a")
    wait_until(lambda: active(made) == {"s": 2, "t": 2}, "all runs have started")
    yield made
    made.write({"s/bd.yaml": study, "s/launch.sh": WAIT, "motoko.yaml": yaml})
    made.run("kill", "--stop-runs", "--yes")
    workflow_processes.wait_until_none_left(tmp_path)


def spoil_declarations(shell: Shell) -> str:
    shell.write({"s/bd.yaml": "job: ["})
    return "s/bd.yaml:1: "


def remove_script(shell: Shell) -> str:
    (shell.directory / "s" / "launch.sh").unlink()
    return "launch.sh does not exist"


def remove_study(shell: Shell) -> str:
    (shell.directory / "s").rename(shell.directory / "elsewhere")
    return "motoko.yaml:1: task manager 's' has no study directory"


SPOIL = pytest.mark.parametrize("spoil", [spoil_declarations, remove_script])


def active(shell: Shell) -> dict[str, int]:
    counts = {found["name"]: found["counts"].get("a", {}) for found in shell.info()["studies"]}
    return {name: states.get("START", 0) for name, states in counts.items()}


def warns(shell: Shell, fault: str, *arguments: str) -> str:
    """Run a command that succeeds with a warning about the fault; return its output."""
    done = shell.run(*arguments)
    assert done.returncode == 0, done.stderr
    first = done.stderr.splitlines()[0]
    assert first.startswith("warning: ")
    assert fault in first
    return done.stdout


@SPOIL
def test_runs_are_shown_and_cancelled(shell: Shell, spoil: Callable[[Shell], str]) -> None:
    fault = spoil(shell)
    assert "START" in warns(shell, fault, "info", "--verbose")
    assert "START" in warns(shell, fault, "history", "s.1")
    assert "would be deleted" in warns(shell, fault, "clean")
    assert "CANCELLED" in warns(shell, fault, "cancel", "--all", "--yes")  # ended or ending
    wait_until(lambda: active(shell) == {"s": 0, "t": 0}, "they have ended")
    assert shell.counts("s", "a") == shell.counts("t", "a") == {"CANCELLED": 2}


def test_runs_of_a_removed_study_are_shown_and_cancelled(shell: Shell) -> None:
    fault = remove_study(shell)
    warns(shell, fault, "info")
    warns(shell, fault, "history", "s.1")
    warns(shell, fault, "cancel", "--all", "--yes", "--bd_study", "t")
    wait_until(lambda: active(shell)["t"] == 0, "they have ended")
    (shell.directory / "elsewhere").rename(shell.directory / "s")


def test_constraints_select_from_readable_studies(shell: Shell) -> None:
    fault = spoil_declarations(shell)
    assert "1 run " in warns(shell, fault, "cancel", "--constraints", "not x = 1")
    wait_until(lambda: active(shell) == {"s": 2, "t": 1}, "it has ended")
    done = shell.run("cancel", "--bd_study", "s", "--constraints", "x = 1")
    assert done.returncode == 2
    assert f"error: {shell.directory}/{fault}" in done.stderr
    assert active(shell) == {"s": 2, "t": 1}


@SPOIL
def test_runs_are_stopped_by_their_launcher(shell: Shell, spoil: Callable[[Shell], str]) -> None:
    spoil(shell)
    stopped = shell.ok("kill", "--stop-runs", "--yes")
    assert "stopped the launcher" in stopped
    assert "stopped the server" in stopped
    assert shell.counts("s", "a") == shell.counts("t", "a") == {"CREATED": 2}


def test_unowned_runs_are_stopped_without_their_script(shell: Shell) -> None:
    shell.ok("kill")
    remove_script(shell)
    assert "stopped 4 runs" in shell.ok("kill", "--stop-runs", "--yes")
    assert shell.counts("s", "a") == shell.counts("t", "a") == {"CREATED": 2}


def test_unowned_runs_that_cannot_be_stopped_are_reported(shell: Shell) -> None:
    """Everything else is stopped: runs of the readable study, launcher and server."""
    shell.ok("kill")
    fault = spoil_declarations(shell)
    done = shell.run("kill", "--stop-runs", "--yes")
    assert done.returncode == 1
    assert done.stderr.startswith("error: runs are still running that no launcher can stop: ")
    assert fault in done.stderr
    assert "Stopped: 2 runs" in done.stderr
    assert active(shell) == {"s": 2, "t": 0}
    state = StateDir.of(shell.directory)
    assert not PidFile(state.server_record).owner_alive()


def test_unowned_runs_that_cannot_be_cancelled_are_reported(shell: Shell) -> None:
    shell.ok("kill")
    fault = spoil_declarations(shell)
    done = shell.run("cancel", "--all", "--yes")
    assert done.returncode == 1
    assert "2 runs cancelled" in done.stdout
    assert f"error: 2 runs not cancelled yet: {shell.directory}/{fault}" in done.stderr


def test_an_invalid_workflow_file_does_not_prevent_a_stop(shell: Shell) -> None:
    shell.write({"motoko.yaml": "task_managers: ["})
    stopped = shell.ok("kill", "--stop-runs", "--yes")
    assert "stopped the launcher" in stopped
    assert "stopped the server" in stopped
