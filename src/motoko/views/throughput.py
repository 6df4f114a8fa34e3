"""The number of runs that ended in equal intervals of the last hours."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

UNIT: Final = 10.0  # seconds
KEPT: Final = 3 * 3600 / UNIT
COLUMNS: Final = 36
SPANS: Final = (1, 3, 6, 12, 30)  # units in a column


class Throughput:
    """Counts ends by the unit of time in which they happened."""

    def __init__(self) -> None:
        self._ends = Counter[int]()

    def add(self, times: Iterable[float]) -> None:
        """Add ends at these times, in seconds since the epoch."""
        self._ends.update(int(at // UNIT) for at in times)

    def columns(self, now: float) -> tuple[tuple[int, ...], float]:
        """Return the ends in the last intervals, the newest last, and their length in seconds.

        The intervals are as short as the time since the first end allows.
        """
        last = int(now // UNIT)
        first = last - KEPT
        for unit in [unit for unit in self._ends if unit < first]:
            del self._ends[unit]
        age = last - min(self._ends, default=last) + 1
        span = next((span for span in SPANS if span * COLUMNS >= age), SPANS[-1])
        counts = [0] * COLUMNS
        for unit, number in self._ends.items():
            position = COLUMNS - 1 - (last - unit) // span
            if 0 <= position < COLUMNS:
                counts[position] += number
        return tuple(counts), span * UNIT
