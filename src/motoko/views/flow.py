"""The flow between studies, from the recorded causes of runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from motoko.storage.columns import read_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from motoko.views.campaign import EventView
    from motoko.views.connection import ReadConnection

MAIN: Final = "main"
OTHERS: Final = "users and scripts"


@dataclass(frozen=True, slots=True)
class FlowEdge:
    """Runs of study ``target`` that ``cause``, an action, created for runs of ``source``."""

    source: str
    cause: str
    target: str
    number: int


@dataclass(frozen=True, slots=True)
class Flow:
    """The studies with their numbers of runs, and the edges between them."""

    nodes: Mapping[str, int]
    edges: tuple[FlowEdge, ...]


def read_creators(connection: ReadConnection, run_name: str) -> dict[str, Counter[str]]:
    """Return by study the number of runs that each function created."""
    workflow = connection.workflow
    found: dict[str, Counter[str]] = {}
    with connection.read() as session:
        for study in [] if session is None else session.tables.study_names():
            if session is not None and study in workflow.task_managers:
                columns = workflow.task_managers[study].columns
                table = read_columns(
                    session, columns, run_name, columns=["runs.event_name"], copied=True
                )
                found[study] = Counter(name or "" for name in table.values["runs.event_name"])
    return found


def flow_of(creators: Mapping[str, Counter[str]], events: Iterable[EventView]) -> Flow:
    """Return the flow; the registered ``events`` tell for which studies an action fires."""
    sources = _sources(events)
    edges = [
        FlowEdge(source, name, study, number)
        for study, names in creators.items()
        for name, number in sorted(names.items())
        for source in sources.get(name, [MAIN if name == MAIN else OTHERS])
    ]
    nodes = {study: names.total() for study, names in creators.items()}
    return Flow(nodes, tuple(edges))


def _sources(events: Iterable[EventView]) -> dict[str, list[str]]:
    """Return the studies of the events of each action's function."""
    found: dict[str, list[str]] = {}
    for event in events:
        function = event.action.partition(" ")[0].rpartition(".")[2]
        found.setdefault(function, []).extend(event.studies.split(", "))
    return {function: [*dict.fromkeys(studies)] for function, studies in found.items()}


def flow_layers(flow: Flow) -> list[list[str]]:
    """Return the names of all nodes of a flow by layer."""
    names = dict.fromkeys([*(edge.source for edge in flow.edges), *flow.nodes])
    return layers(names, [(edge.source, edge.target) for edge in flow.edges])


def layers(names: Iterable[str], edges: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Return names by their distance from the first ones, for drawing; cycles end."""
    depth = dict.fromkeys(names, 0)
    for _ in depth:  # at most as many steps as there are nodes
        before = dict(depth)
        for source, target in edges:
            if source != target and depth[target] <= depth[source] < len(depth):
                depth[target] = depth[source] + 1
        if depth == before:
            break
    numbers = sorted(set(depth.values()))
    return [[name for name in depth if depth[name] == number] for number in numbers]
