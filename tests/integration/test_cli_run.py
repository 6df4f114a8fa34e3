"""``motoko init`` and ``motoko run``: from an empty directory to results, with interruptions."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from motoko.launcher.control import running_launchers
from motoko.runtime.daemons import PidFile
from motoko.server.state_dir import StateDir
from tests.support.command_line import MODULE, Shell, finish, small_workflow, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.forked import Forked

pytestmark = pytest.mark.integration

WAIT = """
until [ -e "$MOTOKO_TEST_GO" ] || [ -e "$MOTOKO_TEST_GO-$MOTOKO_RUN_NAME" ]; do sleep 0.05; done
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory for a workflow; its processes are stopped afterwards."""
    directory = tmp_path / "a place with spaces"
    directory.mkdir()
    yield directory
    Shell(directory).close()


@pytest.fixture
def waiting(place: Path) -> Shell:
    """A workflow of two runs that wait for a file ``go``."""
    shell = small_workflow(place, script=WAIT)
    shell.write(
        {"motoko.yaml": "task_managers: {s: }\norchestrator: steps.main\nmax_concurrent: 2\n"}
    )
    shell.environment["MOTOKO_TEST_GO"] = str(place / "go")
    return shell


def nothing_runs(shell: Shell) -> bool:
    found = shell.info()
    return found["server"] is None and not found["launchers"] and not found["orchestrators"]


def test_the_workflow_written_by_init_prints_a_table_of_results(place: Path) -> None:
    shell = Shell(place)
    assert "motoko run --run_name" in shell.ok("init")
    out = shell.ok("run", "--run_name", "a")
    assert "period" in out
    assert "BEST" in out
    runs = {study["name"]: study["runs"] for study in shell.info("--verbose")["studies"]}
    # A pendulum of 0.9936 m swings in two seconds, as T = 2 pi sqrt(l / g) (1 + angle^2 / 16).
    second = next(run for run in runs["pendulum"] if run["job"]["length"] == 0.9936)
    assert second["fields"]["period"] == pytest.approx(2.0034, abs=2e-4)
    assert sorted(run["job"]["length"] for run in runs["clock"]) == [0.25, 0.5, 0.9936, 2.0]
    assert [r["job"]["length"] for r in runs["clock"] if r["state"] == "BEST"] == [0.9936]
    assert nothing_runs(shell)


def test_orchestrator_options_are_in_the_help_and_reach_main(place: Path) -> None:
    shell = Shell(place)
    shell.ok("init")
    assert "--lengths" in shell.ok("run", "--help")
    shell.ok("run", "-n", "a", "--lengths", "1", "2")
    assert shell.counts("pendulum", "a") == {"FORWARDED": 2}


def test_only_orchestrator_options_are_params(place: Path) -> None:
    main = (
        "def populate_arg_parser(parser):\n"
        "    parser.add_argument('--mine', type=int)\n"
        "async def main(workflow, **params):\n"
        "    workflow.vars.params = params\n"
    )
    shell = small_workflow(place, main=main)
    done = shell.run("run", "-n", "a", "--mine", "3", "--verbose")
    assert done.returncode == 0, done.stderr
    from motoko.workflow import Workflow

    workflow = Workflow(place, read_only=True)
    assert workflow.vars.params == {"mine": 3}
    workflow.close()


def test_a_second_run_of_a_run_name_repeats_nothing(place: Path) -> None:
    shell = small_workflow(place)
    shell.ok("run", "-n", "a")
    shell.ok("run", "-n", "a")
    shell.ok("run", "-n", "b")
    assert shell.counts("s", "a") == {"FINISHED": 2}
    assert shell.counts("s", "b") == {"FINISHED": 2}


def test_progress_is_on_stderr_and_results_on_stdout(place: Path) -> None:
    shell = small_workflow(place)
    done = shell.run("run", "-n", "[bold]a: \N{SNOWMAN} 'b' $(c)")
    assert done.returncode == 0, done.stderr
    assert "[bold]a: \N{SNOWMAN} 'b' $(c)" in done.stdout
    assert "no runs yet" in done.stderr
    assert "no runs yet" not in done.stdout


def test_non_ascii_output_is_escaped_on_an_ascii_terminal(place: Path) -> None:
    shell = small_workflow(place)
    shell.environment |= {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = shell.run_fresh("run", "-n", "\N{SNOWMAN}")
    assert done.returncode == 0, done.stderr
    assert "\\u2603" in done.stdout
    assert done.stdout.isascii()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_stops_the_orchestrator_and_keeps_its_runs_running(
    waiting: Shell, name: str
) -> None:
    number = signal.Signals[name]
    process = waiting.start("run", "-n", "a")
    wait_until(lambda: _both_run(waiting, process), "two runs have started")
    process.send_signal(number)
    done = finish(process)
    assert done.returncode == 128 + number, done.stderr
    assert "the orchestrator has stopped; 2 runs are still running\n" in done.stderr
    assert "`motoko cancel --all --run_name a`" in done.stderr
    assert ("press Ctrl-C again" in done.stderr) == (name == "SIGINT")
    found = waiting.info()
    assert found["orchestrators"] == []
    assert len(found["launchers"]) == 1
    assert waiting.counts("s", "a") == {"START": 2}
    (waiting.directory / "go").touch()
    wait_until(lambda: _services_ended(waiting), "launcher and server have ended by themselves")
    assert waiting.counts("s", "a") == {"FINISHED": 2}


def _services_ended(shell: Shell) -> bool:
    """Return whether neither launcher nor server is running, without connecting to the server."""
    state = StateDir.of(shell.directory)
    return not running_launchers(state) and not PidFile(state.server_record).owner_alive()


def test_queued_runs_are_executed_without_their_orchestrator(waiting: Shell) -> None:
    waiting.write(
        {"motoko.yaml": "task_managers: {s: }\norchestrator: steps.main\nmax_concurrent: 1\n"}
    )
    process = waiting.start("run", "-n", "a")

    def one_runs() -> bool:
        found = waiting.info()
        counts = found["studies"][0]["counts"] if found["database"] else {}
        return bool(counts.get("a") == {"START": 1, "CREATED": 1})

    wait_until(one_runs, "one run has started")
    process.send_signal(signal.SIGTERM)
    assert "1 run is still running and 1 run waits to start\n" in finish(process).stderr
    (waiting.directory / "go").touch()
    wait_until(lambda: _services_ended(waiting), "launcher and server have ended by themselves")
    assert waiting.counts("s", "a") == {"FINISHED": 2}


def test_a_second_ctrl_c_cancels_the_runs(waiting: Shell) -> None:
    process = waiting.start("run", "-n", "a")
    wait_until(lambda: _both_run(waiting, process), "two runs have started")
    process.send_signal(signal.SIGINT)
    wait_until(lambda: "press Ctrl-C again" in process.errors(), "it says what a second one does")
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.returncode == 130, done.stderr
    assert "cancelled 2 of 2 runs; `motoko run --run_name a --retry-failed`" in done.stderr
    assert waiting.counts("s", "a") == {"CANCELLED": 2}
    assert nothing_runs(waiting)
    (waiting.directory / "go").touch()
    waiting.ok("run", "-n", "a", "--retry-failed")
    assert waiting.counts("s", "a") == {"FINISHED": 2}


def test_a_second_ctrl_c_leaves_the_runs_of_an_earlier_command(waiting: Shell) -> None:
    process = waiting.start("run", "-n", "a")
    wait_until(lambda: _both_run(waiting, process), "two runs have started")
    process.send_signal(signal.SIGINT)
    finish(process)
    waiting.write(
        {
            "motoko.yaml": "task_managers: {s: }\norchestrator: steps.main\nmax_concurrent: 3\n",
            "steps.py": "async def main(workflow):\n    await workflow.s.create_task(x=[1, 2, 3])",
        }
    )
    process = waiting.start("run", "-n", "a")
    wait_until(lambda: waiting.counts("s", "a") == {"START": 3}, "a third run has started")
    process.send_signal(signal.SIGINT)
    wait_until(lambda: "press Ctrl-C again" in process.errors(), "it says what a second one does")
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert "cancelled 1 of 1 runs" in done.stderr
    assert "2 runs are still running: an earlier command started them" in done.stderr
    assert waiting.counts("s", "a") == {"START": 2, "CANCELLED": 1}
    (waiting.directory / "go").touch()
    wait_until(lambda: _services_ended(waiting), "launcher and server have ended by themselves")
    assert waiting.counts("s", "a") == {"FINISHED": 2, "CANCELLED": 1}


def test_an_interrupted_attempt_is_not_counted(waiting: Shell) -> None:
    waiting.write({"s/launch.sh": WAIT + "exit 1\n", "s/bd.yaml": "job: {x: int}\nretries: 1\n"})
    process = waiting.start("run", "-n", "a", "--stop-runs")
    wait_until(lambda: _both_run(waiting, process), "two runs have started")
    process.send_signal(signal.SIGINT)
    finish(process)
    (waiting.directory / "go").touch()
    done = waiting.run("run", "-n", "a")
    assert done.returncode == 3, done.stderr
    # The first run has a failure and one retry, without the interrupted attempt.
    runs = waiting.info("--verbose")["studies"][0]["runs"]
    assert max(run["attempt"] for run in runs) == 2


def _both_run(shell: Shell, process: Forked) -> bool:
    assert process.poll() is None
    found = shell.info()
    return bool(found["database"] and found["studies"][0]["counts"].get("a") == {"START": 2})


def test_the_last_command_stops_services_started_by_the_first(waiting: Shell) -> None:
    first = waiting.start("run", "-n", "a")
    wait_until(lambda: _both_run(waiting, first), "the first runs")
    second = waiting.start("run", "-n", "b")
    wait_until(lambda: len(waiting.info()["orchestrators"]) == 2, "the second runs")
    first.send_signal(signal.SIGINT)
    assert finish(first).returncode == 130
    found = waiting.info()
    assert [o["run_name"] for o in found["orchestrators"]] == ["b"]
    assert found["server"] is not None
    assert len(found["launchers"]) == 1
    (waiting.directory / "go-a").touch()
    # These runs continue, too.
    wait_until(lambda: waiting.counts("s", "a") == {"FINISHED": 2}, "the first runs end")
    (waiting.directory / "go").touch()
    done = finish(second)
    assert done.returncode == 0, done.stderr
    assert waiting.counts("s", "b") == {"FINISHED": 2}
    assert nothing_runs(waiting)


def test_services_that_were_already_running_are_kept(place: Path) -> None:
    shell = small_workflow(place)
    shell.ok("create")
    shell.ok("launcher")
    shell.ok("run", "-n", "a")
    found = shell.info()
    assert found["server"] is not None
    assert len(found["launchers"]) == 1


def test_a_requested_launcher_outlives_the_command_that_started_it(waiting: Shell) -> None:
    process = waiting.start("run", "-n", "a")
    wait_until(lambda: _both_run(waiting, process), "it runs")
    assert "is already running" in waiting.ok("launcher")
    (waiting.directory / "go").touch()
    assert finish(process).returncode == 0
    assert len(waiting.info()["launchers"]) == 1


def test_a_failed_run_has_a_separate_exit_status_and_shows_its_stderr(place: Path) -> None:
    shell = small_workflow(place, script="echo out of cheese >&2\nexit 7\n")
    done = shell.run("run", "-n", "a")
    assert done.returncode == 3
    first = next(line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert "steps.py:1" in first
    assert "out of cheese" in done.stderr
    assert "exit code 7" in done.stderr
    assert "FAILED" in done.stdout


def test_an_exception_in_an_action_first_names_its_location(place: Path) -> None:
    main = (
        "from motoko import event\n"
        "@event\n"
        "async def add_all(workflow, runs):\n"
        "    raise ValueError('boom')\n"
        "async def main(workflow):\n"
        "    workflow.add_action('forward', task='s', event='state = FINISHED', f=add_all)\n"
        "    workflow.s.create_task(x=1)\n"
    )
    shell = small_workflow(place, main=main)
    done = shell.run("run", "-n", "a")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("error: "))
    assert lines[start].startswith("error: in the action of event 'forward', add_all (")
    assert lines[start].endswith("steps.py:2): ValueError: boom")
    assert lines[start + 1].startswith("Traceback")
    assert any("raise ValueError('boom')" in line for line in lines[start:])


FAILING = (
    "async def main(workflow):\n"
    "    workflow.s.create_task(x=[1, 2])\n"
    "    await workflow.s.select().all('state = START')\n"
    "    raise ValueError('boom')\n"
)


def test_active_runs_after_an_error_are_reported_and_can_be_stopped(waiting: Shell) -> None:
    waiting.write({"steps.py": FAILING})
    done = waiting.run("run", "-n", "a")
    assert done.returncode == 1, done.stderr
    what_next = "`motoko kill --stop-runs` stops them, the next `motoko run` adopts them"
    assert f"2 runs are still running; {what_next}\n" in done.stderr
    assert nothing_runs(waiting)
    assert waiting.counts("s", "a") == {"START": 2}
    assert "stopped 2 runs" in waiting.ok("kill", "--stop-runs", "--yes")
    assert nothing_runs(waiting)
    assert waiting.counts("s", "a") == {"CREATED": 2}
    assert waiting.ok("kill", "--stop-runs", "--yes") == "nothing is running\n"


def test_runs_are_stopped_after_an_error_on_request(waiting: Shell) -> None:
    waiting.write({"steps.py": FAILING})
    done = waiting.run("run", "-n", "a", "--stop-runs")
    assert done.returncode == 1, done.stderr
    assert "still running" not in done.stderr
    assert waiting.counts("s", "a") == {"CREATED": 2}


def test_a_killed_launcher_is_restarted(waiting: Shell) -> None:
    process = waiting.start("run", "-n", "a")
    wait_until(lambda: _both_run(waiting, process), "two runs have started")
    (launcher,) = waiting.info()["launchers"]
    os.kill(launcher["pid"], signal.SIGKILL)
    (waiting.directory / "go").touch()
    done = finish(process)
    assert done.returncode == 0, done.stderr
    assert "the launcher exited (log: " in done.stderr
    assert "it was restarted" in done.stderr
    assert waiting.counts("s", "a") == {"FINISHED": 2}
    assert nothing_runs(waiting)


def test_python_dash_m_and_the_console_script_are_the_same(tmp_path: Path) -> None:
    code = "import sys; from motoko.cli import orchestrator_main; sys.exit(orchestrator_main())"
    console_script = (sys.executable, "-c", code)
    shell = small_workflow(tmp_path)
    try:
        for program, arguments in (
            (console_script, ["create"]),
            (MODULE, ["launcher"]),
            (console_script, ["start", "--run_name", "test"]),
        ):
            done = shell.run_fresh(*arguments, program=program)
            assert done.returncode == 0, done.stderr
        assert shell.counts("s", "test") == {"FINISHED": 2}
    finally:
        shell.close()
