"""Reading: counts, selections, single runs, data frames and the command ``info``."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING

from motoko.server.state_dir import StateDir
from motoko.storage.read_copy import DIRECTORY
from scale.client import clock
from scale.creation import compact
from scale.figures import Figure, Limit, Missing, at_most, growth, in_all
from scale.place import ENDED, say
from support import best, timed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scale.place import Place

TIMES = 5


def counts(place: Place) -> Iterator[Figure | Missing]:
    """Measure counts, the length and the first runs of a selection, each in new processes."""
    yield _cold(place, "connect", "connect and first answer, cold", Limit())
    yield _cold(place, "counts", "counts by state, cold", at_most(5, "5 ms"))
    yield _cold(place, "length", "len(select(state)), cold", at_most(5, "5 ms"))
    yield _cold(place, "first", "first 20 of a selection, cold", at_most(20, "20 ms"))


def _cold(place: Place, work: str, what: str, limit: Limit) -> Figure:
    directory = place.served()
    first = place.client(work, directory)
    times = TIMES - 1 if first < 10_000 else 0  # a slow one is measured once
    found = [first, *(place.client(work, directory) for _ in range(times))]
    return Figure(what, statistics.median(found), "ms", limit)


def info(place: Place) -> Iterator[Figure | Missing]:
    """Measure ``motoko info``, start of the interpreter included."""
    command = [sys.executable, "-m", "motoko", "info"]
    directory = place.served()

    def call() -> float:
        begin = clock(str(directory))
        subprocess.run(
            command, cwd=directory, check=True, stdout=subprocess.DEVNULL, timeout=place.budget
        )
        return clock(str(directory)) - begin

    yield Figure("motoko info", best(call, TIMES) * 1000, "ms", growth(1.2))


def one(place: Place) -> Iterator[Figure | Missing]:
    """Measure finding one run by a job value, in a new process and again in the same."""
    cold, *warm = place.client("one", place.served(), "x", place.ended)
    yield Figure("one run by job value, cold", cold, "ms", at_most(300, "0.3 s"))
    yield _warm("one run by job value, warm", warm, at_most(20, "20 ms"))


def field(place: Place) -> Iterator[Figure | Missing]:
    """Measure finding one run by a run field, in a new process and again in the same."""
    directory = place.served()
    cold, *warm = place.client("one", directory, "y", place.ended)
    yield Figure("one run by run field, never compacted, selection cold", cold, "ms")
    yield _warm("one run by run field, never compacted, selection warm", warm, Limit())
    place.client("table", directory, place.ended)  # makes the copy
    cold, *warm = place.client("table", directory, place.ended)
    limit = at_most(1000, "1 s")
    yield Figure("one run by run field, never compacted, copy cold", cold, "ms", limit)
    yield _warm("one run by run field, never compacted, copy warm", warm, limit)


def _warm(what: str, found: list[float], limit: Limit) -> Figure | Missing:
    if not found:
        return Missing(what, "the cold one took a minute", limit, "-", holds=not limit.text)
    return Figure(what, statistics.median(found), "ms", limit)


def frame(place: Place) -> Iterator[Figure | Missing]:
    """Measure a data frame of five columns, in a new process and after some changes."""
    directory = place.served()
    shutil.rmtree(StateDir.of(directory).path / DIRECTORY, ignore_errors=True)
    cold, changed, memory = place.client("frame", directory, place.runs)
    yield Figure("frame of 5 columns, never compacted", cold, "s", in_all(40, "40 s"))
    yield Figure("  again after 100 changes", changed, "s", at_most(0.3, "0.3 s"))
    yield Figure("  floor: to write as much new memory", memory, "s")
    cold, *_ = place.client("frame", directory, place.runs)
    yield Figure("  in a new process", cold, "s")


def compacted(place: Place) -> Iterator[Figure | Missing]:
    """Measure both in a database of which the ended runs are columns."""
    with place.copy(ENDED) as directory:
        say(f"compacted in {timed(lambda: compact(directory)):.1f} s")
        cold, *warm = place.client("one", directory, "y", place.ended)
        limit = at_most(500, "0.5 s")
        yield Figure("one run by run field, compacted, cold", cold, "ms", limit)
        yield _warm("one run by run field, compacted, warm", warm, limit)
        cold, changed, memory = place.client("frame", directory, place.runs)
        yield Figure("frame of 5 columns, compacted", cold, "s", in_all(5, "5 s"))
        yield Figure("  compacted, after 100 changes", changed, "s", at_most(0.3, "0.3 s"))
        yield Figure("  floor: to write as much new memory", memory, "s")
