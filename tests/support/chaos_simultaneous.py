"""Repeatedly kill all processes of a workflow simultaneously."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from motoko.runtime.daemons import PidFile
from motoko.runtime.processes import is_alive
from tests.support import workflow_processes

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.support.tally import Tally
    from tests.support.workloads import Workload

PATIENCE = 900.0
MOST = 4  # simultaneous kills in one workflow


def play_simultaneous_kills(
    work: Workload, rng: random.Random, tally: Tally, scratch: Path, kills: int
) -> set[str]:
    """Execute one workflow with ``motoko run``; return the tokens of the attempts that died."""
    killed: set[str] = set()
    output = scratch / f"run-{work.run_name}.log"
    for number in range(rng.randint(1, MOST)):
        if tally.kills.total() >= kills:
            break
        process = _run(work, output)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0.2, 6.0 if number else 1.5))  # not finished at first
            break  # it has finished
        _kill_all(work.directory, process, rng, tally, killed)
    status = _run(work, output).wait(PATIENCE)
    if status != 0:
        text = output.read_text(errors="replace")[-3000:]
        tally.problems.append(f"motoko run of {work.run_name} ended with status {status}:\n{text}")
    return killed


def _run(work: Workload, output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "motoko", "run", "--run_name", work.run_name]
    with output.open("ab") as file:
        return subprocess.Popen(
            [*command, *work.arguments], cwd=work.directory, stdin=subprocess.DEVNULL,
            stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip


def _kill_all(
    directory: Path,
    process: subprocess.Popen[bytes],
    rng: random.Random,
    tally: Tally,
    killed: set[str],
) -> None:
    """Kill command and daemons, and in half of the cases their runs, too."""
    records = [PidFile(path).read() for path in (directory / ".wf").glob("**/*.json")]
    pids = {r.process.pid for r in records if r is not None and is_alive(r.process)}
    scripts = workflow_processes.attempts(directory) if rng.random() < 0.5 else []
    for pid in (process.pid, *pids):
        tally.kills["everything"] += workflow_processes.send(pid, signal.SIGKILL)
    for script in scripts:
        if workflow_processes.send_group(script.pid, signal.SIGKILL):
            killed.add(script.token)
            tally.kills["everything"] += 1
    process.wait()
    tally.moments += 1
    time.sleep(rng.uniform(0, 0.3))
