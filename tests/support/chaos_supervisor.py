"""Restart the killed orchestrator, launcher and server of a workflow."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from motoko.errors import MotokoError
from motoko.server.lifecycle import ensure_server
from motoko.server.state_dir import StateDir
from tests.support import workflow_processes
from tests.support.workloads import ROOT, Workload

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.tally import Hits, Starts, Tally

LEASE = 1.5
TICK = 0.02
REFUSED_PAUSE = 0.3
POINTS = "points"
REFUSALS = ("already", "taken over", "replaced while it was suspended")


@dataclass
class Instance:
    """A process started by the supervisor."""

    kind: str
    popen: subprocess.Popen[bytes]
    output: Path
    started: float
    abandoned: bool = False


class Supervisor:
    """Restarts orchestrator, launcher and server until the workflow has finished."""

    def __init__(self, work: Workload, tally: Tally, scratch: Path) -> None:
        self.work = work
        self.tally = tally
        self.state = StateDir.of(work.directory)
        self.instances: list[Instance] = []
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.points = scratch / POINTS
        self.hits: Hits = []
        self.started: Starts = {}
        self._scratch = scratch
        self._not_before: dict[str, float] = {}
        self._thread = threading.Thread(target=self._keep_going)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._thread.join()

    def _keep_going(self) -> None:
        while not self.over.is_set():
            with self.lock:
                for instance in [i for i in self.instances if i.popen.poll() is not None]:
                    self.instances.remove(instance)
                    self._ended(instance)
                for kind in ("orchestrator", "launcher"):
                    self._ensure(kind)
            with contextlib.suppress(MotokoError):  # killed during its start: repeat
                ensure_server(self.state)
            self.over.wait(TICK)

    def _ensure(self, kind: str) -> None:
        due = time.monotonic() > self._not_before.get(kind, 0.0)
        there = any(i.kind == kind and not i.abandoned for i in self.instances)
        if due and not there and not self.over.is_set():
            self.tally.starts[kind] += 1
            instance = self._start(kind)
            self.instances.append(instance)
            self.started.setdefault(kind, []).append((instance.popen.pid, instance.started))

    def _start(self, kind: str) -> Instance:
        arguments = {
            "orchestrator": ["orchestrator", "start", "--workflow", str(self.work.directory),
                             "--run_name", self.work.run_name, *self.work.arguments],
            "launcher": ["launcher", str(self.work.directory), "--lease", str(LEASE)],
        }  # fmt: skip
        output = self._scratch / f"{kind}-{self.work.run_name}-{self.tally.starts[kind]}.log"
        environment = {
            **os.environ, "MOTOKO_TEST_LEASE": str(LEASE), "MOTOKO_TEST_SMALL": "yes",
        }  # fmt: skip
        with output.open("wb") as file:
            popen = subprocess.Popen(
                [sys.executable, "-m", "tests.support.process", *arguments[kind]],
                cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                start_new_session=True,
            )  # fmt: skip
        return Instance(kind, popen, output, time.time())

    def _ended(self, instance: Instance) -> None:
        status = instance.popen.returncode
        if status < 0:
            return
        text = instance.output.read_text(errors="replace")
        if instance.kind == "orchestrator" and status == 0:
            self.over.set()
        elif any(refusal in text for refusal in REFUSALS):
            self.tally.refused[instance.kind] += 1
            self._not_before[instance.kind] = time.monotonic() + REFUSED_PAUSE
        else:
            self.tally.problems.append(
                f"{instance.kind} ended with status {status}:\n{text[-3000:]}"
            )
            self.over.set()

    def stop_all(self) -> None:
        """Stop the started processes gracefully."""
        for instance in self.instances:
            workflow_processes.send(instance.popen.pid, signal.SIGCONT)
            workflow_processes.send(instance.popen.pid, signal.SIGTERM)
        for instance in self.instances:
            try:
                instance.popen.wait(20)
            except subprocess.TimeoutExpired:
                self.tally.problems.append(f"{instance.kind} did not end on TERM")
                instance.popen.kill()
                instance.popen.wait()
