"""What a build asks, executes and reports, serially and in threads."""

from __future__ import annotations

import threading
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING

import pytest

from motoko.errors import BuildError
from motoko.graph import (
    FRESH,
    STALE,
    UNDECIDED,
    Graph,
    Node,
    Status,
    as_listed,
    by_level,
    stale_because,
)
from tests.support.step_graphs import ASYMMETRIC, DIAMOND, FAILING, Workshop

if TYPE_CHECKING:
    from motoko.graph import Event, Verdict

pytestmark = pytest.mark.unit

STARTS = (Status.STALE, Status.BUILDING)
BOTH = pytest.mark.parametrize("threads", [0, 2])


@pytest.fixture
def shop() -> Workshop:
    return Workshop()


class TestOrder:
    def test_depth_first_by_default(self, shop: Workshop) -> None:
        shop.graph(ASYMMETRIC).run("e")
        assert shop.executed == ["a", "d", "b", "c", "x", "e"]

    def test_by_level(self, shop: Workshop) -> None:
        shop.graph(ASYMMETRIC).run("e", order=by_level)
        assert shop.executed == ["a", "x", "d", "b", "c", "e"]

    def test_as_listed(self, shop: Workshop) -> None:
        shop.graph(ASYMMETRIC).run("e", order=as_listed([*"abcdxe"]))
        assert shop.executed == ["a", "b", "c", "d", "x", "e"]

    def test_depth_first_says_stale_on_entry_and_asks_lazily(self, shop: Workshop) -> None:
        shop.graph(DIAMOND).run("bottom", observers=[shop.observe])
        assert shop.events_of(*STARTS, Status.BUILT)[:7] == [
            ("bottom", "stale"),
            ("left", "stale"),
            ("top", "stale"),
            ("top", "building"),
            ("top", "built"),
            ("left", "building"),
            ("left", "built"),
        ]

    def test_an_order_has_all_nodes_asked_first(self, shop: Workshop) -> None:
        shop.graph(DIAMOND).run("bottom", order=by_level, observers=[shop.observe])
        assert shop.asked == ["bottom", "left", "top", "right"]
        assert [status for _, status in shop.events[:4]] == [Status.STALE] * 4

    @BOTH
    def test_all_targets_and_nothing_twice(self, shop: Workshop, threads: int) -> None:
        report = shop.graph(ASYMMETRIC).run("c", "d", "c", threads=threads)
        assert sorted(shop.executed) == ["a", "b", "c", "d"]
        assert report.targets == ("c", "d")
        assert report.complete


class TestFreshness:
    @BOTH
    def test_nothing_is_done_twice(self, shop: Workshop, threads: int) -> None:
        graph = shop.graph(DIAMOND)
        assert graph.run("bottom", threads=threads).names(Status.BUILT) == [
            "bottom",
            "left",
            "top",
            "right",
        ]
        shop.executed.clear()
        report = graph.run("bottom", threads=threads)
        assert report.statuses == {"bottom": Status.FRESH}
        assert shop.executed == []

    @BOTH
    def test_a_fresh_node_spares_its_requirements(self, shop: Workshop, threads: int) -> None:
        shop.made.add("left")
        report = shop.graph(DIAMOND).run("left", "bottom", threads=threads)
        # `right` requires `top`, which `left` alone would have spared.
        assert sorted(shop.executed) == ["bottom", "right", "top"]
        assert report.statuses["left"] is Status.FRESH

    @BOTH
    def test_an_undecided_node_is_asked_again_when_its_requirements_are_there(
        self, shop: Workshop, threads: int
    ) -> None:
        answers: list[Verdict] = [UNDECIDED, FRESH]
        late = Node("late", ("a",), lambda: answers.pop(0), shop.making("late"))
        report = Graph([shop.node("a"), late]).run("late", threads=threads)
        assert report.statuses == {"late": Status.FRESH, "a": Status.BUILT}
        assert shop.executed == ["a"]
        assert answers == []

    @BOTH
    def test_an_undecided_node_that_turns_out_stale_is_built(
        self, shop: Workshop, threads: int
    ) -> None:
        answers: list[Verdict] = [UNDECIDED, stale_because("its input changed")]
        late = Node("late", ("a",), lambda: answers.pop(0), shop.making("late"))
        Graph([shop.node("a"), late]).run("late", threads=threads, observers=[shop.observe])
        assert shop.executed == ["a", "late"]
        assert [status for name, status in shop.events if name == "late"] == [
            Status.UNDECIDED,
            Status.STALE,
            Status.BUILDING,
            Status.BUILT,
        ]

    @BOTH
    def test_an_action_may_say_how_things_stand(self, shop: Workshop, threads: int) -> None:
        lazy = Node("lazy", (), lambda: STALE, lambda: stale_because("it takes time"))
        graph = Graph([lazy, shop.node("after", "lazy")])
        report = graph.run("after", threads=threads, keep_going=True)
        assert report.statuses == {"after": Status.BLOCKED, "lazy": Status.INCOMPLETE}
        with pytest.raises(BuildError, match="'lazy' is not there: it takes time"):
            report.raise_failure()

    @BOTH
    def test_without_an_action_a_node_is_external_or_a_collection(
        self, shop: Workshop, threads: int
    ) -> None:
        graph = Graph(
            [
                Node("box", (), lambda: stale_because("nobody bought it")),
                shop.node("a"),
                Node("both", ("box", "a"), lambda: STALE),
                Node("one", ("a",), lambda: FRESH if "a" in shop.made else STALE),
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
        with pytest.raises(BuildError, match="'box' is not there: nobody bought it"):
            report.raise_failure()

    @BOTH
    def test_a_collection_that_is_not_fresh_with_all_it_collects_is_incomplete(
        self, shop: Workshop, threads: int
    ) -> None:
        graph = Graph([shop.node("a"), Node("all", ("a",), lambda: stale_because("no index"))])
        report = graph.run("all", threads=threads)
        assert report.statuses == {"all": Status.INCOMPLETE, "a": Status.BUILT}


class TestSharedActions:
    @BOTH
    def test_one_execution_makes_all_of_them(self, shop: Workshop, threads: int) -> None:
        def both() -> None:
            shop.executed.append("both")
            shop.made.update(["x", "y"])

        graph = Graph(
            [
                Node("x", (), shop.asking("x"), both),
                Node("y", (), shop.asking("y"), both),
                shop.node("z", "x", "y"),
            ]
        )
        report = graph.run("z", threads=threads, order=by_level)
        assert shop.executed == ["both", "z"]
        assert report.complete

    @BOTH
    def test_what_it_does_not_make_is_incomplete(self, shop: Workshop, threads: int) -> None:
        def half() -> None:
            shop.made.add("x")

        graph = Graph([Node(name, (), shop.asking(name), half) for name in "xy"])
        report = graph.run(threads=threads, order=by_level)
        assert report.statuses == {"x": Status.BUILT, "y": Status.INCOMPLETE}

    @BOTH
    def test_when_it_fails_all_of_them_have_failed(self, shop: Workshop, threads: int) -> None:
        action = shop.making("both", fails=True)
        graph = Graph([Node(name, (), shop.asking(name), action) for name in "xy"])
        report = graph.run(threads=threads, keep_going=True)
        assert shop.executed == ["both"]
        assert report.names(Status.FAILED) == ["x", "y"]


class TestFailures:
    def test_it_stops_at_the_first(self, shop: Workshop) -> None:
        report = shop.graph(FAILING).run("all")
        assert shop.executed == ["top", "left"]
        with pytest.raises(ZeroDivisionError, match="left"):
            report.raise_failure()
        assert report.statuses == {
            "all": Status.STALE,
            "bottom": Status.STALE,
            "left": Status.FAILED,
            "top": Status.BUILT,
        }

    @BOTH
    def test_or_goes_on_with_what_does_not_depend_on_it(self, shop: Workshop, threads: int) -> None:
        seen: list[Event] = []
        graph = shop.graph(FAILING)
        report = graph.run("all", keep_going=True, threads=threads, observers=[seen.append])
        assert sorted(shop.executed) == ["aside", "left", "right", "top"]
        assert report.names(Status.BLOCKED) == ["all", "bottom"]
        blocked = {one.name: one.waits_for for one in seen if one.status is Status.BLOCKED}
        assert blocked == {"bottom": ("left",), "all": ("bottom",)}
        failed = next(one for one in seen if one.status is Status.FAILED)
        assert failed.error is report.errors["left"]

    def test_in_threads_nothing_new_is_started(self, shop: Workshop) -> None:
        graph = Graph([shop.node(str(i), fails=i == 0) for i in range(10)])
        graph.run(threads=1)
        assert shop.executed == ["0"]

    @BOTH
    def test_a_node_that_cannot_be_asked_has_failed(self, shop: Workshop, threads: int) -> None:
        def broken() -> Verdict:
            raise OSError("no such disk")

        graph = Graph(
            [Node("a", (), broken, shop.making("a")), shop.node("b", "a"), shop.node("c")]
        )
        report = graph.run(threads=threads, keep_going=True, observers=[shop.observe])
        assert report.statuses == {"a": Status.FAILED, "b": Status.BLOCKED, "c": Status.BUILT}
        assert ("a", Status.FAILED) in shop.events
        with pytest.raises(OSError, match="no such disk"):
            report.raise_failure()

    @BOTH
    def test_an_interrupt_goes_through(self, shop: Workshop, threads: int) -> None:
        def interrupted() -> None:
            raise KeyboardInterrupt

        graph = Graph([Node("a", (), lambda: STALE, interrupted), shop.node("b")])
        with pytest.raises(KeyboardInterrupt):
            graph.run(threads=threads, order=by_level, keep_going=True)

    @BOTH
    def test_an_observer_that_fails_is_warned_about_once(
        self, shop: Workshop, threads: int
    ) -> None:
        def broken(event: Event) -> None:
            raise ValueError("observer")

        observers = [broken, shop.observe]
        with pytest.warns(UserWarning, match="observer") as caught:
            report = shop.graph(DIAMOND).run("bottom", threads=threads, observers=observers)
        assert len(caught) == 1
        assert report.complete
        assert ("bottom", Status.BUILT) in shop.events


class TestDryRun:
    @BOTH
    def test_no_action_is_called(self, shop: Workshop, threads: int) -> None:
        shop.made.update(["top"])
        seen: list[Event] = []
        report = shop.graph(DIAMOND).run(
            "bottom", dry_run=True, threads=threads, observers=[seen.append]
        )
        assert shop.executed == []
        assert report.names(Status.WOULD_BUILD) == ["bottom", "left", "right"]
        assert not report.complete
        last = seen[-1]
        assert (last.name, last.status) == ("bottom", Status.WOULD_BUILD)
        assert last.waits_for == ("left", "right")
        with pytest.raises(BuildError):
            report.raise_failure()

    def test_what_can_never_come_blocks(self, shop: Workshop) -> None:
        graph = Graph([Node("box"), shop.node("a"), shop.node("b", "a", "box")])
        report = graph.run("b", dry_run=True, keep_going=True)
        assert report.statuses == {
            "b": Status.BLOCKED,
            "a": Status.WOULD_BUILD,
            "box": Status.MISSING,
        }

    def test_coroutines_are_not_called_either(self) -> None:
        async def action() -> None:
            raise AssertionError

        report = Graph([Node("a", action=action)]).run(dry_run=True)
        assert report.statuses == {"a": Status.WOULD_BUILD}


class TestProgress:
    @BOTH
    def test_events_count(self, shop: Workshop, threads: int) -> None:
        seen: list[Event] = []
        shop.made.add("top")
        shop.graph(DIAMOND).run("bottom", threads=threads, observers=[seen.append])
        assert (seen[-1].name, seen[-1].done, seen[-1].total) == ("bottom", 4, 4)
        assert [one.done for one in seen] == sorted(one.done for one in seen)
        assert all(one.done <= one.total for one in seen)


class TestThreads:
    def test_actions_go_on_at_the_same_time(self) -> None:
        # Each waits for the other: one after the other would break the barrier.
        barrier = threading.Barrier(2)
        graph = Graph([Node(name, action=lambda: barrier.wait(timeout=20)) for name in "ab"])
        assert graph.run(threads=2).complete

    def test_no_more_than_so_many(self) -> None:
        barrier, met = threading.Barrier(3), []

        def action() -> None:
            with suppress(threading.BrokenBarrierError):
                barrier.wait(timeout=0.1)
                met.append("three at a time")

        # Each node has an action of its own: nodes that share one are executed once.
        graph = Graph([Node(str(i), action=partial(action)) for i in range(6)])
        assert graph.run(threads=2).complete
        assert met == []

    def test_zero_is_the_calling_thread(self) -> None:
        names: list[str] = []
        node = Node("a", action=lambda: names.append(threading.current_thread().name))
        Graph([node]).run()
        Graph([node]).run(threads=1)
        assert names[0] == threading.current_thread().name
        assert names[1] != names[0]

    def test_actions_see_the_callers_context(self) -> None:
        variable: ContextVar[str] = ContextVar("variable")
        variable.set("mine")
        seen: list[str] = []
        Graph([Node("a", action=lambda: seen.append(variable.get("nobody's")))]).run(threads=1)
        assert seen == ["mine"]

    @BOTH
    def test_a_chain_of_ten_thousand(self, shop: Workshop, threads: int) -> None:
        names = [str(i) for i in range(10_000)]
        nodes = [shop.node(name, *names[max(i - 1, 0) : i]) for i, name in enumerate(names)]
        assert Graph(nodes).run(names[-1], threads=threads).complete
        assert shop.executed == names
