"""Notifications of real workflows: each event once, whatever process is killed or hangs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft7Validator

from motoko.cli.json_schemas import OUTPUTS
from motoko.config import load_workflow
from motoko.launcher.control import start_launcher
from motoko.notifier.control import running_notifier
from motoko.orchestrator.run_ends import executions
from motoko.runtime.processes import is_alive
from motoko.server.state_dir import StateDir
from tests.support.command_line import Shell, finish, small_workflow, wait_until
from tests.support.notifying import COMMAND, configure, events, received, web_server
from tests.support.workflow_processes import wait_until_none_left

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

# A run waits for the file "go" beside its study, and fails if its x is negative.
SCRIPT = """\
d=$(dirname "$MOTOKO_WORKFLOW")
while ! [ -e "$d/go" ] && ! [ -e "$d/go-$MOTOKO_JOB_X" ]; do sleep 0.02; done
[ "$MOTOKO_JOB_X" -ge 0 ] || { echo "x is $MOTOKO_JOB_X" >&2; exit 1; }
"""
MAIN = """\
import asyncio, os
def populate_arg_parser(parser):
    parser.add_argument("--x", type=int, nargs="*", default=[1])
    parser.add_argument("--then", default="")
async def main(workflow, x, then, **params):
    tasks = workflow.s.create_task(x=x)
    if then == "settle":
        await tasks.settled()
    elif then == "stall":
        await workflow.s.select("x = 99")
    elif then == "raise":
        raise ValueError("wrong")
    else:
        await tasks
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = small_workflow(tmp_path / "work", script=SCRIPT, main=MAIN)
    configure(made, COMMAND)
    try:
        yield made
    finally:
        made.run("kill", "--stop-runs", "--yes")
        wait_until_none_left(made.directory)


def all_sent(shell: Shell) -> list[tuple[str, str]]:
    """Wait until the notifier and all others have exited; return what the command received."""
    wait_until_none_left(shell.directory)
    return events(shell.directory)


def notify(shell: Shell, *arguments: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(shell.run("notify", "--json", *arguments).stdout)
    Draft7Validator(OUTPUTS["notify"]).validate(content)
    return content


def states(shell: Shell) -> list[tuple[str, str, int]]:
    return [(one["event"], one["state"], one["attempts"]) for one in notify(shell)["notifications"]]


def go(shell: Shell, name: str = "go") -> None:
    (shell.directory / name).touch()


def test_each_kind_of_end_is_notified_once_for_each_execution(shell: Shell) -> None:
    go(shell)
    assert shell.run("run", "-n", "good").returncode == 0
    assert shell.run("run", "-n", "bad", "--x", "-1", "2").returncode == 3
    assert shell.run("run", "-n", "wrong", "--then", "raise").returncode == 1
    assert shell.run("run", "-n", "stuck", "--then", "stall").returncode == 4
    first = [
        ("failed", "bad"), ("failed", "wrong"), ("finished", "good"), ("first_failure", "bad"),
        ("stalled", "stuck"),
    ]  # fmt: skip
    assert all_sent(shell) == first
    texts = {(event, name): line for event, name, line in received(shell.directory)}
    assert texts["first_failure", "bad"].startswith(
        "run name bad: first failure: s.2 FAILED: exit code 1: x is -1"
    )
    assert texts["failed", "wrong"].startswith("run name wrong ended: ValueError: wrong (at ")
    assert texts["finished", "good"] == "run name good ended: finished (1 FINISHED)"

    # A new execution has a new end; the run that failed before is no new failure.
    assert shell.run("run", "-n", "good").returncode == 0
    assert shell.run("run", "-n", "bad", "--x", "-1", "2").returncode == 3
    assert all_sent(shell) == sorted([*first, ("finished", "good"), ("failed", "bad")])


def test_failures_are_notified_while_the_workflow_is_running(shell: Shell) -> None:
    configure(shell, f"{COMMAND}    on: [first_failure, failures: 3, failures: 9]\n")
    started = shell.start("run", "-n", "a", "--x", "-1", "-2", "-3", "4", "--then", "settle")
    go(shell, "go--2")
    wait_until(lambda: events(shell.directory) == [("first_failure", "a")], "one message")
    go(shell, "go--1")
    go(shell, "go--3")
    wait_until(lambda: ("failures", "a") in events(shell.directory), "another message")
    assert started.poll() is None
    go(shell)
    assert finish(started).returncode == 0
    assert all_sent(shell) == [("failures", "a"), ("first_failure", "a")]
    lines = [line for _, _, line in received(shell.directory)]
    assert lines[0] == "run name a: 3 runs failed"
    assert "s.2 FAILED: exit code 1: x is -2" in lines[1]


def test_two_run_names_at_once_share_a_notifier(shell: Shell) -> None:
    first = shell.start("run", "-n", "a", "--x", "1")
    second = shell.start("run", "-n", "b", "--x", "-2")
    state = StateDir.of(shell.directory)
    wait_until(lambda: len(executions(state)) == 2, "both run")
    wait_until(lambda: running_notifier(state) is not None, "the notifier runs")
    go(shell)
    assert (finish(first).returncode, finish(second).returncode) == (0, 3)
    assert all_sent(shell) == [("failed", "b"), ("finished", "a"), ("first_failure", "b")]


def test_the_death_of_a_killed_orchestrator_is_notified(shell: Shell) -> None:
    started = shell.start("run", "-n", "a")
    state = StateDir.of(shell.directory)
    wait_until(lambda: "a" in executions(state), "it runs")
    started.kill()
    started.wait()
    wait_until(lambda: events(shell.directory), "a message")
    ((event, _, line),) = received(shell.directory)
    assert event == "failed"
    assert line.startswith("run name a ended: died without recording an end")
    go(shell)
    assert shell.run("run", "-n", "a").returncode == 0
    assert all_sent(shell) == [("failed", "a"), ("finished", "a")]


def test_a_stalled_orchestrator_that_waits_is_notified_once(shell: Shell) -> None:
    go(shell)
    shell.ok("create")
    shell.ok("launcher")
    shell.ok("orchestrator", "start", "-n", "a", "--then", "stall", "--detach")
    wait_until(lambda: events(shell.directory), "a message")
    ((event, _, line),) = received(shell.directory)
    assert event == "stalled"
    assert line.startswith("run name a is stalled: ")
    assert "x = 99" in line
    shell.ok("orchestrator", "stop")
    shell.ok("kill")
    assert all_sent(shell) == [("stalled", "a")]


def test_a_launcher_that_is_not_heard_from_is_notified(shell: Shell) -> None:
    shell.ok("create")
    state = StateDir.of(shell.directory)
    launcher = start_launcher(state, lease=2.0)
    shell.ok("orchestrator", "start", "-n", "a", "--detach")
    with contextlib.ExitStack() as stack:
        stack.callback(os.kill, launcher.process.pid, signal.SIGKILL)
        wait_until(lambda: notify(shell)["watched"] == 1, "the execution is watched")
        wait_until(lambda: running_notifier(state) is not None, "the notifier runs")
        assert events(shell.directory) == []
    wait_until(lambda: events(shell.directory), "a message")
    ((event, run_name, line),) = received(shell.directory)
    assert (event, run_name) == ("launcher_silent", "")
    assert line.startswith(f"not heard from the launcher (process {launcher.process.pid} on ")

    # Another launcher takes over: nothing more is wrong.
    start_launcher(state, lease=2.0)
    go(shell)
    shell.ok("wait", "a")
    shell.ok("kill")
    wait_until_none_left(shell.directory)
    assert set(events(shell.directory)) <= {("launcher_silent", ""), ("finished", "a")}
    assert events(shell.directory).count(("launcher_silent", "")) == 1


def test_a_webhook_that_fails_twice_is_called_three_times(shell: Shell) -> None:
    go(shell)
    with web_server(500, 503) as server:
        configure(shell, f"  webhook: {server.url}\n  on: [finished]\n")
        assert shell.run("run", "-n", "a").returncode == 0
        wait_until_none_left(shell.directory)
    assert [one["event"] for one in server.requests] == ["finished"] * 3
    assert states(shell) == [("finished", "sent", 3)]
    assert shell.run("run", "-n", "b").returncode == 0
    assert len(server.requests) == 3


def test_a_command_that_hangs_does_not_delay_the_workflow_or_other_targets(shell: Shell) -> None:
    hangs = '  - command: [sh, -c, "echo $$ > hanging; exec sleep 1000"]\n    timeout: 1h\n'
    configure(shell, f"{hangs}    on: [first_failure]\n{COMMAND}")
    started = shell.start("run", "-n", "a", "--x", "-1", "2", "--then", "settle")
    go(shell, "go--1")
    wait_until((shell.directory / "hanging").exists, "it hangs")
    wait_until(lambda: events(shell.directory) == [("first_failure", "a")], "the other message")
    go(shell)
    assert finish(started).returncode == 0
    wait_until(lambda: ("finished", "a") in events(shell.directory), "the end")
    assert ("first_failure", "sending", 1) in states(shell)
    shell.ok("kill")  # ends the command as well
    wait_until_none_left(shell.directory)
    assert ("first_failure", "failed", 1) in states(shell)


def test_a_notifier_that_cannot_start_is_a_warning(shell: Shell) -> None:
    go(shell)
    shell.ok("create")
    (shell.directory / ".wf" / "notify").write_text("")
    done = shell.run("run", "-n", "a")
    assert done.returncode == 0
    assert "no notification will be sent: " in done.stderr


def test_an_invalid_motoko_yaml_stops_no_notification(shell: Shell) -> None:
    started = shell.start("run", "-n", "a")
    state = StateDir.of(shell.directory)
    wait_until(lambda: running_notifier(state) is not None, "the notifier runs")
    file = shell.directory / "motoko.yaml"
    valid = file.read_text()
    file.write_text(valid + "nonsense: [\n")
    log = state.logs / "notifier.log"
    wait_until(lambda: "former targets" in log.read_text(), "it has seen the change")
    go(shell)
    finish(started)
    file.write_text(valid)
    assert all_sent(shell) == [("finished", "a")]


def test_execute_in_a_python_program_is_notified(shell: Shell) -> None:
    go(shell)
    program = (
        "from motoko.workflow import Workflow\n"
        "with Workflow('motoko.yaml') as workflow:\n"
        "    workflow.run_name = 'a'\n"
        "    workflow.start_launcher_daemons()\n"
        "    workflow.execute(x=[1], then='')\n"
    )
    done = shell.run_fresh("-c", program, program=[sys.executable])
    assert done.returncode == 0, done.stderr
    assert all_sent(shell) == [("finished", "a")]


def test_kill_ends_the_notifier_and_what_it_ends_is_no_news(shell: Shell) -> None:
    shell.ok("run", "-n", "a", "--detach")
    state = StateDir.of(shell.directory)
    wait_until(lambda: running_notifier(state) is not None, "the notifier runs")
    process = running_notifier(state)
    assert process is not None
    assert shell.info()["notifier"] == {"pid": process.pid}
    assert f"the notifier (process {process.pid}) would be stopped" in shell.ok("kill", "--dry-run")
    assert "stopped the notifier" in shell.ok("kill", "--stop-runs", "--yes")
    assert not is_alive(process)
    go(shell)
    assert shell.run("run", "-n", "b").returncode == 0
    assert all_sent(shell) == [("finished", "b")]


def test_every_target_is_tested_at_once(shell: Shell) -> None:
    failing = "  - command: [sh, -c, 'echo no; exit 3']\n"
    with web_server() as server:
        configure(shell, f"{COMMAND}{failing}  - webhook: {server.url}\n")
        done = shell.run("notify", "--test")
        assert done.returncode == 1
        assert done.stdout.splitlines() == [
            "command sh: sent",
            "command sh: failed: exit status 3: no",
            "webhook http://127.0.0.1: sent",
        ]
        tested = notify(shell, "--test")["targets"]
    assert [(one["sent"], one["problem"]) for one in tested] == [
        (True, None), (False, "exit status 3: no"), (True, None),
    ]  # fmt: skip
    assert [one["event"] for one in server.requests] == ["test"] * 2
    configure(shell, COMMAND)
    assert shell.run("notify", "--test").returncode == 0
    (shell.directory / "motoko.yaml").write_text("task_managers:\n  s:\norchestrator: steps.main\n")
    done = shell.run("notify", "--test")
    assert done.returncode == 2
    assert "notify: is missing or empty" in done.stderr
    assert notify(shell) == {"notifier": None, "watched": 0, "targets": [], "notifications": []}


def test_no_output_and_no_file_but_motoko_yaml_shows_the_secret_of_a_webhook(
    shell: Shell, tmp_path: Path
) -> None:
    go(shell)
    with web_server() as server:
        url = server.url  # refused from now on
    configure(shell, f"  webhook: {url}?token=SECRET\n  on: [finished]\n")
    assert "SECRET" not in repr(load_workflow(shell.directory).notify)
    assert shell.run("run", "-n", "a").returncode == 0
    wait_until(lambda: [one[:2] for one in states(shell)] == [("finished", "waiting")], "it waits")
    for command in (["notify"], ["notify", "--test"], ["info"], ["doctor"], ["info", "--json"]):
        done = shell.run(*command)
        assert "notify" not in command or "http://127.0.0.1" in done.stdout
        assert "SECRET" not in done.stdout + done.stderr
    shell.ok("kill")
    shell.ok("export", "--crate", str(tmp_path / "crate"))
    for top in (shell.directory / ".wf", tmp_path / "crate"):
        for path in top.rglob("*"):
            if path.is_file():
                assert b"SECRET" not in path.read_bytes(), path
