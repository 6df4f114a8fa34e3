"""Await and read tasks requested by another action, ``main`` or a transaction."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from motoko.errors import StateError
from motoko.storage.database import Database
from motoko.storage.schema import create_tables
from motoko.storage.session import run_transaction
from motoko.testing.fake_launcher import FakeLauncher
from motoko.workflow import Workflow, event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

STUDIES = ("mult", "add")


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Workflow]:
    (tmp_path / "motoko.yaml").write_text(
        "task_managers: {mult: , add: }\norchestrator: steps.main\npoll_interval: 0.1\n"
    )
    for name in STUDIES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "bd.yaml").write_text("job: {x: float}\n")
        (tmp_path / name / "launch.sh").write_text("true\n")
    database = Database.in_memory()
    run_transaction(database, lambda root: create_tables(root, STUDIES), initialising=True)
    workflow = Workflow(tmp_path, database=database)
    workflow.run_name = "a"
    workflow.end_when_stalled = True
    yield workflow
    workflow.close()
    database.close()


def run(workflow: Workflow, work: Callable[[], Any]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(120):
            await work()

    with FakeLauncher(workflow.store, {name: lambda job: {"y": 2 * job["x"]} for name in STUDIES}):
        asyncio.run(limited())


def execute(workflow: Workflow, main: Any) -> None:
    workflow.orchestrator_function = main
    run(workflow, workflow.execute_async)


def elsewhere(work: Callable[[], Any]) -> None:
    """Do ``work`` in a thread without the caller's context, like another client."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


class Given:
    """Task lists passed between parts of a workflow, and a record of their steps."""

    def __init__(self) -> None:
        self.tasks: list[Any] = []
        self.given = asyncio.Event()
        self.read = asyncio.Event()

    def put(self, tasks: Any) -> None:
        self.tasks.append(tasks)
        self.given.set()


def disturb(workflow: Workflow) -> None:
    elsewhere(lambda: setattr(workflow.vars, "count", workflow.vars.count + 100))


def providing_action(workflow: Workflow, given: Given, body: Any) -> None:
    """Register an action that conflicts in its first call, after ``body`` requested tasks."""

    @event
    async def give(workflow: Workflow, runs: Any) -> None:
        workflow.vars.count = workflow.vars.count + 1
        first = not given.tasks
        await body(workflow)
        if first:
            await given.read.wait()
            await asyncio.to_thread(disturb, workflow)
        for run, _ in runs:
            run.state = "DONE"

    workflow.vars.count = 0
    workflow.add_action("give", "mult", "state = FINISHED", f=give)
    workflow.mult.create_task(x=1)


def soon(given: Given) -> None:
    """Let the other side continue once this side waits."""
    asyncio.get_running_loop().call_later(0.1, given.read.set)


def test_tasks_of_a_rerun_action_are_those_of_its_last_call(
    workflow: Workflow,
) -> None:
    async def main(workflow: Workflow) -> None:
        given = Given()

        async def body(workflow: Workflow) -> None:
            given.put(workflow.add.create_task(x=[5, 6]))

        providing_action(workflow, given, body)
        await given.given.wait()
        soon(given)
        done = await given.tasks[0]
        workflow.vars.done = [(run.y, job.x) for run, job in done]
        workflow.vars.calls = len(given.tasks)
        workflow.finished = True

    execute(workflow, main)
    assert workflow.vars.calls == 2
    assert workflow.vars.done == [(10.0, 5.0), (12.0, 6.0)]


def test_tasks_not_requested_by_the_last_call_are_an_error(
    workflow: Workflow,
) -> None:
    async def main(workflow: Workflow) -> None:
        given = Given()

        async def body(workflow: Workflow) -> None:
            if not given.tasks:
                given.put(workflow.add.create_task(x=[5, 6]))

        providing_action(workflow, given, body)
        await given.given.wait()
        soon(given)
        with pytest.raises(StateError, match=r"mult\.give dropped .* requested the 2 tasks of add"):
            await given.tasks[0]
        workflow.finished = True

    execute(workflow, main)
    assert len(workflow.add.select()) == 0


def test_a_rerun_action_can_await_tasks_of_its_first_call(
    workflow: Workflow,
) -> None:
    async def main(workflow: Workflow) -> None:
        given = Given()
        given.read.set()
        seen: list[Any] = []

        @event
        async def act(workflow: Workflow, runs: Any) -> None:
            workflow.vars.count = workflow.vars.count + 1
            if not given.tasks:
                given.put(workflow.add.create_task(x=5))
                assert given.tasks[0].ids == [1]
                await asyncio.to_thread(disturb, workflow)
            seen.append([job.x for _, job in await given.tasks[0]])
            for run, _ in runs:
                run.state = "DONE"
            workflow.vars.seen = seen
            workflow.finished = True

        workflow.vars.count = 0
        workflow.add_action("act", "mult", "state = FINISHED", f=act)
        await workflow.mult.create_task(x=1)

    execute(workflow, main)
    assert workflow.vars.seen == [[5.0]]
    assert [run.state for run, _ in workflow.add.select()] == ["FINISHED"]


def test_tasks_also_requested_by_another_client_are_found(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        given = Given()

        async def give(workflow: Workflow, runs: Any) -> None:
            given.put(workflow.add.create_task(x=5))
            await asyncio.to_thread(lambda: list(workflow.add.select()))  # ids are reserved now
            await given.read.wait()
            await asyncio.to_thread(elsewhere, lambda: workflow.add.create_task(x=5))
            for run, _ in runs:
                run.state = "DONE"

        workflow.add_action("give", "mult", "state = FINISHED", f=give)
        workflow.mult.create_task(x=1)
        await given.given.wait()
        soon(given)
        workflow.vars.done = [job.x for _, job in await given.tasks[0]]
        workflow.finished = True

    execute(workflow, main)
    assert workflow.vars.done == [5.0]
    assert len(workflow.add.select()) == 1


def test_an_action_can_await_tasks_of_main(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        given = Given()

        async def act(workflow: Workflow, runs: Any) -> None:
            given.read.set()
            await given.given.wait()
            ys = [run.y async for run in given.tasks[0].as_completed()]
            workflow.vars.ys = sorted(ys)
            workflow.finished = True

        workflow.add_action("act", "mult", "state = FINISHED", f=act)
        workflow.mult.create_task(x=1)
        await given.read.wait()
        given.put(workflow.add.create_task(x=[5, 6]))
        await asyncio.sleep(20)

    execute(workflow, main)
    assert workflow.vars.ys == [10.0, 12.0]


def test_tasks_can_be_awaited_while_the_requesting_action_is_running(
    workflow: Workflow,
) -> None:
    async def main(workflow: Workflow) -> None:
        given, awaited = Given(), asyncio.Event()

        async def give(workflow: Workflow, runs: Any) -> None:
            given.put(workflow.add.create_task(x=5))
            await given.read.wait()
            await workflow.add.create_task(x=6)  # this commits the first ones
            await awaited.wait()
            workflow.finished = True

        workflow.add_action("give", "mult", "state = FINISHED", f=give)
        workflow.mult.create_task(x=1)
        await given.given.wait()
        soon(given)
        await given.tasks[0]
        awaited.set()
        await asyncio.sleep(20)

    execute(workflow, main)
    assert [job.x for _, job in workflow.add.select()] == [5.0, 6.0]


def test_uncommitted_tasks_cannot_be_read_elsewhere(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        given = Given()

        async def give(workflow: Workflow, runs: Any) -> None:
            given.put(workflow.add.create_task(x=5))
            await given.read.wait()
            for run, _ in runs:
                run.state = "DONE"

        workflow.add_action("give", "mult", "state = FINISHED", f=give)
        workflow.mult.create_task(x=1)
        await given.given.wait()
        for read in (lambda: given.tasks[0].ids, lambda: list(given.tasks[0])):
            with pytest.raises(
                StateError, match=r"mult\.give has not yet committed the task of add"
            ) as e:
                read()
            assert "wait" in (e.value.hint or "")
        soon(given)
        await given.tasks[0]
        workflow.vars.ids = given.tasks[0].ids
        workflow.finished = True

    execute(workflow, main)
    assert workflow.vars.ids == [1]


def test_a_condition_waits_until_its_inputs_are_committed(workflow: Workflow) -> None:
    given: list[Any] = []
    asked = threading.Event()

    def ended() -> bool:
        if not given:
            return False
        asked.set()
        return all(run.lifecycle.is_terminal for run, _ in given[0])

    async def end(workflow: Workflow) -> None:
        workflow.finished = True

    async def main(workflow: Workflow) -> None:
        async def give(workflow: Workflow, runs: Any) -> None:
            given.append(workflow.add.create_task(x=5))
            await asyncio.to_thread(asked.wait, 15)
            for run, _ in runs:
                run.state = "DONE"

        workflow.add_action("give", "mult", "state = FINISHED", f=give)
        workflow.add_action("end", event=ended, f=end)
        await workflow.mult.create_task(x=1)

    execute(workflow, main)
    assert [run.state for run, _ in workflow.add.select()] == ["FINISHED"]


def test_tasks_of_a_transaction_in_a_script(workflow: Workflow) -> None:
    async def script() -> None:
        for fails in (True, False):
            given = Given()

            async def give(given: Given = given, fails: bool = fails) -> None:
                with workflow.transaction():
                    given.put(workflow.add.create_task(x=5))
                    await given.read.wait()
                    if fails:
                        raise ZeroDivisionError

            giving = asyncio.create_task(give())
            await given.given.wait()
            soon(given)
            if fails:
                with pytest.raises(
                    StateError, match=r"a transaction dropped .* requested the task"
                ):
                    await given.tasks[0]
                with pytest.raises(ZeroDivisionError):
                    await giving
            else:
                assert [run.y for run, _ in await given.tasks[0]] == [10.0]
                await giving

    run(workflow, script)


def test_dropped_requests_cannot_be_read(workflow: Workflow) -> None:
    tasks: list[Any] = []

    def work() -> None:
        with workflow.transaction():
            tasks.append(workflow.add.create_task(x=5))
            assert tasks[0].ids == [1]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    with pytest.raises(StateError, match=r"a transaction dropped .* requested the task of add"):
        tasks[0].ids  # noqa: B018
    workflow.add.create_task(x=5)
    assert tasks[0].ids == [2]
