"""Diagrams of products and their requirements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from motoko.errors import GraphError, NoGraphvizError, ParameterError
from motoko.graph import Node
from motoko.graph.diagram import dot
from motoko.products.steps import collect_steps
from motoko.runtime.files import write_atomic
from motoko.runtime.ports import SYSTEM, Processes

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from motoko.products.steps import StepSet


DIRECTIONS: Final = ("LR", "RL", "TB", "BT")


def nodes_of(steps: StepSet) -> list[Node]:
    """Return a node for each product with all requirements of its step."""
    return [Node(name, step.requires, origin=step.origin) for name, step in steps.producers.items()]


def diagram(
    module: Any,
    status_provider: Callable[[str], str] | None = None,
    *,
    title: str | None = None,
    rankdir: str = "LR",
    nodes: Iterable[Node] = (),
) -> str:
    """Return the products of a module's steps, and of ``nodes``, as Graphviz DOT.

    ``status_provider(name)`` returns the status that determines the colour: cached, on_disk,
    missing, stale, ... Requirements that nothing produces are dashed. ``title`` defaults to the
    module's name. ParameterError (a ValueError) if ``rankdir`` is none of LR, RL, TB, BT.
    """
    if rankdir not in DIRECTIONS:
        raise ParameterError(
            f"rankdir={rankdir!r} is not a direction", hint=f"Use one of {', '.join(DIRECTIONS)}."
        )
    return dot(
        {node.name: node for node in nodes_of(collect_steps(module, nodes))},
        status_provider or (lambda _: "missing"),
        title=title or str(getattr(module, "__name__", module)),
        rankdir=rankdir,
    )


def render(
    module: Any,
    output_path: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002 - the documented name
    status_provider: Callable[[str], str] | None = None,
    rankdir: str = "LR",
    nodes: Iterable[Node] = (),
    processes: Processes = SYSTEM.processes,
) -> Path:
    """Draw :func:`diagram` into a file with Graphviz's ``dot`` and return its path.

    ``format`` defaults to the path's suffix, or png. FileNotFoundError (NoGraphvizError) if
    ``dot`` is not installed, GraphError if it fails.
    """
    path = Path(output_path)
    text = diagram(module, status_provider, rankdir=rankdir, nodes=nodes)
    kind = format or path.suffix.removeprefix(".") or "png"
    try:
        result = processes.run(["dot", f"-T{kind}"], stdin=text.encode())
    except FileNotFoundError as error:
        raise NoGraphvizError(
            "the program dot, which draws diagrams, is not installed",
            hint="Install Graphviz, or use diagram(), which returns the text.",
        ) from error
    if result.returncode:
        problem = result.stderr.decode(errors="replace").strip()
        raise GraphError(f"{path} cannot be drawn: {problem}")
    write_atomic(path, result.stdout)
    return path
