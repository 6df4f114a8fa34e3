"""Measure ours, xargs and the peers by turns, and print one table."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

import slurm
from motoko.workflow import Workflow
from peers.environment import PACKAGES, install, interpreter, version
from scale.client import RUN_NAME
from scale.place import PLAIN, say, workflow_files
from scale.trivial import all_ended, launching
from support import noise, opened, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CLIENT = Path(__file__).with_name("client.py")
JOBS = 10_000
BUDGET = 300.0
DURABLE = {"ours": "yes", "dbos": "yes"}
FASTER_THAN = ("hyperqueue", "parsl")
RATIO = 1.3


class Comparison:
    """The figures of all tools, in seconds, by what was measured."""

    def __init__(self, directory: Path, runs: int) -> None:
        self.directory = directory
        self.runs = runs
        self.cores = len(os.sched_getaffinity(0))
        self.python = interpreter()
        self.figures: dict[str, list[float]] = {}
        self.reasons: dict[str, str] = {}
        self.script = directory / "launch.sh"
        self.script.write_text("true\n")

    def measure(self, name: str) -> None:
        """Measure one tool once."""
        say(name)
        work: dict[str, Callable[[Path], list[float]]] = {
            "ours": self._ours, "xargs": self._xargs, "our jobs": self._jobs,
        }  # fmt: skip
        place = Path(tempfile.mkdtemp(prefix=name, dir=self.directory))
        try:
            found = work.get(name, partial(self._peer, name))(place)
        except (subprocess.SubprocessError, RuntimeError, OSError) as error:
            errors = str(getattr(error, "stderr", "") or error).strip().splitlines()
            self.reasons[name] = f"failed: {errors[-1] if errors else type(error).__name__}"
            return
        for number, seconds in enumerate(found):
            self.figures.setdefault(f"{name} {number}" if number else name, []).append(seconds)

    def _ours(self, place: Path) -> list[float]:
        with launching(place / "trivial") as workflow:
            return [timed(partial(all_ended, workflow, self.runs, BUDGET))]

    def _xargs(self, place: Path) -> list[float]:
        return [timed(partial(slurm.run_xargs, self.script, place, self.cores))]

    def _peer(self, name: str, place: Path) -> list[float]:
        arguments = [JOBS] if name == "signac" else [self.runs, self.script]
        done = subprocess.run(
            [str(self.python), str(CLIENT), name, str(place), *map(str, arguments)],
            check=True, capture_output=True, text=True, timeout=BUDGET, cwd=place,
            env=self._environment(),
        )  # fmt: skip
        found: list[float] = json.loads(done.stdout.splitlines()[-1])
        return found

    def _environment(self) -> dict[str, str]:
        """Return an environment in which peers find their own programs, and not our code."""
        path = f"{self.python.parent}:{os.environ['PATH']}"
        return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
            "PATH": path
        }

    def _jobs(self, place: Path) -> list[float]:
        """Measure creating and finding as many runs as signac has jobs."""
        workflow_files(place / "jobs", PLAIN)
        with opened(place / "jobs", RUN_NAME) as workflow:
            values = [float(number) for number in range(JOBS)]
            found = [timed(lambda: len(workflow.mult.create_task(x=values)))]
            other = Workflow(workflow.directory)
            other.run_name = RUN_NAME
            query = f"x = {float(JOBS // 2)}"
            found += [timed(lambda: list(other.mult.select(query))) for _ in range(2)]
            other.close()
        return found

    def middle(self, name: str) -> float | None:
        """Return the median in seconds, None if it was not measured."""
        return statistics.median(self.figures[name]) if self.figures.get(name) else None

    def figure(self, name: str) -> str:
        """Return all figures of a tool in ascending order, or why there are none."""
        if name not in self.figures:
            return self.reasons.get(name, "")
        return " / ".join(f"{seconds:.2f}" for seconds in sorted(self.figures[name])) + " s"


def main(arguments: Sequence[str]) -> int:
    """Print the table; the exit status is the number of limits that do not hold."""
    parser = argparse.ArgumentParser(prog="scripts/bench peers", description=__doc__)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"of {', '.join(PACKAGES)}")
    parser.add_argument("--times", type=int, default=3, help="repetitions, by turns (default 3)")
    options = parser.parse_args(arguments)
    if unknown := sorted({*options.peers} - {*PACKAGES}):
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(PACKAGES)}")
    console = Console(width=140)
    console.print(noise())
    with tempfile.TemporaryDirectory(prefix="peers-") as name:
        comparison = Comparison(Path(name), slurm.RUNS)
        chosen = [
            peer for peer in options.peers or PACKAGES if not _missing(comparison, peer)
        ]  # fmt: skip
        for _ in range(options.times):
            jobs = ("our jobs",) if "signac" in chosen else ()
            for tool in ("xargs", "ours", *chosen, *jobs):
                comparison.measure(tool)
    failed = _print(console, comparison, options.peers or PACKAGES)
    console.print(noise())
    return failed


def _missing(comparison: Comparison, peer: str) -> str:
    comparison.reasons[peer] = install(comparison.python, peer)
    return comparison.reasons[peer]


def _print(console: Console, found: Comparison, peers: Sequence[str]) -> int:
    table = Table("what", "tool", "seconds", "ours / it", "durable", "limit", "")
    failed = 0
    what = f"{found.runs:,} trivial runs"
    for name in ("ours", "xargs", *(peer for peer in peers if peer != "signac")):
        label = name if name in ("ours", "xargs") else f"{name} {_version(found, name)}"
        ours, theirs = found.middle("ours"), found.middle(name)
        ratio = ours / theirs if ours and theirs else None
        limit = RATIO if name == "xargs" else 1.0 if name in FASTER_THAN else None
        text = f"<= {limit:g} times" if limit else ""
        verdict = "" if limit is None or ratio is None else _verdict(ratio <= limit)
        failed += verdict == "TOO MUCH"
        cell = f"{ratio:.2f}" if ratio and name != "ours" else ""
        table.add_row(what, label, found.figure(name), cell, DURABLE.get(name, "no"), text, verdict)
    if "signac" in peers:
        label = f"signac {_version(found, 'signac')}"
        names = (f"init of {JOBS:,} jobs", "  filter by a value, the first", "  the second")
        for number, text in enumerate(names):
            end = f" {number}" if number else ""
            table.add_row(text, "ours", found.figure(f"our jobs{end}"), "", "", "", "")
            ours, theirs = found.middle(f"our jobs{end}"), found.middle(f"signac{end}")
            cell = f"{ours / theirs:.2f}" if ours and theirs else ""
            table.add_row(text, label, found.figure(f"signac{end}"), cell, "", "", "")
    console.print(table)
    return failed


def _version(found: Comparison, peer: str) -> str:
    installed = not found.reasons.get(peer, "").startswith("cannot")
    return version(found.python, peer) if installed else ""


def _verdict(holds: bool) -> str:
    return "holds" if holds else "TOO MUCH"
