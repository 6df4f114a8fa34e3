"""The progress of runs: rates and forecasts as pure functions of samples, with the time passed in.

A terminal, a log and a page show the same facts. ``ProgressModel`` gets a sample of the counts by
state now and then, with the runs that ended since, and returns the progress of each study.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from motoko.core.states import NON_TERMINAL, Lifecycle

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MIN_ENDS: Final = 5  # before a rate is shown
MIN_SECONDS: Final = 3.0
ENOUGH_ENDS: Final = 64  # in the window of a rate
WINDOW_SECONDS: Final = 30.0  # at least, if the history is as long
WINDOW_RUNS: Final = 4.0  # the window spans at least so many mean durations: runs may end in waves
BLOCKS: Final = 8  # of the window, whose differences give the error of the rate
SILENT_SECONDS: Final = 60.0  # without an end, from which a forecast is not credible
SILENT_GAPS: Final = 10.0  # mean times between two ends
MAX_POINTS: Final = 600
DEVIATIONS: Final = 2.0  # in a forecast's interval
MAX_ERROR: Final = 0.25  # relative, of a rate whose forecast has an interval
GROWTH: Final = 0.5  # new runs for each end, from which no end is in sight


@dataclass(frozen=True, slots=True)
class Point:
    """The runs of a study, or of all, at one time in seconds, in which some were left.

    ``known``: all runs, ``left``: those not in a terminal state, ``ended``: the number of ends
    since the first point.
    """

    at: float
    known: int
    left: int
    ended: int


@dataclass(frozen=True, slots=True)
class Rate:
    """Ends per second, with the relative standard error (infinite if unknown).

    ``created``: new runs for each end in the same time.
    """

    per_second: float
    error: float
    created: float


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """The seconds until the known runs have ended; ``low`` and ``high`` are None if unknown."""

    seconds: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run that reached a terminal state; ``duration`` in seconds, None if it never started."""

    study: str
    outcome: Lifecycle
    duration: float | None = None


@dataclass(frozen=True, slots=True)
class StudyProgress:
    """The progress of one study, or of all.

    ``counts``: runs by state as shown. ``done``: runs in a terminal state, ``failed``: those of
    them that did not finish. ``mean``: seconds that a run takes. ``silent``: the seconds since the
    last end, if they are too many for a forecast. ``grows``: new runs are still created.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    known: int = 0
    done: int = 0
    failed: int = 0
    mean: float | None = None
    rate: float | None = None
    left: TimeLeft | None = None
    silent: float | None = None
    grows: bool = False

    @property
    def percent(self) -> int:
        """The share of the known runs that have ended; 100 only if all have."""
        return 100 * self.done // self.known if self.known else 0


def rate_of(points: Sequence[Point], now: float, mean: float | None = None) -> Rate | None:
    """Return the rate over the latest points, None before there are enough ends.

    The window is as short as ENOUGH_ENDS, WINDOW_SECONDS and the mean duration of a run allow.
    """
    if not points:
        return None
    span = max(WINDOW_SECONDS, WINDOW_RUNS * (mean or 0.0))
    last = points[-1]
    first = points[0]
    for point in reversed(points):
        if last.ended - point.ended >= ENOUGH_ENDS and now - point.at >= span:
            first = point
            break
    ends, seconds = last.ended - first.ended, now - first.at
    if ends < MIN_ENDS or seconds < MIN_SECONDS:
        return None
    busy = next(point for point in points if point.ended > first.ended)  # some existed before
    created = max(0, last.known - busy.known) / ends
    return Rate(ends / seconds, _relative_error(points, first.at, now, ends), created)


def _relative_error(points: Sequence[Point], start: float, now: float, ends: int) -> float:
    """Return the relative standard error of the number of ends.

    It is that of independent ends, or that of the numbers in the blocks of the window if larger:
    runs of equal length end in waves.
    """
    borders = [start + (now - start) * block / BLOCKS for block in range(BLOCKS + 1)]
    numbers = [b - a for a, b in pairwise(_ended_at(points, border) for border in borders)]
    mean = sum(numbers) / BLOCKS
    variance = sum((number - mean) ** 2 for number in numbers) / (BLOCKS - 1)
    return math.sqrt(max(float(ends), BLOCKS * variance)) / ends


def _ended_at(points: Sequence[Point], at: float) -> int:
    position = bisect_right(points, at, key=lambda point: point.at)
    return points[max(0, position - 1)].ended


def time_left(left: int, rate: Rate | None) -> TimeLeft | None:
    """Return the time until ``left`` runs have ended; None if it cannot be forecast.

    That holds while new runs are created about as fast as others end.
    """
    if rate is None or not left or rate.created >= GROWTH:
        return None
    seconds = left / rate.per_second
    if rate.error > MAX_ERROR:
        return TimeLeft(seconds)
    deviation = DEVIATIONS * rate.error
    return TimeLeft(seconds, seconds / (1 + deviation), seconds / (1 - deviation))


class History:
    """The points of one study, or of all: the recent ones, and fewer of the older.

    Their times leave out the time in which no run was left.
    """

    def __init__(self) -> None:
        self.points: list[Point] = []
        self._ended = 0
        self._sampled: float | None = None
        self._busy = 0.0
        self._last_end: float | None = None
        self._seconds = 0.0  # of the runs that ended
        self._timed = 0

    def add(self, at: float, known: int, left: int, ends: Sequence[EndedRun]) -> None:
        """Add the counts at a time, with the runs that ended since the last call."""
        if self._sampled is not None and self.points[-1].left:
            self._busy += at - self._sampled
        self._sampled = at
        executed = [end for end in ends if end.outcome is not Lifecycle.CANCELLED]
        durations = [end.duration for end in executed if end.duration is not None]
        self._seconds += sum(durations)
        self._timed += len(durations)
        self._ended += len(executed)
        if executed or self._last_end is None:
            self._last_end = self._busy
        point = Point(self._busy, known, left, self._ended)
        if not self.points or (known, left, self._ended) != _numbers(self.points[-1]):
            self.points.append(point)
        if len(self.points) > MAX_POINTS:
            half = len(self.points) // 2
            self.points[:half] = self.points[:half:2]

    @property
    def mean(self) -> float | None:
        """The mean duration of the runs that ended, in seconds."""
        return self._seconds / self._timed if self._timed else None

    def progress(self, counts: Mapping[str, int], failed: int) -> StudyProgress:
        """Return the progress at the time of the last counts."""
        last = self.points[-1]
        rate = rate_of(self.points, self._busy, self.mean)
        silence = self._silence(rate) if last.left else None
        return StudyProgress(
            counts,
            last.known,
            last.known - last.left,
            failed,
            self.mean,
            rate.per_second if rate is not None and last.left and silence is None else None,
            None if silence is not None else time_left(last.left, rate),
            silence,
            rate is not None and rate.created > 0,
        )

    def _silence(self, rate: Rate | None) -> float | None:
        if rate is None or self._last_end is None:
            return None
        gaps = SILENT_GAPS / rate.per_second
        limit = max(SILENT_SECONDS, WINDOW_RUNS * (self.mean or 0.0), gaps)
        silent = self._busy - self._last_end
        return silent if silent > limit else None


def _numbers(point: Point) -> tuple[int, int, int]:
    return point.known, point.left, point.ended


class ProgressModel:
    """The progress of all studies, from samples in order of time."""

    def __init__(self) -> None:
        self._histories: dict[str, History] = {}
        self._all = History()

    def add(
        self,
        at: float,
        counts: Mapping[str, Mapping[str, int]],
        lifecycles: Mapping[str, Mapping[str, int]],
        ends: Iterable[EndedRun] = (),
    ) -> dict[str, StudyProgress]:
        """Add a sample; return the progress by study, and that of all under the empty name.

        ``counts`` and ``lifecycles``: by study, the runs by state as shown, and by lifecycle state.
        ``ends``: the runs that ended since the last sample.
        """
        ended = list(ends)
        found: dict[str, StudyProgress] = {}
        total, states = Counter[str](), Counter[str]()
        for study, numbers in lifecycles.items():
            history = self._histories.setdefault(study, History())
            own = [end for end in ended if end.study == study]
            found[study] = _add(history, at, numbers, own, counts.get(study, {}))
            total.update(numbers)
            states.update(counts.get(study, {}))
        found[""] = _add(self._all, at, total, ended, states)
        return found


def _add(
    history: History,
    at: float,
    lifecycles: Mapping[str, int],
    ends: Sequence[EndedRun],
    counts: Mapping[str, int],
) -> StudyProgress:
    known = sum(lifecycles.values())
    left = sum(lifecycles.get(state, 0) for state in NON_TERMINAL)
    history.add(at, known, left, ends)
    failed = known - left - lifecycles.get(Lifecycle.FINISHED, 0)
    return history.progress(counts, failed)
