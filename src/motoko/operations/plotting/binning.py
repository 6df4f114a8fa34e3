"""Bins: counts and statistics of many points, for drawings of a bounded size."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from motoko.operations.plotting.coordinates import CATEGORY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from motoko.operations.plotting.coordinates import Scale

FEWEST_BARS: Final = 10
MOST_BARS: Final = 100


@dataclass(frozen=True, slots=True)
class Bins:
    """Intervals of equal width on a scale (on a log scale: of equal ratio)."""

    low: float
    width: float
    count: int
    log: bool = False

    @classmethod
    def of(cls, values: Sequence[float], scale: Scale, count: int) -> Bins:
        """Return ``count`` bins over the range of finite values; categories have a bin each."""
        if scale.kind == CATEGORY:
            return cls(-0.5, 1.0, len(scale.categories))
        low, high = min(values), max(values)
        if scale.log:
            low, high = math.log10(low), math.log10(high)
        if (high - low) / count <= 1e-12 * max(abs(low), abs(high)):  # a constant
            margin = 0.5 * max(abs(low), 1.0) * (1.0 if not scale.log else 0.1)
            return cls(low - margin, 2 * margin, 1, scale.log)
        return cls(low, (high - low) / count, count, scale.log)

    def index(self, value: float) -> int:
        """Return the bin of a value in the range."""
        position = ((math.log10(value) if self.log else value) - self.low) / self.width
        return min(max(int(position), 0), self.count - 1)

    def edge(self, index: int) -> float:
        """Return the lower edge of a bin; of index ``count``, the upper edge of the last."""
        at = self.low + index * self.width
        return 10.0**at if self.log else at

    def middle(self, index: int) -> float:
        """Return the middle of a bin."""
        at = self.low + (index + 0.5) * self.width
        return 10.0**at if self.log else at


@dataclass(frozen=True, slots=True)
class BinStatistics:
    """The points of a line in bins with at least one: position, mean, minimum and maximum."""

    x: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def bin_line(x: Sequence[float], y: Sequence[float], bins: Bins) -> BinStatistics:
    """Return the statistics of y in the bins of x."""
    found: dict[int, list[float]] = {}
    for at, value in zip(x, y, strict=True):
        found.setdefault(bins.index(at), []).append(value)
    order = sorted(found)
    means = [mean(found[b]) for b in order]
    lows, highs = [min(found[b]) for b in order], [max(found[b]) for b in order]
    return BinStatistics([bins.middle(b) for b in order], means, lows, highs)


def count_bars(values: Sequence[float], scale: Scale) -> Bins:
    """Return bins for a histogram: a bin for each of up to 100 whole numbers.

    Otherwise 10 to 100, by the rule of Freedman and Diaconis.
    """
    if scale.kind == CATEGORY:
        return Bins.of(values, scale, len(scale.categories))
    ordered = sorted(map(math.log10, values) if scale.log else values)
    span = ordered[-1] - ordered[0]
    if not scale.log and span < MOST_BARS and all(map(float.is_integer, values)):
        return Bins(ordered[0] - 0.5, 1.0, int(span) + 1)
    width = 2 * (ordered[3 * len(ordered) // 4] - ordered[len(ordered) // 4])
    width /= len(ordered) ** (1 / 3)
    bars = math.ceil(span / width) if width > 0 and span / width < MOST_BARS else MOST_BARS
    most = max(FEWEST_BARS, math.isqrt(len(ordered)))
    return Bins.of(values, scale, max(FEWEST_BARS, min(bars, most, MOST_BARS)))


def bin_cells(
    x: Sequence[float], y: Sequence[float], bins: tuple[Bins, Bins]
) -> dict[tuple[int, int], list[int]]:
    """Return the positions of the points in each cell that has any, ordered by cell."""
    found: dict[tuple[int, int], list[int]] = {}
    for position, at in enumerate(zip(x, y, strict=True)):
        found.setdefault((bins[0].index(at[0]), bins[1].index(at[1])), []).append(position)
    return dict(sorted(found.items()))


def mean(values: Sequence[float]) -> float:
    """Return the mean of at least one value."""
    return math.fsum(values) / len(values)


def most_frequent(values: Sequence[float]) -> float:
    """Return the most frequent value, of several the smallest."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value))
