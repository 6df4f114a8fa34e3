"""Drawings: plots as plain coordinates, ready to be rendered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from motoko.operations.plotting.coordinates import Scale


@dataclass(frozen=True, slots=True)
class Points:
    """Points of one group. ``colors``: their coordinates on the colour scale, None without one."""

    x: Sequence[float]
    y: Sequence[float]
    colors: Sequence[float] | None = None
    group: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points; ``low`` and ``high`` limit a band around it, if it has one."""

    x: Sequence[float]
    y: Sequence[float]
    color: float | None = None
    group: int = 0
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Cells:
    """Rectangles (left, right, bottom, top) with coordinates on the colour scale."""

    rectangles: Sequence[tuple[float, float, float, float]]
    colors: Sequence[float]


@dataclass(frozen=True, slots=True)
class Bars:
    """A histogram of one group: one edge more than heights."""

    edges: Sequence[float]
    heights: Sequence[int]
    color: float | None = None


@dataclass(frozen=True, slots=True)
class Strands:
    """Lines across parallel axes: positions from 0 to 1 on the axes from ``first``.

    ``widths`` are from 0 to 1.
    """

    first: Sequence[int]
    positions: Sequence[Sequence[float]]
    colors: Sequence[float] | None
    widths: Sequence[float]


Layer: TypeAlias = "Points | Line | Cells | Bars | Strands"


@dataclass(frozen=True, slots=True)
class ColorScale:
    """A colour scale with the range that it shows."""

    scale: Scale
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ParallelAxis:
    """One of several parallel axes; positions 0 and 1 stand for ``low`` and ``high``."""

    scale: Scale
    low: float
    high: float

    def position(self, at: float) -> float:
        """Return the position of a coordinate; a constant is in the middle."""
        return (at - self.low) / (self.high - self.low) if self.high > self.low else 0.5


@dataclass(frozen=True, slots=True)
class ColumnSummary:
    """The drawn values of a column: their number, and their range or categories."""

    name: str
    kind: str
    count: int
    minimum: str
    mean: str
    maximum: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """A plot as coordinates. ``by``: the groups, which markers and line styles distinguish.

    ``notes`` report rows that were left out, and binning. With ``axes``, x and y are None.
    """

    title: str
    size: tuple[float, float]
    layers: Sequence[Layer]
    x: Scale | None = None
    y: Scale | None = None
    axes: Sequence[ParallelAxis] = ()
    color: ColorScale | None = None
    by: Scale | None = None
    notes: Sequence[str] = ()
    summary: Sequence[ColumnSummary] = ()
