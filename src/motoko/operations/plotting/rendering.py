"""Render a drawing as PNG or SVG with matplotlib, in a fixed style, without its global figures."""

from __future__ import annotations

import contextlib
import io
import textwrap
import warnings
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from motoko.errors import PlotError
from motoko.operations.plotting.coordinates import CATEGORY, LATEST, TIME
from motoko.operations.plotting.drawing import Bars, Cells, Line, Points, Strands
from motoko.operations.plotting.metadata import visible
from motoko.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from motoko.operations.plotting.coordinates import Scale
    from motoko.operations.plotting.drawing import ColorScale, Drawing, ParallelAxis

DPI: Final = 150
DAY: Final = 86_400.0  # seconds; matplotlib counts days
FIRST_DAY: Final = datetime.min.replace(tzinfo=UTC).timestamp() / DAY
LAST_DAY: Final = LATEST / DAY
COLOR: Final = "#1f77b4"
MARKERS: Final = "os^Dv<>pP*XhHd8oxs+^"
DASHES: Final[Any] = ("-", "--", "-.", ":")
MARKED: Final = 50  # points of a line with markers
LABELS: Final = 30  # categories with a label
LETTERS: Final = 60  # in all labels of an axis before they turn
STYLE: Final[Any] = {
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "motoko",
    "timezone": "UTC",
}


def library_version() -> str:
    """Return matplotlib's version; PlotError if it is not installed."""
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise PlotError(
            "plot needs matplotlib, which is not installed", hint="pip install 'motoko[plot]'"
        ) from error
    except (ValueError, OSError) as error:
        raise PlotError(
            f"matplotlib cannot be imported: {one_line(str(error), limit=200)}",
            hint="Correct matplotlibrc, or the environment variable MPLBACKEND.",
        ) from error
    version: str = mpl.__version__
    return version


def render(drawing: Drawing, kind: str, metadata: Mapping[str, str | None]) -> bytes:
    """Return the drawing as a file of a kind (png or svg). Equal arguments give equal bytes."""
    library_version()
    buffer = io.BytesIO()
    with _fixed_style():
        figure = _figure(drawing)
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=dict(metadata))
    return buffer.getvalue()


@contextlib.contextmanager
def _fixed_style() -> Iterator[None]:
    """Suspend the user's style; ignore warnings about letters that the font does not have."""
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def _figure(drawing: Drawing) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=drawing.size, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(_plain(one_line(drawing.title, limit=100)), loc="left", fontsize=9)
    colors = _Colors(drawing.color)
    for layer in drawing.layers:
        _DRAW[type(layer)](axes, layer, drawing, colors)
    if drawing.axes:
        _set_parallel_axes(axes, drawing.axes)
    elif drawing.x is not None and drawing.y is not None:
        _set_axis(axes, axes.xaxis, drawing.x, drawing)
        _set_axis(axes, axes.yaxis, drawing.y, drawing)
    _add_legends(figure, axes, drawing, colors)
    if drawing.notes:
        lines = textwrap.wrap("; ".join(drawing.notes), max(20, int(drawing.size[0] * 17)))
        text = _plain("\n".join(lines))
        figure.supxlabel(text, fontsize=7, x=0.01, ha="left", color="#555555")
    return figure


def _plain(text: str) -> str:
    """Return text that an SVG file may hold, without a meaning as mathematics."""
    return visible(text).replace("$", r"\$")


class _Colors:
    """The colours of a colour scale."""

    def __init__(self, color: ColorScale | None) -> None:
        from matplotlib import colormaps
        from matplotlib.colors import BoundaryNorm, ListedColormap, Normalize

        self._time = color is not None and color.scale.kind == TIME
        self.cmap: Any = None
        self.norm: Any = None
        if color is None:
            return
        if color.scale.kind == CATEGORY:
            number = len(color.scale.categories)
            table = colormaps["tab10" if number <= 10 else "tab20"]
            self.cmap = ListedColormap([table(index) for index in range(number)])
            self.norm = BoundaryNorm([index - 0.5 for index in range(number + 1)], number)
        else:
            low, high = self.numbers([color.low, color.high])
            margin = 0.0 if high > low else max(abs(low) * 0.01, 0.5)
            self.cmap = colormaps["viridis"]
            limits = low - margin, high + margin
            self.norm = Normalize(*_in_calendar(*limits) if self._time else limits)

    def numbers(self, at: Sequence[float]) -> list[float]:
        """Return coordinates in matplotlib's unit."""
        return [value / DAY for value in at] if self._time else list(at)

    def one(self, at: float | None) -> Any:
        """Return the colour at a coordinate."""
        if at is None or self.cmap is None:
            return COLOR
        return self.cmap(self.norm(self.numbers([at])[0]))

    def options(self, at: Sequence[float]) -> dict[str, Any]:
        """Return the options of a collection with these coordinates."""
        return {"array": self.numbers(at), "cmap": self.cmap, "norm": self.norm}


# -- layers ------------------------------------------------------------------------------------


def _on(scale: Scale | None, at: Sequence[float]) -> Sequence[float]:
    """Return coordinates in matplotlib's unit."""
    return [value / DAY for value in at] if scale is not None and scale.kind == TIME else at


def _draw_points(axes: Any, layer: Points, drawing: Drawing, colors: _Colors) -> None:
    x, y = _on(drawing.x, layer.x), _on(drawing.y, layer.y)
    options: dict[str, Any] = {"color": COLOR}
    if layer.colors is not None:
        options = {"c": colors.numbers(layer.colors), "cmap": colors.cmap, "norm": colors.norm}
    axes.scatter(x, y, s=16, marker=MARKERS[layer.group], **options)


def _draw_line(axes: Any, layer: Line, drawing: Drawing, colors: _Colors) -> None:
    x, y, color = _on(drawing.x, layer.x), _on(drawing.y, layer.y), colors.one(layer.color)
    marker = MARKERS[layer.group] if len(x) <= MARKED else ""
    dashes = DASHES[layer.group % len(DASHES)]
    axes.plot(x, y, color=color, linestyle=dashes, linewidth=1.2, marker=marker, markersize=3)
    if layer.low:
        low, high = _on(drawing.y, layer.low), _on(drawing.y, layer.high)
        if len(x) == 1:
            axes.vlines(x, low, high, color=color, alpha=0.4, linewidth=3)
        axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)


def _draw_cells(axes: Any, layer: Cells, drawing: Drawing, colors: _Colors) -> None:
    from matplotlib.collections import PolyCollection

    corners = []
    for left, right, bottom, top in layer.rectangles:
        (x0, x1), (y0, y1) = _on(drawing.x, (left, right)), _on(drawing.y, (bottom, top))
        corners.append([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    cells = PolyCollection(corners, edgecolors="face", linewidths=0.2)
    cells.set(**colors.options(layer.colors))
    axes.add_collection(cells)
    axes.autoscale_view()


def _draw_bars(axes: Any, layer: Bars, drawing: Drawing, colors: _Colors) -> None:
    color, several = colors.one(layer.color), len(drawing.layers) > 1
    edges = _on(drawing.x, layer.edges)
    axes.stairs(layer.heights, edges, fill=True, color=color, alpha=0.35 if several else 0.9)
    if several:
        axes.stairs(layer.heights, edges, color=color, linewidth=1.2)


def _draw_strands(axes: Any, layer: Strands, drawing: Drawing, colors: _Colors) -> None:
    from matplotlib.collections import LineCollection

    paths = [
        [(first + offset, at) for offset, at in enumerate(positions)]
        for first, positions in zip(layer.first, layer.positions, strict=True)
    ]
    widths = [0.8 + 6 * width for width in layer.widths]
    if layer.colors is None:
        lines = LineCollection(paths, linewidths=widths, colors=COLOR, alpha=0.6)
    else:
        lines = LineCollection(paths, linewidths=widths, alpha=0.6)
        lines.set(**colors.options(layer.colors))
    axes.add_collection(lines)
    axes.set(xlim=(-0.1, len(drawing.axes) - 0.6), ylim=(-0.05, 1.05))


_DRAW: Final[Mapping[type, Any]] = {
    Points: _draw_points, Line: _draw_line, Cells: _draw_cells, Bars: _draw_bars,
    Strands: _draw_strands,
}  # fmt: skip


# -- axes and legends --------------------------------------------------------------------------


def _set_axis(axes: Any, axis: Any, scale: Scale, drawing: Drawing) -> None:
    is_x = axis is axes.xaxis
    axis.set_label_text(_plain(scale.name))
    if scale.log:
        (axes.set_xscale if is_x else axes.set_yscale)("log")
    elif scale.kind == CATEGORY:
        names = scale.categories
        shown = range(0, len(names), -(-len(names) // LABELS))
        axis.set_ticks(list(shown), [_plain(names[index]) for index in shown])
        if is_x and sum(len(names[index]) for index in shown) > LETTERS:
            axis.set_tick_params(labelrotation=90)
    elif scale.kind == TIME:
        locator, formatter = _dates()
        axis.set_major_locator(locator)
        axis.set_major_formatter(formatter)
        shown = axis.get_view_interval()
        limits = _in_calendar(*shown)
        if limits != tuple(shown):
            (axes.set_xlim if is_x else axes.set_ylim)(limits)
    elif any(isinstance(layer, Bars) for layer in drawing.layers) and not is_x:
        axis.get_major_locator().set_params(integer=True)


def _in_calendar(low: float, high: float) -> tuple[float, float]:
    """Return limits in days without what lies beyond the years 1 to 9999."""
    return max(low, FIRST_DAY), min(high, LAST_DAY)


def _dates() -> tuple[Any, Any]:
    import matplotlib.dates as mdates

    dates: Any = mdates
    locator = dates.AutoDateLocator(tz=UTC)
    return locator, dates.ConciseDateFormatter(locator, tz=UTC)


def _set_parallel_axes(axes: Any, shown: Sequence[ParallelAxis]) -> None:
    axes.set_xticks(range(len(shown)), [_plain(axis.scale.name) for axis in shown])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    for at, axis in enumerate(shown):
        axes.axvline(at, color="#333333", linewidth=0.8)
        for value in _marks(axis):
            axes.text(
                at + 0.03, axis.position(value), _plain(axis.scale.text(value)), fontsize=7,
                va="center", bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5},
            )  # fmt: skip


def _marks(axis: ParallelAxis) -> Sequence[float]:
    """Return the coordinates with a label."""
    if axis.scale.kind == CATEGORY:
        number = len(axis.scale.categories)
        return [float(index) for index in range(0, number, -(-number // LABELS))]
    middle = (axis.low + axis.high) / 2
    return (axis.low, middle, axis.high) if axis.high > axis.low else (axis.low,)


def _add_legends(figure: Any, axes: Any, drawing: Drawing, colors: _Colors) -> None:
    """Add a colour bar for numbers, a legend for categories and for groups."""
    from matplotlib.cm import ScalarMappable

    color, by = drawing.color, drawing.by
    if color is not None and color.scale.kind != CATEGORY:
        bar = figure.colorbar(ScalarMappable(colors.norm, colors.cmap), ax=axes)
        bar.set_label(_plain(color.scale.name))
        if color.scale.kind == TIME:
            bar.locator, bar.formatter = _dates()
            bar.update_ticks()
    elif color is not None:
        same = by is not None and by.name == color.scale.name
        _add_legend(figure, color.scale, colors, markers=same, upper=True)
        by = None if same else by
    if by is not None:
        _add_legend(figure, by, None, markers=True, upper=False)


def _add_legend(
    figure: Any, scale: Scale, colors: _Colors | None, *, markers: bool, upper: bool
) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for index, name in enumerate(scale.categories):
        color = "#333333" if colors is None else colors.one(float(index))
        marker = MARKERS[index] if markers else "o"
        dashes = DASHES[index % len(DASHES) if markers else 0]
        handles.append(
            Line2D([], [], color=color, marker=marker, linestyle=dashes, markersize=4,
                   label=_plain(name))
        )  # fmt: skip
    place = "outside right upper" if upper else "outside right lower"
    figure.legend(handles=handles, title=_plain(scale.name), loc=place, fontsize=8)
