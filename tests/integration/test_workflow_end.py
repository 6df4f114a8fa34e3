"""The end of a workflow: its outcome and the preceding calls of error handlers."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from motoko.errors import EventError, RunFailed, UnknownNameError, WorkflowFailed
from motoko.testing.fake_launcher import failing
from motoko.workflow import event
from tests.support.orchestrating import execute, memory_workflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.workflow import Workflow

pytestmark = pytest.mark.integration


def fails_below_zero(job: Any) -> Any:
    return failing("too small") if job["x"] < 0 else {"y": job["x"]}


SCRIPTS = {"s": fails_below_zero, "t": fails_below_zero}


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Workflow]:
    with memory_workflow(tmp_path, ["s", "t"]) as made:
        yield made


def lifecycles(workflow: Workflow, study: str = "s") -> list[str]:
    return [str(run.record.lifecycle) for run, _ in workflow.task_manager(study).select()]


class Seen:
    """An error handler that records its calls."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __call__(self, runs: Any, params: Any = None) -> None:
        self.calls.append(([str(run.key) for run, _ in runs], params))

    @property
    def runs(self) -> list[str]:
        return sorted(name for names, _ in self.calls for name in names)


# -- active runs ------------------------------------------------------------------------------


def test_the_workflow_outlives_main_while_its_runs_are_active(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        workflow.s.create_task(x=[1, 2, 3])

    execute(workflow, main, SCRIPTS)
    assert lifecycles(workflow) == ["FINISHED"] * 3


def test_runs_of_an_earlier_start_are_awaited_too(workflow: Workflow) -> None:
    workflow.s.create_task(x=[1, 2])

    async def main(workflow: Workflow) -> None:
        await workflow.t.create_task(x=1)

    execute(workflow, main, SCRIPTS)
    assert lifecycles(workflow) == ["FINISHED"] * 2


def test_runs_of_another_run_name_are_not_awaited(workflow: Workflow) -> None:
    workflow.run_name = "other"
    workflow.s.create_task(x=1)
    workflow.run_name = "a"

    async def main(workflow: Workflow) -> None:
        await workflow.t.create_task(x=1)

    execute(workflow, main, {"t": fails_below_zero})  # no launcher executes runs of s


def test_a_run_that_fails_after_main_returned_fails_the_workflow(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        workflow.s.create_task(x=[-1, 1])

    with pytest.raises(WorkflowFailed) as caught:
        execute(workflow, main, SCRIPTS)
    assert [run.id for run in caught.value.runs] == [1]
    assert lifecycles(workflow) == ["FAILED", "FINISHED"]


def test_active_runs_are_reported_when_finished_is_set(
    workflow: Workflow, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(workflow: Workflow) -> None:
        workflow.s.create_task(x=[1, 2])
        workflow.finished = True

    with caplog.at_level(logging.WARNING, "motoko.orchestrator"):
        execute(workflow, main, {})
    assert "are not in a terminal state (2 CREATED in s)" in caplog.text
    assert lifecycles(workflow) == ["CREATED"] * 2


def test_catching_run_failed_does_not_handle_failures_omitted_by_fail_fast(
    workflow: Workflow,
) -> None:
    caught = threading.Event()

    def script(job: Any) -> Any:
        assert job["x"] == -1 or caught.wait(60)
        return failing()

    async def main(workflow: Workflow) -> None:
        with pytest.raises(RunFailed):
            await workflow.s.create_task(x=[-1, -2], fail_fast=True)
        caught.set()

    with pytest.raises(WorkflowFailed) as error:
        execute(workflow, main, {"s": script})
    assert [run.id for run in error.value.runs] == [2]


# -- error handlers ---------------------------------------------------------------------------


def test_a_handler_gets_failures_after_main_returned(workflow: Workflow) -> None:
    seen = Seen()

    async def main(workflow: Workflow) -> None:
        workflow.add_error_handler(f=seen)
        workflow.s.create_task(x=-1)

    with pytest.raises(WorkflowFailed):
        execute(workflow, main, SCRIPTS)
    assert seen.runs == ["s.1"]


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("end", ["finished", "returns"])
def test_a_handler_gets_failures_of_an_earlier_start(
    workflow: Workflow, how: str, end: str
) -> None:
    seen = Seen()

    async def awaited(workflow: Workflow, runs: Any) -> None:
        await workflow.t.create_task(x=1)  # a handler may wait for runs
        seen(runs)

    async def first(workflow: Workflow) -> None:
        await workflow.s.create_task(x=[-1, -2])

    async def second(workflow: Workflow) -> None:
        workflow.add_error_handler(f=seen if how == "sync" else awaited)
        if end == "finished":
            workflow.finished = True

    with pytest.raises(RunFailed):
        execute(workflow, first, SCRIPTS)
    with pytest.raises(WorkflowFailed):
        execute(workflow, second, SCRIPTS)
    assert seen.runs == ["s.1", "s.2"]


def test_a_handler_gets_each_failure_once(workflow: Workflow) -> None:
    seen = Seen()

    async def main(workflow: Workflow) -> None:
        workflow.s.create_task(x=-1)
        await workflow.s.select("state = FAILED")
        try:
            await workflow.t.create_task(x=[-1, 1])
        finally:
            workflow.add_error_handler(f=seen)

    with pytest.raises(RunFailed):
        execute(workflow, main, SCRIPTS)
    assert seen.runs == ["s.1", "t.1"]


def test_a_handler_gets_a_failure_that_escapes_in_a_group(workflow: Workflow) -> None:
    seen = Seen()

    async def wait(workflow: Workflow, x: float) -> None:
        await workflow.s.create_task(x=x)

    async def main(workflow: Workflow) -> None:
        workflow.add_error_handler(f=seen)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(wait(workflow, -1))
            tasks.create_task(wait(workflow, 1))

    with pytest.raises(ExceptionGroup):
        execute(workflow, main, SCRIPTS)
    assert seen.runs == ["s.1"]


def test_a_handler_may_be_for_one_study_and_gets_params(workflow: Workflow) -> None:
    of_t, of_all = Seen(), Seen()

    async def main(workflow: Workflow) -> None:
        workflow.add_error_handler(task="t", f=of_t)
        workflow.add_error_handler(get_params=lambda: 7, f=of_all)
        workflow.s.create_task(x=-1)
        await workflow.s.select("state = FAILED")
        workflow.finished = True

    with pytest.raises(WorkflowFailed):
        execute(workflow, main, SCRIPTS)
    assert of_t.calls == []
    assert of_all.calls == [(["s.1"], 7)]


def test_a_handler_of_an_unknown_study_is_refused(workflow: Workflow) -> None:
    with pytest.raises(UnknownNameError, match="'u'"):
        workflow.add_error_handler(task="u")
    with pytest.raises(EventError, match="get_params is not a function"):
        workflow.add_error_handler(get_params=3)  # type: ignore[arg-type]


# -- failures that were handled ---------------------------------------------------------------


@pytest.mark.parametrize("how", ["selected", "caught"])
def test_a_failure_handled_by_an_action_stays_handled_after_a_restart(
    workflow: Workflow, how: str
) -> None:
    @event
    async def accept(workflow: Workflow, runs: Any) -> None:
        for run, _ in runs:
            run.state = "ACCEPTED"

    @event
    async def tries(workflow: Workflow, runs: Any) -> None:
        with pytest.raises(RunFailed):
            await workflow.s.create_task(x=[-1, 1])
        for run, _ in runs:
            run.state = "ACCEPTED"

    async def main(workflow: Workflow) -> None:
        if how == "selected":
            workflow.add_action("accept", "s", "state = FAILED", f=accept)
            workflow.s.create_task(x=[-1, 1])
            await workflow.s.select().all("state in (FINISHED, ACCEPTED)")
        else:
            workflow.add_action("tries", "t", "state = FINISHED", f=tries)
            await workflow.t.create_task(x=1)
            await workflow.t.select("state = ACCEPTED")
        workflow.finished = True

    for _ in range(2):
        execute(workflow, main, SCRIPTS)
    assert lifecycles(workflow) == ["FAILED", "FINISHED"]


def test_a_failed_retry_is_a_new_failure(workflow: Workflow) -> None:
    @event
    async def accept(workflow: Workflow, runs: Any) -> None:
        for run, _ in runs:
            run.state = "ACCEPTED"
        workflow.finished = True

    async def main(workflow: Workflow) -> None:
        workflow.add_action("accept", "s", "state = FAILED", f=accept)
        await workflow.s.create_task(x=-1).settled()
        await asyncio.sleep(600)

    async def later(workflow: Workflow) -> None:
        workflow.finished = True

    execute(workflow, main, SCRIPTS)
    execute(workflow, later, SCRIPTS)
    workflow.actions.clear()
    workflow.s.select()[0][0].retry()

    async def retried(workflow: Workflow) -> None:
        await workflow.s.select("lifecycle = FAILED and attempt = 2")
        workflow.finished = True

    with pytest.raises(WorkflowFailed):
        execute(workflow, retried, SCRIPTS)
