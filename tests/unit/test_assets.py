"""Task functions: yields, calls and helper functions."""

from __future__ import annotations

import abc
import asyncio
import logging
import re
import threading
from hashlib import sha256
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from motoko import assets as a
from motoko.assets import Asset, asset, external, refs, task, tasks
from motoko.graph import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from motoko.assets import Node

pytestmark = pytest.mark.unit

THREADS = pytest.mark.parametrize("threads", [0, 2])


@pytest.fixture(autouse=True)
def _log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    """Return the log lines of at least this level, preceded by the level."""
    return [f"{r.levelname} {r.getMessage()}" for r in caplog.records if r.levelno >= level]


def simple(name: str, requirements: Callable[[], Any] | None = None, *, works: bool = True) -> Any:
    """Return a task function whose asset is a list; unless it fails, its body fills the list."""

    @task
    def function() -> Iterator[Any]:
        done: list[str] = []
        yield name
        yield asset(done, lambda: bool(done))
        yield requirements() if requirements else None
        if not works:
            raise ZeroDivisionError(f"{name} fails\nbadly")
        done.append(name)

    return function


def external_asset(name: str, *, there: bool) -> Any:
    """Return an external function."""

    @external
    def function() -> Iterator[Any]:
        yield name
        yield asset(name, lambda: there)

    return function


def never(obj: object) -> Iterator[Any]:
    """Raise an error if called."""
    raise AssertionError


class TestAssets:
    def test_by_position_and_by_keyword(self) -> None:
        def is_ready_now() -> bool:
            return True

        assert (
            asset("x", is_ready_now)
            == asset(ref="x", ready=is_ready_now)
            == Asset("x", is_ready_now)
        )
        assert Asset(ref=1, ready=is_ready_now) != asset(2, is_ready_now)
        assert asset({}, is_ready_now).ref == {}

    @pytest.mark.parametrize(
        ("shape", "expected"),
        [
            (lambda make: make(1), 1),
            (lambda make: [make(1), make(2)], [1, 2]),
            (lambda make: {"x": make(1), "y": make(2)}, {"x": 1, "y": 2}),
            (lambda make: None, None),
            (lambda make: [], []),
        ],
    )
    def test_assets_may_have_any_shape(self, shape: Any, expected: object) -> None:
        yielded = shape(lambda ref: asset(ref, lambda: True))

        @task
        def function() -> Iterator[Any]:
            yield "name"
            yield yielded
            yield None

        node = function()
        assert a.assets(node) is yielded
        assert refs(node) == refs(yielded) == expected
        assert a.ready(node)

    def test_all_assets_must_be_ready(self) -> None:
        @external
        def function() -> Iterator[Any]:
            yield "name"
            yield [asset(1, lambda: True), asset(2, lambda: False)]

        assert not a.ready(function())

    def test_a_task_without_assets_has_an_empty_plan(self) -> None:
        assert a.assets(None) is None
        assert refs(None) is None


class TestTasks:
    def test_a_body_is_executed_once(self) -> None:
        there: list[int] = []

        @task
        def function() -> Iterator[Any]:
            yield "name"
            yield asset("x", lambda: bool(there))
            yield None
            there.append(1)

        assert a.ready(function())
        assert a.ready(function())
        assert there == [1]

    def test_requirements_are_built_first(self) -> None:
        one = simple("one")

        @task
        def two() -> Iterator[Any]:
            done: list[Any] = []
            yield "two"
            yield asset(done, lambda: bool(done))
            required = one()
            yield required
            done.append(refs(required)[0])

        assert refs(two()) == ["one"]

    @pytest.mark.parametrize("shape", [lambda x: x, lambda x: [x], lambda x: {"k": x}])
    def test_requirements_keep_their_shape(self, shape: Any) -> None:
        node = simple("two", lambda: shape(simple("one")()))()
        found = a.requirements(node)
        assert type(found) is type(shape(node))
        assert a.requirements(simple("one")()) is None
        assert found == shape(simple("one")())

    def test_yield_from_a_helper(self) -> None:
        def helper(name: str) -> Iterator[Any]:
            done: list[int] = []
            yield name
            yield asset(done, lambda: bool(done))
            yield None
            done.append(1)

        @task
        def function(name: str) -> Iterator[Any]:
            yield from helper(name)

        assert refs(function("name")) == [1]

    def test_names_are_converted_to_text(self) -> None:
        @external
        def function() -> Iterator[Any]:
            yield 42
            yield None

        assert function().taskname == "42"

    def test_methods_and_documentation(self) -> None:
        class Kitchen:
            @task
            def tea(self, *, sugar: int = 0) -> Iterator[Any]:
                """Make tea."""
                yield f"tea with {sugar}"
                yield None
                yield None

        assert Kitchen().tea(sugar=2).taskname == "tea with 2"
        assert (Kitchen.tea.__name__, Kitchen.tea.__doc__) == ("tea", "Make tea.")

    def test_a_collection_is_ready_when_all_members_are(self) -> None:
        there = external_asset("box", there=True)

        @tasks
        def both() -> Iterator[Any]:
            yield "both"
            yield [simple("one")(), there()]
            raise AssertionError("never executed")

        node = both()
        assert a.ready(node)
        assert refs(node) == [["one"], "box"]
        assert [type(one) for one in a.assets(node)] == [Asset, Asset]

    @THREADS
    def test_an_empty_collection_is_ready(self, threads: int) -> None:
        @tasks
        def nothing() -> Iterator[Any]:
            yield "nothing"
            yield None

        node = nothing(threads=threads)
        assert a.ready(node)
        assert (refs(node), a.requirements(node)) == ([], None)

    def test_code_after_the_last_yield_of_an_external_is_never_executed(self) -> None:
        @external
        def function() -> Iterator[Any]:
            yield "name"
            yield asset(1, lambda: False)
            raise AssertionError("never executed")

        assert not a.ready(function())

    def test_a_closure_flag_is_a_valid_ready_function(self) -> None:
        @task
        def function() -> Iterator[Any]:
            ran = False
            yield "name"
            yield asset(None, lambda: ran)
            yield None
            ran = True

        assert a.ready(function())


class TestCalls:
    @THREADS
    def test_only_the_root_call_builds(self, threads: int) -> None:
        inner = simple("inner")
        seen: list[Any] = []

        @task
        def outer() -> Iterator[Any]:
            yield "outer"
            seen.append(refs(inner()))
            yield asset(None, lambda: len(seen) > 1)
            yield None
            seen.append(refs(inner()))

        assert a.ready(outer(threads=threads))
        # Without a value before the last yield and in the body, in any thread.
        assert seen == [[], []]

    @THREADS
    def test_one_body_is_executed_for_one_name(self, threads: int) -> None:
        executed: list[int] = []

        @task
        def shared(handle: int) -> Iterator[Any]:
            value: list[int] = []
            yield "shared"
            yield asset(value, lambda: bool(value))
            yield None
            executed.append(handle)
            value.append(7)

        handles: list[Node] = []

        def handle(number: int) -> Node:
            handles.append(shared(number))
            return handles[-1]

        left, right = simple("left", lambda: handle(1)), simple("right", lambda: handle(2))
        simple("both", lambda: [left(), right(), handle(3)])(threads=threads)
        assert executed == [1]
        assert [refs(one) for one in handles] == [[7]] * 3
        assert len(set(handles)) == 1

    def test_shared_requirements_are_called_once_per_use(self) -> None:
        # Each layer requires the one below twice: 2 ** 60 calls without the cache.
        calls: list[int] = []

        @task
        def layer(depth: int) -> Iterator[Any]:
            done: list[int] = []
            calls.append(depth)
            yield f"layer {depth}"
            yield asset(done, lambda: bool(done))
            yield [layer(depth - 1), layer(depth - 1)] if depth else None
            done.append(1)

        assert a.ready(layer(60))
        assert len(calls) == 1 + 60 * 2

    def test_a_node_of_an_earlier_call_may_be_required(self) -> None:
        box = external_asset("box", there=True)()
        kept = simple("kept", lambda: box)(dry_run=True)
        assert not a.ready(kept)
        assert a.ready(simple("after", lambda: kept)())
        assert refs(kept) == ["kept"]

    def test_ready_is_checked_at_each_build(self) -> None:
        there = [True]

        @external
        def function() -> Iterator[Any]:
            yield "name"
            yield asset(1, lambda: there[0])

        node = function()
        assert a.ready(node)
        there[0] = False
        assert not a.ready(node)
        assert not a.ready(function())

    def test_an_asset_is_checked_once_per_build_and_once_after_its_body(self) -> None:
        checked: list[str] = []

        def build(*, there: bool) -> None:
            done = [there]

            def is_ready() -> bool:
                checked.append("leaf")
                return done[0]

            @task
            def leaf() -> Iterator[Any]:
                yield "leaf"
                yield asset(1, is_ready)
                yield None
                done[0] = True

            @tasks
            def inner() -> Iterator[Any]:
                yield "inner"
                yield [leaf()]

            @tasks
            def outer() -> Iterator[Any]:
                yield "outer"
                yield [inner(), leaf()]

            outer()

        build(there=True)
        assert checked == ["leaf"]
        checked.clear()
        build(there=False)
        assert checked == ["leaf"] * 2

    def test_any_task_may_be_the_root(self, caplog: pytest.LogCaptureFixture) -> None:
        one = simple("one")
        simple("two", one)
        one()
        assert lines(caplog) == ["INFO one: Executing", "INFO one: Ready"]

    def test_nodes_are_equal_if_their_names_are(self) -> None:
        one, same, other = simple("x")(), external_asset("x", there=True)(), simple("y")()
        assert one == same
        assert hash(one) == hash(same)
        assert one != other
        assert str(one) == f"x <{id(one)}>"

    def test_the_report_has_the_status_of_each_task(self) -> None:
        node = simple("two", simple("one"))()
        assert node.report is not None
        assert node.report.statuses == {"two": Status.BUILT, "one": Status.BUILT}


class TestReservedWords:
    def test_reserved_words_are_not_passed_to_the_function(self) -> None:
        given: list[dict[str, Any]] = []

        @task
        def function(**options: Any) -> Iterator[Any]:
            given.append(options)
            yield "name"
            yield None
            yield None

        @tasks
        def both() -> Iterator[Any]:
            yield "both"
            yield [function(dry_run=True, threads=3, log=None, x=1)]

        both()
        function(dry_run=True, threads=1, log=logging.getLogger("mine"), y=2)
        assert given == [{"x": 1}, {"y": 2}]

    def test_reserved_words_apply_only_to_the_root_call(self) -> None:
        one = simple("one")
        assert a.ready(simple("two", lambda: one(dry_run=True))())

    @THREADS
    def test_a_dry_run_executes_no_body(
        self, threads: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        two = simple("two", lambda: [simple("one")(), external_asset("box", there=True)()])
        assert not a.ready(two(dry_run=True, threads=threads))
        assert lines(caplog) == [
            "INFO one: SKIPPING (DRY RUN)",
            "WARNING one: Not ready",
            "INFO box: Ready",
            "WARNING two: Not ready",
            "WARNING two: Requires:",
            "WARNING two: ✖ one",
            "WARNING two: ✔ box",
        ]

    def test_bodies_run_concurrently(self) -> None:
        barrier = threading.Barrier(2)

        @task
        def meet(name: str) -> Iterator[Any]:
            met: list[int] = []
            yield name
            yield asset(met, lambda: bool(met))
            yield None
            met.append(barrier.wait(timeout=120))

        @tasks
        def both() -> Iterator[Any]:
            yield "both"
            yield [meet("a"), meet("b")]

        assert a.ready(both(threads=2))

    @THREADS
    def test_a_custom_logger(self, threads: int, caplog: pytest.LogCaptureFixture) -> None:
        @task
        def function() -> Iterator[Any]:
            a.log.info("called")
            yield "name"
            yield asset(1, lambda: False)
            yield None
            a.log.info("body")

        function(log=logging.getLogger("mine"), threads=threads)
        assert {record.name for record in caplog.records} == {"mine"}
        assert {"INFO called", "INFO body"} <= set(lines(caplog))
        caplog.clear()
        function(threads=threads)
        assert {record.name for record in caplog.records} == {"root"}


class TestLog:
    def test_ready_tasks_are_logged_without_their_requirements(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        @tasks
        def both() -> Iterator[Any]:
            yield "both"
            yield [external_asset("box", there=True)()]

        both()
        assert lines(caplog) == ["INFO both: Ready"]

    def test_a_failing_body_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        bad = simple("bad", works=False)
        node = simple("after", lambda: [bad(), simple("good")()])()
        assert not a.ready(node)
        assert lines(caplog) == [
            "INFO bad: Executing",
            "ERROR bad: Task failed: bad fails\nbadly",
            "INFO good: Executing",
            "INFO good: Ready",
            "WARNING after: Not ready",
            "WARNING after: Requires:",
            "WARNING after: ✖ bad",
            "WARNING after: ✔ good",
        ]
        trace = [line for line in lines(caplog, logging.DEBUG) if line.startswith("DEBUG bad:")]
        assert trace[0] == "DEBUG bad: Task failed: Traceback (most recent call last):"
        assert trace[-2:] == [
            "DEBUG bad: Task failed: ZeroDivisionError: bad fails",
            "DEBUG bad: Task failed: badly",
        ]

    def test_threads_are_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        simple("bad", simple("good"), works=False)(threads=1)
        assert "ERROR bad: Task failed in thread: bad fails\nbadly" in lines(caplog)
        assert "DEBUG good: Task completed in thread" in lines(caplog, logging.DEBUG)

    def test_a_failing_check_fails_only_its_task(self, caplog: pytest.LogCaptureFixture) -> None:
        def broken() -> bool:
            raise OSError("no disk")

        @task
        def bad() -> Iterator[Any]:
            yield "bad"
            yield asset(1, broken)
            yield None
            raise AssertionError("never executed")

        @tasks
        def both() -> Iterator[Any]:
            yield "both"
            yield [bad(), simple("good")()]

        node = both()
        assert lines(caplog) == [
            "ERROR bad: Task failed: no disk",
            "INFO good: Executing",
            "INFO good: Ready",
            "WARNING both: Not ready",
            "WARNING both: Requires:",
            "WARNING both: ✖ bad",
            "WARNING both: ✔ good",
        ]
        assert "orange" in a.graph(node)

    @THREADS
    def test_an_interrupt_stops_the_build(
        self, threads: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        @task
        def interrupted() -> Iterator[Any]:
            yield "interrupted"
            yield asset(1, lambda: False)
            yield None
            raise KeyboardInterrupt

        node = simple("after", interrupted)(threads=threads)
        assert lines(caplog) == ["INFO interrupted: Executing", "INFO Interrupted"]
        is_logged = "DEBUG Cancelling: interrupted" in lines(caplog, logging.DEBUG)
        assert is_logged == bool(threads)
        assert node.report is None

    def test_the_graph_is_logged_before_it_is_built(self, caplog: pytest.LogCaptureFixture) -> None:
        box = external_asset("box", there=True)
        made = simple("made", lambda: [box()])

        @tasks
        def root() -> Iterator[Any]:
            yield "root"
            yield [made(), box(), simple("alone")()]

        root()
        found = lines(caplog, logging.DEBUG)
        rule = "─"
        assert found[:3] == [f"DEBUG {rule * 10}", "DEBUG Task Graph", f"DEBUG {rule * 10}"]
        assert found[3].startswith("DEBUG Discarding node 'box <")
        assert "> for identical 'box <" in found[3].replace("' for", "> for")
        assert found[4:12] == [
            "DEBUG root",
            "DEBUG   made",
            "DEBUG     box",
            "DEBUG   box",
            "DEBUG   alone",
            f"DEBUG {rule * 9}",
            "DEBUG Execution",
            f"DEBUG {rule * 9}",
        ]

    def test_shared_tasks_are_shown_once_for_each_path(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        middle = simple("middle", external_asset("box", there=False))

        @tasks
        def root() -> Iterator[Any]:
            yield "root"
            yield [simple("left", middle)(), simple("right", middle)()]

        root()
        found = lines(caplog, logging.DEBUG)
        begin = found.index("DEBUG root")
        assert found[begin + 1 : begin + 7] == [
            "DEBUG   left",
            "DEBUG     middle",
            "DEBUG       box",
            "DEBUG   right",
            "DEBUG     middle",
            "DEBUG       box",
        ]

    def test_a_duplicate_requirement_is_logged_once(self, caplog: pytest.LogCaptureFixture) -> None:
        box = external_asset("box", there=False)
        simple("two", lambda: [box(), box()])()
        assert lines(caplog)[-2:] == ["WARNING two: Requires:", "WARNING two: ✖ box"]

    def test_a_graph_with_very_many_paths_is_abbreviated(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        @task
        def layer(depth: int) -> Iterator[Any]:
            yield f"layer {depth}"
            yield asset(1, lambda: False)
            yield [layer(depth - 1), layer(depth - 1)] if depth else None

        layer(40, dry_run=True)
        shown = [line for line in lines(caplog, logging.DEBUG) if re.match("DEBUG +layer 0$", line)]
        assert len(shown) == 2

    def test_no_logger_is_in_use_outside_tasks(self) -> None:
        with pytest.raises(a.IotaaError, match="No logger found"):
            a.log.info("x")
        # Probing it does not need a logger.
        assert not hasattr(a.log, "is_task")


class TestHelpers:
    def test_graph(self) -> None:
        node = simple('two "x"', lambda: [simple("one", works=False)()])()
        one, two = ("_" + sha256(name.encode()).hexdigest() for name in ("one", 'two "x"'))
        found = a.graph(node).splitlines()
        assert found == [
            "digraph g {",
            *sorted(
                [
                    f'  {one} [fillcolor=orange, label="one", style=filled]',
                    f"  {two} -> {one}",
                    f'  {two} [fillcolor=orange, label="two \\"x\\"", style=filled]',
                ]
            ),
            "}",
        ]

    def test_tasknames(self) -> None:
        class Base(abc.ABC):
            made = task(never)
            collected = tasks(never)
            _hidden = task(never)
            plain = never

            @task
            @abc.abstractmethod
            def to_come(self) -> Iterator[Any]: ...

            @property
            def broken(self) -> None:
                raise OSError("evaluated")

        class Whole(Base):
            to_come = external(never)
            apart = staticmethod(task(never))
            of_class = classmethod(task(never))

            def __init__(self) -> None:
                self.own = task(never)

        assert a.tasknames(Base) == ["collected", "made"]
        names = ["apart", "collected", "made", "of_class", "own", "to_come"]
        assert a.tasknames(Whole()) == names

    def test_tasknames_of_dynamic_attributes(self) -> None:
        module = ModuleType("lazy")
        module.__dir__ = lambda: ["late", "nothing"]  # type: ignore[method-assign]
        made = {"late": task(never)}
        module.__getattr__ = made.get  # type: ignore[method-assign]
        assert a.tasknames(module) == ["late"]

    def test_tasknames_of_a_module_with_a_logger(self) -> None:
        from motoko.assets import demo

        assert vars(demo)["log"] is a.log
        assert a.tasknames(demo) == [
            "a_cup_of_tea",
            "box_of_tea_bags",
            "cup",
            "spoon",
            "steeped_tea",
            "steeped_tea_with_sugar",
            "steeping_tea",
            "tea_bag",
        ]

    def test_all_public_names_exist(self) -> None:
        documented = {"asset", "assets", "external", "graph", "log", "logcfg", "main", "ready"}
        documented |= {"refs", "requirements", "task", "tasknames", "tasks", "Asset"}
        assert documented <= set(a.__all__)
        assert all(hasattr(a, name) for name in a.__all__)


class TestBuild:
    """``await build(...)``: a call in an event loop."""

    async def test_build_is_equivalent_to_a_call(self, caplog: pytest.LogCaptureFixture) -> None:
        two = simple("two", simple("one"))
        node = await a.build(two, threads=2)
        assert refs(node) == ["two"]
        assert lines(caplog) == [
            "INFO one: Executing",
            "INFO one: Ready",
            "INFO two: Executing",
            "INFO two: Ready",
        ]

    async def test_arguments_and_reserved_words(self, caplog: pytest.LogCaptureFixture) -> None:
        @task
        def function(x: int, *, y: int) -> Iterator[Any]:
            yield f"{x} {y}"
            yield asset(1, lambda: False)
            yield None
            raise AssertionError("never executed")

        mine = logging.getLogger("mine")
        node = await a.build(function, 1, y=2, dry_run=True, log=mine)
        assert node.taskname == "1 2"
        assert {record.name for record in caplog.records if "1 2" in record.message} == {"mine"}

    async def test_nodes_independent_of_a_failure_are_built(self) -> None:
        node = await a.build(simple("x", lambda: [simple("bad", works=False)(), simple("good")()]))
        assert [a.ready(one) for one in a.requirements(node)] == [False, True]

    async def test_the_loop_is_not_blocked_by_a_build(self) -> None:
        loop, wakeup = asyncio.get_running_loop(), threading.Event()

        @task
        def function() -> Iterator[Any]:
            yield "name"
            yield asset(wakeup, wakeup.is_set)
            yield None
            loop.call_soon_threadsafe(wakeup.set)
            assert wakeup.wait(timeout=120)

        assert a.ready(await a.build(function))
