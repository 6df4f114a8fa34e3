"""Single runs on the command line: ``motoko info``, ``history`` and ``logs`` of named runs."""

from __future__ import annotations

import os
import shutil
from functools import partial
from typing import TYPE_CHECKING

import pytest

from motoko.cli import main
from tests.support.command_line import Shell, small_workflow, wait_until
from tests.support.forked import Forked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

SCRIPT = """\
echo "out $MOTOKO_JOB_X of attempt $MOTOKO_ATTEMPT"
echo "err $MOTOKO_JOB_X" >&2
motoko-worker push residual 0.5 --step 3
[ "$MOTOKO_JOB_X" = 1 ]
"""
MAIN = """\
async def main(workflow, **params):
    await workflow.s.create_task(x=[1, 2]).settled()
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Run s.1 is FINISHED, s.2 FAILED twice; no process is running."""
    shell = small_workflow(tmp_path_factory.mktemp("runs") / "w", script=SCRIPT, main=MAIN)
    shell.write({"s/bd.yaml": "job: {x: int}\nretries: 1\n"})
    shell.ok("run", "-n", "a")
    return shell


def test_the_details_of_a_run(ended: Shell) -> None:
    (found,) = ended.info("s.2")["runs"]
    assert (found["run"], found["state"], found["run_name"]) == ("s.2", "FAILED", "a")
    assert found["created_by"] == "main"
    assert found["job"] == {"x": 2}
    assert found["quantities"] == [
        {"name": "residual", "steps": 1, "last_step": 3, "last_value": 0.5}
    ]
    first, second = found["attempts"]
    assert first["directory"] == f"{found['directory']}.attempt-1"
    assert second["directory"] == found["directory"]
    assert (first["outcome"], second["outcome"]) == ("FAILED", "FAILED")
    assert "exit code 1" in first["cause"]
    assert first["duration"] >= 0
    states = [entry["state"] for entry in found["history"]]
    assert states.count("START") == 2
    text = ended.ok("info", "s.2")
    for part in ("s.2", "FAILED", "exit code 1", "x = 2", "by main", "residual"):
        assert part in text
    assert "server" not in text
    assert ended.ok("info", "s.1,2").count("created ") == 2


def test_info_lists_matching_runs_and_scopes_the_overview(ended: Shell) -> None:
    found = ended.info("--where", "state = FAILED")
    assert [run["run"] for run in found["runs"]] == ["s.2"]
    assert ended.ok("info", "--where", "state = FAILED").splitlines()[-1] == "1 run matches"
    whole = ended.info("s", "-n", "a")
    assert [study["name"] for study in whole["studies"]] == ["s"]
    assert "runs" not in whole


def test_the_history_of_several_runs(ended: Shell) -> None:
    lines = ended.ok("history", "s.1-2").splitlines()
    assert lines[0].split() == ["run", "time", "state", "attempt", "cause"]
    assert {line.split()[0] for line in lines[1:]} == {"s.1", "s.2"}
    one = ended.ok("history", "--where", "x = 2", "-n", "a").splitlines()
    assert one[0].split() == ["time", "state", "attempt", "cause"]
    for arguments in (("-n", "b"), ("s.1", "--event", "e"), ("s.3",)):
        assert ended.run("history", *arguments).returncode == 2


def test_the_output_of_runs(ended: Shell) -> None:
    assert ended.ok("logs", "s.2").splitlines() == [
        "==> s.2 stdout, attempt 2 <==",
        "out 2 of attempt 2",
        "==> s.2 stderr, attempt 2 <==",
        "err 2",
    ]
    assert ended.ok("logs", "s.2", "--stdout", "--attempt", "1") == "out 2 of attempt 1\n"
    assert ended.ok("logs", "s", "--stderr", "--lines", "1", "-f").splitlines() == [
        "==> s.1 stderr <==", "err 1", "==> s.2 stderr, attempt 2 <==", "err 2",
    ]  # fmt: skip
    assert "stopped" in ended.ok("logs", "--launcher", "--lines", "1", "--follow")
    for arguments, status in (
        ((), 2),
        (("s.2", "--attempt", "3"), 2),
        (("s.2", "--lines", "-1"), 2),
        (("s.2", "--launcher"), 2),
        (("--orchestrator",), 1),
    ):
        done = ended.run("logs", *arguments)
        assert done.returncode == status, done.stderr
        assert done.stderr.startswith("error: ")


@pytest.fixture
def stepping(tmp_path: Path) -> Iterator[Shell]:
    """A run that waits for the file ``next-N`` in attempt N, and fails in the first one."""
    script = (
        'echo "attempt $MOTOKO_ATTEMPT"\n'
        "while [ ! -e ../../../next-$MOTOKO_ATTEMPT ]; do sleep 0.02; done\n"
        'echo "end of $MOTOKO_ATTEMPT"\n[ "$MOTOKO_ATTEMPT" = 2 ]\n'
    )
    code = "async def main(workflow):\n    await workflow.s.create_task(x=1)\n"
    shell = small_workflow(tmp_path / "w", script=script, main=code)
    shell.write({"s/bd.yaml": "job: {x: int}\nretries: 1\n"})
    yield shell
    shell.close()


def has_line(file: Path, line: str) -> bool:
    return line in file.read_text().splitlines()


def test_follow_shows_each_attempt_until_the_run_has_ended(stepping: Shell, tmp_path: Path) -> None:
    workflow = stepping.start("run", "-n", "a")
    started = stepping.directory / "s/BD-s-runs/run-1/stdout"
    wait_until(started.exists, "the script has started")
    shown = tmp_path / "shown"
    shown.touch()
    follower = Forked(
        main,
        ("logs", "s.1", "--follow", "--stdout"),
        directory=stepping.directory,
        environment=dict(os.environ),
        output=shown,
    )
    for attempt in (1, 2):
        line = f"attempt {attempt}"
        wait_until(partial(has_line, shown, line), "the attempt is shown")
        (stepping.directory / f"next-{attempt}").touch()
    assert follower.wait(60) == 0
    assert shown.read_text().splitlines() == [
        "attempt 1", "end of 1", "s.1: attempt 2 has started", "attempt 2", "end of 2",
    ]  # fmt: skip
    workflow.communicate(timeout=60)
    assert workflow.poll() == 0


def test_a_run_that_has_not_started_says_why(tmp_path: Path, ended: Shell) -> None:
    shell = Shell(shutil.copytree(ended.directory, tmp_path / "w"))
    shell.ok("retry", "s.2")
    shutil.rmtree(shell.directory / "s" / "BD-s-runs")
    done = shell.run("logs", "s.2")
    assert done.returncode == 0
    assert done.stdout == ""
    assert "no launcher is running" in shell.ok("info", "s.2")
    shell.close()
