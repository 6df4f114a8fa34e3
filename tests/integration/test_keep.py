"""The launcher packs or removes the directories of ended runs; commands read packs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from motoko.runtime.packs import list_packs
from tests.support.command_line import Shell, small_workflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

MAIN = """
async def main(workflow, **params):
    await workflow.s.create_task(x=[1, 2, 3]).settled()
"""
SCRIPT = """
echo "out $MOTOKO_JOB_X of attempt $MOTOKO_ATTEMPT"
echo "err $MOTOKO_JOB_X" >&2
motoko-worker set y $MOTOKO_JOB_X
[ "$MOTOKO_JOB_X" != 2 ] || [ -e ../../../go ]
"""
READ = """
from motoko.workflow import Workflow
with Workflow(".", read_only=True) as workflow:
    workflow.run_name = "a"
    run = workflow.s.select("x = 1")[0][0]
    print(run.stdout, run.open_file("stderr").read(), run.open_file("stdout", "rb").read())
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = small_workflow(tmp_path / "w", script=SCRIPT, main=MAIN)
    yield made
    made.close()


def keep(shell: Shell, what: str) -> None:
    config = shell.directory / "motoko.yaml"
    config.write_text(f"{config.read_text()}keep: {what}\n")


def names(shell: Shell) -> list[str]:
    runs = shell.directory / "s" / "BD-s-runs"
    return sorted(path.name for path in runs.iterdir())


def test_packed_runs_are_read_and_retried(shell: Shell) -> None:
    keep(shell, "packed")
    shell.run("run", "-n", "a")
    assert names(shell) == ["packed"]
    runs = shell.directory / "s" / "BD-s-runs"
    assert [(pack.first, pack.last) for pack in list_packs(runs)] == [(1, 3)]
    out = shell.ok("logs", "s.1", "s.2")
    assert "out 1 of attempt 1" in out
    assert "err 2" in out
    assert "out 2 of attempt 1" in shell.ok("logs", "s.2", "--stdout", "--lines", "1")
    assert "err 2" in shell.ok("results", "s")
    assert "err 2" in shell.ok("why", "s.2")
    found = json.loads(shell.ok("info", "s.1", "--json"))["runs"][0]
    place = str(runs / "packed" / "1-1-3.zip" / "run-1")
    assert found["directory"] == place
    assert f"directory     {place}\n" in shell.ok("info", "s.1")
    shell.write({"go": ""})
    shell.ok("run", "-n", "a", "--retry-failed")
    assert shell.counts("s", "a") == {"FINISHED": 3}
    assert names(shell) == ["packed"]
    assert "out 2 of attempt 2" in shell.ok("logs", "s.2")
    assert "out 2 of attempt 1" in shell.ok("logs", "s.2", "--attempt", "1")
    shell.ok("clean", "--delete", "s.1-2", "--yes")
    assert [(pack.number, pack.first) for pack in list_packs(runs)] == [(1, 1)]
    assert "out 3 of attempt 1" in shell.ok("logs", "s.3")


def test_directories_of_finished_runs_are_not_kept(shell: Shell) -> None:
    keep(shell, "failed")
    shell.run("run", "-n", "a")
    assert names(shell) == ["run-2"]
    assert "err 2" in shell.ok("logs", "s.2")


def test_runs_are_packed_on_request(shell: Shell) -> None:
    shell.run("run", "-n", "a")
    assert names(shell) == ["run-1", "run-2", "run-3"]
    assert "2 runs would be packed" in shell.ok("clean", "--pack", "s.1-2", "--dry-run")
    assert names(shell) == ["run-1", "run-2", "run-3"]
    assert shell.ok("clean", "--pack", "s.1-2") == "2 runs packed\n"
    assert names(shell) == ["packed", "run-3"]
    (shell.directory / "s/BD-s-runs/run-3/x").symlink_to("/")
    assert shell.ok("clean", "--pack") == "1 run packed\n"
    assert shell.ok("clean", "--pack") == "0 runs packed\n"
    assert shell.run("clean", "--pack", "--delete").returncode == 2
    done = shell.run_fresh(READ, program=(sys.executable, "-c"))
    assert done.returncode == 0, done.stderr
    assert "out 1 of attempt 1\n err 1\n b'out 1 of attempt 1" in done.stdout
