"""Runs that do nothing: their paths, their rate for many, and beside xargs.

What was measured is removed at the end only: for minutes, ext4 without a journal takes no inode
that was removed, and searches long for others.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import slurm
from motoko.launcher.control import stop_launcher
from scale.client import RUN_NAME
from scale.figures import Figure, Missing, at_least, at_most
from scale.place import PLAIN, TooSlowError, say, workflow_files
from support import opened, timed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.workflow import Workflow
    from scale.place import Place

THOUSAND = 1_000
PACKED = "keep: packed"
PATHS = 7  # of the floor, for each run
LAG = 1_000  # the floor removes paths so many runs later
LARGEST = 100_000
PACK_SECONDS = 60.0
PACKED_PATHS = 0.05  # a run, after packing


def paths(place: Place) -> Iterator[Figure | Missing]:
    """Count the paths that a run leaves, by default and packed."""
    if not place.smallest:
        return
    what, limit = (
        "paths a run, keep: packed, after packing",
        at_most(PACKED_PATHS, f"{PACKED_PATHS}"),
    )
    with _ran(place, THOUSAND) as workflow:
        left = _paths(workflow) / THOUSAND
    yield Figure("paths a run, default", left, "paths", at_most(7, "7"))
    with _ran(place, THOUSAND, PACKED) as workflow:
        _wait_for_packing(workflow)
        command = [sys.executable, "-m", "motoko", "logs", "mult.1"]
        subprocess.run(command, cwd=workflow.directory, check=True, stdout=subprocess.DEVNULL)
        yield Figure(what, _paths(workflow) / THOUSAND, "paths", limit)


def many(place: Place) -> Iterator[Figure | Missing]:
    """Measure the rate of many runs, create to all ended, compared with that of 1,000."""
    what, limit = "trivial runs, keep: packed: rate / rate of 1,000", at_least(0.9, "0.9 at 10^5")
    if place.runs > LARGEST:
        yield Missing(what, "10^5 is the size of this row", limit, "-")
        return
    few, floor_few = _rate(place, THOUSAND), _floor(place, THOUSAND)
    rate, floor = _rate(place, place.runs), _floor(place, place.runs)
    yield Figure(f"trivial runs, {PACKED}", rate, "runs/s")
    yield Figure("  floor: makes and removes 7 paths each", floor, "runs/s")
    yield Figure("  floor: rate / rate of 1,000", floor / floor_few, "times")
    yield Figure(what, rate / few, "times", limit)


def xargs(place: Place, times: int = 3) -> Iterator[Figure | Missing]:
    """Measure 1,000 runs alternating with xargs and a directory each."""
    if not place.smallest:
        return
    cores = len(os.sched_getaffinity(0))
    ours, theirs = [], []
    script = place.directory / "script.sh"
    script.write_text("true\n")
    for _ in range(times):
        theirs.append(timed(partial(slurm.run_xargs, script, place.fresh(), cores)))
        with launching(place.fresh()) as workflow:
            ours.append(timed(partial(all_ended, workflow, THOUSAND, place.budget)))
    ratio = sorted(ours)[times // 2] / sorted(theirs)[times // 2]
    yield Figure("1,000 trivial runs", sorted(ours)[times // 2], "s")
    yield Figure(f"  xargs -P {cores}, a directory each", sorted(theirs)[times // 2], "s")
    yield Figure("  ours / xargs", ratio, "times", at_most(1.3, "1.3 times"))


# -- parts -------------------------------------------------------------------------------------


@contextmanager
def launching(directory: Path, *lines: str) -> Iterator[Workflow]:
    """Make a workflow with a launcher that is ready."""
    workflow_files(directory, PLAIN, *lines)
    with opened(directory, RUN_NAME) as workflow:
        workflow.start_launcher_daemons()
        try:
            yield workflow
        finally:
            stop_launcher(workflow.store.state, stop_runs=True)


@contextmanager
def _ran(place: Place, runs: int, *lines: str) -> Iterator[Workflow]:
    with launching(place.fresh(), *lines) as workflow:
        all_ended(workflow, runs, place.budget)
        yield workflow


def _rate(place: Place, runs: int) -> float:
    say(f"{runs:,} trivial runs")
    with launching(place.fresh(), PACKED) as workflow:
        return runs / timed(partial(all_ended, workflow, runs, place.budget))


def all_ended(workflow: Workflow, runs: int, budget: float) -> None:
    """Create runs and wait until all are FINISHED."""
    deadline = time.monotonic() + budget
    for start in range(0, runs, 10_000):
        end = min(start + 10_000, runs)
        workflow.mult.create_task(x=[float(n) for n in range(start, end)])
    while (counts := slurm.state_counts(workflow, RUN_NAME)) != {"FINISHED": runs}:
        if not counts.keys() - slurm.ENDED:
            raise RuntimeError(f"{slurm.FAILED_STATUS}: {counts}")
        if time.monotonic() > deadline:
            raise TooSlowError(f"{runs:,} trivial runs took more than {budget:.0f} s")
        time.sleep(slurm.LOOK)


def _paths(workflow: Workflow) -> int:
    root = workflow.store.runs_root("mult")
    return sum(len(directories) + len(files) for _, directories, files in os.walk(root))


def _wait_for_packing(workflow: Workflow) -> None:
    deadline = time.monotonic() + PACK_SECONDS
    while _paths(workflow) > PACKED_PATHS * THOUSAND and time.monotonic() < deadline:
        time.sleep(0.5)


def _floor(place: Place, runs: int) -> float:
    """Make and remove the paths of this many runs; return runs a second."""
    root = place.fresh()

    def make(number: int) -> None:
        directory = root / f"run-{number}"
        directory.mkdir()
        for name in "abcdef"[: PATHS - 1]:
            os.close(os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))

    def work() -> None:
        for number in range(runs + LAG):
            if number < runs:
                make(number)
            if number >= LAG:
                shutil.rmtree(root / f"run-{number - LAG}")

    return runs / timed(work)
