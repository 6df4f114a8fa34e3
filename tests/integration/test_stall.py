"""A stalled workflow is reported."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from motoko.errors import MotokoError, WorkflowFailed, WorkflowStalled
from motoko.storage.feed import CommitNotice
from motoko.testing.fake_launcher import failing
from motoko.testing.memory import eventually
from tests.support import orchestrating
from tests.support.orchestrating import memory_workflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.workflow import Workflow

pytestmark = pytest.mark.integration

QUIET = 0.1
LONG = 5 * QUIET


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check for a stall soon after an event."""
    monkeypatch.setattr("motoko.orchestrator.stall.QUIET", QUIET)


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Workflow]:
    with memory_workflow(tmp_path, ["mult"]) as made:
        made.end_when_stalled = True
        yield made


def execute(workflow: Workflow, main: Any, script: Any = None) -> None:
    orchestrating.execute(workflow, main, {"mult": script or (lambda job: {})})


async def nothing(workflow: Workflow, runs: Any = None) -> None:
    """Change nothing."""


def test_an_await_that_cannot_complete_is_a_stall(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        await workflow.mult.create_task(x=1)
        await asyncio.gather(*[workflow.mult.select("state = NEVER")._wait_for(list)])

    with pytest.raises(WorkflowStalled, match="main waits for a run of mult with state = NEVER"):
        execute(workflow, main)


async def awaited(value: Any) -> Any:
    return await value


async def in_task_group(*waits: Any) -> None:
    async with asyncio.TaskGroup() as group:
        for wait in waits:
            group.create_task(awaited(wait))


async def in_anyio_group(*waits: Any) -> None:
    async with anyio.create_task_group() as group:
        for wait in waits:
            group.start_soon(awaited, wait)


async def in_wait(*waits: Any) -> None:
    await asyncio.wait([asyncio.ensure_future(wait) for wait in waits])


async def in_as_completed(*waits: Any) -> None:
    for found in asyncio.as_completed([asyncio.ensure_future(wait) for wait in waits]):
        await found


async def in_shields(*waits: Any) -> None:
    await asyncio.gather(*[asyncio.shield(wait) for wait in waits])


TOGETHER = [in_task_group, in_anyio_group, in_wait, in_as_completed, in_shields]


@pytest.mark.parametrize("place", ["main", "action"])
@pytest.mark.parametrize("wait", TOGETHER)
def test_concurrent_awaits_that_cannot_complete_are_a_stall(
    workflow: Workflow, wait: Any, place: str
) -> None:
    async def part(workflow: Workflow, runs: Any = None) -> None:
        never = workflow.mult.select("state = NEVER")
        await wait(*[awaited(never) for _ in range(2)])

    async def main(workflow: Workflow) -> None:
        if place == "action":
            workflow.add_action("act", "mult", "state = FINISHED", f=part, once=True)
        await workflow.mult.create_task(x=1)
        await (part(workflow) if place == "main" else workflow.mult.select("state = NEVER"))

    with pytest.raises(WorkflowStalled, match="a run of mult with state = NEVER"):
        execute(workflow, main)


@pytest.mark.parametrize("wait", [asyncio.gather, *TOGETHER[2:]])
def test_an_awaited_thread_prevents_a_stall(workflow: Workflow, wait: Any) -> None:
    async def main(workflow: Workflow) -> None:
        workflow.add_action("never", "mult", "state = NEVER", f=nothing)
        loop = asyncio.get_running_loop()
        done = workflow.mult.create_task(x=1)
        await wait(awaited(done), loop.run_in_executor(None, time.sleep, LONG))
        workflow.vars.through = True
        workflow.finished = True

    execute(workflow, main)
    assert workflow.vars.through


@pytest.mark.parametrize("timer", [False, True])
def test_a_user_thread_prevents_a_stall(workflow: Workflow, timer: bool) -> None:
    async def main(workflow: Workflow) -> None:
        loop = asyncio.get_running_loop()

        async def create() -> None:
            await workflow.mult.create_task(x=1)

        def later() -> None:
            time.sleep(0 if timer else LONG)
            asyncio.run_coroutine_threadsafe(create(), loop)

        thread = threading.Timer(LONG, later) if timer else threading.Thread(target=later)
        thread.start()
        await workflow.mult.select("state = FINISHED")
        workflow.vars.through = True
        workflow.finished = True

    execute(workflow, main)
    assert workflow.vars.through


def test_threads_of_pools_and_daemons_do_not_prevent_a_stall(workflow: Workflow) -> None:
    over = threading.Event()

    async def main(workflow: Workflow) -> None:
        await asyncio.to_thread(time.sleep, 0)
        threading.Thread(target=over.wait, daemon=True).start()
        await workflow.mult.select("state = FINISHED")

    try:
        with pytest.raises(WorkflowStalled):
            execute(workflow, main)
    finally:
        over.set()


def test_an_action_that_changes_nothing_does_not_hide_a_stall(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        workflow.add_action("idle", "mult", ["state = FINISHED", "x > 0"], f=nothing)
        workflow.add_action("never", "mult", lambda run, job: False, f=nothing)
        await workflow.mult.create_task(x=1)

    idle = r"event mult\.idle waits for state = FINISHED and x > 0\n"
    with pytest.raises(WorkflowStalled, match=idle):
        execute(workflow, main)


def test_failures_are_reported_before_pending_awaits(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        workflow.add_action("good", "mult", "state = FINISHED", f=nothing)
        workflow.mult.create_task(x=1)

    with pytest.raises(WorkflowFailed, match=r"run mult\.1 ended FAILED"):
        execute(workflow, main, script=lambda job: failing())


@pytest.mark.parametrize("how", ["sleep", "thread", "task group", "running"])
def test_a_task_that_waits_for_something_else_prevents_a_stall(
    workflow: Workflow, how: str
) -> None:
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


@pytest.mark.parametrize("kind", ["f()", "f(workflow, task_manager)"])
def test_with_polled_conditions_pending_awaits_are_logged_once(
    workflow: Workflow, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    caplog.set_level(logging.WARNING)
    outside: list[int] = []

    def polled() -> bool:
        return bool(outside)

    def asked(workflow: Any, task_manager: Any) -> bool:
        return bool(outside)

    async def end(workflow: Workflow) -> None:
        workflow.finished = True

    async def main(workflow: Workflow) -> None:
        workflow.add_action("end", event=polled if kind == "f()" else asked, f=end)
        await workflow.mult.create_task(x=1)
        await workflow.mult.select("state = NEVER")

    def disturb() -> None:
        """Commit irrelevant changes after the awaits were reported; then end the workflow."""
        eventually(lambda: "no run can change state" in caplog.text)
        for n in range(10):
            workflow.vars.other = n
            time.sleep(QUIET)
        outside.append(1)
        workflow.vars.other = "end"

    thread = threading.Thread(target=disturb)
    thread.start()
    execute(workflow, main)
    thread.join()
    (line,) = [line for line in caplog.messages if "no run can change state" in line]
    assert f"event end waits for {kind}: " in line
    assert "main waits for a run of mult with state = NEVER" in line
    assert "stalled" not in caplog.text


async def timeout(workflow: Workflow) -> None:
    try:
        async with asyncio.timeout(LONG):
            await workflow.mult.select("state = NEVER")
    except TimeoutError:
        await workflow.mult.create_task(x=2)


async def move_on(workflow: Workflow) -> None:
    with anyio.move_on_after(LONG):
        await workflow.mult.select("state = NEVER")
    await workflow.mult.create_task(x=2)


async def wait_for(workflow: Workflow) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(workflow.mult.select("state = NEVER")._wait_for(list), LONG)
    await workflow.mult.create_task(x=2)


async def call_later(workflow: Workflow) -> None:
    loop = asyncio.get_running_loop()
    loop.call_later(LONG, lambda: workflow.mult.create_task(x=2))
    await workflow.mult.select("x = 2")


TIMERS = [timeout, move_on, wait_for, call_later]


@pytest.mark.parametrize("place", ["main", "action"])
@pytest.mark.parametrize("wait", TIMERS)
def test_a_user_timeout_prevents_a_stall(workflow: Workflow, wait: Any, place: str) -> None:
    async def act(workflow: Workflow, runs: Any) -> None:
        for run, _ in runs:
            run.state = "DONE"
        await wait(workflow)
        workflow.finished = True

    async def main(workflow: Workflow) -> None:
        workflow.add_action("never", "mult", "state = NEVER", f=nothing)
        if place == "action":
            workflow.add_action("act", "mult", "state = FINISHED and x = 1", f=act)
            await workflow.mult.create_task(x=1)
        else:
            await wait(workflow)
            workflow.finished = True

    execute(workflow, main)
    assert [job.x for _, job in workflow.mult.select("x = 2")] == [2.0]


@pytest.mark.parametrize("how", ["call_later", "task", "chain"])
def test_a_stall_after_the_last_timer_or_task_is_detected(workflow: Workflow, how: str) -> None:
    async def main(workflow: Workflow) -> None:
        loop = asyncio.get_running_loop()
        wait = workflow.mult.select("state = NEVER")._wait_for(list)
        tasks = []
        if how == "call_later":
            loop.call_later(LONG, lambda: None)
        elif how == "task":
            tasks.append(loop.create_task(asyncio.sleep(LONG)))
        else:
            waiting = loop.create_task(wait)

            async def chain() -> None:
                await asyncio.sleep(LONG)
                await waiting

            await chain()
        await wait

    with pytest.raises(WorkflowStalled, match="state = NEVER"):
        execute(workflow, main)


def test_commits_do_not_postpone_the_safety_poll(workflow: Workflow) -> None:
    """Irrelevant commits wake the orchestrator more often than the safety poll."""
    workflow.config = workflow.config.model_copy(
        update={"safety_poll": LONG, "poll_interval": 3600}
    )
    outside: list[int] = []
    asked: list[int] = []
    stop = threading.Event()

    def ready(workflow: Any, task_manager: Any) -> bool:
        asked.append(1)
        return bool(outside)

    async def end(workflow: Workflow) -> None:
        workflow.finished = True

    async def main(workflow: Workflow) -> None:
        workflow.add_action("end", event=ready, f=end)
        await asyncio.to_thread(asking.wait)
        outside.append(1)
        await asyncio.Event().wait()

    asking = threading.Event()

    def disturb() -> None:
        while not stop.wait(LONG / 20):
            if asked:
                asking.set()
            workflow.store.database.feed.publish(CommitNotice())

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        execute(workflow, main)
    finally:
        stop.set()
        thread.join()


def test_a_cancelled_user_task_is_an_error(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        task = asyncio.create_task(asyncio.sleep(60))
        task.cancel()
        await task

    with pytest.raises(MotokoError, match="has been cancelled"):
        execute(workflow, main)


def test_an_action_that_cancels_itself_is_named(workflow: Workflow) -> None:
    async def cancelled(workflow: Workflow, runs: Any) -> None:
        raise asyncio.CancelledError

    async def main(workflow: Workflow) -> None:
        workflow.add_action("act", "mult", "state = FINISHED", f=cancelled)
        await workflow.mult.create_task(x=1)

    with pytest.raises(MotokoError, match="has been cancelled") as caught:
        execute(workflow, main)
    assert "in the action of event 'act'" in caught.value.__notes__[0]


def test_a_woken_task_that_has_not_run_yet_is_not_stalled(workflow: Workflow) -> None:
    """The final check wakes tasks for which it found results."""
    found: list[bool] = []

    async def main(workflow: Workflow) -> None:
        watch = workflow.context.execution.stall  # type: ignore[union-attr]
        event = asyncio.Event()

        async def wait() -> None:
            with watch.waiting("main", lambda: "an event"):
                await event.wait()

        task = asyncio.get_running_loop().create_task(wait())
        group = asyncio.gather(task)
        await asyncio.sleep(0)
        found.append(watch._is_stalled(task))
        event.set()
        found.append(watch._is_stalled(task))
        await group
        workflow.finished = True

    execute(workflow, main)
    assert found == [True, False]
