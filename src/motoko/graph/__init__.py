"""The step graph: nodes that are fresh or stale, their actions and their requirements.

Engine of :mod:`motoko.products`, :mod:`motoko.pipeline` and :mod:`motoko.assets`. Needs the
standard library only.
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
from motoko.graph.plan import (
    BuildPlan,
    make_plan,
    order_as_listed,
    order_by_level,
    order_depth_first,
)

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
