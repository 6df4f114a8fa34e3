"""From a commit to the action that it fires, and commits beside a pack."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import astuple
from typing import TYPE_CHECKING

from latency import MANY_OF_EACH, THOUSAND_CONSTRAINTS, TWENTY, Actions, latency
from motoko.server.state_dir import StateDir
from motoko.workflow import Workflow
from scale import creation
from scale.client import RUN_NAME
from scale.figures import Figure, Missing, at_most, growth
from scale.place import CLIENT, CREATED, ENDED, TooSlowError, say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scale.place import Place

SAMPLES = 1_000  # by chance, the 99 % of two measurements differ by up to 15 %, of 500 by 26 %
ROUNDS = 3  # in which the compared numbers of actions take turns; the median round counts
MANY = {"1,000 constraints": THOUSAND_CONSTRAINTS, "4 x 250": MANY_OF_EACH}


def action(place: Place) -> Iterator[Figure | Missing]:
    """Measure with 20 actions of all kinds."""
    median, high, start = _measured(place, TWENTY)
    yield Figure("FINISHED -> action, 20 actions, median", median, "ms", growth(1.5))
    yield Figure("FINISHED -> action, 20 actions, 99 %", high, "ms", growth(1.5))
    yield Figure("  until the first evaluations are done", start, "s")


def actions(place: Place) -> Iterator[Figure | Missing]:
    """Measure with many actions, compared with 20, at the smallest number of runs.

    Other processes disturb some of the measurements, which must not decide.
    """
    if not place.smallest:
        return
    kinds = {"20": TWENTY, **MANY}
    rounds = [
        {name: _measured(place, numbers, samples=SAMPLES // 2) for name, numbers in kinds.items()}
        for _ in range(ROUNDS)
    ]
    for name in MANY:
        for column, label in enumerate(("median", "99 %")):
            value, base = (
                statistics.median(one[kind][column] for one in rounds) for kind in (name, "20")
            )
            limit = at_most(2 * base, f"2 times 20 ({2 * base:.1f} ms)")
            yield Figure(f"FINISHED -> action, {name}, {label}", value, "ms", limit)


def _measured(
    place: Place, actions: Actions, *, samples: int = SAMPLES
) -> tuple[float, float, float]:
    """Return median and 99th percentile in milliseconds, and the seconds of the start."""
    numbers = map(str, astuple(actions))
    with place.copy(CREATED) as directory:
        try:
            done = subprocess.run(
                [sys.executable, __file__, str(directory), str(samples), *numbers],
                check=True, stdout=subprocess.PIPE, text=True, timeout=place.budget,
                env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise TooSlowError(f"{actions.text} took more than {place.budget:.0f} s") from error
    median, high, start = json.loads(done.stdout)
    return median * 1000, high * 1000, start


# -- packing -----------------------------------------------------------------------------------


def pack(place: Place) -> Iterator[Figure | Missing]:
    """Measure the commits of another process while the database is packed."""
    with place.copy(ENDED) as directory:
        file = StateDir.of(directory).database
        size = file.stat().st_size / 1e6
        with _probing(directory) as found:
            time.sleep(3)
            begin = time.time()
            creation.pack(directory)
            end = time.time()
        quiet = [seconds for at, seconds in found if begin - 2 < at < begin]
        during = [seconds for at, seconds in found if begin <= at + seconds and at <= end]
    say(f"packed {size:.0f} MB in {end - begin:.1f} s, {len(during)} commits meanwhile")
    limit = at_most(300, "0.3 s")
    yield Figure("longest commit during a pack", max(during) * 1000, "ms", limit)
    yield Figure("  size of the file", size, "MB")
    yield Figure("  median commit during it", statistics.median(during) * 1000, "ms")
    yield Figure("  median commit before it", statistics.median(quiet) * 1000, "ms")


@contextmanager
def _probing(directory: Path) -> Iterator[list[tuple[float, float]]]:
    """Commit in another process; afterwards, the list has time and duration of each commit."""
    found: list[tuple[float, float]] = []
    process = subprocess.Popen(
        [sys.executable, str(CLIENT), "probe", str(directory)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield found
    finally:
        output, _ = process.communicate("")
        found += json.loads(output)


# -- the orchestrator of one measurement ---------------------------------------------------------


def measure(directory: str, samples: int, *numbers: int) -> list[float]:
    """Run the orchestrator with these numbers of actions; return median and 99 % in seconds."""
    workflow = Workflow(directory)
    workflow.run_name = RUN_NAME
    found = latency(workflow, Actions(*numbers), samples=samples)
    workflow.close()
    return [found.median, found.high, found.start]


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], *map(int, sys.argv[2:]))))
