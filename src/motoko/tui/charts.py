"""Charts of characters: bars, sparklines and plots of points."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from motoko.tui.text import Span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from motoko.tui.signs import Signs
    from motoko.tui.text import Line

BRAILLE: Final = 0x2800
DOTS: Final = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # by row and column


def shares(numbers: Sequence[int], width: int) -> list[int]:
    """Divide ``width`` cells in proportion to numbers; any above 0 gets a cell if there is room."""
    total = sum(numbers)
    if not total or width <= 0:
        return [0] * len(numbers)
    found = [max(1, width * number // total) if number else 0 for number in numbers]
    while sum(found) > width:
        largest = max(range(len(found)), key=found.__getitem__)
        found[largest] -= 1
    largest = max(range(len(numbers)), key=numbers.__getitem__)
    found[largest] += width - sum(found)
    return found


def state_bar(numbers: Sequence[tuple[str, int]], width: int, signs: Signs) -> Line:
    """Return a bar with a part for each (style, number)."""
    parts = shares([value for _, value in numbers], width)
    return tuple(
        Span(signs.fill[style] * cells, style)
        for (style, _), cells in zip(numbers, parts, strict=True)
        if cells
    )


def sparkline(values: Sequence[float], width: int, signs: Signs) -> str:
    """Return the last values as columns of different heights; 0 is empty only if all are."""
    shown = list(values[-width:]) if width > 0 else []
    top = max(shown, default=0)
    if top <= 0:
        return signs.levels[0] * len(shown)
    steps = len(signs.levels) - 1
    heights = (0 if value <= 0 else max(1, round(value / top * steps)) for value in shown)
    return "".join(signs.levels[height] for height in heights)


def plot(
    xs: Sequence[float], ys: Sequence[float], width: int, height: int, signs: Signs
) -> list[str]:
    """Return points, joined by lines, as ``height`` rows of ``width`` cells."""
    if not xs or width <= 0:
        return []
    across, down = (2, 4) if signs.braille else (1, 1)
    grid = [[0] * width for _ in range(height)]
    points = [*zip(_places(xs, width * across), _places(ys, height * down), strict=True)]
    for x, y in _joined(points):
        row = height * down - 1 - y
        bit = DOTS[row % 4][x % 2] if signs.braille else 1
        grid[row // down][x // across] |= bit
    if signs.braille:
        return ["".join(chr(BRAILLE + cell) if cell else " " for cell in row) for row in grid]
    return ["".join("*" if cell else " " for cell in row) for row in grid]


def _joined(points: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the dots of the lines between points."""
    yield points[0]
    for (x, y), (right, top) in pairwise(points):
        steps = max(abs(right - x), abs(top - y))
        for step in range(1, steps + 1):
            yield round(x + (right - x) * step / steps), round(y + (top - y) * step / steps)


def _places(values: Sequence[float], size: int) -> list[int]:
    low, high = min(values), max(values)
    if high <= low:
        return [size // 2] * len(values)
    return [min(size - 1, int((value - low) / (high - low) * size)) for value in values]
