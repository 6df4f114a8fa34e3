"""Diagrams of a step graph, coloured by status: Graphviz DOT and Mermaid."""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers assume True; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from motoko.graph.node import Node

    StatusFunction = Callable[[str], str]

# Includes the front-ends' words for these statuses.
COLOURS = {
    **dict.fromkeys(("fresh", "built", "cached"), "#bce6bc"),
    **dict.fromkeys(("on_disk", "loaded"), "#bcd7e6"),
    **dict.fromkeys(("building", "undecided", "would_build"), "#f7e389"),
    **dict.fromkeys(("stale", "incomplete", "blocked"), "#e6bcbc"),
    "failed": "#e68a8a",
    "missing": "#e6e6e6",
}
OTHER = "#e6e6e6"
UNPRODUCED = "#fff8d0"


def dot(
    nodes: Mapping[str, Node],
    status_of: StatusFunction,
    *,
    title: str = "graph",
    rankdir: str = "LR",
) -> str:
    """Return Graphviz DOT; arrows point to dependents, unknown requirements are dashed."""
    lines = [
        f"digraph {quoted(title)} {{",
        f"  rankdir={rankdir};",
        "  node [shape=box, style=filled];",
    ]
    for name, node in nodes.items():
        colour = COLOURS.get(status_of(name), OTHER)
        tooltip = f", tooltip={quoted(node.origin)}" if node.origin else ""
        lines.append(f'  {quoted(name)} [fillcolor="{colour}"{tooltip}];')
    for name in _unproduced(nodes):
        lines.append(f'  {quoted(name)} [style="filled,dashed", fillcolor="{UNPRODUCED}"];')
    for requirement, name in _edges(nodes):
        lines.append(f"  {quoted(requirement)} -> {quoted(name)};")
    return "\n".join([*lines, "}"]) + "\n"


def mermaid(nodes: Mapping[str, Node], status_of: StatusFunction, *, rankdir: str = "LR") -> str:
    """Return the nodes as a Mermaid flow chart in the style of :func:`dot`."""
    statuses = {name: status_of(name) for name in nodes}
    unproduced = _unproduced(nodes)
    ids = {name: f"n{number}" for number, name in enumerate([*nodes, *unproduced])}
    lines = [f"flowchart {rankdir}"]
    lines += [f'  {ids[name]}["{_escaped(name)}"]:::{statuses[name]}' for name in nodes]
    lines += [f'  {ids[name]}["{_escaped(name)}"]:::unproduced' for name in unproduced]
    lines += [f"  {ids[requirement]} --> {ids[name]}" for requirement, name in _edges(nodes)]
    for status in sorted(set(statuses.values())):
        lines.append(f"  classDef {status} fill:{COLOURS.get(status, OTHER)}")
    if unproduced:
        lines.append(f"  classDef unproduced fill:{UNPRODUCED},stroke-dasharray:4")
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """Return ``text`` as a quoted DOT string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _escaped(text: str) -> str:
    return text.replace("#", "#35;").replace('"', "#quot;").replace("\n", "<br/>")


def _edges(nodes: Mapping[str, Node]) -> list[tuple[str, str]]:
    return [
        (requirement, name)
        for name, node in nodes.items()
        for requirement in dict.fromkeys(node.requires)
    ]


def _unproduced(nodes: Mapping[str, Node]) -> list[str]:
    return [*dict.fromkeys(one for one, _ in _edges(nodes) if one not in nodes)]
