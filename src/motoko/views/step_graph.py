"""The step graph of a module: its nodes with their statuses, found in a process of its own.

The module is user code: it may block, print or raise. So ``python -m motoko.views.step_graph
FILE.py:NAME`` imports it, and prints the graph as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from motoko.assets.command import load_module
from motoko.assets.helpers import ready
from motoko.assets.nodes import Node as Asset
from motoko.errors import GraphError
from motoko.graph import Graph
from motoko.printable import one_line
from motoko.products.runner import WorkflowRunner
from motoko.runtime.daemons import module_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from motoko.runtime.ports import CommandRunner

SECONDS: Final = 30.0  # of the import and of all checks
LINE: Final = 300  # characters of a problem
FORM: Final = "Write FILE.py:NAME, with a Graph, a WorkflowRunner, or a task function."


@dataclass(frozen=True, slots=True)
class StepNode:
    """A node with its status, such as fresh or stale, and its direct requirements."""

    name: str
    status: str
    requires: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StepGraph:
    """The graph that ``target`` names. ``problem``: why it is not known, else empty."""

    target: str
    nodes: tuple[StepNode, ...] = ()
    problem: str = ""


async def read_step_graph(runner: CommandRunner, target: str, directory: str) -> StepGraph:
    """Return the graph of ``FILE.py:NAME``, a file of ``directory``."""
    found = await runner.run(
        module_command("motoko.views.step_graph", target),
        environment=os.environ,
        directory=directory,
        seconds=SECONDS,
    )
    if found.problem or found.status:
        lines = (found.problem or found.stderr).strip().splitlines() or ["it failed"]
        return StepGraph(target, problem=one_line(lines[-1], limit=LINE))
    try:
        nodes = json.loads(found.stdout.splitlines()[-1])
        return StepGraph(target, tuple(_node(one) for one in nodes))
    except (ValueError, LookupError, TypeError):
        return StepGraph(target, problem="its process printed no graph")


def _node(stored: Mapping[str, Any]) -> StepNode:
    return StepNode(str(stored["name"]), str(stored["status"]), tuple(stored["requires"]))


def find_nodes(target: str) -> list[StepNode]:
    """Import the module that a target names, and check the nodes; GraphError if that fails."""
    file, _, name = target.rpartition(":")
    if not file or not name:
        raise GraphError(f"{target!r} names no step graph", hint=FORM)
    found: Any = getattr(load_module(file), name, None)
    if getattr(found, "is_task", False):
        found = found(dry_run=True)
    elif callable(found) and not isinstance(found, Graph | WorkflowRunner | Asset):
        found = found()
    if isinstance(found, Graph):
        return _described(found)
    if isinstance(found, WorkflowRunner):
        statuses = found.check().statuses
        steps = found.steps.producers
        return [
            StepNode(one, str(status), tuple(steps[one].requires) if one in steps else ())
            for one, status in statuses.items()
        ]
    if isinstance(found, Asset):
        return list(_assets(found))
    raise GraphError(f"{target!r} is a {type(found).__name__}, no step graph", hint=FORM)


def _described(graph: Graph) -> list[StepNode]:
    statuses = graph.run(dry_run=True, keep_going=True).statuses
    return [
        StepNode(name, str(statuses.get(name, "unknown")), tuple(node.requires))
        for name, node in graph.nodes.items()
    ]


def _assets(root: Asset) -> Iterator[StepNode]:
    found = [root]
    seen = {root.taskname: root}
    for node in found:  # grows
        new = {one.taskname: one for one in node.required if one.taskname not in seen}
        seen.update(new)
        found += new.values()
    for name, node in seen.items():
        status = "fresh" if ready(node) else "stale"
        yield StepNode(name, status, tuple(one.taskname for one in node.required))


def main(arguments: Sequence[str]) -> int:
    """Print the nodes as JSON, after what the module prints; return the exit status."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            nodes = find_nodes(arguments[0])
    except Exception as error:  # noqa: BLE001 - of user code
        sys.stderr.write(f"\n{type(error).__name__}: {one_line(str(error), limit=LINE)}\n")
        return 1
    sys.stdout.write(json.dumps([asdict(node) for node in nodes]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
