"""The step graph: nodes that are fresh or not, what makes them, and what they require.

Three front-ends stand on it: :mod:`motoko.products`, :mod:`motoko.pipeline`,
:mod:`motoko.assets`. Standard library only.
"""

from __future__ import annotations

from motoko.graph.build_state import Event, Report, Status
from motoko.graph.graph import Graph
from motoko.graph.node import (
    FRESH,
    STALE,
    UNDECIDED,
    Node,
    Verdict,
    fresh_because,
    stale_because,
    undecided_because,
)
from motoko.graph.orders import as_listed, as_visited, by_level
from motoko.graph.plan import Plan, plan

__all__ = [
    "FRESH",
    "STALE",
    "UNDECIDED",
    "Event",
    "Graph",
    "Node",
    "Plan",
    "Report",
    "Status",
    "Verdict",
    "as_listed",
    "as_visited",
    "by_level",
    "fresh_because",
    "plan",
    "stale_because",
    "undecided_because",
]
