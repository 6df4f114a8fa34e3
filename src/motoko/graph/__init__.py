"""The step graph: nodes that are fresh or not, what makes them, and what they require.

Three front-ends stand on it: :mod:`motoko.products`, :mod:`motoko.pipeline`,
:mod:`motoko.assets`. Standard library only.
"""

from __future__ import annotations

from motoko.graph.build_state import BuildReport, Status, StatusChange
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
from motoko.graph.orders import order_as_listed, order_by_level, order_depth_first
from motoko.graph.plan import BuildPlan, make_plan

__all__ = [
    "FRESH",
    "STALE",
    "UNDECIDED",
    "BuildPlan",
    "BuildReport",
    "Graph",
    "Node",
    "Status",
    "StatusChange",
    "Verdict",
    "fresh_because",
    "make_plan",
    "order_as_listed",
    "order_by_level",
    "order_depth_first",
    "stale_because",
    "undecided_because",
]
