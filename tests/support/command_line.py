"""``motoko`` as users call it: real processes without a terminal.

They are forked (see ``tests.support.forked``); ``run_fresh`` starts a new Python process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jsonschema import Draft7Validator

from motoko.cli import main
from motoko.cli.json_schemas import OUTPUTS
from tests.support.forked import Forked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

PATIENCE = 120.0
MODULE = (sys.executable, "-m", "motoko")

MAIN = """\
async def main(workflow, **params):
    await workflow.s.create_task(x=[1, 2])
"""


@dataclass
class Shell:
    """Runs commands in a directory. ``close`` stops remaining processes there."""

    directory: Path
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *arguments: str) -> Forked:
        """Start a command."""
        environment = {**os.environ, **self.environment}
        return Forked(main, arguments, directory=self.directory, environment=environment)

    def run_fresh(
        self, *arguments: str, program: Sequence[str] = MODULE
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end in a new Python process, like a shell."""
        return subprocess.run(
            [*program, *arguments],
            cwd=self.directory,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return finish(self.start(*arguments))

    def ok(self, *arguments: str) -> str:
        """Run a command that must succeed; return its output."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def info(self, *arguments: str) -> dict[str, Any]:
        """Return the output of ``info --json``."""
        content: dict[str, Any] = json.loads(self.ok("info", "--json", *arguments))
        Draft7Validator(OUTPUTS["info"]).validate(content)
        return content

    def counts(self, study: str, run_name: str) -> dict[str, int]:
        """Return the numbers of runs by state."""
        studies = {found["name"]: found["counts"] for found in self.info()["studies"]}
        counts: dict[str, int] = studies[study].get(run_name, {})
        return counts

    def write(self, files: Mapping[str, str]) -> None:
        """Write files, by name."""
        for name, text in files.items():
            (self.directory / name).parent.mkdir(parents=True, exist_ok=True)
            (self.directory / name).write_text(text, encoding="utf-8")

    def close(self) -> None:
        """End orchestrators, launcher, runs and server."""
        # Records of daemons exist only while they run or after they were killed.
        if list(self.directory.glob(".wf/*.json")):
            self.run("kill", "--stop-runs", "--yes")


def finish(process: Forked | subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for the end of a command."""
    out, err = process.communicate(timeout=PATIENCE)
    status = process.poll()
    assert status is not None
    return subprocess.CompletedProcess(process.args, status, out, err)


def small_workflow(
    directory: Path, *, script: str = "true\n", main: str = MAIN, job: str = "{x: int}"
) -> Shell:
    """Write a workflow of one study ``s`` with this launch script and this orchestrator."""
    directory.mkdir(parents=True, exist_ok=True)
    shell = Shell(directory)
    shell.write(
        {
            "motoko.yaml": "task_managers:\n  s:\norchestrator: steps.main\nmax_concurrent: 2\n",
            "s/bd.yaml": f"job: {job}\n",
            "s/launch.sh": script,
            "steps.py": main,
        }
    )
    return shell


def wait_until(true: Callable[[], Any], what: str) -> None:
    """Wait until the condition is true."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.02)
