"""Measure the chosen rows at each number of runs, and print one table."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from ZEO.Exceptions import ServerException
from ZODB.POSException import POSError

from motoko.errors import MotokoError
from scale import creation, formats, launching, queries, reaction, trivial
from scale.figures import FULL, Missing, Report, power
from scale.place import WAITING, NoStateError, Place, TooSlowError, say
from support import noise, slowness, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from scale.figures import Figure

    Row = Callable[[Place], Iterable[Figure | Missing]]

ROWS: dict[str, Row] = {
    "create": creation.create,
    "counts": queries.counts,
    "info": queries.info,
    "one": queries.one,
    "field": queries.field,
    "frame": queries.frame,
    "compacted": queries.compacted,
    "action": reaction.action,
    "actions": reaction.actions,
    "pack": reaction.pack,
    "start": launching.start,
    "memory": launching.memory,
    "size": creation.size,
    "labels": creation.labels,
    "xargs": trivial.xargs,  # before rows that remove many paths, after which ext4 is slower
    "paths": trivial.paths,
    "trivial": trivial.many,
    "formats": formats.formats,
}
WIDTH = 170
# A row that fails must not cost the others.
FAULTS = (
    MotokoError, POSError, ServerException,
    OSError, RuntimeError, AssertionError, subprocess.SubprocessError,
)  # fmt: skip
NOISY = 1.5  # times that the fixed loop takes, compared with its best time


def main(arguments: Sequence[str]) -> int:
    """Print the table; the exit status is the number of lines over their limits."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # servers stop, too
    if options.cpu:
        os.environ["SCALE_CLOCK"] = "cpu"
    report = Report(options.runs)
    console = Console(width=WIDTH)
    console.print(noise())
    with _databases(options.directory) as directory:
        for size in options.runs:
            place = Place(
                directory / str(size), size,
                budget=options.budget, smallest=size == options.runs[0],
            )  # fmt: skip
            place.directory.mkdir(exist_ok=True)
            with contextlib.closing(place):
                for row in options.rows:
                    _measure(report, place, row)
    console.print(report.table())
    if options.cpu:
        console.print("create, reads, info, frames and labels: CPU time, not elapsed time")
    if report.noisy:
        console.print(f"~ other processes slowed a fixed loop down {NOISY:g} times or more")
    for note in report.notes():
        console.print(note, highlight=False)
    console.print(noise())
    return report.failures()


@contextlib.contextmanager
def _databases(kept: Path | None) -> Iterator[Path]:
    """Return the directory of the databases: the given one, which stays, or a temporary one."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        yield Path(name)


def _measure(report: Report, place: Place, row: str) -> None:
    """Add the figures of a row at one size; a failure is a figure too."""
    before, number = slowness(), list(ROWS).index(row)
    say(f"{row}, {power(place.runs)}; a fixed loop takes {before:.1f} times its best")

    def work() -> None:
        for figure in ROWS[row](place):
            noisy = max(before, slowness()) > NOISY
            say(f"{figure.what}: {figure.label}")
            report.add(place.runs, figure, place=number, noisy=noisy)

    def guarded() -> None:
        try:
            work()
        except (NoStateError, TooSlowError) as error:
            missing = Missing(row, str(error), label="too slow", holds=False)
            report.add(place.runs, missing, place=number)
        except FAULTS as error:
            traceback.print_exc()
            text = f"{type(error).__name__}: {error}"
            missing = Missing(row, text, label="failed", holds=False)
            report.add(place.runs, missing, place=number)

    say(f"{row}, {power(place.runs)}: {timed(guarded):.0f} s")


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench scale", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"by default all: {', '.join(ROWS)}")
    parser.add_argument(
        "--runs",
        type=lambda text: sorted(int(float(word)) for word in text.split(",")),
        default=[10_000, 100_000, FULL],
        help="numbers of runs, at least 2,000 (default: 10000,100000,1000000)",
    )
    parser.add_argument(
        "--budget", type=float, default=900.0, help="seconds that one process may take (900)"
    )
    parser.add_argument(
        "--cpu",
        action="store_true",
        help="where a client measures: the CPU time of client and server, not the elapsed time",
    )
    parser.add_argument(
        "--directory",
        type=Path,
        help="where the databases are made; they stay there, and the next call uses them",
    )
    options = parser.parse_args(arguments)
    options.rows = options.rows or list(ROWS)
    if min(options.runs) < 2 * WAITING:
        parser.error(f"--runs: at least {2 * WAITING:,}")
    for name in options.rows:
        if name not in ROWS:
            parser.error(f"unknown row {name}; known: {', '.join(ROWS)}")
    return options
