"""Small drawings as SVG, which need no script: the plot of a quantity, and the flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from markupsafe import Markup, escape

from motoko.printable import one_line
from motoko.views.flow import layers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from motoko.views.flow import Flow
    from motoko.views.run import Series

WIDTH: Final = 320
HEIGHT: Final = 120
MARGIN: Final = 8
BOX: Final = (150, 44)
GAP: Final = (120, 26)


def line_plot(series: Series) -> Markup:
    """Return the plot of a quantity over its steps, with the extremes as text."""
    if not series.values:
        return Markup('<p class="soft">{}</p>').format("It has no numbers to draw.")
    low, high = min(series.values), max(series.values)
    xs = _scaled(series.steps, MARGIN, WIDTH - MARGIN)
    ys = _scaled(series.values, HEIGHT - MARGIN, MARGIN)
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
    label = f"{one_line(series.name, limit=60)}: from {low:.6g} to {high:.6g}"
    dots = Markup("").join(
        Markup('<circle cx="{:.1f}" cy="{:.1f}" r="2"/>').format(x, y)
        for x, y in (zip(xs, ys, strict=True) if len(xs) < 30 else ())
    )
    return Markup(
        '<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">'
        '<polyline points="{}"/>{}<text x="{}" y="14">{:.6g}</text>'
        '<text x="{}" y="{}">{:.6g}</text></svg>'
    ).format(
        WIDTH, HEIGHT, label, points, dots, MARGIN, high, MARGIN, HEIGHT - 2, low
    )  # fmt: skip


def _scaled(values: Sequence[float], first: float, last: float) -> list[float]:
    low, high = min(values), max(values)
    width = high - low
    if width <= 0:
        return [(first + last) / 2] * len(values)
    return [first + (last - first) * ((value - low) / width) for value in values]


def diagram(flow: Flow) -> Markup:
    """Return the flow between studies: boxes, and arrows with the number of runs."""
    places: dict[str, tuple[float, float]] = {}
    columns = layers(flow)
    for x, names in enumerate(columns):
        for y, name in enumerate(names):
            places[name] = x * (BOX[0] + GAP[0]) + 10.0, y * (BOX[1] + GAP[1]) + 40.0
    width = len(columns) * (BOX[0] + GAP[0])
    height = 60 + max(len(names) for names in columns) * (BOX[1] + GAP[1])
    parts = [
        Markup(
            '<svg class="flow" width="{}" height="{}" viewBox="0 0 {} {}" role="img" '
            'aria-label="The flow between studies; the table below has the same numbers">'
            '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
            'markerHeight="7" orient="auto"><path d="M0 0L10 5L0 10z"/></marker></defs>'
        ).format(width, height, width, height),
        *_arrows(flow, places),
        *(_box(name, flow, *place) for name, place in places.items()),
        Markup("</svg>"),
    ]
    return Markup("").join(parts)


def _arrows(flow: Flow, places: dict[str, tuple[float, float]]) -> Iterable[Markup]:
    for edge in flow.edges:
        (x1, y1), (x2, y2) = places[edge.source], places[edge.target]
        middle = BOX[1] / 2
        if x2 > x1:
            start, end = (x1 + BOX[0], y1 + middle), (x2, y2 + middle)
            bend = (start[0] + end[0]) / 2
            path = f"M{start[0]} {start[1]}C{bend} {start[1]} {bend} {end[1]} {end[0]} {end[1]}"
            at = bend, (start[1] + end[1]) / 2 - 6
        else:  # back, or to itself: above the boxes
            top = min(y1, y2) - 30
            a, b = x1 + BOX[0] * 0.7, x2 + BOX[0] * 0.3
            path = f"M{a} {y1}C{a} {top} {b} {top} {b} {y2}"
            at = (a + b) / 2, top + 8
        text = f"{one_line(edge.cause, limit=18)} {edge.number:,}"
        yield Markup(
            '<path class="arrow" d="{}" marker-end="url(#arrow)"/>'
            '<text class="edge" x="{}" y="{}" text-anchor="middle">{}</text>'
        ).format(path, *at, text)


def _box(name: str, flow: Flow, x: float, y: float) -> Markup:
    number = flow.nodes.get(name)
    runs = "" if number is None else f"{number:,} runs"
    return Markup(
        '<g><rect class="box" x="{}" y="{}" width="{}" height="{}" rx="4"/>'
        '<text x="{}" y="{}">{}</text><text class="soft" x="{}" y="{}">{}</text></g>'
    ).format(
        x, y, *BOX, x + 10, y + 19, escape(one_line(name, limit=20)), x + 10, y + 36, runs
    )  # fmt: skip
