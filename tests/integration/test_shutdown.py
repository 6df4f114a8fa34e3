"""Shutdown finishes the current commit, never blocks, and keeps or requeues runs."""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING

import pytest

from motoko.server.lifecycle import is_responding
from motoko.server.state_dir import StateDir
from motoko.workflow import Workflow
from tests.support import workflow_processes
from tests.support.command_line import MAIN, Shell, finish, small_workflow, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

# Each run reports its start and waits for a file ``go``.
SCRIPT = """\
touch "$MOTOKO_TEST_PLACE/started-$MOTOKO_RUN_ID"
while test ! -e "$MOTOKO_TEST_PLACE/go"; do sleep 0.05; done
"""
# Blocking calls last longer than any test timeout.
BLOCKING = """\
import time

def act(workflow, runs):
    workflow.vars.done = True
    open("began", "w").close()
    time.sleep(600)

async def main(workflow, **params):
    workflow.add_action("act", task="s", event="state = FINISHED", f=act)
    await workflow.s.create_task(x=[1, 2])
"""
SWALLOWING = """\
import asyncio

async def act(workflow, runs):
    open("began", "w").close()
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass

async def main(workflow, **params):
    workflow.add_action("act", task="s", event="state = FINISHED", f=act)
    await workflow.s.create_task(x=[1, 2])
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A workflow of two waiting runs."""
    made = small_workflow(tmp_path / "wf", script=SCRIPT)
    made.write({"motoko.yaml": "task_managers: {s: }\norchestrator: steps.main\nmax_concurrent: 2"})
    made.environment["MOTOKO_TEST_PLACE"] = str(tmp_path)
    yield made
    made.close()
    workflow_processes.wait_until_none_left(tmp_path)


def started(shell: Shell) -> None:
    place = shell.directory.parent
    wait_until(lambda: len(list(place.glob("started-*"))) == 2, "two runs have started")
    wait_until(lambda: runs(shell) == [("START", 1)] * 2, "their start is on record")
    for path in place.glob("started-*"):
        path.unlink()


def create(shell: Shell) -> None:
    """Create the database, and runs as an orchestrator does."""
    workflow = Workflow(shell.directory)
    try:
        workflow.create()
        workflow.run_name = "a"
        workflow.s.create_task(x=[1, 2])
    finally:
        workflow.close()


def runs(shell: Shell) -> list[tuple[str, int]]:
    """Return states of the runs and numbers of counted attempts."""
    workflow = Workflow(shell.directory, read_only=True)
    try:
        with workflow.store.autocommit_scope.read() as session:
            table = session.tables.study("s")
            found = table.records(table.ids("a"))
        return [(str(run.lifecycle), run.attempt - run.uncounted) for run in found]
    finally:
        workflow.close()


def go(shell: Shell) -> None:
    (shell.directory.parent / "go").touch()
    wait_until(lambda: runs(shell) == [("FINISHED", 1)] * 2, "their results were taken")


def wrappers(shell: Shell) -> int:
    return len(workflow_processes.wrappers(shell.directory))


# -- orchestrators ----------------------------------------------------------------------------


def test_an_orchestrator_keeps_its_runs_running(shell: Shell) -> None:
    shell.ok("create")
    shell.ok("launcher")
    process = shell.start("orchestrator", "start", "-n", "a")
    started(shell)
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.returncode == 130
    assert "stopped by SIGINT" in done.stderr
    assert "Traceback" not in done.stderr
    assert shell.info()["orchestrators"] == []
    assert runs(shell) == [("START", 1)] * 2
    assert wrappers(shell) == 2
    go(shell)
    shell.ok("orchestrator", "start", "-n", "a")


def test_a_detached_orchestrator_keeps_its_runs_by_default(shell: Shell) -> None:
    shell.ok("create")
    shell.ok("launcher")
    for option in ([], ["--stop-runs"]):
        shell.ok("orchestrator", "start", "--detach", "-n", "a")
        if not option:
            started(shell)
        assert "stopped the orchestrator" in shell.ok("orchestrator", "stop", *option)
        log = (shell.directory / ".wf/logs/orchestrator-a.log").read_text()
        assert "stopped by SIGTERM" in log
        assert "Traceback" not in log
        assert runs(shell) == [("CREATED", 0) if option else ("START", 1)] * 2
        assert wrappers(shell) == (0 if option else 2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_action_that_swallows_its_cancellation_is_named(
    shell: Shell, number: signal.Signals
) -> None:
    shell.write({"steps.py": SWALLOWING, "s/launch.sh": "true\n"})
    process = shell.start("run", "-n", "a")
    wait_until((shell.directory / "began").exists, "the action waits")
    process.send_signal(number)
    done = finish(process)
    assert done.returncode == 128 + number, done.stderr
    assert "the action of event 'act', act" in done.stderr
    assert "did not end within 5 s after it was cancelled, and is abandoned at" in done.stderr
    assert "steps.py:7" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_blocked_thread_of_an_action_is_abandoned(shell: Shell) -> None:
    shell.write({"steps.py": BLOCKING, "s/launch.sh": "true\n"})
    process = shell.start("run", "-n", "a")
    wait_until((shell.directory / "began").exists, "the action blocks")
    process.send_signal(signal.SIGTERM)
    done = finish(process)
    assert done.returncode == 143, done.stderr
    assert "the action of event 'act', act" in done.stderr
    assert "did not end within 5 s after it was cancelled, and is abandoned" in done.stderr
    assert "Traceback" not in done.stderr
    workflow = Workflow(shell.directory, read_only=True)
    assert "done" not in workflow.vars
    workflow.close()
    # The same command resumes the workflow.
    shell.write({"steps.py": BLOCKING.replace("time.sleep(600)", "workflow.finished = True")})
    shell.ok("run", "-n", "a")


def test_the_current_commit_is_finished(shell: Shell) -> None:
    """The commit takes longer than the grace period of actions."""
    points = shell.directory.parent / "points"
    shell.environment |= {
        "MOTOKO_FAULT": "main.before_commit:sleep=1.5:1",
        "MOTOKO_FAULT_LOG": str(points),
    }
    process = shell.start("run", "-n", "a")
    wait_until(
        lambda: points.exists() and "main.before_commit 1 " in points.read_text(), "it commits"
    )
    process.send_signal(signal.SIGTERM)
    done = finish(process)
    assert done.returncode == 143, done.stderr
    assert "Traceback" not in done.stderr
    go(shell)  # both runs were committed and continue


# -- launchers --------------------------------------------------------------------------------


def test_a_launcher_leaves_its_runs_to_the_next_one(shell: Shell) -> None:
    create(shell)
    process = shell.start("launcher", "--do_not_detach")
    started(shell)
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.returncode == 0, done.stderr
    assert "stopped by SIGINT" in done.stderr
    assert shell.info()["launchers"] == []
    assert runs(shell) == [("START", 1)] * 2
    assert wrappers(shell) == 2
    shell.ok("launcher")
    assert "stopped the launcher" in shell.ok("kill")
    assert runs(shell) == [("START", 1)] * 2
    assert wrappers(shell) == 2
    shell.ok("launcher")
    go(shell)


@pytest.mark.parametrize("foreground", [False, True])
def test_a_launcher_stops_its_runs_on_request(shell: Shell, foreground: bool) -> None:
    create(shell)
    if foreground:
        process = shell.start("launcher", "--do_not_detach", "--stop-runs")
        started(shell)
        process.send_signal(signal.SIGTERM)
        assert finish(process).returncode == 0
    else:
        shell.ok("launcher", "--stop-runs")
        started(shell)
        shell.ok("kill")
    assert runs(shell) == [("CREATED", 0)] * 2
    assert wrappers(shell) == 0


def test_a_run_beside_a_launcher_in_the_foreground_uses_it(shell: Shell) -> None:
    shell.write({"s/launch.sh": "true\n"})
    shell.ok("create")
    points = shell.directory.parent / "points"
    # The launcher serves already, but other processes cannot find it yet.
    slow = {"MOTOKO_FAULT": "files.before_rename:sleep=0.7", "MOTOKO_FAULT_LOG": str(points)}
    shell.environment |= slow
    launcher = shell.start("launcher", "--do_not_detach")
    passed = f"files.before_rename 1 {launcher.pid} "
    wait_until(lambda: points.exists() and passed in points.read_text(), "the launcher starts")
    for name in slow:
        del shell.environment[name]
    done = shell.run("run", "-n", "a")
    assert done.returncode == 0, done.stderr
    assert runs(shell) == [("FINISHED", 1)] * 2
    found = shell.info()
    assert [launcher["pid"] for launcher in found["launchers"]] == [launcher.pid]
    assert found["server"] is not None  # the launcher uses it, too
    assert not (shell.directory / ".wf/logs/launcher.log").exists()
    launcher.send_signal(signal.SIGTERM)
    assert finish(launcher).returncode == 0


def test_a_run_starts_a_launcher_for_unserved_studies(shell: Shell) -> None:
    shell.write(
        {
            "motoko.yaml": "task_managers: {s: , t: }\norchestrator: steps.main\n",
            "steps.py": MAIN + "    await workflow.t.create_task(x=[3])\n",
            "s/launch.sh": "true\n",
            "t/launch.sh": "true\n",
            "t/bd.yaml": "job: {x: int}\n",
        }
    )
    shell.ok("create")
    shell.ok("launcher", "--bd_study", "s")
    (lasting,) = shell.info()["launchers"]
    shell.ok("run", "-n", "a")
    assert shell.counts("t", "a") == {"FINISHED": 1}
    assert shell.info()["launchers"] == [lasting]  # the other launcher was temporary


# -- servers ----------------------------------------------------------------------------------


def test_disconnecting_clients_are_not_logged_by_the_server(shell: Shell) -> None:
    shell.ok("create")
    shell.ok("launcher")
    state = StateDir.of(shell.directory)
    for _ in range(3):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(state.socket()))
            assert client.recv(1, socket.MSG_PEEK)  # the rest stays unread
    assert is_responding(state)
    shell.ok("kill")
    assert (state.logs / "server.log").read_text() == ""
