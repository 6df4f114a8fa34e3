"""Awaits of several runs of which some fail, and the handling of these failures."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from motoko.errors import RunFailed, WorkflowFailed
from motoko.testing.fake_launcher import failing
from motoko.workflow import event
from tests.support.orchestrating import execute, memory_workflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.workflow import Workflow

pytestmark = pytest.mark.integration


def fails_below_zero(job: Any) -> Any:
    return failing(f"no root of {job['x']:g}", 2) if job["x"] < 0 else {"y": job["x"]}


SCRIPTS = {"s": fails_below_zero, "t": lambda job: {"y": job["x"]}}


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Workflow]:
    with memory_workflow(tmp_path, ["s", "t"]) as made:
        yield made


def lifecycles(workflow: Workflow, study: str = "s") -> list[str]:
    return [str(run.record.lifecycle) for run, _ in workflow.task_manager(study).select()]


def test_an_await_of_several_runs_waits_for_all_and_names_all_failed_runs(
    workflow: Workflow,
) -> None:
    async def main(workflow: Workflow) -> None:
        with pytest.raises(RunFailed) as caught:
            await workflow.s.create_task(x=[-1, 1, -2, 2])
        assert lifecycles(workflow) == ["FAILED", "FINISHED", "FAILED", "FINISHED"]
        assert [run.id for run in caught.value.runs] == [1, 3]
        for x in (1, 2):
            assert f"with exit code 2: no root of -{x}" in str(caught.value)

    execute(workflow, main, SCRIPTS)


def test_fail_fast_raises_at_the_first_failure(workflow: Workflow) -> None:
    caught = threading.Event()

    def script(job: Any) -> Any:
        assert job["x"] < 0 or caught.wait(60)
        return fails_below_zero(job)

    async def main(workflow: Workflow) -> None:
        with pytest.raises(RunFailed) as error:
            await workflow.s.create_task(x=[-1, 1, 2], fail_fast=True)
        assert lifecycles(workflow)[1:] != ["FINISHED", "FINISHED"]
        caught.set()
        assert [run.id for run in error.value.runs] == [1]
        await workflow.s.create_task(x=[1, 2], fail_fast=True)

    execute(workflow, main, {"s": script})


def test_settled_returns_failed_runs_too_and_handles_them(workflow: Workflow) -> None:
    handled: list[Any] = []

    def handler(runs: Any) -> None:
        handled.append(runs)

    async def main(workflow: Workflow) -> None:
        workflow.add_error_handler(f=handler)
        tasks = await workflow.s.create_task(x=[-1, 1, -2]).settled()
        assert [str(run.record.lifecycle) for run in tasks.runs] == ["FAILED", "FINISHED", "FAILED"]

    execute(workflow, main, SCRIPTS)
    assert handled == []


def test_as_completed_yields_every_run_and_handles_failures(workflow: Workflow) -> None:
    seen: list[tuple[int, str]] = []

    async def main(workflow: Workflow) -> None:
        async for run in workflow.s.create_task(x=[-1, 1, -2, 2]).as_completed():
            seen.append((run.id, str(run.record.lifecycle)))

    execute(workflow, main, SCRIPTS)
    assert sorted(seen) == [(1, "FAILED"), (2, "FINISHED"), (3, "FAILED"), (4, "FINISHED")]


def test_a_failure_not_yet_yielded_by_as_completed_is_unhandled(
    workflow: Workflow,
) -> None:
    async def main(workflow: Workflow) -> None:
        async for _run in workflow.s.create_task(x=[-1, -2]).as_completed():
            break
        await workflow.s.select().all("state = FAILED")

    with pytest.raises(WorkflowFailed) as caught:
        execute(workflow, main, SCRIPTS)
    assert len(caught.value.runs) == 1


@pytest.mark.parametrize("how", ["settled", "as_completed", "caught"])
def test_failures_handled_by_an_action_stay_handled_after_a_restart(
    workflow: Workflow, how: str
) -> None:
    crashes = [True]

    @event
    async def sweep(workflow: Workflow, runs: Any) -> None:
        tasks = workflow.s.create_task(x=[-1, 1])
        if how == "settled":
            await tasks.settled()
        elif how == "caught":
            with pytest.raises(RunFailed):
                await tasks
        else:
            found = [run.id async for run in tasks.as_completed()]
            assert sorted(found) == [1, 2]
        await workflow.t.create_task(x=5)  # this commit records the failures
        if crashes.pop(0):
            crashes.append(False)
            raise KeyboardInterrupt
        runs[0][0].state = "USED"

    async def main(workflow: Workflow) -> None:
        workflow.add_action("sweep", "t", "state = FINISHED, x = 0", f=sweep)
        await workflow.t.create_task(x=0)
        await workflow.t.select("state = USED")
        workflow.finished = True

    with pytest.raises(KeyboardInterrupt):
        execute(workflow, main, SCRIPTS)
    execute(workflow, main, SCRIPTS)
    assert lifecycles(workflow) == ["FAILED", "FINISHED"]
