"""A committed segment of an action is applied once, despite conflicts and crashes."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from motoko.errors import ReplayError, RunFailed, StateError
from motoko.storage.session import run_transaction
from motoko.testing.fake_launcher import failing
from motoko.workflow import Workflow, event
from tests.support.orchestrating import execute, memory_workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

STUDIES = ("mult", "add")


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Workflow]:
    with memory_workflow(tmp_path, STUDIES) as made:
        yield made


def result(job: Any) -> Any:
    return failing() if job["x"] < 0 else {"y": 2 * job["x"]}


SCRIPTS = dict.fromkeys(STUDIES, result)


def elsewhere(work: Callable[[], Any]) -> None:
    """Do ``work`` in a thread without the caller's context, like another client."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


class Crash(Exception):
    """Ends the orchestrator in the middle of a segment."""


class Fault:
    """A single conflict or crash in the last segment of an action."""

    def __init__(self, workflow: Workflow, how: str) -> None:
        self._workflow = workflow
        self._how = how
        self.met = False

    async def strike(self) -> None:
        if self.met:
            return
        self.met = True
        if self._how == "crash":
            raise Crash
        variables = self._workflow.vars
        variables.disturbed = variables.get("disturbed", 0) + 1
        disturb = lambda: setattr(variables, "disturbed", 10)  # noqa: E731
        await asyncio.to_thread(elsewhere, disturb)


def run_through(workflow: Workflow, how: str, act: Any) -> Fault:
    """Execute ``act(workflow, fault)``; execute it again after a crash."""
    fault = Fault(workflow, how)

    @event
    async def action(workflow: Workflow, runs: Any) -> None:
        await act(workflow, fault)
        for run, _ in runs:
            run.state = "DONE"
        workflow.finished = True

    async def main(workflow: Workflow) -> None:
        workflow.add_action("act", "mult", "state = FINISHED", f=action)
        await workflow.mult.create_task(x=1)

    if how == "crash":
        with pytest.raises(Crash):
            execute(workflow, main, SCRIPTS)
    execute(workflow, main, SCRIPTS)
    assert fault.met
    return fault


both = pytest.mark.parametrize("how", ["conflict", "crash"])


@both
def test_an_assignment_before_an_await_is_applied_once(workflow: Workflow, how: str) -> None:
    workflow.vars.n = 0
    workflow.vars.log = []

    async def act(workflow: Workflow, fault: Fault) -> None:
        workflow.vars.n += 1
        workflow.vars.log.append("first")
        tasks = await workflow.add.create_task(x=workflow.vars.n)
        workflow.vars.n += 1
        workflow.vars.log.append("second")
        await workflow.add.select("state = FINISHED")
        await fault.strike()
        workflow.vars.n += 1
        workflow.vars.ys = [run.y for run, _ in tasks]

    run_through(workflow, how, act)
    assert workflow.vars.n == 3
    assert workflow.vars.log == ["first", "second"]
    assert workflow.vars.ys == [2.0]
    assert [job.x for _, job in workflow.add.select()] == [1.0]


@both
def test_a_creation_returns_the_recorded_runs_despite_other_arguments(
    workflow: Workflow, how: str
) -> None:
    """A rerun reads current values; its recorded requests stay unchanged."""
    calls: list[list[float]] = []

    async def act(workflow: Workflow, fault: Fault) -> None:
        calls.append([])
        tasks = workflow.add.create_task(x=[5, 6] if len(calls) == 1 else [7, 8, 9])
        await tasks
        calls[-1] += [job.x for _, job in tasks]
        assert len(tasks) == len(tasks.ids) == 2
        workflow.vars.step = len(calls)
        await workflow.add.select("x > 5" if len(calls) == 1 else "x > 100")
        workflow.vars.more = True
        await workflow.add.select("state = FINISHED")
        await fault.strike()

    run_through(workflow, how, act)
    assert calls == [[5.0, 6.0], [5.0, 6.0]]
    assert len(workflow.add.select()) == 2
    assert workflow.vars.step == 1


@both
def test_points_are_one_recorded_creation(workflow: Workflow, how: str) -> None:
    found: list[list[float]] = []

    async def act(workflow: Workflow, fault: Fault) -> None:
        first = 5 + 10 * len(found)
        tasks = workflow.add.create_tasks([{"x": first}, {"x": first + 1}, {"x": first}])
        await tasks
        found.append([job.x for _, job in tasks])
        await fault.strike()

    run_through(workflow, how, act)
    assert found == [[5.0, 6.0], [5.0, 6.0]]
    assert [job.x for _, job in workflow.add.select()] == [5.0, 6.0]


@both
def test_a_selection_returns_the_recorded_runs(workflow: Workflow, how: str) -> None:
    found: list[list[float]] = []

    async def act(workflow: Workflow, fault: Fault) -> None:
        await workflow.add.create_task(x=5)
        found.append([job.x for _, job in await workflow.add.select("state = FINISHED")])
        workflow.vars.seen = found[-1]
        await workflow.add.create_task(x=6)
        await fault.strike()

    run_through(workflow, how, act)
    assert found == [[5.0], [5.0]]


@both
def test_a_caught_failure_is_raised_again(workflow: Workflow, how: str) -> None:
    """The action depends on the failure, although the run may have been retried since."""
    caught: list[list[int]] = []

    async def act(workflow: Workflow, fault: Fault) -> None:
        try:
            await workflow.add.create_task(x=-1)
        except RunFailed as error:
            caught.append([run.id for run in error.runs])
            await workflow.add.create_task(x=2)
        workflow.vars.caught = True
        await workflow.add.create_task(x=3)
        await fault.strike()

    run_through(workflow, how, act)
    assert caught == [[1], [1]]
    assert [job.x for _, job in workflow.add.select()] == [-1.0, 2.0, 3.0]


@both
def test_as_completed_replays_the_recorded_order(workflow: Workflow, how: str) -> None:
    orders: list[list[int]] = []

    async def act(workflow: Workflow, fault: Fault) -> None:
        orders.append([])
        async for run in workflow.add.create_task(x=[5, 6, 7, 8, 9]).as_completed():
            orders[-1].append(run.id)
            workflow.vars.count = workflow.vars.get("count", 0) + 1
            if len(orders[-1]) == 4:
                await fault.strike()

    run_through(workflow, how, act)
    assert workflow.vars.count == 5
    # At the fault, the last run is not committed yet.
    assert orders[0][:3] == orders[1][:3]
    assert sorted(orders[1]) == [1, 2, 3, 4, 5]


@both
def test_concurrent_tasks_of_an_action_are_replayed_separately(
    workflow: Workflow, how: str
) -> None:
    workflow.vars.total = {}

    async def act(workflow: Workflow, fault: Fault) -> None:
        async def part(n: int) -> None:
            for step in range(3):
                name = f"{n}"
                workflow.vars.total[name] = workflow.vars.total.get(name, 0) + 1
                await workflow.add.create_task(x=10 * n + step + 1)

        async with asyncio.TaskGroup() as group:
            for n in range(3):
                group.create_task(part(n))
        await fault.strike()

    run_through(workflow, how, act)
    assert workflow.vars.total == {"0": 3, "1": 3, "2": 3}
    assert sorted(job.x for _, job in workflow.add.select()) == [
        10 * n + step + 1 for n in range(3) for step in range(3)
    ]


@pytest.mark.parametrize("fails_before", [True, False])
def test_remaining_tasks_of_a_failed_action_commit_nothing(
    workflow: Workflow, fails_before: bool
) -> None:
    """Tasks beside a failing one continue; their dropped changes must be repeated."""
    workflow.vars.total = 0
    failed: list[bool] = []

    async def act(workflow: Workflow, fault: Fault) -> None:
        async def part(n: int) -> None:
            if n == (0 if fails_before else 2):
                await fault.strike()
            workflow.vars.total += 1
            await workflow.add.create_task(x=n + 1)
            workflow.vars.total += 1
            await workflow.add.create_task(x=n + 10)
            workflow.vars.total += 1

        others = [asyncio.ensure_future(part(n)) for n in range(3)]
        try:
            await asyncio.gather(*others)
        except Crash:
            failed.append(True)
            raise

    run_through(workflow, "crash", act)
    assert failed == [True]
    assert workflow.vars.total == 9


@pytest.mark.parametrize("change", ["study", "fewer", "more"])
def test_a_rerun_with_a_different_call_is_an_error(workflow: Workflow, change: str) -> None:
    calls: list[int] = []

    async def act(workflow: Workflow, fault: Fault) -> None:
        calls.append(1)
        again = len(calls) > 1
        if again and change == "fewer":
            return
        if again and change == "more":
            workflow.add.create_task(x=4)
        other = again and change == "study"
        await (workflow.mult if other else workflow.add).create_task(x=5)
        workflow.vars.n = 1
        await workflow.add.create_task(x=6)
        await fault.strike()

    number = {"study": 1, "fewer": 1, "more": 2}[change]
    with pytest.raises(ReplayError, match=rf"event 'mult\.act', .*test_replay.* call {number} "):
        run_through(workflow, "crash", act)
    assert [job.x for _, job in workflow.add.select()] == [5.0, 6.0]


@pytest.mark.parametrize("place", ["main", "action", "script"])
@pytest.mark.parametrize("how", ["tasks", "selection", "as_completed", "gathered"])
def test_runs_cannot_be_awaited_in_a_transaction(workflow: Workflow, place: str, how: str) -> None:
    async def body(workflow: Workflow) -> None:
        async with workflow.transaction():
            workflow.vars.inside = 1
            tasks = workflow.add.create_task(x=6)
            if how == "tasks":
                await tasks
            elif how == "selection":
                await workflow.add.select()
            elif how == "gathered":
                await asyncio.gather(tasks)
            else:
                async for _ in tasks.as_completed():
                    pass

    async def act(workflow: Workflow, runs: Any) -> None:
        await body(workflow)

    async def main(workflow: Workflow) -> None:
        if place == "main":
            await body(workflow)
        workflow.add_action("act", "mult", "state = FINISHED", f=act)
        await workflow.mult.create_task(x=1)

    def work() -> None:
        if place == "script":
            asyncio.run(body(workflow))
        else:
            execute(workflow, main, SCRIPTS)

    with pytest.raises(StateError, match="runs of add are awaited inside of a transaction"):
        work()
    assert "inside" not in workflow.vars
    assert len(workflow.add.select()) == 0


def test_a_transaction_in_an_action_does_not_commit(workflow: Workflow) -> None:
    async def act(workflow: Workflow, runs: Any) -> None:
        workflow.vars.before = 1
        async with workflow.transaction():
            workflow.vars.inside = 1
        raise ZeroDivisionError

    async def main(workflow: Workflow) -> None:
        workflow.add_action("act", "mult", "state = FINISHED", f=act)
        await workflow.mult.create_task(x=1)

    with pytest.raises(ZeroDivisionError):
        execute(workflow, main, SCRIPTS)
    assert workflow.vars.keys() == []


@pytest.mark.parametrize("late", ["assign", "create", "await"])
def test_a_task_that_outlives_its_action_cannot_write(workflow: Workflow, late: str) -> None:
    """Its changes would be lost silently or reopen the firing."""
    seen: list[Any] = []

    async def main(workflow: Workflow) -> None:
        done = asyncio.Event()

        async def write(run: Any) -> None:
            await done.wait()
            seen.append(run.state)
            if late == "assign":
                workflow.vars.late = 1
            elif late == "create":
                workflow.add.create_task(x=5)
            else:
                await workflow.mult.select()

        tasks: list[Any] = []

        async def act(workflow: Workflow, runs: Any) -> None:
            for run, _ in runs:
                run.state = "DONE"
                tasks.append(asyncio.get_running_loop().create_task(write(run)))

        workflow.add_action("act", "mult", "state = FINISHED", f=act)
        await workflow.mult.create_task(x=1)
        await workflow.mult.select("state = DONE")
        done.set()
        with pytest.raises(StateError, match=r"event mult\.act has ended"):
            await tasks[0]
        workflow.finished = True

    execute(workflow, main, SCRIPTS)
    assert seen == ["DONE"]
    assert "late" not in workflow.vars
    assert run_transaction(workflow.store.database, lambda tables: tables.open_firings("a")) == []
