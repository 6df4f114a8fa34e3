"""Explanations and diagrams of graphs."""

from __future__ import annotations

import pytest

from motoko.graph import UNDECIDED, Graph, Node, fresh_because, stale_because
from motoko.graph.diagram import COLOURS, UNPRODUCED
from tests.support.step_graphs import DIAMOND, NodeFactory

pytestmark = pytest.mark.unit


def broken() -> None:
    raise OSError("no disk")


class TestExplain:
    def test_explains_each_node_once_down_to_the_cause(self) -> None:
        graph = Graph(
            [
                Node("mesh", (), lambda: stale_because("`size` changed", "2 became 3")),
                Node("data", ("mesh",), lambda: fresh_because("its key is 1f")),
                Node("flow", ("mesh", "data"), lambda: stale_because("`mesh` is stale")),
                Node("plot", ("flow", "mesh"), lambda: UNDECIDED),
                Node("other"),
            ]
        )
        found = graph.explain("plot")
        assert str(found) == "\n".join(
            [
                "plot: undecided",
                "  flow: stale: `mesh` is stale",
                "    mesh: stale: `size` changed; 2 became 3",
                "    data: fresh: its key is 1f",
            ]
        )
        assert not found.fresh
        assert [one.name for one in found.reasons] == ["plot", "flow", "mesh", "data"]

    def test_requirements_of_fresh_nodes_are_not_explained(self) -> None:
        factory = NodeFactory()
        factory.made.update(DIAMOND.requires)
        found = factory.graph(DIAMOND).explain("bottom")
        assert str(found) == "bottom: fresh: made"
        assert found.fresh

    def test_a_failing_check_is_explained(self) -> None:
        node = Node("a", (), broken)  # type: ignore[arg-type]
        assert str(Graph([node]).explain("a")) == "a: check failed: OSError: no disk"

    def test_a_long_chain_needs_no_recursion(self) -> None:
        nodes = [Node(str(i), (str(i - 1),) if i else ()) for i in range(10_000)]
        assert len(Graph(nodes).explain("9999").reasons) == 10_000


class TestDot:
    def test_nodes_edges_and_colours(self) -> None:
        graph = Graph([Node("a", origin="step one()"), Node("b", ("a", "data"))])
        statuses = {"a": "cached", "b": "no such status"}
        assert graph.dot(statuses.__getitem__, title='my "graph"', rankdir="TB").splitlines() == [
            r'digraph "my \"graph\"" {',
            "  rankdir=TB;",
            "  node [shape=box, style=filled];",
            f'  "a" [fillcolor="{COLOURS["cached"]}", tooltip="step one()"];',
            '  "b" [fillcolor="#e6e6e6"];',
            f'  "data" [style="filled,dashed", fillcolor="{UNPRODUCED}"];',
            '  "a" -> "b";',
            '  "data" -> "b";',
            "}",
        ]

    def test_names_are_escaped(self) -> None:
        text = Graph([Node('a"];\n\\x')]).dot()
        assert r'  "a\"];\n\\x" [' in text
        assert text.count("\n") == 5

    def test_without_statuses_the_nodes_are_checked(self) -> None:
        factory = NodeFactory()
        factory.made.add("top")
        nodes = [*factory.graph(DIAMOND).nodes.values(), Node("z", (), broken)]  # type: ignore[arg-type]
        text = Graph(nodes).dot()
        assert f'"top" [fillcolor="{COLOURS["fresh"]}"]' in text
        assert f'"left" [fillcolor="{COLOURS["stale"]}"]' in text
        assert f'"z" [fillcolor="{COLOURS["failed"]}"]' in text


def test_mermaid() -> None:
    graph = Graph([Node('say "a" #1'), Node("b", ('say "a" #1', "data"))])
    assert graph.mermaid(lambda name: "built" if name == "b" else "stale").splitlines() == [
        "flowchart LR",
        '  n0["say #quot;a#quot; #35;1"]:::stale',
        '  n1["b"]:::built',
        '  n2["data"]:::unproduced',
        "  n0 --> n1",
        "  n2 --> n1",
        f"  classDef built fill:{COLOURS['built']}",
        f"  classDef stale fill:{COLOURS['stale']}",
        f"  classDef unproduced fill:{UNPRODUCED},stroke-dasharray:4",
    ]
