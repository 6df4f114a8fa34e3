"""Decide which packs a new one takes over, so that few runs at a time do not leave many packs.

The weight of runs and packs is the time to write them, in bytes: that of their files, and
PATH_BYTES for each path. A new pack takes over the latest one if that weighs at most SMALL, or
twice what the new one holds by then; then the one before it, and so on. No pack exceeds MAX_RUNS
or MAX_WEIGHT by that. Hence of all packs, the latest first:

- All but the latest weigh more than SMALL, about 120 usual runs, or do not fit with a later one.
- Each weighs more than twice the one after it, or both do not fit together. So n runs of weight B
  leave at most CHAIN * (1 + n / 500 + B / 128 MB) packs, however few end at a time. For usual runs
  these are 1 + n / 120, or fewer: with the directory of the packs and its lock, 0.05 a run from 60
  runs on.
- A packing writes at most SMALL bytes again, and a run 12 times in all: its pack grows by half.

A retry adds up to one pack: attempts in directories of the same name do not fit together. So does
a damaged pack, which is never taken over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_RUNS: Final = 1000  # directories in a pack
MAX_WEIGHT: Final = 256 * 2**20  # of a pack, unless one run has more
SMALL: Final = 2 * 2**20
PATH_BYTES: Final = 2048
CHAIN: Final = 8  # packs of which each weighs twice the next: from SMALL to MAX_WEIGHT


@dataclass(frozen=True, slots=True)
class Load:
    """The directories in a pack, and their weight in bytes."""

    names: frozenset[str]
    weight: int

    def fits(self, other: Load) -> bool:
        """Return whether one pack may hold both."""
        return (
            len(self.names) + len(other.names) <= MAX_RUNS
            and self.weight + other.weight <= MAX_WEIGHT
            and self.names.isdisjoint(other.names)
        )

    def __add__(self, other: Load) -> Load:
        return Load(self.names | other.names, self.weight + other.weight)


def number_taken_over(new: Load, former: Iterable[Load]) -> int:
    """Return how many of the former packs, the latest first, a new one takes over."""
    number = 0
    if len(new.names) >= MAX_RUNS:
        return number  # the others need not be read
    for load in former:
        if load.weight > max(SMALL, 2 * new.weight) or not new.fits(load):
            break
        new += load
        number += 1
    return number
