"""Workflows in the background, and the command that waits for their end."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from motoko.orchestrator.run_ends import executions, last_ends
from motoko.server.state_dir import StateDir
from tests.support.command_line import Shell, finish, small_workflow, wait_until
from tests.support.workflow_processes import wait_until_none_left

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.orchestrator.run_ends import Execution

pytestmark = pytest.mark.integration

MAIN = """\
def populate_arg_parser(parser):
    parser.add_argument("--mode", default="works")

async def main(workflow, mode, **params):
    await workflow.s.create_task(x={"works": 1, "fails": 2}.get(mode, 3))
"""
SCRIPT = '[ "$MOTOKO_JOB_X" != 2 ] || exit 7; [ "$MOTOKO_JOB_X" != 3 ] || sleep 600\n'


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = small_workflow(tmp_path / "w", script=SCRIPT, main=MAIN)
    yield made
    made.close()


def execution(shell: Shell, run_name: str) -> Execution:
    return executions(StateDir.of(shell.directory))[run_name]


def test_wait_returns_the_exit_status_of_orchestrators_in_the_background(shell: Shell) -> None:
    modes = ("works", "fails")
    started = [shell.start("run", "--detach", "-n", mode, "--mode", mode) for mode in modes]
    out, _ = [finish(process).stdout for process in started]
    both = shell.run("wait", "works", "-n", "fails")

    log = shell.directory / ".wf/logs/orchestrator-works.log"
    assert str(log) in out
    assert "motoko wait --run_name works" in out
    assert both.returncode == 3
    assert "run name works: ended 2" in both.stdout
    assert "exit status 3: run s." in both.stdout
    assert "FINISHED" in log.read_text()  # the table of results
    assert shell.run("wait", "works").returncode == 0  # it ended before
    wait_until_none_left(shell.directory)


def test_wait_notices_that_an_orchestrator_was_stopped_or_killed(shell: Shell) -> None:
    started = [shell.start("run", "-d", "-n", n, "--mode", "sleeps") for n in ("stopped", "killed")]
    assert [finish(process).returncode for process in started] == [0, 0]
    again = shell.run("run", "--detach", "-n", "killed")
    assert again.returncode == 1
    assert "run name 'killed' already has an orchestrator" in again.stderr
    assert shell.run("wait", "--timeout", "0").returncode == 124
    interrupted = shell.start("wait", "stopped")
    waiting = {name: shell.start("wait", name) for name in ("stopped", "killed")}
    wait_until(lambda: shell.counts("s", "killed") == {"START": 1}, "its run has started")
    interrupted.send_signal(signal.SIGINT)
    assert finish(interrupted).returncode == 130
    assert execution(shell, "stopped").recorded is None
    os.kill(execution(shell, "killed").process.pid, signal.SIGKILL)
    os.kill(execution(shell, "stopped").process.pid, signal.SIGTERM)
    done = {name: finish(process) for name, process in waiting.items()}

    assert done["killed"].returncode == 1
    assert "died without recording an end; last seen 2" in done["killed"].stdout
    assert done["stopped"].returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in done["stopped"].stdout
    assert shell.run("wait").returncode == 128 + signal.SIGTERM  # none is running: the last
    assert set(shell.info()["ends"][0]) >= {"run_name", "status", "reason", "log", "detached"}


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({}, ["--no-such-option"], "does not know '--no-such-option'"),
        ({}, ["--mode", "x", "-n", "a/b"], "has a slash"),
        ({"steps.py": "def main(workflow): pass\n"}, [], "not async"),
        ({"steps.py": "async def main(workflow, x): pass\n"}, [], "missing a required argument"),
        ({"s/bd.yaml": "job: {x: no}\n"}, [], "bd.yaml"),
    ],
)
def test_invalid_input_fails_before_anything_starts(
    shell: Shell, changes: dict[str, str], arguments: list[str], message: str
) -> None:
    shell.write(changes)
    done = shell.run("run", "--detach", "-n", "a", *arguments)

    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert not (shell.directory / ".wf").exists()


def test_a_detached_run_that_cannot_start_reports_the_reason(shell: Shell) -> None:
    shell.write({".wf/wf.db": "damaged"})
    done = shell.run("run", "-d", "-n", "a")

    assert done.returncode == 1
    assert "wf.db" in done.stderr
    assert last_ends(StateDir.of(shell.directory)) == {}
