"""For any graph, an order respects its edges and processes each node once."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motoko.errors import CycleError
from motoko.graph import Graph, Node, Status, order_as_listed, order_by_level, order_depth_first
from tests.support.step_graphs import NodeFactory

if TYPE_CHECKING:
    from motoko.graph.plan import Order

pytestmark = pytest.mark.property

Edges = dict[str, tuple[str, ...]]
ORDERS: list[Order | None] = [None, order_depth_first, order_by_level]


@st.composite
def dags(draw: st.DrawFn) -> Edges:
    """Return requirements that refer to earlier names only, in any order."""
    count = draw(st.integers(1, 9))
    edges = {
        str(i): tuple(draw(st.lists(st.sampled_from([str(j) for j in range(i)]), max_size=4)))
        if i
        else ()
        for i in range(count)
    }
    return {name: edges[name] for name in draw(st.permutations([*edges]))}


def subset(edges: Edges) -> st.SearchStrategy[set[str]]:
    return st.sets(st.sampled_from(sorted(edges)))


def needed(edges: Edges, name: str, spared: set[str]) -> set[str]:
    """Return the nodes that a build of ``name`` visits, by recursion."""
    below = (
        set() if name in spared else {one for r in edges[name] for one in needed(edges, r, spared)}
    )
    return {name} | below


@given(st.data())
def test_a_plan_respects_edges_and_contains_each_node_once(data: st.DataObject) -> None:
    edges = data.draw(dags())
    target = data.draw(st.sampled_from(sorted(edges)))
    order = Graph(Node(name, requires) for name, requires in edges.items()).plan(target).order
    assert sorted(order) == sorted(needed(edges, target, set()))
    for name in order:
        assert all(order.index(one) < order.index(name) for one in edges[name])


@given(st.data())
def test_orders_respect_edges_and_contain_each_node_once(data: st.DataObject) -> None:
    edges = data.draw(dags())
    listed = data.draw(st.permutations(sorted(edges)))
    for order in (order_by_level, order_as_listed(listed)):
        found = order(edges)
        assert sorted(found) == sorted(edges)
        for name in found:
            assert all(found.index(one) < found.index(name) for one in edges[name])


@given(st.data())
def test_a_build_executes_stale_nodes_once_after_their_requirements(data: st.DataObject) -> None:
    edges = data.draw(dags())
    target = data.draw(st.sampled_from(sorted(edges)))
    made, bad = data.draw(subset(edges)), data.draw(subset(edges))
    factory = NodeFactory(made=set(made))
    graph = Graph(factory.node(name, *edges[name], fails=name in bad) for name in edges)
    report = graph.run(
        target,
        order=data.draw(st.sampled_from(ORDERS)),
        threads=data.draw(st.sampled_from([0, 0, 2])),
        keep_going=True,
    )
    visited = needed(edges, target, made)

    def comes(name: str) -> bool:
        return name in made or (name not in bad and all(map(comes, edges[name])))

    runnable = {name for name in visited - made if all(map(comes, edges[name]))}
    assert sorted(factory.executed) == sorted(runnable)
    for name in factory.executed:
        before = factory.executed[: factory.executed.index(name)]
        assert all(one in before or one in made for one in edges[name])
    assert set(report.statuses) == visited
    assert set(report.names(Status.FAILED)) == runnable & bad
    assert set(report.names(Status.BLOCKED)) == visited - made - runnable
    assert sorted(factory.checked) == sorted(visited)


@given(dags(), st.data())
def test_a_back_edge_is_reported_as_a_cycle_with_its_path(
    edges: Edges, data: st.DataObject
) -> None:
    graph = Graph(Node(name, requires) for name, requires in edges.items())
    upper = data.draw(st.sampled_from(sorted(edges)))
    lower = data.draw(st.sampled_from(sorted(needed(edges, upper, set()))))
    with_cycle = {**edges, lower: (*edges[lower], upper)}
    graph = Graph(Node(name, requires) for name, requires in with_cycle.items())
    with pytest.raises(CycleError) as caught:
        graph.check()
    path = caught.value.path
    assert path[0] == path[-1]
    assert len(set(path)) == len(path) - 1
    assert all(b in with_cycle[a] for a, b in pairwise(path))
