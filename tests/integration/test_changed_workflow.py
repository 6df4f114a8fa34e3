"""A running launcher detects changes of its configuration and environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support.command_line import Shell, small_workflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

MAIN = """
async def main(workflow, **params):
    for manager in workflow.task_managers.values():
        await manager.create_task(x=1).settled()
"""
RESTART = "`motoko kill && motoko launcher` restarts it"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    script = 'motoko-worker set made "first $MY_MODEL"\n'
    made = small_workflow(tmp_path / "w", script=script, main=MAIN)
    made.environment["MY_MODEL"] = "a"
    made.ok("create")
    made.ok("launcher")
    yield made
    made.close()


def runs(shell: Shell, study: str) -> list[tuple[str, str, int, object]]:
    studies = {found["name"]: found for found in shell.info("--verbose")["studies"]}
    return [
        (run["run_name"], run["state"], run["attempt"], run["fields"].get("made"))
        for run in studies[study]["runs"]
    ]


def test_a_launcher_applies_changed_files(shell: Shell) -> None:
    (before,) = shell.info()["launchers"]
    shell.ok("run", "-n", "1")
    shell.write(
        {
            "s/bd.yaml": "job: {x: int}\nexec_file: other.sh\nretries: 1\n",
            "s/other.sh": "motoko-worker set made other; exit 3\n",
        }
    )
    shell.run("run", "-n", "2")
    assert runs(shell, "s") == [("1", "FINISHED", 1, "first a"), ("2", "FAILED", 2, "other")]
    shell.write(
        {
            "motoko.yaml": "task_managers:\n  s:\n  t:\norchestrator: steps.main\n",
            "s/bd.yaml": "job: {x: int}\n",
            "t/bd.yaml": "job: {x: int}\n",
            "t/launch.sh": "motoko-worker set made added\n",
        }
    )
    shell.ok("run", "-n", "3")
    assert runs(shell, "s")[2] == ("3", "FINISHED", 1, "first a")
    assert runs(shell, "t") == [("3", "FINISHED", 1, "added")]
    (after,) = shell.info()["launchers"]
    assert (after["pid"], after["studies"]) == (before["pid"], ["s", "t"])


def test_a_launcher_with_another_environment_is_reported(shell: Shell) -> None:
    assert "MY_MODEL" not in shell.run("run", "-n", "1").stderr
    assert "environment" not in shell.ok("info")
    assert shell.info()["launchers"][0]["differs"] == []
    shell.environment |= {
        "MY_MODEL": "b",
        "PATH": f"{os.environ['PATH']}:/nowhere",
        "COLUMNS": "77",
    }
    done = shell.run("run", "-n", "2")
    assert done.returncode == 0, done.stderr
    assert "has another environment than this command: PATH, MY_MODEL" in done.stderr
    assert RESTART in done.stderr
    text = shell.ok("info")
    assert "its environment differs from that of this command: PATH, MY_MODEL" in text
    assert RESTART in text
    assert shell.info()["launchers"][0]["differs"] == ["PATH", "MY_MODEL"]
    assert runs(shell, "s")[1][3] == "first a"
    shell.ok("kill")
    assert "environment" not in shell.ok("launcher")
    shell.ok("run", "-n", "3")
    assert runs(shell, "s")[2][3] == "first b"
