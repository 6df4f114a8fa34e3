"""The filters of the templates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from markupsafe import Markup

from motoko.operations.reason_text import duration
from motoko.views import text
from motoko.web.drawing import attempt_bars, flow_diagram, graph_diagram, line_plot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PAIRS = 8  # values of a run in one cell


def _thousands(number: int) -> str:
    return f"{number:,}"


def _pairs(values: Mapping[str, str]) -> str:
    shown = [f"{name}={value}" for name, value in [*values.items()][:PAIRS]]
    return "  ".join([*shown, "…"] if len(values) > PAIRS else shown)


def runs_query(target: object) -> str:
    """Return the query that selects these runs."""
    return urlencode({"runs": str(target)})


def filters() -> dict[str, Callable[..., Any]]:
    """Return the filters by name."""
    return {
        "clock": lambda at, now, seconds=False: text.clock_text(at, now, seconds=seconds),
        "attempt_bars": attempt_bars,
        "flow_diagram": flow_diagram,
        "graph_diagram": graph_diagram,
        "duration": duration,
        "end": text.end_text,
        "inline_style": Markup,
        "iso": text.iso_text,
        "left": text.left_text,
        "line_plot": line_plot,
        "mean": text.mean_text,
        "ordered": text.ordered,
        "pairs": _pairs,
        "rate": text.rate_text,
        "runs_query": runs_query,
        "sign": text.sign,
        "span": text.span_text,
        "thousands": _thousands,
    }
