"""Helper functions for the results of task-function calls, and for logging."""

from __future__ import annotations

from inspect import getattr_static

from motoko.assets.nodes import Asset, Node, WrappedNode
from motoko.errors import TaskError
from motoko.graph import Node as GraphNode

TYPE_CHECKING = False  # type checkers assume True; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from typing import Any


def assets(node: Node | GraphNode | None) -> Any:
    """Return the asset(s) that the task yielded, in the same shape; a list for a collection."""
    return None if node is None else _checked(node, "assets").assets


def refs(obj: Any) -> Any:
    """Return the ref(s) of the asset(s) of a task, or of these assets, in the same shape.

    For a node of a step graph return its value, or None.
    """
    found = obj.assets if isinstance(obj, Node) else obj
    if isinstance(found, GraphNode):
        return found.current_value()
    if found is None:
        return None
    if isinstance(found, Asset):
        return found.ref
    if isinstance(found, dict):
        return {key: one.ref for key, one in found.items()}
    if isinstance(found, list | tuple):
        return [one.ref for one in found]
    return _checked(obj, "refs")


def ready(node: Node | GraphNode) -> bool:
    """Return whether all assets of the task are ready now."""
    return bool(_checked(node, "ready").check().fresh)


def requirements(node: Node | GraphNode | None) -> Any:
    """Return the requirement(s) that the task yielded, in the same shape."""
    return None if node is None else _checked(node, "requirements").requirements


def graph(node: Node | GraphNode) -> str:
    """Return the task and its requirements as Graphviz DOT; orange ones are not ready."""
    from hashlib import sha256

    from motoko.graph.diagram import quoted

    found = [_checked(node, "graph")]
    nodes = {one.taskname: one for one in found}
    for one in found:
        for requirement in one.required:
            if requirement.taskname not in nodes:
                nodes[requirement.taskname] = requirement
                found.append(requirement)
    ids = {name: "_" + sha256(name.encode()).hexdigest() for name in nodes}
    lines = set()
    for name, one in nodes.items():
        colour = "palegreen" if _is_ready(one) else "orange"
        lines.add(f"  {ids[name]} [fillcolor={colour}, label={quoted(name)}, style=filled]")
        lines.update(f"  {ids[name]} -> {ids[each.taskname]}" for each in one.required)
    return "\n".join(["digraph g {", *sorted(lines), "}"])


def tasknames(obj: object) -> list[str]:
    """Return the sorted names of the task functions of a module, class or instance.

    Abstract methods and names that begin with ``_`` are skipped; properties are not evaluated.
    """
    found = []
    for name in dir(obj):
        member = None if name.startswith("_") else _member(obj, name)
        abstract = getattr(member, "__isabstractmethod__", False)
        if getattr(member, "is_task", False) is True and not abstract:
            found.append(name)
    return sorted(found)


def _member(obj: object, name: str) -> object:
    try:
        found: object = getattr_static(obj, name)
    except AttributeError:  # a dynamic attribute
        return getattr(obj, name, None)
    return found.__func__ if isinstance(found, staticmethod | classmethod) else found


def logcfg(verbose: bool = False) -> None:
    """Log to standard error, with DEBUG messages if ``verbose``, unless logging is configured."""
    import logging
    import sys

    logging.basicConfig(
        datefmt="%Y-%m-%dT%H:%M:%S",
        format="[%(asctime)s] %(levelname)-7s %(message)s",
        level=logging.DEBUG if verbose else logging.INFO,
        stream=sys.stderr,
    )


def _is_ready(node: Node) -> bool:
    try:
        return ready(node)
    except Exception:  # noqa: BLE001 - a failing asset must not prevent the diagram
        return False


def _checked(node: Any, helper: str) -> Node:
    if isinstance(node, Node):
        return node
    if isinstance(node, GraphNode):
        return WrappedNode(node)
    raise TaskError(
        f"{helper}() takes the result of calling a task function, not {node!r}"
        f" of type {type(node).__name__}"
    )
