"""Nodes of a step graph as products, as models of steps, and as requirements of tasks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from motoko.assets import asset, external, graph, ready, refs, requirements, task, tasks
from motoko.assets import build as build_assets
from motoko.errors import (
    BuildError,
    CycleError,
    DuplicateNodeError,
    TaskError,
    UnknownNodeError,
)
from motoko.graph import (
    STALE,
    Node,
    Status,
    Verdict,
    fresh_because,
    stale_because,
    undecided_because,
)
from motoko.pipeline import State, Step, Workflow
from motoko.products import WorkflowProducts, WorkflowRunner, workflow_step
from tests.support.products import Config, module_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

pytestmark = pytest.mark.unit


@dataclass
class SquareFactory:
    """A factory of nodes that square a number; it records the numbers."""

    squares: dict[int, int] = field(default_factory=dict)
    called: list[int] = field(default_factory=list)
    is_async: bool = False

    def node(
        self, name: str, *requires: str, x: int | Callable[..., int],
        values: Mapping[str, Any] | None = None,
    ) -> Node:  # fmt: skip
        """Return a node; ``x`` may be a function of its requirements."""

        def number() -> int:
            return x if isinstance(x, int) else x(**(values or {}))

        def when_ready() -> Verdict:
            known = number() in self.squares
            return fresh_because("known") if known else stale_because("never squared")

        def is_fresh() -> Verdict:
            late = not isinstance(x, int) and values is None
            return undecided_because("later") if late else when_ready()

        def act() -> None:
            self.called.append(number())
            self.squares[number()] = number() ** 2

        async def act_async() -> None:
            await asyncio.sleep(0)
            act()

        return Node(
            name, requires, is_fresh, act_async if self.is_async else act, "factory", when_ready,
            value=lambda: {"square": self.squares[number()]},
            bind=lambda values: self.node(name, *requires, x=x, values=values),
            identity=lambda: x if isinstance(x, int) else "later",
        )  # fmt: skip


@pytest.fixture(params=[False, True], ids=["called", "awaited"])
def factory(request: pytest.FixtureRequest) -> SquareFactory:
    return SquareFactory(is_async=request.param)


class TestProducts:
    @pytest.fixture
    def called(self) -> list[str]:
        return []

    def runner(
        self, factory: SquareFactory, place: Path, called: list[str], x: int = 3, y: int = 5
    ) -> WorkflowRunner:
        def make_base() -> int:
            called.append("base")
            return 2

        def make_sum(small: Any, large: Any) -> int:
            called.append("sum")
            return int(small["square"] + large["square"])

        def make_shown(small: Any) -> str:
            called.append("shown")
            return f"{small['square']}!"

        module = module_of(
            workflow_step(make_base, produces="base"),
            workflow_step(make_sum, produces="sum", requires=["small", "large"]),
            workflow_step(make_shown, produces="shown", requires="small"),
        )
        nodes = [
            factory.node("small", x=x),
            factory.node("large", "base", x=lambda base: base * y),
            factory.node("aside", x=y),
        ]
        products = WorkflowProducts(products_dir=place)
        return WorkflowRunner(module, Config(), products, nodes=nodes)

    def test_a_value_is_returned_but_not_stored(
        self, factory: SquareFactory, tmp_path: Path, called: list[str]
    ) -> None:
        runner = self.runner(factory, tmp_path, called)
        events: list[tuple[str, str]] = []
        runner.observe(lambda event, name: events.append((event, name)))
        assert runner.get("small") == {"square": 9}
        assert runner.get("small") is runner.get("small")
        assert runner.get("sum") == 9 + 100
        expected = [
            ("building", "small"),
            ("built", "small"),
            *[("cached", "small")] * 2,
            ("building", "sum"),
            ("cached", "small"),
            ("building", "base"),
            ("built", "base"),
            ("building", "large"),
            ("built", "large"),
            ("built", "sum"),
        ]
        if factory.is_async:  # then all nodes are checked first
            events, expected = sorted(events), sorted(expected)
        assert events == expected
        assert runner.products is not None
        assert runner.products.list() == ["base", "sum"]
        again = self.runner(factory, tmp_path, called)
        later: list[tuple[str, str]] = []
        again.observe(lambda event, name: later.append((event, name)))
        assert again.get("large") == {"square": 100}
        assert later == [("loaded", "base"), ("loaded", "large")]
        assert factory.called == [3, 10]

    def test_the_identity_of_a_node_changes_only_its_dependents(
        self, factory: SquareFactory, tmp_path: Path, called: list[str]
    ) -> None:
        assert self.runner(factory, tmp_path, called).build_all() == ["aside", "shown", "sum"]
        assert sorted(factory.called) == [3, 5, 10]
        called.clear()
        factory.called.clear()

        runner = self.runner(factory, tmp_path, called, x=4)
        key = runner.products.cache_key_for("base") if runner.products else ""
        assert str(runner.explain("sum")).splitlines() == [
            "sum: stale: small changed",
            "  small: stale: never squared",
            "  large: undecided: later",
            f"    base: fresh: it is stored with the expected key {key}",
        ]
        report = runner.check()
        assert sorted(report.names(Status.WOULD_BUILD)) == ["shown", "small", "sum"]
        assert sorted(report.names(Status.FRESH)) == ["aside", "base", "large"]
        assert runner.build_all() == ["aside", "shown", "sum"]
        assert factory.called == [4]
        assert sorted(called) == ["shown", "sum"]
        called.clear()

        # Functions are opaque; their requirements are not.
        self.runner(factory, tmp_path, called, x=4, y=6).build_all()
        assert called == []
        assert factory.called == [4, 6]

    def test_without_keys_stored_products_are_fresh(
        self, factory: SquareFactory, tmp_path: Path, called: list[str]
    ) -> None:
        for x in (3, 4):
            runner = self.runner(factory, tmp_path, called, x=x)
            runner.config = None
            assert runner.get("shown") == "9!"
        assert factory.called == [3]

    async def test_in_an_event_loop(
        self, factory: SquareFactory, tmp_path: Path, called: list[str]
    ) -> None:
        runner = self.runner(factory, tmp_path, called)
        assert await runner.build_all_async() == ["aside", "shown", "sum"]
        again = self.runner(factory, tmp_path, called)
        assert await again.get_async("sum") == 109
        assert await again.get_async("large") == {"square": 100}
        assert sorted(factory.called) == [3, 5, 10]

    def test_a_node_is_shown_as_a_step(
        self, factory: SquareFactory, tmp_path: Path, called: list[str],
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        runner = self.runner(factory, tmp_path, called)
        assert runner.what_invalidates("small") == {"sum", "shown"}
        assert runner.what_invalidates("base") == {"large", "sum"}
        runner.get("large")
        again = self.runner(factory, tmp_path, called)
        statuses = {name: again.status(name) for name in ("small", "large", "aside")}
        assert statuses == {"small": "missing", "large": "on_disk", "aside": "missing"}
        assert runner.status("large") == "cached"
        again.dag()
        rows = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert ["factory", "large", "base", "on_disk"] in rows
        assert ["factory", "small", "—", "missing"] in rows
        drawing = again.diagram()
        assert '"large" [fillcolor="#bcd7e6", tooltip="produced by factory"];' in drawing
        assert '"base" -> "large";' in drawing
        assert '"small" -> "sum";' in drawing
        assert '"make_base()"' not in drawing

    def test_a_failure_skips_its_dependents(
        self, factory: SquareFactory, tmp_path: Path, called: list[str]
    ) -> None:
        def fails(base: int) -> int:
            raise ZeroDivisionError(base)

        runner = self.runner(factory, tmp_path, called)
        nodes = [factory.node("small", x=3), factory.node("large", "base", x=fails)]
        failing = WorkflowRunner(runner.module, Config(), runner.products, nodes=nodes)
        with pytest.raises(ZeroDivisionError):
            failing.build_all(keep_going=True)
        assert sorted(called) == ["base", "shown"]

    def test_two_producers_of_one_name_are_named(self, factory: SquareFactory) -> None:
        step = workflow_step(lambda: 1, produces="a")
        with pytest.raises(ValueError, match="produce 'a': <lambda> and factory"):
            WorkflowRunner(module_of(step), None, nodes=[factory.node("a", x=1)])

    def test_external_nodes_and_failed_actions_are_missing(self) -> None:
        def lazy() -> Verdict:
            return stale_because("it was not delivered")

        nodes = [Node("external"), Node("lazy", (), lambda: STALE, lazy), Node("there", (), lazy)]
        runner = WorkflowRunner(module_of(), None, nodes=nodes)
        with pytest.raises(BuildError, match="'external' is not ready"):
            runner.get("external")
        with pytest.raises(BuildError, match="'lazy' is not ready: it was not delivered"):
            runner.get("lazy")


class TestPipeline:
    def workflow(self, factory: SquareFactory) -> Workflow:
        small = factory.node("small", x=3)
        large = factory.node("large", "side", x=lambda side: side * 2)
        return Workflow(
            [
                Step(small, outputs={"square": "nine"}),
                Step(large, inputs={"nine": "side"}, outputs={"square": "out"}),
            ]
        )

    def test_a_step_is_skipped_when_its_node_is_fresh(self, factory: SquareFactory) -> None:
        workflow = self.workflow(factory)
        assert workflow.run(State()) == {"out": 324}
        assert workflow.run(State()) == {"out": 324}
        assert (workflow.steps_ran, workflow.steps_skipped) == ([0, 1], [0, 1])
        # In a new session too, and without use of the extracts.
        again = self.workflow(factory)
        again.use_extracts = again.populate_extracts = False
        assert again.run(State()) == {"out": 324}
        assert (again.steps_ran, again.steps_skipped) == ([], [0, 1])
        assert factory.called == [3, 18]
        assert str(again.explain(State())) == "1. large: fresh: known"

    async def test_in_an_event_loop(self, factory: SquareFactory) -> None:
        workflow = self.workflow(factory)
        assert await workflow.run_async(State()) == {"out": 324}
        assert await workflow.run_async(State()) == {"out": 324}
        assert (workflow.steps_ran, workflow.steps_skipped) == ([0, 1], [0, 1])

    def test_values_of_a_different_input_are_replaced(self, factory: SquareFactory) -> None:
        workflow = Workflow(self.workflow(factory).steps[1])
        for nine, out in ((9, 324), (8, 256)):
            assert workflow.run(State({"nine": nine})) == {"out": out}
        state = State({"nine": 9, "out": 256}, mutable=True)
        assert workflow.run(state) == {"out": 324}
        assert state.extract("out") == 324
        with pytest.raises(ValueError, match="Cannot mutate key: out"):
            workflow.run(State({"nine": 8, "out": 324}))
        assert factory.called == [18, 16]

    def test_steps_with_different_nodes_differ(self, factory: SquareFactory) -> None:
        node = factory.node("a", x=1)
        assert Step(node) == Step(node)
        assert Step(node) != Step(factory.node("a", x=2))
        assert Step(node) != Step("a")

    def test_the_model_of_a_node_has_a_description(self, factory: SquareFactory) -> None:
        workflow = Workflow(Step(factory.node("a", "n", x=lambda n: n), {"n": "n"}))
        workflow.run(State({"n": 4}))
        assert repr(workflow.get_model(0)) == "<model of node 'a': n=4>"
        workflow.use_extracts = False
        workflow.run(State({"n": 4}))
        assert workflow.steps_skipped == [0]  # the node keeps its value

    def test_a_reference_to_a_non_node_is_refused(self) -> None:
        reference = "python://tests.support.products.Config"
        with pytest.raises(TypeError, match=r"^python://tests\.support\.products\.Config is not"):
            Workflow(Step(reference)).run(State())


class TestAssets:
    def report(self, factory: SquareFactory, place: Path, factor: int = 1) -> Any:
        """Return a task that requires two nodes; one of them requires a task."""

        @task
        def base() -> Iterator[Any]:
            path = place / "base"
            yield "base"
            yield asset(path, path.exists)
            yield None
            path.write_text("2")

        def number() -> int:
            return factor * int(refs(base()).read_text())

        @task
        def one(name: str) -> Iterator[Any]:
            path = place / name
            small = factory.node("small", x=3)
            large = factory.node("large", "base", x=number)
            yield name
            yield asset(path, path.exists)
            yield {"base": base(), "small": small, "large": large}
            path.write_text(f"{refs(small)['square']} {refs(large)['square']}")

        @tasks
        def report() -> Iterator[Any]:
            yield "report"
            aside = factory.node("aside", x=7)
            yield [one("first"), one("second"), aside, factory.node("large", "base", x=number)]

        return report

    def test_nodes_are_built_once_before_the_tasks_that_require_them(
        self, factory: SquareFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        report = self.report(factory, tmp_path)
        node = report()
        lines, levels = caplog.messages, {record.levelname for record in caplog.records}
        assert ready(node)
        assert sorted(factory.called) == [2, 3, 7]
        first, second, made, _ = refs(node)
        assert first.read_text() == second.read_text() == "9 4"
        assert made == {"square": 49}
        assert lines.index("large: Ready") < lines.index("first: Executing")
        assert lines.index("base: Ready") < lines.index("large: Executing")
        assert lines[-1] == "report: Ready"
        assert levels == {"INFO"}

        caplog.clear()
        self.report(factory, tmp_path)()
        assert caplog.messages[-1] == "report: Ready"
        assert not [line for line in caplog.messages if "Executing" in line]
        first.unlink()
        self.report(factory, tmp_path)()
        assert len(factory.called) == 3
        assert first.read_text() == "9 4"

    def test_two_nodes_of_one_name_are_refused(self, factory: SquareFactory) -> None:
        @task
        def per(n: int) -> Iterator[Any]:
            yield f"per {n}"
            yield asset(n, lambda: False)
            yield factory.node("solve", x=n)

        @tasks
        def both() -> Iterator[Any]:
            yield "both"
            yield [per(41), per(42)]

        with pytest.raises(DuplicateNodeError) as caught:
            both()
        assert str(caught.value).splitlines()[0] == (
            "two nodes are named 'solve': factory, required by task 'per 41', "
            "and factory, required by task 'per 42'"
        )
        assert factory.called == []

        kept = per(41)

        @tasks
        def later() -> Iterator[Any]:
            yield "later"
            yield [kept, per(42)]

        with pytest.raises(DuplicateNodeError, match="required by task 'per 42'"):
            later()

    @pytest.mark.parametrize("first", ["the task", "the node"])
    def test_a_name_of_both_a_node_and_a_task_is_refused(
        self, factory: SquareFactory, first: str
    ) -> None:
        @task
        def solve() -> Iterator[Any]:
            yield "solve"
            yield None
            yield None

        @tasks
        def with_node() -> Iterator[Any]:
            yield "with node"
            yield factory.node("solve", x=3)

        @tasks
        def outer() -> Iterator[Any]:
            yield "outer"
            yield [solve(), with_node()] if first == "the task" else [with_node(), solve()]

        with pytest.raises(DuplicateNodeError, match=r"two nodes are named 'solve': .*a task"):
            outer()

    def test_a_task_does_not_require_a_node_of_its_name(self, factory: SquareFactory) -> None:
        @tasks
        def own() -> Iterator[Any]:
            yield "solve"
            yield factory.node("solve", x=3)

        @tasks
        def inner() -> Iterator[Any]:
            yield "inner"
            yield factory.node("other", x=3)

        @tasks
        def indirect() -> Iterator[Any]:
            yield "other"
            yield inner()

        for function in (own, indirect):
            with pytest.raises(DuplicateNodeError, match="two nodes are named"):
                function()

    @pytest.mark.parametrize("there", [True, False])
    def test_a_group_is_ready_when_its_tasks_are(self, there: bool) -> None:
        @external
        def box() -> Iterator[Any]:
            yield "box"
            yield asset("box", lambda: there)

        group = Node("group", "box")

        @tasks
        def outer() -> Iterator[Any]:
            yield "outer"
            yield [box(), group]

        node = outer()
        assert ready(node) is there
        assert ready(node.required[1]) is there
        # Its requirement is unknown.
        assert not ready(group)

    async def test_in_an_event_loop(self, factory: SquareFactory, tmp_path: Path) -> None:
        assert ready(await build_assets(self.report(factory, tmp_path)))
        assert sorted(factory.called) == [2, 3, 7]

    def test_a_dry_run_builds_nothing(
        self, factory: SquareFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        node = self.report(factory, tmp_path)(dry_run=True)
        assert not ready(node)
        assert factory.called == []
        assert "small: SKIPPING (DRY RUN)" in caplog.messages
        assert "large: ✖ base" in caplog.messages

    def test_a_failing_node_is_reported_and_blocks_its_dependents(
        self, factory: SquareFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fails() -> int:
            raise ZeroDivisionError("nothing to divide by")

        path = tmp_path / "made"

        @task
        def made() -> Iterator[Any]:
            yield "made"
            yield asset(path, path.exists)
            yield [factory.node("small", x=3), factory.node("large", x=fails)]
            path.touch()

        node = made()
        assert not ready(node)
        assert factory.called == [3]
        assert any("large: Task failed" in line for line in caplog.messages)
        assert "made: ✔ small" in caplog.messages
        assert "made: ✖ large" in caplog.messages

    def test_helpers_accept_nodes(self, factory: SquareFactory, tmp_path: Path) -> None:
        node = self.report(factory, tmp_path)()
        first = requirements(node)[0]
        small = requirements(first)["small"]
        assert isinstance(small, Node)
        assert ready(small)
        assert not ready(factory.node("other", x=100))
        drawing = graph(node)
        assert drawing.count("label=") == len(("report", "first", "second", "base", "small",
                                               "large", "aside"))  # fmt: skip
        assert drawing.count("->") == 4 + 2 * 3 + 1

    def test_unknown_requirements_and_cycles_are_reported(self, factory: SquareFactory) -> None:
        @task
        def lacking() -> Iterator[Any]:
            yield "lacking"
            yield asset(None, lambda: False)
            yield factory.node("small", "bass", x=3)

        with pytest.raises(UnknownNodeError, match=r"'small' \(factory\) requires 'bass'"):
            lacking()

        @task
        def round_() -> Iterator[Any]:
            yield "round"
            yield asset(None, lambda: False)
            yield factory.node("small", "round", x=3)

        @task
        def asset_() -> Iterator[Any]:
            yield "asset"
            yield factory.node("small", x=3)
            yield None

        with pytest.raises(TaskError, match="This is a task: a requirement"):
            asset_()
        with pytest.raises(CycleError, match="'round' -> 'small' -> 'round'"):
            round_()
