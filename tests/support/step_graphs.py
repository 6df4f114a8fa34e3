"""The shared test graphs of all front-ends, and engine nodes for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from motoko.graph import Graph, Node, Status, fresh_because, stale_because

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from motoko.graph import StatusChange, Verdict


@dataclass(frozen=True)
class StepGraph:
    """Names and their requirements, requirements first."""

    requires: Mapping[str, tuple[str, ...]]
    target: str
    fails: frozenset[str] = frozenset()


DIAMOND = StepGraph(
    {"top": (), "left": ("top",), "right": ("top",), "bottom": ("left", "right")}, "bottom"
)

# Its orders depth-first, by level and as listed differ.
ASYMMETRIC = StepGraph(
    {
        "a": (),
        "b": ("a",),
        "c": ("b",),
        "d": ("a",),
        "x": (),
        "e": ("d", "c", "x"),
    },
    "e",
)

FAILING = StepGraph(
    {
        "top": (),
        "left": ("top",),
        "right": ("top",),
        "bottom": ("left", "right"),
        "aside": (),
        "all": ("bottom", "aside"),
    },
    "all",
    frozenset({"left"}),
)


@dataclass
class NodeFactory:
    """Makes engine nodes, and records their checks and actions."""

    made: set[str] = field(default_factory=set)
    checked: list[str] = field(default_factory=list)
    executed: list[str] = field(default_factory=list)
    events: list[tuple[str, Status]] = field(default_factory=list)

    def graph(self, described: StepGraph) -> Graph:
        """Return the graph with a node for each name."""
        return Graph(
            self.node(name, *requires, fails=name in described.fails)
            for name, requires in described.requires.items()
        )

    def node(self, name: str, *requires: str, fails: bool = False) -> Node:
        """Return a node that is fresh after its action was called, or whose action fails."""
        return Node(name, requires, self.check_of(name), self.action_of(name, fails=fails))

    def check_of(self, name: str) -> Callable[[], Verdict]:
        """Return a function that checks whether ``name`` was made."""

        def is_fresh() -> Verdict:
            self.checked.append(name)
            return fresh_because("made") if name in self.made else stale_because("never made")

        return is_fresh

    def action_of(self, name: str, *, fails: bool = False) -> Callable[[], object]:
        """Return an action that makes ``name``, or that fails."""

        def action() -> None:
            self.executed.append(name)
            if fails:
                raise ZeroDivisionError(name)
            self.made.add(name)

        return action

    def observe(self, event: StatusChange) -> None:
        """Record an event."""
        self.events.append((event.name, event.status))

    def events_of(self, *statuses: Status) -> list[tuple[str, str]]:
        """Return the recorded events with these statuses."""
        return [(name, status.value) for name, status in self.events if status in statuses]
