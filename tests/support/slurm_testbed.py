"""Separate Slurm instances for tests, started by scripts/slurm-testbed."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from motoko.launcher.schedulers.slurm.submit import environment

SCRIPT = Path(__file__).parents[2] / "scripts" / "slurm-testbed"
CANNOT_RUN = 77


class CannotRunError(Exception):
    """This machine cannot run Slurm; the message gives the reason."""


class Testbed:
    """A testbed in ``place``; ``environment`` has the variables for Slurm's commands."""

    __test__ = False

    def __init__(self, place: Path) -> None:
        self.place = place
        self.environment: dict[str, str] = {}

    def start(self, *settings: str) -> None:
        """Start its stopped parts; each setting is a KEY=VALUE of slurm.conf."""
        given = [word for setting in settings for word in ("--set", setting)]
        done = self._run("start", *given)
        if done.returncode == CANNOT_RUN:
            raise CannotRunError(done.stderr.strip())
        done.check_returncode()
        variable = shlex.split(done.stdout)[1]
        self.environment = environment(os.environ, submitting=True)
        self.environment["SLURM_CONF"] = variable.partition("=")[2]

    def status(self) -> tuple[int, dict[str, str]]:
        """Return the exit status, and the report about each part."""
        done = self._run("status")
        return done.returncode, dict(line.split(": ", 1) for line in done.stdout.splitlines())

    def stop(self) -> None:
        """Stop it and remove its directory."""
        self._run("stop", "--purge").check_returncode()

    def pid(self, name: str) -> int:
        """Return the process of ``munged``, ``slurmctld``, or a node."""
        return int((self.place / "run" / f"{name}.pid").read_text())

    def command(self, *argv: str) -> str:
        """Run one of Slurm's commands; return its output."""
        done = subprocess.run(
            argv, env=self.environment, stdout=subprocess.PIPE, text=True, timeout=60, check=True
        )
        return done.stdout.strip()

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SCRIPT, *arguments, self.place],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
