"""Run nodes in all three front-ends, with a real server and launcher."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from motoko.assets import asset, refs, task, tasks
from motoko.errors import (
    DuplicateNodeError,
    GraphError,
    NotEncodableError,
    ParameterError,
    ProductError,
    RunFailed,
)
from motoko.graph import Graph, Node, Status
from motoko.pipeline import State, Step
from motoko.pipeline import Workflow as Pipeline
from motoko.products import WorkflowProducts, WorkflowRunner, workflow_step
from motoko.workflow import Workflow, event
from tests.support.command_line import PATIENCE, Shell, wait_until
from tests.support.products import Config, module_of
from tests.support.run_nodes import (
    FrontEnd,
    Outcome,
    Products,
    Steps,
    Tasks,
    directory_with_study,
    executed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

FRONT_ENDS = [Products, Steps, Tasks]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workflow with a launcher; every test uses its own run name."""
    directory = directory_with_study(tmp_path_factory.mktemp("workflow"))
    shell = Shell(directory)
    try:
        shell.ok("create")
        workflow = Workflow(directory)
        workflow.start_launcher_daemons()
        workflow.close()
        yield directory
    finally:
        shell.close()


@pytest.fixture
def workflow(directory: Path, request: pytest.FixtureRequest) -> Iterator[Workflow]:
    """The workflow, opened as in a script, with the test's name as its run name."""
    executed(directory)
    workflow = Workflow(directory)
    workflow.run_name = request.node.name.replace("[", ".").strip("]")
    yield workflow
    workflow.close()


@pytest.fixture(params=FRONT_ENDS)
def front_end(
    workflow: Workflow, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[FrontEnd]:
    kind: type[FrontEnd] = request.param
    yield kind(workflow, tmp_path / "made")
    sys.modules.pop("nodes_of_the_pipeline", None)


def test_a_second_build_executes_only_dependents_of_a_change(
    front_end: FrontEnd, directory: Path
) -> None:
    first = front_end.build_alone(2, 3)
    assert first.values == {"total": 13, "same": 4}
    assert sorted(first.called) == ["same", "total"]
    assert executed(directory) == [2, 3]

    assert front_end.build_alone(2, 3) == Outcome({"total": 13, "same": 4})
    assert executed(directory) == []

    assert front_end.build_alone(2, 4) == Outcome({"total": 20, "same": 4}, ["total"])
    assert executed(directory) == [4]

    # These runs exist; values computed from other runs meanwhile are not used.
    assert front_end.build_alone(2, 3).values == {"total": 13, "same": 4}
    assert executed(directory) == []


def test_dependents_of_a_failed_run_are_not_built(front_end: FrontEnd, directory: Path) -> None:
    failed = front_end.build_alone(5, -1)
    assert failed.values == {"same": 25}
    assert failed.called == ["same"]
    assert "ended FAILED with exit code 1" in failed.failure
    assert "no square of that" in failed.failure
    assert executed(directory) == [-1, 5]

    # A failed run is retried, a finished one is not.
    assert "ended FAILED" in front_end.build_alone(5, -1).failure
    assert executed(directory) == [-1]


def test_waiting_for_runs_does_not_block_the_loop_of_an_orchestrator(
    front_end: FrontEnd, workflow: Workflow, directory: Path
) -> None:
    (directory / "s" / "go").unlink(missing_ok=True)
    outcomes = []

    async def main(workflow: Workflow) -> None:
        async def let_go() -> None:
            await asyncio.to_thread(wait_until, (directory / "s" / "executed").exists, "at work")
            (directory / "s" / "go").touch()

        first, _ = await asyncio.gather(front_end.build(1000, 1001), let_go())
        outcomes.extend([first, await front_end.build(1000, 1001), await front_end.build(2, 1)])
        with pytest.raises(GraphError, match=r"an event loop is running\n.*`await "):
            front_end.build_alone(3, 3)
        assert "FAILED" in (await front_end.build(2, -7)).failure

    workflow.orchestrator_function = main
    workflow.execute()

    first, again, changed = outcomes
    assert first.values == {"total": 2002001, "same": 1000000}
    assert again == Outcome(first.values)
    assert changed.values == {"total": 5, "same": 4}
    assert executed(directory) == [-7, 1, 2, 1000, 1001]


def test_run_nodes_in_an_action(front_end: FrontEnd, workflow: Workflow, directory: Path) -> None:
    outcomes = []

    @event
    async def build(workflow: Workflow, runs: Any) -> None:
        for run, job in runs:
            outcomes.append(await front_end.build(job.x + 1, job.x + 2))
            run.state = "BUILT"

    async def main(workflow: Workflow) -> None:
        workflow.add_action("build", task="s", event="state = FINISHED and x = 70", f=build)
        await workflow.s.create_task(x=70)
        await workflow.s.select("state = BUILT")
        workflow.finished = True

    workflow.orchestrator_function = main
    workflow.execute()

    assert [outcome.values for outcome in outcomes] == [{"total": 71**2 + 72**2, "same": 71**2}]
    assert executed(directory) == [70, 71, 72]
    assert sorted(run.state for run, _ in workflow.s.select()) == ["BUILT", "FINISHED", "FINISHED"]


SCRIPT = """\
import json, sys
from pathlib import Path
from motoko.workflow import Workflow
from tests.support.run_nodes import Products

workflow = Workflow(sys.argv[1])
workflow.run_name = "a script"
outcome = Products(workflow, Path(sys.argv[2])).build_alone(6, 7)
print(json.dumps([outcome.values, outcome.called]))
"""


def test_run_nodes_in_a_plain_script(directory: Path, workflow: Workflow, tmp_path: Path) -> None:
    def run() -> Any:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, directory, tmp_path / "made"],
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    values, called = run()
    assert values == {"total": 85, "same": 36}
    assert sorted(called) == ["same", "total"]
    assert run() == [values, []]
    assert executed(directory) == [6, 7]


class TestProducts:
    def runner(self, workflow: Workflow, place: Path, n: int, **nodes: Any) -> WorkflowRunner:
        def make_grid(config: Config) -> int:
            return config.n

        def make_shown(first: Any, both: Any, grid: int) -> list[Any]:
            return [grid, first.job.x, first.y, [run.y for run in both]]

        steps = module_of(
            workflow_step(make_grid, produces="grid"),
            workflow_step(make_shown, produces="shown", requires=["first", "both", "grid"]),
        )
        study = workflow.s
        return WorkflowRunner(
            steps,
            Config(n=n),
            WorkflowProducts(products_dir=place),
            nodes=[
                study.node("first", ["grid"], x=lambda grid: 2 * grid),
                study.node("both", ["first"], x=lambda first: [first.job.x, first.job.x + 1]),
            ],
        )

    def test_job_parameters_come_from_products_and_from_other_runs(
        self, workflow: Workflow, directory: Path, tmp_path: Path
    ) -> None:
        runner = self.runner(workflow, tmp_path, 11)
        assert runner.status("first") == "missing"
        assert runner.get("shown") == [11, 22, 484, [484, 529]]
        assert executed(directory) == [22, 23]
        assert (runner.status("first"), runner.status("both")) == ("cached", "cached")
        # Runs stay in the study.
        assert runner.products is not None
        assert runner.products.list() == ["grid", "shown"]

        again = self.runner(workflow, tmp_path, 11)
        assert (again.status("first"), again.status("both")) == ("on_disk", "on_disk")
        again.invalidate("shown")
        report = again.check("shown")
        assert {name: status.value for name, status in report.statuses.items()} == {
            "shown": "would_build",
            "first": "fresh",
            "grid": "fresh",
            "both": "fresh",
        }
        assert again.cache == {}
        assert again.get("shown") == [11, 22, 484, [484, 529]]
        assert executed(directory) == []

        other = self.runner(workflow, tmp_path, 12)
        assert other.check("shown").names(Status.WOULD_BUILD) == ["shown", "first", "grid", "both"]
        assert other.get("shown") == [12, 24, 576, [576, 625]]
        assert executed(directory) == [24, 25]

    def test_run_nodes_use_the_current_run_name(
        self, workflow: Workflow, directory: Path, tmp_path: Path
    ) -> None:
        assert self.runner(workflow, tmp_path, 13).get("shown")[0] == 13
        workflow.run_name = "another name"
        runner = self.runner(workflow, tmp_path, 13)
        assert "first changed" in str(runner.explain("shown"))
        runner.get("shown")
        assert executed(directory) == [26, 26, 27, 27]

    def test_a_run_is_not_repeated(self, workflow: Workflow, tmp_path: Path) -> None:
        runner = self.runner(workflow, tmp_path, 14)
        with pytest.raises(ProductError, match=r"'first' is built by a node.*\n.*replicate=1"):
            runner.rebuild("first")


class TestBoundValues:
    def test_a_missing_parameter_takes_the_product_of_its_name(self, workflow: Workflow) -> None:
        node = workflow.s.node("n", ["x"])
        assert node.check().fresh is None
        assert node.bind is not None
        verdict = node.bind({"x": 99}).check()
        assert verdict.reasons == ("no such run exists",)

    def test_parameters_of_functions_must_be_given(self, workflow: Workflow) -> None:
        node = workflow.s.node("n", x=lambda grid: grid)
        with pytest.raises(
            ParameterError, match=r"the function for 'x' takes 'grid', but no value"
        ):
            node.is_fresh()

    def test_unknown_values_are_refused(self, workflow: Workflow) -> None:
        node = workflow.s.node("n", x=lambda grid: grid)
        assert node.bind is not None
        with pytest.raises(ParameterError, match=r"'n' of study 's' takes no 'gird'\n.*'grid'"):
            node.bind({"gird": 1})
        # Otherwise it would be a parameter.
        constant = workflow.s.node("n", x=1).bind
        assert constant is not None
        with pytest.raises(ParameterError, match="takes no 'x'"):
            constant({"x": 2})

    def test_the_identity_of_a_node_determines_its_run(self, workflow: Workflow) -> None:
        def identity(**params: Any) -> object:
            node = workflow.s.node("n", **params)
            assert node.identity is not None
            return node.identity()

        others: list[dict[str, Any]] = [
            {"x": 4},
            {"x": [3]},  # a list of one run
            {"x": 3, "replicate": 1},
            {"x": 3, "run_params": {"y": 1}},
        ]
        found = [identity(x=3), *(identity(**other) for other in others)]
        assert identity(x=lambda: 3.0, run_params={"nproc": 2}) == found[0]
        workflow.run_name = "yet another name"
        found.append(identity(x=3))
        assert [found.count(one) for one in found] == [1] * 6

    async def test_functions_in_a_standalone_graph_take_no_parameters(
        self, workflow: Workflow, directory: Path
    ) -> None:
        made: list[int] = []
        nodes = [
            Node("grid", action=lambda: made.append(31)),
            workflow.s.node("solved", ["grid"], x=lambda factor=2: factor * made[0]),
        ]
        (await Graph(nodes).build("solved")).raise_failure()
        assert executed(directory) == [62]


class TestNames:
    """Requirements with equal names."""

    def build(self, *nodes: Node, task_name: str = "per") -> Any:
        @task
        def per(number: int) -> Iterator[Any]:
            made: list[int] = []
            yield f"{task_name} {number}"
            yield asset(made, lambda: bool(made))
            yield nodes[number]
            made.append(refs(nodes[number]).job.x)

        @tasks
        def all_() -> Iterator[Any]:
            yield "all"
            yield [per(number) for number in range(len(nodes))]

        return all_()

    def test_different_job_parameters_give_different_nodes(
        self, workflow: Workflow, directory: Path
    ) -> None:
        with pytest.raises(DuplicateNodeError) as caught:
            self.build(workflow.s.node("solve", x=81), workflow.s.node("solve", x=82))
        assert str(caught.value).splitlines()[0] == (
            "two nodes are named 'solve': study s (x=81), required by task 'per 0', "
            "and study s (x=82), required by task 'per 1'"
        )
        assert executed(directory) == []

    def test_nodes_for_the_same_run_are_equal(self, workflow: Workflow, directory: Path) -> None:
        node = self.build(
            workflow.s.node("solve", x=83),
            workflow.s.node("solve", x=83.0, run_params={"nproc": 1}),
        )
        assert refs(node) == [[83], [83]]
        assert executed(directory) == [83]

    def test_functions_are_compared_by_code_and_referenced_values(self, workflow: Workflow) -> None:
        def node(number: int, **more: Any) -> Node:
            return workflow.s.node("solve", "grid", x=lambda factor=2: factor * number, **more)

        def same(one: Node, other: Node) -> bool:
            assert one.is_same is not None
            return one.is_same(other)

        assert same(node(3), node(3))
        assert not same(node(3), node(4))
        assert not same(node(3), workflow.s.node("solve", "grid", x=lambda factor=2: factor * 3))
        assert not same(node(3), node(3, replicate=1))
        assert not same(node(3), workflow.s.node("solve", "grid", x=6))
        assert not same(node(3), Node("solve", "grid"))
        assert not same(workflow.s.node("solve", x=[3]), workflow.s.node("solve", x=3))

    def test_one_name_is_one_requirement(self, workflow: Workflow) -> None:
        assert workflow.s.node("x", "grid", x=1).requires == ("grid",)
        assert workflow.s.node("x", ["grid", "mesh"], x=1).requires == ("grid", "mesh")


class TestPipeline:
    def test_a_run_node_is_a_model_but_cannot_be_saved(
        self, workflow: Workflow, directory: Path
    ) -> None:
        step = Step(workflow.s.node("square", x=lambda side: side + 1), {"a": "side"}, {"y": "b"})
        pipeline = Pipeline([step])
        state = State({"a": 40}, mutable=True)
        assert str(pipeline.explain(state)) == "0. square: stale: no such run exists"
        assert pipeline.run(state) == {"b": 1681}
        assert (pipeline.steps_ran, pipeline.steps_skipped) == ([0], [])
        state.post(41, name="a")
        assert pipeline.run(state) == {"b": 1764}
        # The run exists, but the state holds the result of another run.
        state.post(40, name="a")
        assert pipeline.run(state) == {"b": 1681}
        assert state.extract("b") == 1681
        assert (pipeline.steps_ran, pipeline.steps_skipped) == ([0, 0], [0])
        assert pipeline.get_model_input(0) == {"side": 40}
        assert pipeline.get_model_output(0) == {"y": 1681}
        assert executed(directory) == [41, 42]
        with pytest.raises(NotEncodableError, match=r"python://module\.NAME"):
            pipeline.to_json()

    def test_unknown_names_are_reported(self, workflow: Workflow) -> None:
        def pipeline(node: Node, **fields: Any) -> Pipeline:
            return Pipeline([Step(node, **fields)])

        state = State({"a": 50})
        lacking = pipeline(workflow.s.node("n", ["grid"], x=1))
        with pytest.raises(KeyError, match="'n' requires 'grid', which is not among the inputs"):
            lacking.run(state)
        unknown = pipeline(workflow.s.node("n"), inputs={"a": "y"})
        with pytest.raises(ParameterError, match="takes no 'y'"):
            unknown.run(state)
        wrong = pipeline(workflow.s.node("n"), inputs={"a": "x"}, outputs={"z": "b"})
        with pytest.raises(KeyError, match=r"(?s)'n' has no 'z'.*run s\.\d+ has no field 'z'"):
            wrong.run(state)


def test_a_failure_is_raised_by_get(workflow: Workflow, tmp_path: Path) -> None:
    runner = Products(workflow, tmp_path).runner(-3, 1, [])
    with pytest.raises(RunFailed, match="no square of that"):
        runner.get("same")
    assert runner.status("one") == "missing"
    assert runner.cache == {}
