"""Small drawings as SVG, which need no script: the plot of a quantity, and the flow."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from markupsafe import Markup

from motoko.operations.reason_text import duration
from motoko.printable import one_line
from motoko.views.flow import flow_layers, layers
from motoko.views.text import sign

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from motoko.views.flow import Flow
    from motoko.views.run import RunView, Series
    from motoko.views.step_graph import StepGraph

WIDTH: Final = 320
HEIGHT: Final = 120
MARGIN: Final = 8
BOX: Final = (150, 44)
GAP: Final = (120, 26)
STATUS_COLOURS: Final[Mapping[str, str]] = MappingProxyType({
    "fresh": "finished", "built": "finished", "would_build": "queued", "undecided": "queued",
    "stale": "queued", "building": "running", "missing": "failed", "failed": "failed",
    "incomplete": "failed", "blocked": "failed",
})  # fmt: skip


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


@dataclass(frozen=True, slots=True)
class Box:
    """A box of a diagram. ``note``: its second line; ``colour``: the name of a state's colour."""

    note: str = ""
    colour: str = ""


def flow_diagram(flow: Flow) -> Markup:
    """Return the flow between studies: boxes, and arrows with the number of runs."""
    boxes = {name: Box() for names in flow_layers(flow) for name in names}
    boxes.update({name: Box(f"{number:,} runs") for name, number in flow.nodes.items()})
    arrows = [
        (edge.source, f"{one_line(edge.cause, limit=18)} {edge.number:,}", edge.target)
        for edge in flow.edges
    ]
    return _diagram("The flow between studies", boxes, arrows)


def graph_diagram(graph: StepGraph) -> Markup:
    """Return a step graph: boxes with statuses, and arrows to dependents."""
    boxes = {
        node.name: Box(node.status, STATUS_COLOURS.get(node.status, "created"))
        for node in graph.nodes
    }
    required = {name for node in graph.nodes for name in node.requires}
    boxes.update({name: Box("unknown", "unknown") for name in required - boxes.keys()})
    arrows = [(name, "", node.name) for node in graph.nodes for name in node.requires]
    return _diagram(f"The step graph of {graph.target}", boxes, arrows)


def _diagram(
    title: str, boxes: Mapping[str, Box], arrows: Sequence[tuple[str, str, str]]
) -> Markup:
    places: dict[str, tuple[float, float]] = {}
    columns = layers(boxes, [(source, target) for source, _, target in arrows])
    for x, names in enumerate(columns):
        for y, name in enumerate(names):
            places[name] = x * (BOX[0] + GAP[0]) + 10.0, y * (BOX[1] + GAP[1]) + 40.0
    width = len(columns) * (BOX[0] + GAP[0])
    height = 60 + max(map(len, columns), default=0) * (BOX[1] + GAP[1])
    head = "arrow-" + blake2b(title.encode(errors="replace"), digest_size=4).hexdigest()
    parts = [
        Markup(
            '<svg class="flow" width="{}" height="{}" viewBox="0 0 {} {}" role="img" '
            'aria-label="{}; the table below has the same">'
            '<defs><marker id="{}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
            'markerHeight="7" orient="auto"><path d="M0 0L10 5L0 10z"/></marker></defs>'
        ).format(width, height, width, height, one_line(title, limit=100), head),
        *(_arrow(text, places[source], places[target], head) for source, text, target in arrows),
        *(_box(name, boxes[name], *place) for name, place in places.items()),
        Markup("</svg>"),
    ]
    return Markup("").join(parts)


def _arrow(text: str, start: tuple[float, float], end: tuple[float, float], head: str) -> Markup:
    (x1, y1), (x2, y2) = start, end
    middle = BOX[1] / 2
    if x2 > x1:
        x1, y1, y2 = x1 + BOX[0], y1 + middle, y2 + middle
        bend = (x1 + x2) / 2
        path = f"M{x1} {y1}C{bend} {y1} {bend} {y2} {x2} {y2}"
        at = bend, (y1 + y2) / 2 - 6
    else:  # back, or to itself: above the boxes
        top = min(y1, y2) - 30
        x1, x2 = x1 + BOX[0] * 0.7, x2 + BOX[0] * 0.3
        path = f"M{x1} {y1}C{x1} {top} {x2} {top} {x2} {y2}"
        at = (x1 + x2) / 2, top + 8
    return Markup(
        '<path class="arrow" d="{}" marker-end="url(#{})"/>'
        '<text class="edge" x="{}" y="{}" text-anchor="middle">{}</text>'
    ).format(path, head, *at, text)


def _box(name: str, box: Box, x: float, y: float) -> Markup:
    return Markup(
        '<g><title>{}</title><rect class="box {}" x="{}" y="{}" width="{}" height="{}" rx="4"/>'
        '<text x="{}" y="{}">{}</text><text class="soft" x="{}" y="{}">{}</text></g>'
    ).format(
        one_line(name), box.colour, x, y, *BOX, x + 10, y + 19, one_line(name, limit=20),
        x + 10, y + 36, one_line(box.note, limit=20),
    )  # fmt: skip


def attempt_bars(run: RunView) -> Markup:
    """Return the attempts of a run on a time line: queued, then running, to its end or now."""
    spans = [
        (one.claimed, one.started, one.ended or run.at, one)
        for one in (attempt.provenance for attempt in run.attempts)
        if one.claimed is not None
    ]
    if not spans:
        return Markup("")
    first = min(span[0] for span in spans)
    last = max(span[2] for span in spans)
    scale = 1000 / max(last - first, 0.001)
    bars = []
    for row, (claimed, started, ended, one) in enumerate(spans):
        active = sign(one.outcome)[1] if one.outcome is not None else "running"
        parts = [(claimed, started or ended, "queued"), (started or ended, ended, active)]
        for begin, end, colour in parts:
            if end > begin:
                bars.append(
                    Markup(
                        '<rect class="{}" x="{:.1f}" y="{}" width="{:.1f}" height="10"/>'
                    ).format(
                        colour, (begin - first) * scale, row * 14, max(1.5, (end - begin) * scale)
                    )
                )
    label = f"{len(spans)} attempts in {duration(last - first)}; the table below has their times"
    head = Markup(
        '<svg class="attempts" viewBox="0 0 1002 {}" preserveAspectRatio="none" role="img" '
        'aria-label="{}">'
    ).format(14 * len(spans), label)
    return head + Markup("").join(bars) + Markup("</svg>")
