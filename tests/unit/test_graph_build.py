"""Checks, actions and reports of a build, serially and in threads."""

from __future__ import annotations

import threading
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from motoko.errors import BuildError, ParameterError
from motoko.graph import (
    FRESH,
    STALE,
    UNDECIDED,
    Graph,
    Node,
    Status,
    order_as_listed,
    order_by_level,
    stale_because,
)
from tests.support.step_graphs import ASYMMETRIC, DIAMOND, FAILING, NodeFactory

if TYPE_CHECKING:
    from motoko.graph import StatusChange, Verdict

pytestmark = pytest.mark.unit

STARTS = (Status.STALE, Status.BUILDING)
BOTH = pytest.mark.parametrize("threads", [0, 2])


@pytest.fixture
def factory() -> NodeFactory:
    return NodeFactory()


class TestOrder:
    def test_depth_first_by_default(self, factory: NodeFactory) -> None:
        factory.graph(ASYMMETRIC).run("e")
        assert factory.executed == ["a", "d", "b", "c", "x", "e"]

    def test_by_level(self, factory: NodeFactory) -> None:
        factory.graph(ASYMMETRIC).run("e", order=order_by_level)
        assert factory.executed == ["a", "x", "d", "b", "c", "e"]

    def test_as_listed(self, factory: NodeFactory) -> None:
        factory.graph(ASYMMETRIC).run("e", order=order_as_listed([*"abcdxe"]))
        assert factory.executed == ["a", "b", "c", "d", "x", "e"]

    def test_depth_first_reports_stale_on_entry_and_checks_lazily(
        self, factory: NodeFactory
    ) -> None:
        factory.graph(DIAMOND).run("bottom", observers=[factory.observe])
        assert factory.events_of(*STARTS, Status.BUILT)[:7] == [
            ("bottom", "stale"),
            ("left", "stale"),
            ("top", "stale"),
            ("top", "building"),
            ("top", "built"),
            ("left", "building"),
            ("left", "built"),
        ]

    def test_with_an_order_all_nodes_are_checked_first(self, factory: NodeFactory) -> None:
        factory.graph(DIAMOND).run("bottom", order=order_by_level, observers=[factory.observe])
        assert factory.checked == ["bottom", "left", "top", "right"]
        assert [status for _, status in factory.events[:4]] == [Status.STALE] * 4

    @BOTH
    def test_all_targets_are_built_and_no_node_twice(
        self, factory: NodeFactory, threads: int
    ) -> None:
        report = factory.graph(ASYMMETRIC).run("c", "d", "c", threads=threads)
        assert sorted(factory.executed) == ["a", "b", "c", "d"]
        assert report.targets == ("c", "d")
        assert report.complete


class TestFreshness:
    @BOTH
    def test_no_action_runs_twice(self, factory: NodeFactory, threads: int) -> None:
        graph = factory.graph(DIAMOND)
        assert graph.run("bottom", threads=threads).names(Status.BUILT) == [
            "bottom",
            "left",
            "top",
            "right",
        ]
        factory.executed.clear()
        report = graph.run("bottom", threads=threads)
        assert report.statuses == {"bottom": Status.FRESH}
        assert factory.executed == []

    @BOTH
    def test_requirements_of_a_fresh_node_are_not_built(
        self, factory: NodeFactory, threads: int
    ) -> None:
        factory.made.add("left")
        report = factory.graph(DIAMOND).run("left", "bottom", threads=threads)
        # `right` requires `top`, but `left` does not.
        assert sorted(factory.executed) == ["bottom", "right", "top"]
        assert report.statuses["left"] is Status.FRESH

    @BOTH
    def test_an_undecided_node_is_checked_again_when_its_requirements_are_ready(
        self, factory: NodeFactory, threads: int
    ) -> None:
        answers: list[Verdict] = [UNDECIDED, FRESH]
        late = Node("late", ("a",), lambda: answers.pop(0), factory.action_of("late"))
        report = Graph([factory.node("a"), late]).run("late", threads=threads)
        assert report.statuses == {"late": Status.FRESH, "a": Status.BUILT}
        assert factory.executed == ["a"]
        assert answers == []

    @BOTH
    def test_an_undecided_node_that_becomes_stale_is_built(
        self, factory: NodeFactory, threads: int
    ) -> None:
        answers: list[Verdict] = [UNDECIDED, stale_because("its input changed")]
        late = Node("late", ("a",), lambda: answers.pop(0), factory.action_of("late"))
        Graph([factory.node("a"), late]).run("late", threads=threads, observers=[factory.observe])
        assert factory.executed == ["a", "late"]
        assert [status for name, status in factory.events if name == "late"] == [
            Status.UNDECIDED,
            Status.STALE,
            Status.BUILDING,
            Status.BUILT,
        ]

    @BOTH
    def test_an_action_may_return_a_verdict(self, factory: NodeFactory, threads: int) -> None:
        lazy = Node("lazy", (), lambda: STALE, lambda: stale_because("it takes time"))
        graph = Graph([lazy, factory.node("after", "lazy")])
        report = graph.run("after", threads=threads, keep_going=True)
        assert report.statuses == {"after": Status.BLOCKED, "lazy": Status.INCOMPLETE}
        with pytest.raises(BuildError, match="'lazy' is not ready: it takes time"):
            report.raise_failure()

    @BOTH
    def test_without_an_action_a_node_is_external_or_a_collection(
        self, factory: NodeFactory, threads: int
    ) -> None:
        graph = Graph(
            [
                Node("box", (), lambda: stale_because("nobody bought it")),
                factory.node("a"),
                Node("both", ("box", "a"), lambda: STALE),
                Node("one", ("a",), lambda: FRESH if "a" in factory.made else STALE),
            ]
        )
        report = graph.run("one", "both", threads=threads, keep_going=True)
        assert report.statuses == {
            "both": Status.BLOCKED,
            "box": Status.MISSING,
            "a": Status.BUILT,
            "one": Status.BUILT,
        }
        assert not report.complete
        with pytest.raises(BuildError, match="'box' is not ready: nobody bought it"):
            report.raise_failure()

    @BOTH
    def test_a_stale_collection_of_ready_members_is_incomplete(
        self, factory: NodeFactory, threads: int
    ) -> None:
        graph = Graph([factory.node("a"), Node("all", ("a",), lambda: stale_because("no index"))])
        report = graph.run("all", threads=threads)
        assert report.statuses == {"all": Status.INCOMPLETE, "a": Status.BUILT}


class TestGroups:
    @BOTH
    def test_a_group_is_ready_when_all_members_are(
        self, factory: NodeFactory, threads: int
    ) -> None:
        graph = Graph([factory.node("a"), factory.node("b"), Node("all", ("a", "b"))])
        after = factory.node("after", "all")
        graph.add(after)
        assert str(graph.explain("all")).startswith("all: undecided: it is fresh when all its")
        report = graph.run("after", threads=threads)
        assert sorted(factory.executed[:2]) == ["a", "b"]
        assert factory.executed[2:] == ["after"]
        assert report.statuses == dict.fromkeys(["after", "all", "a", "b"], Status.BUILT)

        factory.executed.clear()
        assert graph.run("all", threads=threads).statuses == dict.fromkeys(
            ["all", "a", "b"], Status.FRESH
        )
        assert factory.executed == []

    @BOTH
    def test_a_group_is_not_ready_if_a_member_is_not(
        self, factory: NodeFactory, threads: int
    ) -> None:
        graph = Graph([factory.node("a", fails=True), factory.node("b"), Node("all", ("a", "b"))])
        report = graph.run("all", threads=threads, keep_going=True)
        assert report.statuses == {
            "all": Status.BLOCKED,
            "a": Status.FAILED,
            "b": Status.BUILT,
        }
        dry = graph.run("all", dry_run=True, threads=threads)
        assert dry.statuses["all"] is Status.WOULD_BUILD

    def test_a_missing_node_has_a_hint(self) -> None:
        report = Graph([Node("box")]).run("box")
        with pytest.raises(
            BuildError, match=r"'box' is not ready: no action builds it\n.*an action"
        ):
            report.raise_failure()


class TestVerdicts:
    @BOTH
    def test_true_and_false_are_verdicts(self, factory: NodeFactory, threads: int) -> None:
        made: set[str] = set()
        node = Node("a", (), lambda: "a" in made, lambda: made.add("a"))
        graph = Graph([node, Node("b", "a", lambda: "b" in made, lambda: made.add("b"))])
        assert graph.run("b", threads=threads).names(Status.BUILT) == ["b", "a"]
        assert graph.run("b", threads=threads).statuses == {"b": Status.FRESH}
        assert str(graph.explain("a")) == "a: fresh"

    @BOTH
    @pytest.mark.parametrize("answer", [None, "yes", 1])
    def test_other_values_raise_an_error_with_the_name(self, answer: object, threads: int) -> None:
        node = Node("a", (), lambda: answer, lambda: None)  # type: ignore[arg-type,return-value]
        report = Graph([node]).run(threads=threads)
        text = rf"node 'a': is_fresh\(\) returned {answer!r}, which.*\n.*fresh_because"
        with pytest.raises(BuildError, match=text):
            report.raise_failure()
        late = Node("a", (), lambda: UNDECIDED, None, "", lambda: answer)  # type: ignore[arg-type,return-value]
        with pytest.raises(BuildError, match=r"when_ready\(\) returned"):
            Graph([late]).run(threads=threads).raise_failure()

    def test_a_string_is_a_single_requirement(self, factory: NodeFactory) -> None:
        made: list[str] = []
        graph = Graph(
            [
                factory.node("ab"),
                Node("y", "ab", action=lambda: made.append("y")),
                Node("z", ["ab", "y"], action=lambda: made.append("z")),
            ]
        )
        assert graph.run("z").complete
        assert factory.executed + made == ["ab", "y", "z"]
        assert (graph.nodes["y"].requires, graph.nodes["z"].requires) == (("ab",), ("ab", "y"))


@pytest.mark.parametrize("threads", [-1, "two", None])
async def test_threads_must_be_a_number(factory: NodeFactory, threads: Any) -> None:
    graph = Graph([factory.node("a")])
    with pytest.raises(ParameterError, match=f"threads={threads!r} is not a number of threads"):
        graph.run(threads=threads)
    with pytest.raises(ParameterError, match="is not a number of threads"):
        await graph.build(threads=threads)
    assert factory.checked == []


class TestSharedActions:
    @BOTH
    def test_one_execution_builds_all_nodes(self, factory: NodeFactory, threads: int) -> None:
        def both() -> None:
            factory.executed.append("both")
            factory.made.update(["x", "y"])

        graph = Graph(
            [
                Node("x", (), factory.check_of("x"), both),
                Node("y", (), factory.check_of("y"), both),
                factory.node("z", "x", "y"),
            ]
        )
        report = graph.run("z", threads=threads, order=order_by_level)
        assert factory.executed == ["both", "z"]
        assert report.complete

    @BOTH
    def test_nodes_that_the_action_does_not_build_are_incomplete(
        self, factory: NodeFactory, threads: int
    ) -> None:
        def half() -> None:
            factory.made.add("x")

        graph = Graph([Node(name, (), factory.check_of(name), half) for name in "xy"])
        report = graph.run(threads=threads, order=order_by_level)
        assert report.statuses == {"x": Status.BUILT, "y": Status.INCOMPLETE}
        with pytest.raises(BuildError, match="'y' is not ready: never made"):
            report.raise_failure()

    def test_nodes_without_a_reason_get_a_default(self) -> None:
        def half() -> None: ...

        report = Graph([Node(name, (), lambda: STALE, half) for name in "xy"]).run()
        with pytest.raises(BuildError, match="its action was called for 'x' too, but it is not"):
            report.raise_failure()

    @BOTH
    def test_without_is_fresh_nodes_share_the_status(
        self, factory: NodeFactory, threads: int
    ) -> None:
        both = factory.action_of("both")
        graph = Graph([Node("x", action=both), Node("y", action=both), factory.node("z", "x", "y")])
        report = graph.run("z", threads=threads, order=order_by_level)
        assert factory.executed == ["both", "z"]
        assert report.statuses == dict.fromkeys("zxy", Status.BUILT)

        half = partial(stale_because, "it takes time")
        report = Graph([Node(name, action=half) for name in "xy"]).run(
            threads=threads, keep_going=True
        )
        assert report.statuses == dict.fromkeys("xy", Status.INCOMPLETE)
        assert report.verdicts["y"].reasons == ("it takes time",)

    @BOTH
    def test_equal_bound_methods_are_one_action(self, threads: int) -> None:
        class Maker:
            made = 0

            def make(self) -> None:
                self.made += 1

        one, two = Maker(), Maker()
        nodes = [Node("a", action=one.make), Node("b", action=one.make), Node("c", action=two.make)]
        assert Graph(nodes).run(threads=threads).complete
        assert (one.made, two.made) == (1, 1)

    @BOTH
    def test_a_failing_action_fails_all_its_nodes(self, factory: NodeFactory, threads: int) -> None:
        action = factory.action_of("both", fails=True)
        graph = Graph([Node(name, (), factory.check_of(name), action) for name in "xy"])
        report = graph.run(threads=threads, keep_going=True)
        assert factory.executed == ["both"]
        assert report.names(Status.FAILED) == ["x", "y"]


class TestFailures:
    def test_a_build_stops_at_the_first_failure(self, factory: NodeFactory) -> None:
        report = factory.graph(FAILING).run("all")
        assert factory.executed == ["top", "left"]
        with pytest.raises(ZeroDivisionError, match="left"):
            report.raise_failure()
        assert report.statuses == {
            "all": Status.STALE,
            "bottom": Status.STALE,
            "left": Status.FAILED,
            "top": Status.BUILT,
        }

    @BOTH
    def test_keep_going_builds_independent_nodes(self, factory: NodeFactory, threads: int) -> None:
        seen: list[StatusChange] = []
        graph = factory.graph(FAILING)
        report = graph.run("all", keep_going=True, threads=threads, observers=[seen.append])
        assert sorted(factory.executed) == ["aside", "left", "right", "top"]
        assert report.names(Status.BLOCKED) == ["all", "bottom"]
        blocked = {one.name: one.waits_for for one in seen if one.status is Status.BLOCKED}
        assert blocked == {"bottom": ("left",), "all": ("bottom",)}
        failed = next(one for one in seen if one.status is Status.FAILED)
        assert failed.error is report.errors["left"]

    def test_in_threads_no_node_is_started_after_a_failure(self, factory: NodeFactory) -> None:
        graph = Graph([factory.node(str(i), fails=i == 0) for i in range(10)])
        graph.run(threads=1)
        assert factory.executed == ["0"]

    @BOTH
    def test_a_node_with_a_failing_check_is_failed(
        self, factory: NodeFactory, threads: int
    ) -> None:
        def broken() -> Verdict:
            raise OSError("no such disk")

        graph = Graph(
            [
                Node("a", (), broken, factory.action_of("a")),
                factory.node("b", "a"),
                factory.node("c"),
            ]
        )
        report = graph.run(threads=threads, keep_going=True, observers=[factory.observe])
        assert report.statuses == {"a": Status.FAILED, "b": Status.BLOCKED, "c": Status.BUILT}
        assert ("a", Status.FAILED) in factory.events
        with pytest.raises(OSError, match="no such disk"):
            report.raise_failure()

    @BOTH
    def test_an_interrupt_propagates(self, factory: NodeFactory, threads: int) -> None:
        def interrupted() -> None:
            raise KeyboardInterrupt

        graph = Graph([Node("a", (), lambda: STALE, interrupted), factory.node("b")])
        with pytest.raises(KeyboardInterrupt):
            graph.run(threads=threads, order=order_by_level, keep_going=True)

    @BOTH
    def test_a_failing_observer_causes_one_warning(
        self, factory: NodeFactory, threads: int
    ) -> None:
        def broken(event: StatusChange) -> None:
            raise ValueError("observer")

        observers = [broken, factory.observe]
        with pytest.warns(UserWarning, match="observer") as caught:
            report = factory.graph(DIAMOND).run("bottom", threads=threads, observers=observers)
        assert len(caught) == 1
        assert report.complete
        assert ("bottom", Status.BUILT) in factory.events


class TestDryRun:
    @BOTH
    def test_no_action_is_called(self, factory: NodeFactory, threads: int) -> None:
        factory.made.update(["top"])
        seen: list[StatusChange] = []
        report = factory.graph(DIAMOND).run(
            "bottom", dry_run=True, threads=threads, observers=[seen.append]
        )
        assert factory.executed == []
        assert report.names(Status.WOULD_BUILD) == ["bottom", "left", "right"]
        assert not report.complete
        last = seen[-1]
        assert (last.name, last.status) == ("bottom", Status.WOULD_BUILD)
        assert last.waits_for == ("left", "right")
        with pytest.raises(BuildError):
            report.raise_failure()

    def test_an_unavailable_requirement_blocks_dependents(self, factory: NodeFactory) -> None:
        graph = Graph([Node("box"), factory.node("a"), factory.node("b", "a", "box")])
        report = graph.run("b", dry_run=True, keep_going=True)
        assert report.statuses == {
            "b": Status.BLOCKED,
            "a": Status.WOULD_BUILD,
            "box": Status.MISSING,
        }

    def test_coroutines_are_not_called(self) -> None:
        async def action() -> None:
            raise AssertionError

        report = Graph([Node("a", action=action)]).run(dry_run=True)
        assert report.statuses == {"a": Status.WOULD_BUILD}


class TestProgress:
    @BOTH
    def test_status_changes_have_progress_counts(self, factory: NodeFactory, threads: int) -> None:
        seen: list[StatusChange] = []
        factory.made.add("top")
        factory.graph(DIAMOND).run("bottom", threads=threads, observers=[seen.append])
        assert (seen[-1].name, seen[-1].done, seen[-1].total) == ("bottom", 4, 4)
        assert [one.done for one in seen] == sorted(one.done for one in seen)
        assert all(one.done <= one.total for one in seen)


class TestThreads:
    def test_actions_run_concurrently(self) -> None:
        # Each action waits for the other: serial execution would break the barrier.
        barrier = threading.Barrier(2)
        graph = Graph([Node(name, action=lambda: barrier.wait(timeout=120)) for name in "ab"])
        assert graph.run(threads=2).complete

    def test_concurrency_is_limited_to_threads(self) -> None:
        barrier, met = threading.Barrier(3), []

        def action() -> None:
            with suppress(threading.BrokenBarrierError):
                barrier.wait(timeout=0.1)
                met.append("three at a time")

        # Each node has a separate action: nodes that share one are executed once.
        graph = Graph([Node(str(i), action=partial(action)) for i in range(6)])
        assert graph.run(threads=2).complete
        assert met == []

    def test_zero_threads_is_the_calling_thread(self) -> None:
        names: list[str] = []
        node = Node("a", action=lambda: names.append(threading.current_thread().name))
        Graph([node]).run()
        Graph([node]).run(threads=1)
        assert names[0] == threading.current_thread().name
        assert names[1] != names[0]

    def test_actions_run_in_the_callers_context(self) -> None:
        variable: ContextVar[str] = ContextVar("variable")
        variable.set("mine")
        seen: list[str] = []
        Graph([Node("a", action=lambda: seen.append(variable.get("nobody's")))]).run(threads=1)
        assert seen == ["mine"]

    @BOTH
    def test_a_chain_of_ten_thousand_nodes(self, factory: NodeFactory, threads: int) -> None:
        names = [str(i) for i in range(10_000)]
        nodes = [factory.node(name, *names[max(i - 1, 0) : i]) for i, name in enumerate(names)]
        assert Graph(nodes).run(names[-1], threads=threads).complete
        assert factory.executed == names
