"""Shared parts of benchmarks: workflow directories, processes, statistics, a noise probe."""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from motoko.core.changes import EditRun
from motoko.core.edits import Claim, EndAttempt
from motoko.core.states import Lifecycle
from motoko.workflow import Workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One line of the table: the measured quantity, its value, the limit and the verdict."""

    what: str
    figure: str
    limit: str
    holds: bool


def make_workflow(directory: Path, studies: tuple[str, ...], orchestrator: str) -> Path:
    """Write a workflow with empty runs and return its directory."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = ["task_managers:", *(f"  {name}:" for name in studies), "orchestrator: steps.main"]
    (directory / "motoko.yaml").write_text("\n".join(lines) + "\n")
    for name in studies:
        (directory / name).mkdir(exist_ok=True)
        (directory / name / "bd.yaml").write_text(f"study: {name}\njob:\n  x: float\n")
        (directory / name / "launch.sh").write_text("true\n")
    (directory / "steps.py").write_text(orchestrator)
    return directory


@contextmanager
def opened(directory: Path, run_name: str = "bench") -> Iterator[Workflow]:
    """Create and open a workflow; stop its server at the end."""
    from motoko.server.lifecycle import stop_server

    workflow = Workflow(directory)
    workflow.create(validated=True)
    workflow.run_name = run_name
    try:
        yield workflow
    finally:
        workflow.close()
        stop_server(workflow.store.state)


def end_all(workflow: Workflow) -> None:
    """Mark all runs of the study ``mult`` as finished, without executing them."""
    changes = []
    for run in workflow.mult.select().runs:
        token = f"t{run.id}"
        changes.append(EditRun(run.key, Claim("bench", token, 1.0)))
        changes.append(EditRun(run.key, EndAttempt(token, Lifecycle.FINISHED, 1.0, "bench", 0)))
    workflow.store.autocommit_scope.write(*changes)


def python(*arguments: str, cwd: Path | None = None) -> float:
    """Run this interpreter and return the seconds it took."""
    return timed(lambda: subprocess.run([sys.executable, *arguments], check=True, cwd=cwd))


def timed(work: Callable[[], object]) -> float:
    """Return the duration of ``work`` in seconds."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def best(work: Callable[[], float], times: int = 5) -> float:
    """Return the median of several measurements."""
    return statistics.median(work() for _ in range(times))


def slowness(times: int = 15) -> float:
    """Return how many times its best duration here a fixed piece of work takes now."""
    found = [timed(_loop) for _ in range(times)]
    _best[0] = min(_best[0], *found)
    return statistics.median(found) / _best[0]


_best = [math.inf]


def _loop() -> int:
    return sum(range(1_000_000))


def noise() -> str:
    """Return the time of a fixed piece of work on this machine: min, median, max in ms."""
    samples = sorted(timed(lambda: sum(range(2_000_000))) * 1000 for _ in range(15))
    middle = statistics.median(samples)
    at_once, rested = (statistics.median(_read_memory(rest)) * 1000 for rest in (0.0, 0.4))
    return (
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; a fixed loop takes "
        f"{samples[0]:.0f} / {middle:.0f} / {samples[-1]:.0f} ms (min / median / max); reading "
        f"2,000 objects {at_once:.2f} ms, after a rest of 0.4 s {rested:.2f} ms"
    )


def _read_memory(rest: float, times: int = 7) -> list[float]:
    """Return the seconds that it takes to read some memory after a rest.

    Woken daemons and new processes do little else. A virtual machine that swaps out idle
    memory slows them down, and no busy loop shows it.
    """
    objects = [{"number": number} for number in range(20_000)]
    found = []
    for _ in range(times):
        time.sleep(rest)
        found.append(timed(lambda: sum(item["number"] for item in objects[:2000])))
    return found
