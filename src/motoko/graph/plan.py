"""The nodes that a build concerns, and the orders in which they can be built.

An order is a function from edges to a list of names. Edges map each name to its requirements, in
the order of the visit; a fresh node has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from motoko.errors import CycleError, UnknownNodeError, suggestion

TYPE_CHECKING = False  # type checkers assume True; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from motoko.graph.node import Node

    Edges = Mapping[str, Sequence[str]]
    Order = Callable[[Edges], list[str]]


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """The nodes that targets need, including the targets; ``order`` is depth-first."""

    targets: tuple[str, ...]
    order: tuple[str, ...]
    nodes: Mapping[str, Node]


def make_plan(nodes: Mapping[str, Node], targets: Iterable[str]) -> BuildPlan:
    """Return the plan for ``targets``; raise UnknownNodeError or CycleError."""
    wanted = tuple(dict.fromkeys(targets))
    for name in wanted:
        if name not in nodes:
            raise unknown_node_error(name, nodes)
    order = sort_depth_first(lambda name: _requirements(name, nodes), wanted)
    return BuildPlan(wanted, tuple(order), {name: nodes[name] for name in order})


def sort_depth_first(requires: Callable[[str], Sequence[str]], targets: Iterable[str]) -> list[str]:
    """Return every name that ``targets`` need once, after its requirements."""
    order: list[str] = []
    done: set[str] = set()
    for target in targets:
        if target in done:
            continue
        # The insertion order of `path` is the way from the target to the current node.
        path = {target: iter(requires(target))}
        current = target
        while path:
            for name in path[current]:
                if name in done:
                    continue
                if name in path:
                    names = [*path]
                    raise cycle_error([*names[names.index(name) :], name])
                path[name] = iter(requires(name))
                current = name
                break
            else:
                done.add(current)
                order.append(current)
                del path[current]
                current = next(reversed(path), "")
    return order


def _requirements(name: str, nodes: Mapping[str, Node]) -> tuple[str, ...]:
    node = nodes[name]
    for requirement in node.requires:
        if requirement not in nodes:
            origin = f" ({node.origin})" if node.origin else ""
            raise UnknownNodeError(
                f"{name!r}{origin} requires {requirement!r}, which nothing produces",
                hint=suggestion(requirement, [known for known in nodes if known != name]),
            )
    return node.requires


def unknown_node_error(name: str, nodes: Iterable[str]) -> UnknownNodeError:
    """Return the error for a name that is not among ``nodes``."""
    return UnknownNodeError(f"no node is named {name!r}", hint=suggestion(name, [*nodes]))


def cycle_error(path: Sequence[str]) -> CycleError:
    """Return the error for a path that begins and ends with the same name."""
    if len(path) == 2:
        return CycleError(f"{path[0]!r} requires itself", path)
    arrows = " -> ".join(map(repr, path))
    return CycleError(
        f"nodes require each other: {arrows}",
        path,
        hint="An arrow means 'requires'. Remove one of these requirements.",
    )


def reachable(edges: Callable[[str], Iterable[str]], name: str) -> list[str]:
    """Return all names reachable from ``name``, nearest first; ``name`` itself only in a cycle."""
    seen = dict.fromkeys(edges(name))
    queue = [*seen]
    for current in queue:
        for neighbour in edges(current):
            if neighbour not in seen:
                seen[neighbour] = None
                queue.append(neighbour)
    return queue


def dependents_of(edges: Edges) -> dict[str, list[str]]:
    """Return the dependents of each name, without repetitions, in the order of ``edges``."""
    dependents: dict[str, list[str]] = {name: [] for name in edges}
    for name, requires in edges.items():
        for requirement in dict.fromkeys(requires):
            dependents[requirement].append(name)
    return dependents


def order_depth_first(edges: Edges) -> list[str]:
    """Return the names as they were visited: depth-first, after their requirements."""
    return [*edges]


def order_by_level(edges: Edges) -> list[str]:
    """Return the names level by level: those without requirements, then their dependents, ..."""
    remaining = {name: len(set(requires)) for name, requires in edges.items()}
    order = [name for name, count in remaining.items() if not count]
    dependents = dependents_of(edges)
    for name in order:  # grows during the loop
        for dependent in dependents[name]:
            remaining[dependent] -= 1
            if not remaining[dependent]:
                order.append(dependent)
    return order


def order_as_listed(names: Sequence[str]) -> Order:
    """Return the order that follows the list ``names`` as far as requirements allow."""

    def order(edges: Edges) -> list[str]:
        queue = WorkQueue(edges, names)
        ordered = []
        while (name := queue.pop()) is not None:
            ordered.append(name)
            queue.complete(name)
        return ordered

    return order


class WorkQueue:
    """The nodes whose requirements are done, in the order of the list ``names``."""

    def __init__(self, edges: Edges, names: Sequence[str]) -> None:
        self._ranks = {name: rank for rank, name in enumerate(names)}
        self._dependents = dependents_of(edges)
        self._remaining = {name: len(set(requires)) for name, requires in edges.items()}
        self._ready = [(self._ranks[name], name) for name, n in self._remaining.items() if not n]
        heapify(self._ready)

    def push(self, name: str) -> None:
        """Add a node whose requirements are done."""
        heappush(self._ready, (self._ranks[name], name))

    def pop(self) -> str | None:
        """Remove and return the first node; None if no node is ready."""
        return heappop(self._ready)[1] if self._ready else None

    def complete(self, name: str) -> None:
        """Add the dependents of a node whose other requirements are done."""
        for dependent in self._dependents[name]:
            self._remaining[dependent] -= 1
            if not self._remaining[dependent]:
                self.push(dependent)
