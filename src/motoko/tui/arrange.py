"""Arrange the panes of the campaign: one column, or two on a wide terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

WIDE: Final = 130  # cells from which there are two columns
LEFT: Final = 84  # cells of the left column at least
GAP: Final = 2


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a pane, in cells."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Contents:
    """The rows that each pane could show, without its head."""

    studies: int
    needs: int
    events: int
    happenings: int


def arrange(width: int, height: int, rows: Contents) -> Mapping[str, Place]:
    """Return the place of each pane. The study table is whole if there is room for it."""
    studies = min(rows.studies + 1, max(2, height - 7))
    below = studies + 2  # the throughput between two lines, the second empty if there is room
    if width < WIDE:
        below = studies + 1
        heights = divide(height - below, (rows.needs, rows.events, rows.happenings))
        places = {"studies": Place(0, 0, width, studies)}
        places["throughput"] = Place(0, studies, width, 1)
        for name, room in zip(("needs", "events", "happenings"), heights, strict=True):
            places[name] = Place(0, below, width, room)
            below += room
        return places
    left = max(LEFT, width // 2)
    right, x = width - left - GAP, left + GAP
    [needs, happenings] = divide(height, (rows.needs + 1, rows.happenings))
    return {
        "studies": Place(0, 0, left, studies),
        "throughput": Place(0, studies + 1, left, 1),
        "events": Place(0, studies + 3, left, max(0, height - studies - 3)),
        "needs": Place(x, 0, right, needs),
        "happenings": Place(x, needs, right, happenings),
    }


def divide(room: int, wanted: tuple[int, ...]) -> list[int]:
    """Divide lines among panes with a head each: row by row in turn, the rest to the last."""
    found = [2 if room >= 2 * (n + 1) else max(0, room - 2 * n) for n in range(len(wanted))]
    left = room - sum(found)
    while left > 0:
        hungry = [n for n, size in enumerate(found) if size < wanted[n] + 1]
        if not hungry:
            found[-1] += left
            break
        for n in hungry[:left]:
            found[n] += 1
        left = room - sum(found)
    return found
