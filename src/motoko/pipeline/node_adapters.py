"""Nodes of a step graph, such as runs of a study, as models of steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from motoko.errors import MissingOutputError, UnknownStateNameError
from motoko.graph.node import as_function

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from motoko.graph import Node, Verdict


def model_of(node: Node, keys: Sequence[str]) -> type[Any]:
    """Return a class with ``run()``, which has the node made, and returns these parts of it."""
    make = as_function(node)

    class NodeModel:
        def __init__(self, **values: Any) -> None:
            check_given(node, values)
            self.values = values

        def __repr__(self) -> str:
            given = ", ".join(f"{name}={value!r}" for name, value in self.values.items())
            return f"<model of node {node.name!r}: {given}>"

    class Called(NodeModel):
        def run(self) -> dict[str, Any]:
            return _parts(node, make(self.values), keys)

    class Awaited(NodeModel):
        async def run(self) -> dict[str, Any]:
            return _parts(node, await make(self.values), keys)

    return Awaited if node.is_async else Called


def ask(node: Node, values: Mapping[str, Any]) -> Verdict:
    """Ask the node whether it is fresh, with these values for its inputs."""
    check_given(node, values)
    return node.with_values(values).check(ready=True)


def parts_of(node: Node, values: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Return these parts of what the node made, which is there."""
    return _parts(node, node.with_values(values).current_value(), keys)


def check_given(node: Node, values: Container[str]) -> None:
    """Raise UnknownStateNameError where the node requires what is not among ``values``."""
    for name in node.requires:
        if name not in values:
            raise UnknownStateNameError(
                f"{node.name!r} requires {name!r}, which the inputs of its step do not give",
                hint=f"Give it: inputs={{name in the state: {name!r}}}.",
            )


def _parts(node: Node, made: Any, keys: Sequence[str]) -> dict[str, Any]:
    return {key: _part(node, made, key) for key in keys}


def _part(node: Node, made: Any, key: str) -> Any:
    if isinstance(made, list):
        return [_part(node, one, key) for one in made]
    try:
        return made[key]
    except (KeyError, TypeError) as error:
        raise MissingOutputError(
            f"what {node.name!r} made has no {key!r}, which the step passes on",
            hint=str(error.args[0]) if error.args else None,
        ) from error
