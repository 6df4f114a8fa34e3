"""A workflow in which nothing can move any more says so."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

import pytest

from motoko.errors import MotokoError, WorkflowFailed, WorkflowStalled
from motoko.storage.database import Database
from motoko.storage.session import transact
from motoko.storage.tables import initialise
from motoko.testing.fake_launcher import FakeLauncher, failing
from motoko.workflow import Workflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

QUIET = 0.1
LONG = 5 * QUIET


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask soon after an event whether anything can follow it."""
    monkeypatch.setattr("motoko.orchestrator.stall.QUIET", QUIET)


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Workflow]:
    (tmp_path / "motoko.yaml").write_text(
        "task_managers: {mult: }\norchestrator: steps.main\npoll_interval: 0.1\n"
    )
    (tmp_path / "mult").mkdir()
    (tmp_path / "mult" / "bd.yaml").write_text("job: {x: float}\n")
    (tmp_path / "mult" / "launch.sh").write_text("true\n")
    database = Database.in_memory()
    transact(database, lambda root: initialise(root, ["mult"]), initialising=True)
    workflow = Workflow(tmp_path, database=database)
    workflow.run_name = "a"
    workflow.end_when_stalled = True
    yield workflow
    workflow.close()


def execute(workflow: Workflow, main: Any, seconds: float = 20, script: Any = None) -> None:
    workflow.orchestrator_function = main

    async def limited() -> None:
        async with asyncio.timeout(seconds):
            await workflow.execute_async()

    with FakeLauncher(workflow.store, {"mult": script or (lambda job: {})}):
        asyncio.run(limited())


async def nothing(workflow: Workflow, runs: Any = None) -> None:
    """Change nothing."""


def test_an_await_that_nothing_can_satisfy(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        await workflow.mult.create_task(x=1)
        await asyncio.gather(*[workflow.mult.select("state = NEVER")._matched(list)])

    with pytest.raises(WorkflowStalled, match="main waits for a run of mult with state = NEVER"):
        execute(workflow, main)


def test_an_action_that_changes_nothing_does_not_hide_it(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        workflow.add_action("idle", "mult", "state = FINISHED", f=nothing)
        workflow.add_action("never", "mult", lambda run, job: False, f=nothing)
        workflow.add_action("no", "mult", lambda workflow, task_manager: False, f=nothing)
        await workflow.mult.create_task(x=1)

    with pytest.raises(WorkflowStalled, match=r"event mult\.idle waits for state = FINISHED"):
        execute(workflow, main)


def test_what_failed_is_told_before_what_waits(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        workflow.add_action("good", "mult", "state = FINISHED", f=nothing)
        workflow.mult.create_task(x=1)

    with pytest.raises(WorkflowFailed, match=r"run mult\.1 ended FAILED"):
        execute(workflow, main, script=lambda job: failing())


@pytest.mark.parametrize("how", ["sleep", "thread", "task group", "running"])
def test_who_waits_for_something_else_is_not_stalled(workflow: Workflow, how: str) -> None:
    async def main(workflow: Workflow) -> None:
        workflow.add_action("never", "mult", "state = NEVER", f=nothing)
        if how == "sleep":
            await asyncio.gather(asyncio.sleep(LONG), asyncio.sleep(0.1))
        elif how == "thread":
            await asyncio.to_thread(time.sleep, LONG)
        elif how == "task group":
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(LONG))
        else:
            await workflow.mult.create_task(x=1)
        workflow.vars.through = True
        workflow.finished = True

    def slow(job: Any) -> None:
        time.sleep(LONG)

    execute(workflow, main, script=slow)
    assert workflow.vars.through


def test_with_a_polled_condition_it_says_so_and_waits(
    workflow: Workflow, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)

    async def main(workflow: Workflow) -> None:
        workflow.add_action("outside", event=lambda: False, f=nothing)

    with pytest.raises(TimeoutError):
        execute(workflow, main, seconds=2)
    assert "the workflow is stalled, and waits" in caplog.text


def test_a_task_of_the_users_that_is_cancelled_is_an_error(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        task = asyncio.create_task(asyncio.sleep(60))
        task.cancel()
        await task

    with pytest.raises(MotokoError, match="has been cancelled"):
        execute(workflow, main)
