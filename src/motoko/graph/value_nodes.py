"""Nodes that have values, for front-ends that hand values on from node to node."""

from __future__ import annotations

from motoko.errors import BuildError
from motoko.graph.node import Verdict

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from motoko.graph.node import Node


def with_values(node: Node, values: Mapping[str, Any]) -> Node:
    """Return the node that is made of these values, by name."""
    return node if node.given is None else node.given(values)


def probe(node: Node) -> Verdict:
    """Ask the node whether it is fresh, now that its requirements are there."""
    return node.ask(ready=True)


def value_of(node: Node) -> Any:
    """Return what was made; None where the node has no value."""
    return None if node.value is None else node.value()


def maker(node: Node) -> Callable[[Mapping[str, Any]], Any]:
    """Return a function that has the node made of values, by name, and returns what was made.

    It is a coroutine function where the action is one. BuildError where the action did not make it.
    """
    if node.awaited:

        async def awaited(values: Mapping[str, Any]) -> Any:
            made = with_values(node, values)
            return _ended(made, None if made.action is None else await made.action())

        return awaited

    def called(values: Mapping[str, Any]) -> Any:
        made = with_values(node, values)
        return _ended(made, None if made.action is None else made.action())

    return called


def _ended(node: Node, result: object) -> Any:
    if isinstance(result, Verdict) and not result.fresh:
        raise BuildError(f"{node.name!r} is not there: {'; '.join(result.reasons)}")
    return value_of(node)
