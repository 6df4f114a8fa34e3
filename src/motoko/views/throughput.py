"""The number of runs that ended in each minute of the last hours."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

MINUTE: Final = 60.0
HOURS: Final = 3
COLUMNS: Final = 36
SPANS: Final = (1, 2, 5)  # minutes in a column


class Throughput:
    """Counts ends by the minute in which they happened."""

    def __init__(self) -> None:
        self._ends = Counter[int]()

    def add(self, times: Iterable[float]) -> None:
        """Add ends at these times, in seconds since the epoch."""
        self._ends.update(int(at // MINUTE) for at in times)

    def columns(self, now: float) -> tuple[tuple[int, ...], float]:
        """Return the ends in the last intervals, the newest last, and their length in seconds.

        The intervals are as short as the time since the first end allows.
        """
        last = int(now // MINUTE)
        first = last - HOURS * 60
        for minute in [minute for minute in self._ends if minute < first]:
            del self._ends[minute]
        age = last - min(self._ends, default=last) + 1
        span = next((span for span in SPANS if span * COLUMNS >= age), SPANS[-1])
        counts = [0] * COLUMNS
        for minute, number in self._ends.items():
            position = COLUMNS - 1 - (last - minute) // span
            if 0 <= position < COLUMNS:
                counts[position] += number
        return tuple(counts), span * MINUTE
