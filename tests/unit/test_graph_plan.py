"""The content and order of plans, and invalid graphs."""

from __future__ import annotations

import pytest

from motoko.errors import (
    CycleError,
    DuplicateNodeError,
    GraphError,
    MotokoError,
    UnknownNodeError,
)
from motoko.graph import Graph, Node, make_plan, order_as_listed, order_by_level, order_depth_first
from tests.support.step_graphs import ASYMMETRIC, DIAMOND, NodeFactory

pytestmark = pytest.mark.unit

LONG = 10_000


def graph(**requires: str) -> Graph:
    """Return a graph of nodes whose requirements are given as words."""
    return Graph(Node(name, tuple(words.split())) for name, words in requires.items())


def chain(length: int = LONG) -> Graph:
    return Graph(Node(str(i), (str(i - 1),) if i else ()) for i in range(length))


class TestPlan:
    def test_a_plan_is_depth_first_in_order_of_requirements(self) -> None:
        assert NodeFactory().graph(ASYMMETRIC).plan("e").order == ("a", "d", "b", "c", "x", "e")

    def test_a_plan_contains_only_the_nodes_that_a_target_needs(self) -> None:
        found = NodeFactory().graph(ASYMMETRIC).plan("c", "x", "c")
        assert found.targets == ("c", "x")
        assert found.order == ("a", "b", "c", "x")
        assert set(found.nodes) == {"a", "b", "c", "x"}

    def test_without_targets_a_plan_contains_all_nodes(self) -> None:
        assert NodeFactory().graph(DIAMOND).plan().order == ("top", "left", "right", "bottom")

    def test_a_duplicate_requirement_counts_once(self) -> None:
        assert graph(a="", b="a a").plan("b").order == ("a", "b")

    def test_a_plan_depends_only_on_the_nodes(self) -> None:
        nodes = {"a": Node("a"), "b": Node("b", ("a",))}
        assert make_plan(nodes, ["b"]) == make_plan(nodes, ["b"])

    def test_a_long_chain_needs_no_recursion(self) -> None:
        long = chain()
        assert long.plan(str(LONG - 1)).order[-2:] == (str(LONG - 2), str(LONG - 1))
        assert len(long.dependents("0")) == len(long.requirements(str(LONG - 1))) == LONG - 1


class TestOrders:
    def test_orders_differ(self) -> None:
        edges = {name: ASYMMETRIC.requires[name] for name in ("a", "d", "b", "c", "x", "e")}
        assert order_depth_first(edges) == ["a", "d", "b", "c", "x", "e"]
        assert order_by_level(edges) == ["a", "x", "d", "b", "c", "e"]
        assert order_as_listed([*"abcdxe"])(edges) == ["a", "b", "c", "d", "x", "e"]

    def test_listed_order_is_kept_as_far_as_requirements_allow(self) -> None:
        assert order_as_listed(["b", "a", "c"])({"a": (), "b": ("a",), "c": ()}) == ["a", "b", "c"]

    def test_a_duplicate_requirement_does_not_block(self) -> None:
        edges = {"a": (), "b": ("a", "a")}
        assert order_by_level(edges) == order_as_listed(["a", "b"])(edges) == ["a", "b"]


class TestRelations:
    def test_requirements_and_dependents(self) -> None:
        found = NodeFactory().graph(ASYMMETRIC)
        assert found.requirements("e") == ["d", "c", "x", "a", "b"]
        assert found.requirements("e", transitive=False) == ["d", "c", "x"]
        assert found.dependents("a") == ["b", "d", "c", "e"]
        assert found.dependents("a", transitive=False) == ["b", "d"]
        assert found.dependents("e") == []

    def test_a_node_added_later_is_included(self) -> None:
        found = graph(a="", b="a")
        assert found.dependents("a") == ["b"]
        found.add(Node("c", ("b",)))
        assert found.dependents("a") == ["b", "c"]

    def test_unproduced_names_have_dependents(self) -> None:
        assert graph(b="data", c="b").dependents("data") == ["b", "c"]

    def test_a_name_in_a_cycle_depends_on_itself(self) -> None:
        found = graph(a="b", b="a")
        assert found.dependents("a") == ["b", "a"]
        assert found.requirements("a") == ["b", "a"]


class TestErrors:
    def test_a_duplicate_name_error_names_both_origins(self) -> None:
        nodes = [Node("mesh", origin="step coarse"), Node("mesh", origin="step fine")]
        with pytest.raises(DuplicateNodeError, match="'mesh': step coarse and step fine"):
            Graph(nodes)

    @pytest.mark.parametrize("ask", ["plan", "requirements", "dependents", "explain", "run"])
    def test_an_unknown_name_gets_a_suggestion(self, ask: str) -> None:
        with pytest.raises(UnknownNodeError, match="'temprature'") as caught:
            getattr(graph(temperature="", mesh=""), ask)("temprature")
        assert "'temperature'" in str(caught.value)

    def test_the_error_for_an_unknown_requirement_names_the_dependent(self) -> None:
        nodes = [Node("mesh"), Node("flow", ("mehs",), origin="step solve")]
        with pytest.raises(UnknownNodeError) as caught:
            Graph(nodes).plan("flow")
        first, second = str(caught.value).splitlines()
        assert first == "'flow' (step solve) requires 'mehs', which nothing produces"
        assert "'mesh'" in second

    def test_an_unknown_requirement_affects_only_its_dependents(self) -> None:
        found = graph(a="missing", b="")
        assert found.plan("b").order == ("b",)
        with pytest.raises(UnknownNodeError):
            found.check()

    def test_a_cycle_error_has_the_path(self) -> None:
        found = graph(start="a", a="b", b="c", c="a", other="")
        with pytest.raises(CycleError, match="'a' -> 'b' -> 'c' -> 'a'") as caught:
            found.plan("start")
        assert caught.value.path == ("a", "b", "c", "a")
        assert found.plan("other").order == ("other",)

    def test_a_node_that_requires_itself(self) -> None:
        with pytest.raises(CycleError, match="'a' requires itself"):
            graph(a="a").check()

    def test_a_long_cycle_needs_no_recursion(self) -> None:
        nodes = [Node(str(i), (str((i + 1) % LONG),)) for i in range(LONG)]
        with pytest.raises(CycleError) as caught:
            Graph(nodes).check()
        assert len(caught.value.path) == LONG + 1

    def test_errors_have_common_base_classes(self) -> None:
        for error in (CycleError, DuplicateNodeError, UnknownNodeError):
            assert issubclass(error, GraphError)
            assert issubclass(error, MotokoError)
        assert issubclass(UnknownNodeError, KeyError)
        # KeyError would show its message in quotes.
        assert str(UnknownNodeError("no node")) == "no node"
