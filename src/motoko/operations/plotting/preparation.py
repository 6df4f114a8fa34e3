"""Prepare a drawing: select the rows that can be drawn, group, colour and bin them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from motoko.errors import PlotError
from motoko.operations.plotting import binning
from motoko.operations.plotting.coordinates import (
    CATEGORY,
    Coordinates,
    Scale,
    complete_rows,
    coordinates,
    distinct,
)
from motoko.operations.plotting.drawing import (
    Bars,
    Cells,
    ColorScale,
    ColumnSummary,
    Drawing,
    Line,
    ParallelAxis,
    Points,
    Strands,
)
from motoko.operations.plotting.spec import HIST, LINE, PARALLEL, QUANTITY, SCATTER, PlotSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from motoko.operations.plotting.drawing import Layer

LIMIT: Final = 5000  # points drawn one by one
CELLS: Final = (60, 45)
STRAND_BINS: Final = 25
MOST_GROUPS: Final = 20
MOST_LINES: Final = 250
RUN, STEP, VALUE = ":run", ":step", ":value"  # of a quantity's table; no column has these names


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows of a table that can be drawn, as coordinates.

    ``axes`` are the columns on the axes. ``color`` is ``by`` if only that is given.
    """

    spec: PlotSpec
    axes: Sequence[Coordinates]
    color: Coordinates | None
    by: Coordinates | None
    runs: Sequence[Any]
    notes: tuple[str, ...]

    @property
    def count(self) -> int:
        """The number of rows."""
        return len(self.axes[0].at)


def prepare(spec: PlotSpec, table: Mapping[str, Sequence[Any]]) -> Drawing:
    """Return the drawing of a table with the columns of ``spec``.

    Of a quantity, the table has a row for each step of each run, with columns RUN, STEP and VALUE.
    Raise PlotError if nothing can be drawn.
    """
    selection = select(spec, table)
    drawing = _KINDS[spec.kind](selection)
    return replace(drawing, summary=_summary(selection))


def select(spec: PlotSpec, table: Mapping[str, Sequence[Any]]) -> Selection:
    """Return the rows of a table that can be drawn; raise PlotError if there are none."""
    shown = dict(zip(spec.columns, spec.columns, strict=True))
    if spec.kind == QUANTITY:
        shown = {STEP: "step", VALUE: spec.columns[0]}
    logs = [spec.logx, spec.logy and spec.kind != HIST]
    axes = [
        coordinates(name, table[key], log=position < 2 and logs[position])
        for position, (key, name) in enumerate(shown.items())
    ]
    by = None if spec.by is None else _groups(spec.by, table[spec.by])
    color = by if spec.color is None else _color(spec, table[spec.color])
    columns = [*axes, *(c for c in (color, by) if c is not None)]
    rows, left_out = complete_rows(columns)
    total = len(axes[0].at)
    what = "points" if spec.kind == QUANTITY else "runs"
    details = ", ".join(f"{number:,} {reason}" for reason, number in left_out.items())
    if not total:
        raise PlotError(f"nothing can be drawn: no {what} of {spec.title()}")
    if not rows:
        raise PlotError(f"nothing can be drawn: {total:,} {what} of {spec.title()}: {details}")
    notes = (f"{total - len(rows):,} of {total:,} {what} left out: {details}",) if details else ()
    kept = [_take(c, rows) for c in axes]
    runs = [table[RUN][row] for row in rows] if spec.kind == QUANTITY else ()
    return Selection(spec, kept, color and _take(color, rows), by and _take(by, rows), runs, notes)


def _take(column: Coordinates, rows: Sequence[int]) -> Coordinates:
    return Coordinates(column.scale, [column.at[row] for row in rows])


def _groups(name: str, values: Sequence[Any]) -> Coordinates:
    return _limited(distinct(name, values), "--by")


def _color(spec: PlotSpec, values: Sequence[Any]) -> Coordinates:
    assert spec.color is not None
    if spec.kind == HIST:
        return _limited(distinct(spec.color, values), "--color")
    return _limited(coordinates(spec.color, values), "--color")


def _limited(column: Coordinates, option: str) -> Coordinates:
    number = len(column.scale.categories)
    if number > MOST_GROUPS:
        raise PlotError(
            f"{option} {column.scale.name} has {number} different values; a plot shows at most "
            f"{MOST_GROUPS}",
            hint="Select fewer with --where, or give a column of numbers as --color.",
        )
    return column


# -- scatter -----------------------------------------------------------------------------------


def _scatter(selection: Selection) -> Drawing:
    if selection.count > LIMIT:
        return _binned_scatter(selection)
    x, y = (axis.at for axis in selection.axes)
    layers = []
    for group, rows in _rows_by_group(selection.by, selection.count):
        colors = None if selection.color is None else [selection.color.at[row] for row in rows]
        layers.append(Points([x[r] for r in rows], [y[r] for r in rows], colors, group))
    return _drawing(selection, layers)


def _rows_by_group(by: Coordinates | None, count: int) -> list[tuple[int, Sequence[int]]]:
    if by is None:
        return [(0, range(count))]
    found: dict[int, list[int]] = {}
    for row, group in enumerate(by.at):
        found.setdefault(int(group), []).append(row)
    return sorted(found.items())


def _binned_scatter(selection: Selection) -> Drawing:
    (x, y), color = selection.axes, selection.color
    bins = (
        binning.Bins.of(x.at, x.scale, CELLS[0]),
        binning.Bins.of(y.at, y.scale, CELLS[1]),
    )
    cells = binning.bin_cells(x.at, y.at, bins)
    rectangles = [
        (bins[0].edge(i), bins[0].edge(i + 1), bins[1].edge(j), bins[1].edge(j + 1))
        for i, j in cells
    ]
    reduce, meaning = _reduction(color)
    if color is None:
        colors = [float(len(rows)) for rows in cells.values()]
    else:
        colors = [reduce([color.at[row] for row in rows]) for rows in cells.values()]
    note = (
        f"{selection.count:,} points, more than {LIMIT:,}, are drawn as a 2-d histogram of "
        f"{bins[0].count} x {bins[1].count} cells; colour: {meaning}"
    )
    by = selection.by
    if by is not None and color is not None and by.scale.name != color.scale.name:
        note += f"; {by.scale.name} is not shown"
    drawing = _drawing(selection, [Cells(rectangles, colors)], note)
    return replace(drawing, color=_shown(color, colors), by=None)


def _reduction(color: Coordinates | None) -> tuple[Callable[[Sequence[float]], float], str]:
    """Return how the colour of a bin follows from its points, and in words."""
    if color is None:
        return binning.mean, "number of points"
    if color.scale.kind == CATEGORY:
        return binning.most_frequent, f"most frequent {color.scale.name}"
    return binning.mean, f"mean {color.scale.name}"


def _shown(color: Coordinates | None, colors: Sequence[float]) -> ColorScale:
    scale = Scale("number of points") if color is None else color.scale
    return ColorScale(scale, min(colors), max(colors))


# -- lines -------------------------------------------------------------------------------------


def _lines(selection: Selection) -> Drawing:
    """Draw a line for each run of a quantity, otherwise for each group and colour."""
    lines = _rows_by_line(selection)
    if selection.count <= LIMIT:
        return _drawing(selection, [_line(selection, rows) for rows in lines])
    note = ""
    if len(lines) > MOST_LINES:
        note, selection = _merged(selection, len(lines))
        lines = _rows_by_line(selection)
    x = selection.axes[0]
    bins = binning.Bins.of(x.at, x.scale, max(2, LIMIT // len(lines)))
    note = (
        f"{selection.count:,} points, more than {LIMIT:,}, are drawn as mean, minimum and "
        f"maximum in {bins.count:,} bins{note}"
    )
    return _drawing(selection, [_line(selection, rows, bins) for rows in lines], note)


def _rows_by_line(selection: Selection) -> list[list[int]]:
    """Return the rows of each line, by x; rows of a run keep their order at one step."""
    x, y = (axis.at for axis in selection.axes)
    found: dict[tuple[Any, ...], list[int]] = {}
    for row in range(selection.count):
        key = tuple(c.at[row] for c in (selection.by, selection.color) if c is not None)
        found.setdefault((key, selection.runs[row] if selection.runs else 0), []).append(row)
    for rows in found.values():
        rows.sort(key=lambda row: (x[row], 0.0 if selection.runs else y[row]))
    return [found[key] for key in sorted(found)]


def _merged(selection: Selection, lines: int) -> tuple[str, Selection]:
    """Return a note, and the selection with fewer lines: one for each group and category."""
    note, color = f"; {lines:,} lines are drawn together", selection.color
    if color is not None and color.scale.kind != CATEGORY:
        note, color = f"{note}, without {color.scale.name}", None
    return note, replace(selection, runs=(), color=color)


def _line(selection: Selection, rows: Sequence[int], bins: binning.Bins | None = None) -> Line:
    x, y = ([axis.at[row] for row in rows] for axis in selection.axes)
    color = None if selection.color is None else selection.color.at[rows[0]]
    group = 0 if selection.by is None else int(selection.by.at[rows[0]])
    if bins is None:
        return Line(x, y, color, group)
    found = binning.bin_line(x, y, bins)
    return Line(found.x, found.mean, color, group, found.low, found.high)


# -- histogram ---------------------------------------------------------------------------------


def _histogram(selection: Selection) -> Drawing:
    (x,) = selection.axes
    bins = binning.count_bars(x.at, x.scale)
    edges = [bins.edge(index) for index in range(bins.count + 1)]
    layers = []
    for group, rows in _rows_by_group(selection.color, selection.count):
        heights = [0] * bins.count
        for row in rows:
            heights[bins.index(x.at[row])] += 1
        layers.append(Bars(edges, heights, None if selection.color is None else float(group)))
    return _drawing(selection, layers)


# -- parallel axes -----------------------------------------------------------------------------


def _parallel(selection: Selection) -> Drawing:
    axes = [_parallel_axis(column) for column in selection.axes]
    positions = [
        [axis.position(at) for at in column.at]
        for axis, column in zip(axes, selection.axes, strict=True)
    ]
    if selection.count > LIMIT:
        return replace(_binned_parallel(selection, positions), axes=axes)
    paths = list(zip(*positions, strict=True))
    colors = None if selection.color is None else selection.color.at
    strands = Strands([0] * len(paths), paths, colors, [0.0] * len(paths))
    return replace(_drawing(selection, [strands]), axes=axes)


def _parallel_axis(column: Coordinates) -> ParallelAxis:
    if column.scale.kind == CATEGORY:
        return ParallelAxis(column.scale, 0.0, len(column.scale.categories) - 1.0)
    return ParallelAxis(column.scale, min(column.at), max(column.at))


def _binned_parallel(selection: Selection, positions: Sequence[Sequence[float]]) -> Drawing:
    """Draw one line for all rows that two neighbouring axes have in the same bins."""
    reduce, meaning = _reduction(selection.color)
    bins = binning.Bins(0.0, 1.0 / STRAND_BINS, STRAND_BINS)
    first: list[int] = []
    paths: list[tuple[float, float]] = []
    counts: list[int] = []
    colors: list[float] = []
    for axis, pair in enumerate(pairwise(positions)):
        for (left, right), rows in binning.bin_cells(*pair, (bins, bins)).items():
            first.append(axis)
            paths.append((bins.middle(left), bins.middle(right)))
            counts.append(len(rows))
            values = [selection.color.at[row] for row in rows] if selection.color else [len(rows)]
            colors.append(reduce(values))
    note = (
        f"{selection.count:,} lines, more than {LIMIT:,}, are drawn in {STRAND_BINS} bins of each "
        f"axis; width: number of runs; colour: {meaning}"
    )
    most = max(counts)
    strands = Strands(first, paths, colors, [count / most for count in counts])
    drawing = _drawing(selection, [strands], note)
    return replace(drawing, color=_shown(selection.color, colors))


# -- all kinds ---------------------------------------------------------------------------------


def _drawing(selection: Selection, layers: Sequence[Layer], note: str = "") -> Drawing:
    spec, scales = selection.spec, [column.scale for column in selection.axes]
    y = Scale("number of runs", log=spec.logy) if spec.kind == HIST else scales[1]
    color, by = selection.color, selection.by
    return Drawing(
        spec.title(),
        spec.size,
        layers,
        x=scales[0],
        y=y,
        color=None if color is None else _shown(color, color.at),
        by=None if by is None else by.scale,
        notes=tuple(filter(None, (*selection.notes, note))),
    )


def _summary(selection: Selection) -> list[ColumnSummary]:
    columns = [*selection.axes, *(c for c in (selection.color, selection.by) if c is not None)]
    return [_column_summary(c) for c in {c.scale.name: c for c in columns}.values()]


def _column_summary(column: Coordinates) -> ColumnSummary:
    scale, at = column.scale, column.at
    low, high = scale.text(min(at)), scale.text(max(at))
    middle = "" if scale.kind == CATEGORY else scale.text(binning.mean(at))
    return ColumnSummary(scale.name, scale.kind, len(at), low, middle, high)


_KINDS: Final = {
    SCATTER: _scatter, LINE: _lines, HIST: _histogram, PARALLEL: _parallel, QUANTITY: _lines,
}  # fmt: skip
