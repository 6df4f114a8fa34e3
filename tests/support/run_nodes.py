"""One graph in all three front-ends: two runs of a study ``s`` and two cheap nodes.

``total`` requires both runs, ``same`` only the first one.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from motoko.assets import asset, refs, task, tasks
from motoko.assets import build as build_assets
from motoko.errors import RunFailed
from motoko.pipeline import BaseModel, State, Step
from motoko.pipeline import Workflow as Pipeline
from motoko.products import WorkflowProducts, WorkflowRunner, workflow_step
from tests.support.command_line import small_workflow
from tests.support.products import Config, module_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.workflow import Workflow

# Records its execution; fails below 0, waits for the file "go" from 1000 on.
SCRIPT = """\
root=$(dirname "$PWD")/..
python - "$root" <<'END'
import pathlib, sys, time
from motoko.worker import job, run
root = pathlib.Path(sys.argv[1])
with (root / "executed").open("a") as file:
    file.write(f"{job.x}\\n")
if job.x < 0:
    sys.exit("no square of that")
patience = time.monotonic() + 60
while job.x >= 1000 and not (root / "go").exists():
    assert time.monotonic() < patience, "the file go is missing"
    time.sleep(0.02)
run.y = job.x**2
END
"""


def directory_with_study(directory: Path) -> Path:
    """Write a workflow with the study."""
    small_workflow(directory, script=SCRIPT)
    (directory / "s" / "bd.yaml").write_text("job: {x: int}\nrun: {y: int}\n")
    return directory


def executed(directory: Path) -> list[int]:
    """Return the sorted x of all script executions since the last call."""
    file = directory / "s" / "executed"
    lines = file.read_text().split() if file.exists() else []
    file.unlink(missing_ok=True)
    return sorted(map(int, lines))


@dataclass
class Outcome:
    """The values of a build, its rebuilt cheap values and its failure."""

    values: dict[str, Any] = field(default_factory=dict)
    called: list[str] = field(default_factory=list)
    failure: str = ""


class FrontEnd(Protocol):
    """Builds the graph in a new session, with these two values of x."""

    def __init__(self, workflow: Workflow, place: Path) -> None: ...

    async def build(self, one: int, two: int) -> Outcome:
        """Build it in an event loop."""
        ...

    def build_alone(self, one: int, two: int) -> Outcome:
        """Build it in a plain script."""
        ...


class Products:
    """As products, stored in a directory."""

    def __init__(self, workflow: Workflow, place: Path) -> None:
        self._workflow = workflow
        self._place = place

    def runner(self, one: int, two: int, called: list[str]) -> WorkflowRunner:
        """Return the runner of a new session."""

        def make_total(one: Any, two: Any) -> int:
            called.append("total")
            return int(one.y + two.y)

        def make_same(one: Any) -> int:
            called.append("same")
            return int(one.y)

        study = self._workflow.s
        return WorkflowRunner(
            module_of(
                workflow_step(make_total, produces="total", requires=["one", "two"]),
                workflow_step(make_same, produces="same", requires="one"),
            ),
            Config(),
            WorkflowProducts(products_dir=self._place),
            nodes=[study.node("one", x=one), study.node("two", x=two)],
        )

    async def build(self, one: int, two: int) -> Outcome:
        outcome = Outcome()
        runner = self.runner(one, two, outcome.called)
        try:
            await runner.build_all_async(keep_going=True)
        except RunFailed as error:
            outcome.failure = str(error)
        return self._with_log(outcome, runner)

    def build_alone(self, one: int, two: int) -> Outcome:
        outcome = Outcome()
        runner = self.runner(one, two, outcome.called)
        try:
            runner.build_all(keep_going=True)
        except RunFailed as error:
            outcome.failure = str(error)
        return self._with_log(outcome, runner)

    def _with_log(self, outcome: Outcome, runner: WorkflowRunner) -> Outcome:
        known = {name: runner.cache.get(name) for name in ("total", "same")}
        outcome.values = {name: value for name, value in known.items() if value is not None}
        return outcome


class Total(BaseModel):
    one: int
    two: int

    def run(self) -> dict[str, Any]:
        return {"value": self.one + self.two}


class Same(BaseModel):
    one: int

    def run(self) -> dict[str, Any]:
        return {"value": self.one}


class Steps:
    """As a pipeline, which is written as JSON after each session."""

    def __init__(self, workflow: Workflow, place: Path) -> None:
        self._file = place.with_suffix(".json")
        # Names used by the steps.
        module: Any = ModuleType("nodes_of_the_pipeline")
        module.ONE = workflow.s.node("one")
        module.TWO = workflow.s.node("two")
        sys.modules[module.__name__] = module

    def pipeline(self) -> Pipeline:
        """Return the pipeline of a new session."""
        if self._file.exists():
            return Pipeline.from_json(self._file.read_text())
        place = "python://nodes_of_the_pipeline"
        return Pipeline(
            [
                Step(f"{place}.ONE", {"a": "x"}, {"y": "one"}),
                Step(f"{place}.TWO", {"b": "x"}, {"y": "two"}),
                Step(Total, {"one": "one", "two": "two"}, {"value": "total"}),
                Step(Same, {"one": "one"}, {"value": "same"}),
            ]
        )

    async def build(self, one: int, two: int) -> Outcome:
        outcome, pipeline, state = Outcome(), self.pipeline(), State({"a": one, "b": two})
        before = len(pipeline.steps_ran)
        try:
            await pipeline.run_async(state, keep_going=True)
        except RunFailed as error:
            outcome.failure = str(error)
        return self._with_log(outcome, pipeline, state, before)

    def build_alone(self, one: int, two: int) -> Outcome:
        outcome, pipeline, state = Outcome(), self.pipeline(), State({"a": one, "b": two})
        before = len(pipeline.steps_ran)
        try:
            pipeline.run(state, keep_going=True)
        except RunFailed as error:
            outcome.failure = str(error)
        return self._with_log(outcome, pipeline, state, before)

    def _with_log(self, outcome: Outcome, pipeline: Pipeline, state: State, before: int) -> Outcome:
        self._file.write_text(pipeline.to_json())
        cheap = {2: "total", 3: "same"}
        outcome.called = [cheap[one] for one in pipeline.steps_ran[before:] if one in cheap]
        values = {name: state.extract(name) for name in cheap.values() if name in state}
        outcome.values = values
        return outcome


class Tasks:
    """As tasks, whose assets are files that are named after their inputs."""

    def __init__(self, workflow: Workflow, place: Path) -> None:
        self._workflow = workflow
        self._place = place
        place.mkdir(exist_ok=True)

    def all(self, one: int, two: int, outcome: Outcome) -> Any:
        """Return the task function of the collection."""
        study = self._workflow.s

        @task
        def total() -> Iterator[Any]:
            path = self._place / f"total-{one}-{two}"
            nodes = {"one": study.node("one", x=one), "two": study.node("two", x=two)}
            yield "total"
            yield asset(path, path.exists)
            yield nodes
            outcome.called.append("total")
            path.write_text(str(sum(refs(node).y for node in nodes.values())))

        @task
        def same() -> Iterator[Any]:
            path = self._place / f"same-{one}"
            node = study.node("one", x=one)
            yield "same"
            yield asset(path, path.exists)
            yield node
            outcome.called.append("same")
            path.write_text(str(refs(node).y))

        @tasks
        def all_() -> Iterator[Any]:
            yield "all"
            yield [total(), same()]

        return all_

    async def build(self, one: int, two: int) -> Outcome:
        outcome = Outcome()
        log, messages = _logger()
        node = await build_assets(self.all(one, two, outcome), log=log)
        return self._with_log(node, outcome, messages)

    def build_alone(self, one: int, two: int) -> Outcome:
        outcome = Outcome()
        log, messages = _logger()
        return self._with_log(self.all(one, two, outcome)(log=log), outcome, messages)

    def _with_log(self, node: Any, outcome: Outcome, messages: list[str]) -> Outcome:
        for name, path in zip(("total", "same"), refs(node), strict=True):
            if path.exists():
                outcome.values[name] = int(path.read_text())
        outcome.failure = "\n".join(line for line in messages if "Task failed" in line)
        return outcome


def _logger() -> tuple[logging.Logger, list[str]]:
    messages: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    log = logging.Logger("tasks")
    log.addHandler(Listener())
    return log, messages
