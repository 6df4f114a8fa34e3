"""Workflows executed by a real Slurm, and queries of their jobs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motoko.launcher.control import running_launchers
from motoko.launcher.executors.batch.submission_files import memberships, read_submission
from motoko.storage.launcher_leases import machine_names
from tests.support.launching import WorkflowHarness, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motoko.core.records import RunKey
    from tests.support.slurm_testbed import Testbed

ROOT = Path(__file__).parents[2]
LIVING = frozenset({"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED"})
OPTIONS = {"generator": "slurm", "queue_poll": "1s", "submit_rate": 6000}
SCRIPT = 'eval "$MOTOKO_JOB_DO"\n'
SECONDS = 120.0


@dataclass
class SlurmHarness:
    """A workflow for tests. Its script executes the parameter ``do``."""

    place: WorkflowHarness
    slurm: Testbed
    launchers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @classmethod
    def make(
        cls, directory: Path, slurm: Testbed, script: str = SCRIPT, **options: Any
    ) -> SlurmHarness:
        """Write the workflow and create its database."""
        job = {"do": "str"}
        place = WorkflowHarness.make(
            directory, {"a": script}, job=job, options={**OPTIONS, **options}
        )
        return cls(place, slurm)

    def start(
        self,
        *arguments: str,
        hurry: float = 2.0,
        lease: float = 30.0,
        machine_name: str | None = None,
        environment: Mapping[str, str] | None = None,
        ready: bool = True,
    ) -> subprocess.Popen[bytes]:
        """Start a launcher that waits for late answers and files for ``hurry`` seconds."""
        if machine_name is not None:
            arguments += ("--machine_name", machine_name)
        self.place.state.logs.mkdir(parents=True, exist_ok=True)
        with (self.place.state.logs / "launcher.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.process", "launcher",
                 str(self.place.directory), "--lease", str(lease), *arguments],
                cwd=ROOT,
                env={**os.environ, "MOTOKO_TEST_HURRY": str(hurry), **(environment or {})},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.launchers.append(process)
        if ready:
            wanted = tuple(sorted(machine_names(machine_name)))
            wait_until(lambda: process.poll() is not None or self._serves(process.pid, wanted))
            assert process.poll() is None, self.place.log()
        return process

    def _serves(self, pid: int, wanted: tuple[str, ...]) -> bool:
        running = running_launchers(self.place.state)
        return any(r.process.pid == pid and tuple(r.machines) == wanted for r in running)

    def create(self, *scripts: str, options: list[str] | None = None, **more: Any) -> list[RunKey]:
        """Create a run for each script."""
        if options is not None:
            more["slurm_options"] = options
        return self.place.create([{"do": script} for script in scripts], **more)

    def run(self, script: str, **more: Any) -> RunKey:
        """Create one run."""
        return self.create(script, **more)[0]

    def wait(self, keys: list[RunKey], *, seconds: float = SECONDS) -> list[str]:
        """Wait until runs have ended; return their states."""
        return [record.state for record in self.place.wait(keys, seconds=seconds)]

    def wait_state(self, key: RunKey, *lifecycles: str) -> None:
        """Wait until a run is in one of these lifecycle states."""
        self.place.wait_for(key, *lifecycles, seconds=SECONDS)

    def wait_reason(self, key: RunKey, words: str) -> str:
        """Wait until a run's reason contains ``words``, and return it."""
        wait_until(lambda: words in (self.place.record(key).reason or ""), SECONDS)
        return self.place.record(key).reason or ""

    def reasons(self, keys: list[RunKey]) -> dict[RunKey, str]:
        """Return the recorded reasons of runs."""
        records = map(self.place.record, keys)
        return {record.key: record.reason for record in records if record.reason}

    def causes(self, key: RunKey) -> list[str]:
        """Return the causes in a run's history."""
        return [move.cause for move in self.place.record(key).history]

    def job(self, key: RunKey) -> str:
        """Wait until Slurm has a run's job, and return its id."""
        wait_until(lambda: self._job(key) is not None, SECONDS)
        return self._job(key) or ""

    def _job(self, key: RunKey) -> str | None:
        root = self.place.state.path / "slurm"
        token, index = memberships(root).get(self.place.record(key).token or "", ("", 0))
        batch = read_submission(root, token) if token else None
        if batch is None or batch.job is None:
            return None
        return f"{batch.job}_{index}" if batch.size > 1 else batch.job

    def jobs(self, *states: str) -> list[str]:
        """Return the jobs of this workflow in these states, by default all."""
        listed = self.slurm.command("squeue", "-h", "-r", "-t", "all", "-o", "%i|%T|%k")
        found = []
        for line in listed.splitlines():
            job, state, comment = line.split("|")
            ours = (self.place.state.path / "slurm" / comment.rpartition(":")[2]).is_dir()
            if ours and comment.startswith("motoko:") and (not states or state in states):
                found.append(job)
        return found

    def arrays(self) -> set[str]:
        """Return the ids of all submissions that Slurm knows."""
        return {job.partition("_")[0] for job in self.jobs()}

    def completed(self) -> int:
        """Return the number of this workflow's completed jobs."""
        log = (self.slurm.place / "log" / "completions").read_text()
        where = re.escape(str(self.place.state.path.resolve() / "slurm"))
        return len(re.findall(rf"JobState=COMPLETED .*WorkDir={where}/", log))

    def no_jobs_left(self) -> bool:
        """Wait until Slurm has no pending or running job of this workflow."""
        deadline = time.monotonic() + SECONDS
        while self.jobs(*LIVING):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def close(self) -> None:
        """Stop launchers, runs and server; the queue must be empty."""
        try:
            self.place.close()
        finally:
            for process in self.launchers:
                process.kill()  # no effect on ended processes
                process.wait()
        assert self.no_jobs_left(), self.jobs(*LIVING)
