"""Coordinates: the values of a column as numbers on an axis or a colour scale."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import compress
from typing import TYPE_CHECKING, Any, Final

from motoko.errors import PlotError
from motoko.printable import one_line
from motoko.runtime.ports import utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

LATEST: Final = datetime.max.replace(tzinfo=UTC, microsecond=0).timestamp()  # floats round up
NUMBER, CATEGORY, TIME = "number", "category", "time"
LARGEST: Final = 1e150  # beyond, the squares that drawing needs overflow
NAME_LENGTH: Final = 40  # characters of a category


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis or a colour scale. ``kind`` is NUMBER, TIME (seconds since the epoch) or CATEGORY.

    ``categories`` are the names of the coordinates 0, 1, 2, ...
    """

    name: str
    kind: str = NUMBER
    log: bool = False
    categories: tuple[str, ...] = ()

    def text(self, at: float) -> str:
        """Return a coordinate as text."""
        if self.kind == CATEGORY:
            return self.categories[int(at)]
        if self.kind == TIME:
            return f"{utc(at):%Y-%m-%d %H:%M:%S}"
        return f"{at:.6g}"


@dataclass(frozen=True, slots=True)
class Coordinates:
    """The coordinates of a column on its scale, nan where it has no value."""

    scale: Scale
    at: Sequence[float]


def coordinates(name: str, values: Sequence[Any], *, log: bool = False) -> Coordinates:
    """Return the coordinates of a column's values: None and nan become nan.

    Times become seconds since the epoch; other values without a number become categories, in
    order. Raise PlotError for values that no axis shows, and for a log scale without numbers.
    """
    kinds = {type(value) for value in values} - {type(None)}
    odd = kinds - {int, float, bool, str, datetime}
    if odd:
        raise PlotError(
            f"column {name!r} cannot be drawn: a value is a {min(kind.__name__ for kind in odd)}",
            hint="Columns of numbers, texts, truth values and times can be drawn.",
        )
    if kinds <= {int, float}:
        return Coordinates(Scale(name, log=log), [_number(value) for value in values])
    if log:
        raise PlotError(f"column {name!r} does not hold numbers, so it has no log scale")
    if kinds == {datetime}:
        at = [math.nan if value is None else min(value.timestamp(), LATEST) for value in values]
        return Coordinates(Scale(name, TIME), at)
    return _categories(name, values)


def distinct(name: str, values: Sequence[Any]) -> Coordinates:
    """Return the coordinates of a column whose distinct values are categories, in order."""
    found = coordinates(name, values)
    if found.scale.kind == CATEGORY:
        return found
    order = sorted({at for at in found.at if math.isfinite(at)})
    index = {at: float(position) for position, at in enumerate(order)}
    names = tuple(found.scale.text(at) for at in order)
    scale = Scale(name, CATEGORY, categories=names)
    return Coordinates(scale, [index.get(at, math.nan) for at in found.at])


def _number(value: float | None) -> float:
    if value is None:
        return math.nan
    try:
        number = float(value)
    except OverflowError:
        return math.inf
    return math.copysign(math.inf, number) if abs(number) > LARGEST else number


def _categories(name: str, values: Sequence[Any]) -> Coordinates:
    def is_missing(value: Any) -> bool:
        return value is None or value != value  # noqa: PLR0124 - nan only

    order = sorted({value for value in values if not is_missing(value)}, key=_sort_key)
    index = {_sort_key(value): float(position) for position, value in enumerate(order)}
    at = [math.nan if is_missing(value) else index[_sort_key(value)] for value in values]
    names = tuple(one_line(str(value), limit=NAME_LENGTH) for value in order)
    return Coordinates(Scale(name, CATEGORY, categories=names), at)


def _sort_key(value: Any) -> tuple[str, Any]:
    return type(value).__name__, value


def complete_rows(columns: Iterable[Coordinates]) -> tuple[list[int], Mapping[str, int]]:
    """Return the rows that can be drawn, and the number of the others by reason.

    A row counts for the first column that prevents it.
    """
    drawable: list[int] | None = None
    left_out: Counter[str] = Counter()
    for column in columns:
        if drawable is None:
            drawable = list(range(len(column.at)))
        low = 0.0 if column.scale.log else -math.inf
        kept = [low < column.at[row] < math.inf for row in drawable]
        if not all(kept):
            bad = [column.at[row] for row, good in zip(drawable, kept, strict=True) if not good]
            left_out.update(_reason(column.scale, at) for at in bad)
            drawable = list(compress(drawable, kept))
    return drawable or [], left_out


def _reason(scale: Scale, at: float) -> str:
    if math.isnan(at):
        return f"without {scale.name}"
    if math.isinf(at):
        return f"with infinite {scale.name}"
    return f"with {scale.name} <= 0 on a log scale"
