"""Orders within the partial order that a plan gives; a front-end chooses one.

An order is a function from edges (name -> requirements, a fresh node having none, in the order in
which nodes were visited) to the names in the order in which they are dealt with.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Edges = Mapping[str, Sequence[str]]
    Order = Callable[[Edges], list[str]]


def order_depth_first(edges: Edges) -> list[str]:
    """Return the names as they were visited: depth-first, after what they require."""
    return [*edges]


def order_by_level(edges: Edges) -> list[str]:
    """Return first what requires nothing, then what requires only that, and so on.

    Within a level names come in the order in which the last of their requirements comes.
    """
    remaining = {name: len(set(requires)) for name, requires in edges.items()}
    order = [name for name, count in remaining.items() if not count]
    dependents = dependents_of(edges)
    for name in order:  # grows while it is read
        for dependent in dependents[name]:
            remaining[dependent] -= 1
            if not remaining[dependent]:
                order.append(dependent)
    return order


def order_as_listed(names: Sequence[str]) -> Order:
    """Return the order that follows the list ``names`` as far as requirements allow."""
    ranks = {name: rank for rank, name in enumerate(names)}

    def order(edges: Edges) -> list[str]:
        remaining = {name: len(set(requires)) for name, requires in edges.items()}
        ready = [(ranks[name], name) for name, count in remaining.items() if not count]
        heapify(ready)
        dependents = dependents_of(edges)
        found = []
        while ready:
            name = heappop(ready)[1]
            found.append(name)
            for dependent in dependents[name]:
                remaining[dependent] -= 1
                if not remaining[dependent]:
                    heappush(ready, (ranks[dependent], dependent))
        return found

    return order


def dependents_of(edges: Edges) -> dict[str, list[str]]:
    """Return for each name those that require it, once each, in the order of ``edges``."""
    found: dict[str, list[str]] = {name: [] for name in edges}
    for name, requires in edges.items():
        for requirement in dict.fromkeys(requires):
            found[requirement].append(name)
    return found
