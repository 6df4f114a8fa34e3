"""Find the intervals that contain a number."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

Key = TypeVar("Key", bound="Hashable")


@dataclass(frozen=True, slots=True)
class _Node(Generic[Key]):
    """The intervals that contain ``centre``, by both ends; the others are left or right of it."""

    centre: float
    lows: list[float]  # ascending
    by_low: list[Key]
    highs: list[float]  # ascending
    by_high: list[Key]
    left: _Node[Key] | None
    right: _Node[Key] | None


class IntervalIndex(Generic[Key]):
    """Closed intervals of numbers, infinite ones too, each with keys.

    A search costs the logarithm of the number of intervals, plus the number of keys found. The
    first search after a change costs more.
    """

    def __init__(self) -> None:
        self._intervals: dict[tuple[float, float, Key], None] = {}
        self._root: _Node[Key] | None = None
        self._changed = False

    def add(self, low: float, high: float, key: Key) -> None:
        """Add an interval from ``low`` to ``high``, which is not less than ``low``."""
        self._intervals[low, high, key] = None
        self._changed = True

    def discard(self, low: float, high: float, key: Key) -> None:
        """Remove an interval, if it exists."""
        self._intervals.pop((low, high, key), None)
        self._changed = True

    def containing(self, value: float) -> Iterator[Key]:
        """Yield the keys of the intervals that contain ``value``."""
        if self._changed:
            self._root, self._changed = _node(list(self._intervals)), False
        node = self._root
        while node is not None:
            if value <= node.centre:
                yield from node.by_low[: bisect_right(node.lows, value)]
                node = node.left
            elif value > node.centre:
                yield from node.by_high[bisect_left(node.highs, value) :]
                node = node.right
            else:  # not a number
                return


def _node(intervals: list[tuple[float, float, Key]]) -> _Node[Key] | None:
    if not intervals:
        return None
    ends = sorted(end for low, high, _ in intervals for end in (low, high))
    centre = ends[len(ends) // 2]
    here = [one for one in intervals if one[0] <= centre <= one[1]]
    by_low = sorted(here, key=lambda one: one[0])
    by_high = sorted(here, key=lambda one: one[1])
    return _Node(
        centre,
        [low for low, _, _ in by_low],
        [key for _, _, key in by_low],
        [high for _, high, _ in by_high],
        [key for _, _, key in by_high],
        _node([one for one in intervals if one[1] < centre]),
        _node([one for one in intervals if one[0] > centre]),
    )
