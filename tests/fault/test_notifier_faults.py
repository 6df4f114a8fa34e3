"""A notifier that is killed at any point sends no message twice."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from motoko.notifier.control import running_notifier
from motoko.notifier.deliveries import KILLED
from motoko.runtime import fault_points
from motoko.runtime.processes import is_alive
from motoko.server.state_dir import StateDir
from tests.support.command_line import Shell, finish, small_workflow, wait_until
from tests.support.notifying import COMMAND, configure, events
from tests.support.serving import kill_server
from tests.support.workflow_processes import wait_until_none_left

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.fault

SCRIPT = 'd=$(dirname "$MOTOKO_WORKFLOW"); while ! [ -e "$d/go" ]; do sleep 0.02; done\n'


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = small_workflow(tmp_path / "work", script=SCRIPT)
    configure(made, COMMAND)
    try:
        yield made
    finally:
        made.run("kill", "--stop-runs", "--yes")
        wait_until_none_left(made.directory)


def entries(shell: Shell) -> list[dict[str, Any]]:
    content: dict[str, Any] = json.loads(shell.ok("notify", "--json"))
    found: list[dict[str, Any]] = content["notifications"]
    return found


def test_all_points_are_tested() -> None:
    points = {name for name in fault_points.POINTS if name.startswith("notifier.")}
    assert points == {"notifier.recorded", "notifier.sent"}


@pytest.mark.parametrize(
    ("point", "messages"),
    [("notifier.recorded", []), ("notifier.sent", [("finished", "a")])],
)
def test_a_notifier_that_is_killed_while_it_sends_never_sends_again(
    shell: Shell, point: str, messages: list[tuple[str, str]]
) -> None:
    (shell.directory / "go").touch()
    log = shell.directory.parent / "points"
    shell.environment = {"MOTOKO_FAULT": f"{point}:kill", "MOTOKO_FAULT_LOG": str(log)}
    assert shell.run("run", "-n", "a").returncode == 0
    wait_until_none_left(shell.directory)
    shell.environment = {}
    assert point in log.read_text()
    assert events(shell.directory) == messages
    assert [one["state"] for one in entries(shell)] in (["sending"], ["failed"])

    assert shell.run("run", "-n", "b").returncode == 0
    wait_until_none_left(shell.directory)
    assert events(shell.directory) == sorted([*messages, ("finished", "b")])
    found = {one["run_name"]: (one["state"], one["problem"]) for one in entries(shell)}
    assert found == {"a": ("failed", KILLED), "b": ("sent", None)}
    assert "1 could not be sent" in shell.run("doctor").stdout


def test_an_orchestrator_starts_a_killed_notifier_again(shell: Shell) -> None:
    state = StateDir.of(shell.directory)
    started = shell.start("run", "-n", "a")
    wait_until(lambda: running_notifier(state) is not None, "the notifier runs")
    killed = running_notifier(state)
    assert killed is not None
    os.kill(killed.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(killed), "it is dead")
    wait_until(lambda: running_notifier(state) is not None, "another one runs")
    (shell.directory / "go").touch()
    assert finish(started).returncode == 0
    wait_until_none_left(shell.directory)
    assert events(shell.directory) == [("finished", "a")]


def test_a_notifier_survives_the_death_of_the_server(shell: Shell) -> None:
    state = StateDir.of(shell.directory)
    started = shell.start("run", "-n", "a")
    wait_until(lambda: running_notifier(state) is not None, "the notifier runs")
    before = running_notifier(state)
    kill_server(state)
    (shell.directory / "go").touch()
    assert finish(started).returncode == 0
    assert before == running_notifier(state) or running_notifier(state) is None
    wait_until_none_left(shell.directory)
    assert events(shell.directory) == [("finished", "a")]
