"""The orchestrator, with a launcher that executes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from motoko.errors import (
    ConflictError,
    ConstraintError,
    EventError,
    Fenced,
    LeaseHeld,
    MotokoError,
    ParameterError,
    RunFailed,
    RunNameError,
    StorageError,
    WorkflowFailed,
)
from motoko.orchestrator.main_scope import MainScope
from motoko.storage import commit, query, session
from motoko.storage.database import Database
from motoko.storage.orchestrator_leases import Lease
from motoko.storage.schema import create_tables
from motoko.storage.session import run_transaction
from motoko.storage.study_table import StudyTable
from motoko.testing.fake_launcher import FakeLauncher, failing
from motoko.workflow import Workflow, event

if TYPE_CHECKING:
    from pathlib import Path

    from motoko.storage.tables import Tables

pytestmark = pytest.mark.integration

Main = Callable[..., Any]
STUDIES = ("mult", "add", "norm")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    lines = ["task_managers:", *(f"  {name}:" for name in STUDIES), "orchestrator: steps.main"]
    (tmp_path / "motoko.yaml").write_text(
        "\n".join([*lines, "poll_interval: 0.2", "safety_poll: off", "aliases: {plus: add}"])
    )
    for name in STUDIES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "bd.yaml").write_text(f"study: {name}\njob:\n  x: float\n")
        (tmp_path / name / "launch.sh").write_text("true\n")
    (tmp_path / "steps.py").write_text("async def main(workflow):\n    pass\n")
    return tmp_path


@pytest.fixture
def database() -> Iterator[Database]:
    database = Database.in_memory()
    run_transaction(database, lambda root: create_tables(root, STUDIES), initialising=True)
    yield database
    database.close()


@pytest.fixture
def workflow(directory: Path, database: Database) -> Iterator[Workflow]:
    workflow = Workflow(directory, database=database)
    workflow.run_name = "a"
    yield workflow
    workflow.close()


def execute(
    workflow: Workflow, main: Main, scripts: Mapping[str, Any] | None = None, **params: Any
) -> FakeLauncher:
    """Execute ``main``; by default runs finish with y = 2 x."""
    default: dict[str, Any] = {name: lambda job: {"y": 2 * job["x"]} for name in STUDIES}
    workflow.orchestrator_function = main
    launcher = FakeLauncher(workflow.store, {**default, **(scripts or {})})

    async def limited() -> None:
        async with asyncio.timeout(120):
            await workflow.execute_async(**params)

    with launcher:
        asyncio.run(limited())
    return launcher


def in_thread(work: Callable[[], None]) -> None:
    """Do ``work`` in a thread without the caller's context, like another client."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def states(workflow: Workflow, study: str) -> list[str]:
    return [run.state for run, _ in workflow.task_manager(study).select()]


def test_actions_create_runs_downstream_and_label(workflow: Workflow) -> None:
    @event
    async def forward(workflow: Workflow, runs: Any) -> None:
        for run, _job in runs:
            workflow.add.create_task(x=run.y)
            run.state = "FORWARDED"

    def ready(workflow: Workflow, task_manager: Any) -> Any:
        done = list(task_manager.select("state = FINISHED"))
        return done if len(done) == 3 else False

    async def finish(workflow: Workflow, runs: Any) -> None:
        workflow.run_vars.total = sum(run.y for run, _ in runs)
        workflow.finished = True

    async def main(workflow: Workflow) -> None:
        workflow.add_action("forward", task="mult", event="state = FINISHED", f=forward)
        workflow.add_action("end", task="add", event=ready, f=finish)
        await workflow.mult.create_task(x=[1, 2, 3])

    execute(workflow, main)
    assert workflow.run_vars.total == 4 * (1 + 2 + 3)
    assert states(workflow, "mult") == ["FORWARDED"] * 3
    assert sorted(job.x for _, job in workflow.add.select()) == [2.0, 4.0, 6.0]
    assert {run.event_name for run, _ in workflow.add.select()} == {"forward"}
    assert {run.event_name for run, _ in workflow.mult.select()} == {"main"}


def test_params_are_passed_to_main_and_actions_that_accept_them(workflow: Workflow) -> None:
    seen: dict[str, Any] = {}

    async def act(workflow: Workflow, runs: Any, params: Any, inputs: Any) -> None:
        seen.update(params=params, inputs=inputs)
        workflow.finished = True

    async def main(workflow: Workflow, inputs: Any, **params: Any) -> None:
        seen.update(main=inputs, rest=params)
        workflow.add_action(
            "go", task="mult", event="state = FINISHED", get_params=lambda: 7, f=act
        )
        await workflow.mult.create_task(x=1)

    execute(workflow, main, inputs=[1], other=2)
    assert seen == {"main": [1], "rest": {"other": 2}, "params": 7, "inputs": [1]}


def test_every_kind_of_condition_fires(workflow: Workflow) -> None:
    fired: dict[str, Any] = {}

    def note(name: str) -> Any:
        async def act(workflow: Workflow, runs: Any = None) -> None:
            fired.setdefault(name, None if runs is None else [run.id for run, _ in runs])
            if len(fired) == 6:
                workflow.finished = True

        return act

    def sync_note(workflow: Workflow, runs: Any) -> None:
        fired["sync"] = len(runs)

    async def main(workflow: Workflow) -> None:
        await workflow.mult.create_task(x=[1, 2, 3])
        add = workflow.add_action
        add("constraint", "mult", "state = FINISHED", f=note("constraint"))
        add("list", "mult", ["state = FINISHED", "runs.id < 3"], f=note("list"))
        add("filter", "mult", lambda run, job: job.x > 1.5, f=note("filter"))
        add("manager", "mult", lambda workflow, task_manager: True, f=note("manager"))
        add("plain", event=lambda: True, f=note("plain"))
        add("sync", "mult", "x = 3", f=sync_note)

    execute(workflow, main)
    assert fired == {
        "constraint": [1, 2, 3],
        "list": [1, 2],
        "filter": [2, 3],
        "manager": None,
        "plain": None,
        "sync": 1,
    }


def test_a_run_is_in_one_firing_of_an_event_at_a_time(workflow: Workflow) -> None:
    inside: list[int] = []
    overlaps: list[int] = []

    @event
    async def slow(workflow: Workflow, runs: Any) -> None:
        for run, _ in runs:
            overlaps.extend([run.id] if run.id in inside else [])
            inside.append(run.id)
        await asyncio.sleep(0.3)
        for run, _ in runs:
            inside.remove(run.id)
            run.state = "SEEN"

    async def main(workflow: Workflow) -> None:
        workflow.add_action("slow", "mult", "state = FINISHED", f=slow)
        await workflow.mult.create_task(x=[1, 2])
        await workflow.mult.create_task(x=[3, 4])
        await workflow.mult.select().all("state = SEEN")
        workflow.finished = True

    execute(workflow, main)
    assert overlaps == []
    assert states(workflow, "mult") == ["SEEN"] * 4


def test_a_trigger_that_stays_true_waits_for_the_poll_interval(workflow: Workflow) -> None:
    times: list[float] = []

    async def again(workflow: Workflow, runs: Any) -> None:
        times.append(time.monotonic())
        workflow.finished = len(times) == 3

    async def main(workflow: Workflow) -> None:
        workflow.add_action("again", "mult", "state = FINISHED", f=again)
        await workflow.mult.create_task(x=1)

    execute(workflow, main)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(gaps) == 2
    assert all(gap >= 0.19 for gap in gaps)


def test_once_fires_once_for_each_run(workflow: Workflow) -> None:
    seen: list[float] = []

    async def note(workflow: Workflow, runs: Any) -> None:
        seen.extend(job.x for _, job in runs)

    async def main(workflow: Workflow) -> None:
        workflow.add_action("note", "mult", "state = FINISHED", f=note, once=True)
        await workflow.mult.create_task(x=[1, 2])
        await asyncio.sleep(0.7)
        await workflow.mult.create_task(x=[3])
        while len(seen) < 3:  # noqa: ASYNC110 - until it fired
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.7)
        workflow.finished = True

    execute(workflow, main)
    assert sorted(seen) == [1, 2, 3]
    execute(workflow, main)
    assert sorted(seen) == [1, 2, 3]


def test_an_exception_discards_its_segment(workflow: Workflow) -> None:
    @event
    async def broken(workflow: Workflow, runs: Any) -> None:
        for run, _ in runs:
            workflow.add.create_task(x=run.y)
            run.state = "FORWARDED"
        workflow.vars.half = True
        raise ZeroDivisionError("boom")

    async def main(workflow: Workflow) -> None:
        workflow.add_action("broken", "mult", "state = FINISHED", f=broken)
        await workflow.mult.create_task(x=1)

    with pytest.raises(ZeroDivisionError) as caught:
        execute(workflow, main)
    assert any("in the action of event 'broken'" in note for note in caught.value.__notes__)
    assert states(workflow, "mult") == ["FINISHED"]
    assert len(workflow.add.select()) == 0
    assert "half" not in workflow.vars


def test_an_await_raises_the_failure_of_its_run(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        try:
            await workflow.mult.create_task(x=[1, 2])
        except RunFailed as error:
            workflow.vars.bad = [run.id for run in error.runs]
            workflow.vars.text = str(error)

    execute(workflow, main, {"mult": lambda job: failing("no luck", 3) if job["x"] > 1 else None})
    assert workflow.vars.bad == [2]
    assert "run mult.2 ended FAILED with exit code 3: no luck" in workflow.vars.text


@pytest.mark.parametrize("then", ["ends", "waits", "ends late"])
def test_a_caught_failure_is_handled_however_the_workflow_ends(
    workflow: Workflow, then: str
) -> None:
    async def main(workflow: Workflow) -> None:
        with pytest.raises(RunFailed):
            await workflow.mult.create_task(x=1)
        workflow.finished = True
        if then == "ends late":
            await asyncio.sleep(0)
        elif then == "waits":
            await asyncio.sleep(60)

    execute(workflow, main, {"mult": lambda job: failing()})
    assert states(workflow, "mult") == ["FAILED"]


def test_finishing_does_not_handle_an_uncaught_failure(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        workflow.mult.create_task(x=1)
        await workflow.mult.select().all("state = FAILED")
        workflow.finished = True

    with pytest.raises(WorkflowFailed):
        execute(workflow, main, {"mult": lambda job: failing()})


def test_the_run_name_cannot_change_during_an_execution(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        workflow.run_name = workflow.run_name
        with pytest.raises(RunNameError, match="cannot be changed: 'other'"):
            workflow.run_name = "other"
        await workflow.mult.create_task(x=1)

    execute(workflow, main)
    assert states(workflow, "mult") == ["FINISHED"]
    workflow.run_name = "other"
    assert len(workflow.mult.select()) == 0


def test_an_escaping_run_failed_calls_the_handlers_and_raises(workflow: Workflow) -> None:
    seen: list[Any] = []

    async def handler(workflow: Workflow, runs: Any, tag: str) -> None:
        seen.append((tag, [run.id for run, _ in runs]))

    async def main(workflow: Workflow) -> None:
        workflow.add_error_handler(f=handler, tag="t")
        await workflow.mult.create_task(x=1)

    with pytest.raises(RunFailed):
        execute(workflow, main, {"mult": lambda job: failing()})
    assert seen == [("t", [1])]


def test_an_unhandled_failed_run_fails_the_workflow_at_its_end(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        workflow.mult.create_task(x=1)
        await workflow.add.create_task(x=1)
        await workflow.mult.select("state = FAILED")

    with pytest.raises(WorkflowFailed) as caught:
        execute(workflow, main, {"mult": lambda job: failing("why not")})
    assert [run.id for run in caught.value.runs] == [1]
    assert "--retry-failed" in str(caught.value)


def test_a_handler_is_called_for_a_failed_run_that_is_not_awaited(workflow: Workflow) -> None:
    seen: list[int] = []

    def handler(runs: Any) -> None:
        seen.extend(run.id for run, _ in runs)

    async def main(workflow: Workflow) -> None:
        workflow.add_error_handler(f=handler)
        workflow.mult.create_task(x=1)
        await asyncio.sleep(60)

    with pytest.raises(RunFailed):
        execute(workflow, main, {"mult": lambda job: failing()})
    assert seen == [1]


def test_an_event_that_selects_a_failed_run_handles_it(workflow: Workflow) -> None:
    async def cope(workflow: Workflow, runs: Any) -> None:
        workflow.finished = True

    async def main(workflow: Workflow) -> None:
        workflow.add_error_handler(f=lambda runs: pytest.fail("handled already"))
        workflow.add_action("cope", "mult", "state = FAILED", f=cope)
        workflow.mult.create_task(x=1)

    execute(workflow, main, {"mult": lambda job: failing()})


def test_finished_takes_effect_when_its_segment_is_committed(workflow: Workflow) -> None:
    late: list[str] = []

    async def last(workflow: Workflow, runs: Any) -> None:
        workflow.finished = True
        workflow.vars.last = len(runs)

    async def waits(workflow: Workflow, runs: Any) -> None:
        await workflow.norm.select("state = NEVER")
        late.append("never")

    async def main(workflow: Workflow) -> None:
        workflow.add_action("waits", "mult", "x = 1 and state = FINISHED", f=waits)
        workflow.add_action("last", "mult", "x = 2 and state = FINISHED", f=last)
        await workflow.mult.create_task(x=[1, 2])

    execute(workflow, main)
    assert workflow.vars.last == 1
    assert late == []


def test_the_workflow_ends_with_main_if_no_action_is_registered(
    workflow: Workflow,
) -> None:
    async def main(workflow: Workflow) -> None:
        await workflow.mult.create_task(x=1)

    execute(workflow, main)
    assert states(workflow, "mult") == ["FINISHED"]


def test_creation_is_idempotent_over_starts(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        first = await workflow.mult.create_task(x=[1, 2, 2.0, 1])
        again = await workflow.mult.create_task(x=[2, 1])
        workflow.vars.ids = [first.ids, again.ids]

    assert len(execute(workflow, main).executed) == 2
    assert workflow.vars.ids == [[1, 2], [2, 1]]
    assert execute(workflow, main).executed == []
    workflow.run_name = "b"
    assert len(execute(workflow, main).executed) == 2


def test_a_conflict_reruns_an_event_action_and_loses_nothing(workflow: Workflow) -> None:
    """Another client changes the same values during the action."""
    calls: list[int] = []

    @event
    async def count(workflow: Workflow, runs: Any) -> None:
        workflow.vars.count = workflow.vars.count + 1
        calls.append(1)
        if len(calls) == 1:
            await asyncio.to_thread(in_thread, lambda: setattr(workflow.vars, "count", 100))
        for run, _ in runs:
            run.state = "COUNTED"
        workflow.finished = True

    async def main(workflow: Workflow) -> None:
        workflow.vars.count = 0
        workflow.add_action("count", "mult", "state = FINISHED", f=count)
        await workflow.mult.create_task(x=1)

    execute(workflow, main)
    assert workflow.vars.count == 101
    assert len(calls) == 2


def test_a_conflict_in_an_action_without_event_is_an_error(workflow: Workflow) -> None:
    async def count(workflow: Workflow, runs: Any) -> None:
        workflow.vars.count = workflow.vars.count + 1
        await asyncio.to_thread(in_thread, lambda: setattr(workflow.vars, "count", 5))

    async def main(workflow: Workflow) -> None:
        workflow.vars.count = 0
        workflow.add_action("count", "mult", "state = FINISHED", f=count)
        await workflow.mult.create_task(x=1)

    with pytest.raises(ConflictError, match="@event"):
        execute(workflow, main)
    assert workflow.vars.count == 5


def test_segments_are_committed_one_by_one(workflow: Workflow) -> None:
    seen: list[Any] = []

    @event
    async def chain(workflow: Workflow, runs: Any) -> None:
        workflow.vars.stage = 1
        await workflow.add.create_task(x=5)
        seen.append(open_firings(workflow))
        workflow.vars.stage = 2
        await workflow.norm.create_task(x=6)
        workflow.vars.stage = 3
        for run, _ in runs:
            run.state = "CHAINED"
        workflow.finished = True

    async def main(workflow: Workflow) -> None:
        workflow.add_action("chain", "mult", "state = FINISHED", f=chain)
        await workflow.mult.create_task(x=1)

    def read_stage(job: Mapping[str, Any]) -> dict[str, Any]:
        seen.append(run_transaction(workflow.store.database, lambda t: t.variable(None, "stage")))
        return {}

    execute(workflow, main, {"add": read_stage, "norm": read_stage})
    assert seen[0] == 1
    assert len(seen[1]) == 1
    assert seen[2] == 2
    assert workflow.vars.stage == 3
    assert open_firings(workflow) == []


def open_firings(workflow: Workflow) -> list[Any]:
    found: list[Any] = run_transaction(workflow.store.database, lambda t: t.open_firings("a"))
    return found


def test_an_open_firing_is_rerun_with_its_recorded_runs(workflow: Workflow) -> None:
    calls: list[list[float]] = []

    @event
    async def chain(workflow: Workflow, runs: Any) -> None:
        calls.append([job.x for _, job in runs])
        for run, _ in runs:
            run.state = "TAKEN"
        await workflow.add.create_task(x=5)
        if len(calls) == 1:
            raise KeyboardInterrupt
        workflow.finished = True

    async def main(workflow: Workflow) -> None:
        workflow.add_action("chain", "mult", "state = FINISHED", f=chain)
        await workflow.mult.create_task(x=1)

    with pytest.raises(KeyboardInterrupt):
        execute(workflow, main)
    assert len(open_firings(workflow)) == 1
    execute(workflow, main)
    assert calls == [[1.0], [1.0]]
    assert open_firings(workflow) == []


def test_as_completed_yields_runs_as_they_end(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        workflow.vars.seen = []
        async for run in workflow.mult.create_task(x=[1, 2, 3]).as_completed():
            workflow.vars.seen.append(run.y)

    execute(workflow, main)
    assert sorted(workflow.vars.seen) == [2, 4, 6]


def test_many_awaits_at_once(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        waits = [workflow.mult.create_task(x=i) for i in range(50)]
        done = await asyncio.gather(*waits)
        workflow.vars.ys = [runs[0][0].y for runs in done]

    execute(workflow, main)
    assert workflow.vars.ys == [2.0 * i for i in range(50)]


def test_a_second_orchestrator_for_a_run_name_is_refused(
    workflow: Workflow, directory: Path, database: Database
) -> None:
    other = Workflow(directory, database=database)
    other.run_name = "a"

    async def main(workflow: Workflow) -> None:
        with pytest.raises(LeaseHeld, match="already has an orchestrator: process"):
            await other.execute_async()
        other.run_name = "b"

    other.orchestrator_function = main
    execute(workflow, main)


def test_check_events_evaluates_now_and_waits_for_its_firings(workflow: Workflow) -> None:
    fired: list[Any] = []

    async def act(workflow: Workflow, runs: Any) -> None:
        fired.append([job.x for _, job in runs])
        await workflow.add.create_task(x=9)

    with FakeLauncher(workflow.store, {"mult": lambda job: {}, "add": lambda job: {}}):
        runs = workflow.mult.create_task(x=[1, 2])

        async def go() -> None:
            await runs
            await workflow.check_events()
            await workflow.check_event("act", "mult")

        workflow.add_action("act", "mult", "state = FINISHED", f=act)
        asyncio.run(go())
    assert fired == [[1.0, 2.0], [1.0, 2.0]]
    assert states(workflow, "add") == ["FINISHED"]


def test_fire_event_calls_an_action_with_a_trigger(workflow: Workflow) -> None:
    async def act(workflow: Workflow, runs: Any, params: Any, extra: int) -> int:
        workflow.vars.seen = [params, extra]
        return len(runs)

    runs = workflow.mult.create_task(x=[1, 2])

    async def go() -> list[Any]:
        found = workflow.fire_event("e", "mult", act, runs, lambda: 3, {"extra": 4})
        return [result async for result in found]

    assert asyncio.run(go()) == [2]
    assert workflow.vars.seen == [3, 4]


@pytest.mark.parametrize(
    ("condition", "error"),
    [
        (None, EventError),
        (7, EventError),
        (lambda run: True, EventError),
        ("state == = FINISHED", ConstraintError),
        ("stat = FINISHED and (", ConstraintError),
    ],
)
def test_a_bad_condition_fails_at_registration(
    workflow: Workflow, condition: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        workflow.add_action("e", "mult", condition)


def test_invalid_tasks_fail_at_creation(workflow: Workflow) -> None:
    with pytest.raises(ParameterError, match="no job parameter 'z'"):
        workflow.mult.create_task(z=1)
    with pytest.raises(ParameterError, match="is missing"):
        workflow.mult.create_task()
    with pytest.raises(ParameterError, match="nan"):
        workflow.mult.create_task(x=float("nan"))
    workflow.run_name = None
    with pytest.raises(RunNameError):
        workflow.mult.create_task(x=1)


def test_the_script_api_commits_every_call(workflow: Workflow, database: Database) -> None:
    runs = workflow.mult.createTask(x=[1, 2])
    run, job = runs[0]
    run.y = [1]
    run.y.append(2)
    run.y += [3]
    assert (run["id"], run.y, job["x"], run.job.x, run.state) == (1, [1, 2, 3], 1.0, 1.0, "CREATED")
    with pytest.raises(ValueError, match="cannot be labelled"):
        run.state = "X"
    workflow.vars.deep = {"a": [1]}
    workflow.vars.deep["a"].append(2)
    assert run_transaction(database, lambda t: t.variable(None, "deep")) == {"a": [1, 2]}
    assert workflow.plus is workflow.add
    assert workflow.get_runs(["mult.2", "mult.1"]) == {"mult": [runs[1][0], runs[0][0]]}
    assert not workflow.is_empty()
    selection = workflow.mult.select("x > 1") & "state = CREATED"
    assert [run.id for run, _ in selection] == [2]
    assert (len(selection), bool(selection), selection.ids) == (1, True, [2])
    assert workflow.mult.base.jobs[2].x == 2.0
    assert list(workflow.mult.base.runs) == [1, 2]


def test_the_number_of_runs_is_stored(workflow: Workflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing reads the ids of all runs."""
    monkeypatch.delattr(StudyTable, "ids")
    assert (workflow.is_empty(), len(workflow.mult.base.runs)) == (True, 0)
    workflow.mult.create_task(x=[1, 2])
    assert (workflow.is_empty(), len(workflow.mult.base.runs)) == (False, 2)


def test_a_transaction_is_all_or_nothing(workflow: Workflow, database: Database) -> None:
    def broken() -> None:
        with workflow.transaction():
            workflow.mult.create_task(x=1)
            workflow.vars.a = 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert workflow.is_empty()
    with workflow.transaction():
        workflow.mult.create_task(x=1)
        workflow.vars.a = 1
        assert run_transaction(database, lambda t: t.variable_names(None)) == []
    assert workflow.vars.a == 1
    assert len(workflow.mult.select()) == 1


@pytest.mark.parametrize("waits", [False, True], ids=["with", "async with"])
def test_a_transaction_in_main_loses_no_increment(
    workflow: Workflow, database: Database, waits: bool
) -> None:
    """For assignments in ``main`` the last commit wins; a transaction detects the conflict."""
    workflow.vars.n = 0

    def other_adds() -> None:
        run_transaction(database, lambda t: t.set_variable(None, "n", 10))

    async def add_one(meanwhile: Callable[[], None] | None) -> None:
        transaction = workflow.transaction()
        if waits:
            async with transaction:
                n = workflow.vars.n
                if meanwhile is not None:
                    await asyncio.to_thread(in_thread, meanwhile)
                workflow.vars.n = n + 1
        else:
            with transaction:
                n = workflow.vars.n
                if meanwhile is not None:
                    meanwhile()
                workflow.vars.n = n + 1

    async def main(workflow: Workflow) -> None:
        workflow.run_vars.before = 1  # not committed yet
        with pytest.raises(ConflictError, match="repeat it"):
            await add_one(other_adds)
        assert workflow.vars.n == 10
        await add_one(None)
        assert workflow.vars.n == 11
        assert workflow.run_vars.before == 1

    execute(workflow, main)
    assert workflow.vars.n == 11


def test_a_condition_can_return_a_selection(workflow: Workflow, directory: Path) -> None:
    """An empty selection means false."""

    def ended(workflow: Workflow, task_manager: Any) -> Any:
        return task_manager.select("state = FINISHED")

    @event
    async def count(workflow: Workflow, runs: list[Any]) -> None:
        for run, _ in runs:
            run.state = "COUNTED"
        workflow.vars.counted = workflow.vars.get("counted", 0) + len(runs)

    async def main(workflow: Workflow) -> None:
        workflow.add_action("count", task="mult", event=ended, f=count)
        await workflow.mult.create_task(x=[1, 2, 3])
        await workflow.mult.select().all("state = COUNTED")
        await workflow.check_event("count")
        workflow.finished = True

    for _ in range(2):
        again = Workflow(directory, database=workflow.store.database)
        again.run_name = "a"
        execute(again, main)
        assert again.finished
    assert workflow.vars.counted == 3
    opened = run_transaction(workflow.store.database, lambda t: t.open_firings("a"))
    assert opened == []


def test_an_immediate_failure_is_raised_by_the_following_await(
    workflow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run may end before this process sees the commit that created it."""
    flush = MainScope.flush

    async def late(scope: MainScope) -> None:
        await flush(scope)
        await asyncio.sleep(0.2)

    monkeypatch.setattr(MainScope, "flush", late)
    handled: list[int] = []

    async def main(workflow: Workflow) -> None:
        workflow.add_error_handler(f=lambda runs: handled.append(len(runs)))
        with pytest.raises(RunFailed):
            await workflow.mult.create_task(x=1)

    execute(workflow, main, {"mult": lambda job: failing()})
    assert handled == []


def test_an_expired_lease_is_acquired_and_its_former_holder_fenced(
    workflow: Workflow, directory: Path, database: Database
) -> None:
    """A suspended orchestrator must not commit when it resumes."""
    name = "orchestrator:a"
    other = Workflow(directory, database=database)

    def take_over(tables: Tables) -> None:
        # One transaction, because the former holder may renew its lease at any time.
        lease = tables.lease(name)
        lease["holder"] = {**lease["holder"], "namespace": 1}  # a process in another PID namespace
        tables.renew_lease(name, 0.0)
        Lease(other.store, "a").acquire_in(tables)

    def other_takes_over() -> None:
        database.submit(lambda: run_transaction(database, take_over)).result()

    async def main(workflow: Workflow) -> None:
        await workflow.mult.create_task(x=1)
        await asyncio.to_thread(in_thread, other_takes_over)
        workflow.vars.late = True
        await workflow.mult.create_task(x=2)

    with pytest.raises(Fenced, match="taken over"):
        execute(workflow, main)
    assert "late" not in workflow.vars
    assert [job.x for _, job in workflow.mult.select()] == [1.0]


def test_reading_ids_while_main_is_committed_does_not_block(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        for n in range(60):
            workflow.mult.create_task(x=n)
            await asyncio.sleep(0)
            assert workflow.add.create_task(x=n).ids == [n + 1]

    execute(workflow, main)
    assert len(workflow.add.select()) == 60


def conflicting(workflow: Workflow) -> None:
    in_thread(lambda: setattr(workflow.vars, "count", workflow.vars.count + 100))


def counting(body: Any) -> Main:
    """A main whose action conflicts in its first call, before ``body`` is awaited."""
    calls: list[int] = []

    @event
    async def act(workflow: Workflow, runs: Any) -> None:
        workflow.vars.count = workflow.vars.count + 1
        calls.append(1)
        if len(calls) == 1:
            await asyncio.to_thread(conflicting, workflow)
        await body(workflow)
        for run, _ in runs:
            run.state = "DONE"
        workflow.finished = True

    async def main(workflow: Workflow) -> None:
        workflow.vars.count = 0
        workflow.add_action("act", "mult", "state = FINISHED", f=act)
        await workflow.mult.create_task(x=1)

    return main


async def gathered(workflow: Workflow) -> None:
    tasks = [workflow.add.create_task(x=n) for n in (5, 6)]
    await asyncio.gather(*tasks, return_exceptions=True)


async def in_a_task(workflow: Workflow) -> None:
    async def side() -> None:
        await workflow.add.create_task(x=5)

    task = asyncio.create_task(side())
    await workflow.add.create_task(x=6)
    await task


async def swallowed(workflow: Workflow) -> None:
    with contextlib.suppress(BaseException):  # bad style on purpose
        await workflow.add.create_task(x=[5, 6])


@pytest.mark.parametrize("body", [gathered, in_a_task, swallowed])
def test_a_conflict_reruns_the_whole_action_during_any_await(workflow: Workflow, body: Any) -> None:
    execute(workflow, counting(body))
    assert workflow.vars.count == 101
    assert states(workflow, "mult") == ["DONE"]
    assert sorted(job.x for _, job in workflow.add.select()) == [5, 6]
    assert open_firings(workflow) == []


def test_finished_in_main_cancels_its_awaits(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        await workflow.mult.create_task(x=1)
        workflow.vars.last = 1
        workflow.finished = True
        await asyncio.sleep(60)

    execute(workflow, main)
    assert workflow.vars.last == 1


def test_sys_exit_with_a_status_is_an_error(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        sys.exit(1)

    with pytest.raises(MotokoError, match=r"sys\.exit\(1\)"):
        execute(workflow, main)


def test_a_missing_parameter_of_main_is_named(workflow: Workflow) -> None:
    async def main(workflow: Workflow, dampings: list[float]) -> None:
        pytest.fail("called")

    with pytest.raises(ParameterError, match="dampings"):
        execute(workflow, main)


def test_slow_sync_actions_do_not_block_each_other(workflow: Workflow) -> None:
    created = threading.Event()

    def waits(workflow: Workflow, runs: Any) -> None:
        assert created.wait(100)

    async def creates(workflow: Workflow, runs: Any) -> None:
        workflow.add.create_task(x=1)
        created.set()

    async def main(workflow: Workflow) -> None:
        for n in range(45):
            workflow.add_action(f"waits {n}", "mult", "x = 1 and state = FINISHED", f=waits)
        workflow.add_action("creates", "mult", "x = 2 and state = FINISHED", f=creates)
        await workflow.mult.create_task(x=1)
        await workflow.mult.create_task(x=2)
        await workflow.add.select("state = FINISHED")
        workflow.finished = True

    execute(workflow, main)


def test_a_failure_of_an_earlier_start_fails_the_workflow_again(workflow: Workflow) -> None:
    seen: list[int] = []

    async def main(workflow: Workflow) -> None:
        workflow.add_error_handler(f=lambda runs: seen.extend(run.id for run, _ in runs))
        workflow.mult.create_task(x=1)
        await workflow.mult.select("state = NEVER")

    for _ in range(2):
        with pytest.raises(RunFailed):
            execute(workflow, main, {"mult": lambda job: failing()})
    assert seen == [1, 1]


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Return functions that fill and empty the disk of the database."""
    commit_patiently = commit.commit_with_retry
    full = False

    def refusing(*args: Any, **kwargs: Any) -> Any:
        if full:
            raise StorageError("the disk is full")
        return commit_patiently(*args, **kwargs)

    def fill(value: bool) -> None:
        nonlocal full
        full = value

    monkeypatch.setattr(session, "commit_with_retry", refusing)
    return fill


@pytest.mark.parametrize("how", ["sleep", "event", "task", "thread", "runs"])
def test_a_failed_commit_of_main_is_raised_in_main_during_any_await(
    workflow: Workflow, full_disk: Callable[[bool], None], how: str
) -> None:
    raised: list[str] = []
    done = threading.Event()

    async def main(workflow: Workflow) -> None:
        forever: Any = {
            "sleep": lambda: asyncio.sleep(3600),
            "event": lambda: asyncio.Event().wait(),
            "task": lambda: asyncio.gather(asyncio.sleep(3600), asyncio.sleep(3600)),
            "thread": lambda: asyncio.to_thread(done.wait),
            "runs": lambda: workflow.mult.select("state = NEVER"),
        }
        full_disk(True)
        workflow.run_vars.lost = 1
        try:
            await forever[how]()
        except StorageError as error:
            raised.append(error.message)
        full_disk(False)
        done.set()
        await asyncio.sleep(0.01)  # main can await as before
        workflow.run_vars.kept = 1

    execute(workflow, main)
    assert raised == ["the disk is full"]
    assert workflow.run_vars.keys() == ["kept"]


def test_an_uncaught_failed_commit_of_main_ends_the_workflow(
    workflow: Workflow, full_disk: Callable[[bool], None]
) -> None:
    async def main(workflow: Workflow) -> None:
        full_disk(True)
        workflow.run_vars.lost = 1
        await asyncio.sleep(3600)

    with pytest.raises(StorageError, match="the disk is full"):
        execute(workflow, main)


def test_commits_of_main_use_no_lasting_memory(
    workflow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    futures: weakref.WeakSet[Any] = weakref.WeakSet()
    submit = Database.submit

    def noting(self: Database, work: Any) -> Any:
        future = submit(self, work)
        futures.add(future)
        return future

    async def main(workflow: Workflow) -> None:
        monkeypatch.setattr(Database, "submit", noting)
        for n in range(100):
            workflow.run_vars.n = n
            await asyncio.sleep(0.001)
        while len(futures) >= 10:  # only those of current commits remain
            gc.collect()
            await asyncio.sleep(0.01)
        workflow.run_vars.left = len(futures)

    execute(workflow, main)
    assert workflow.run_vars.n == 99
    assert workflow.run_vars.left < 10


def test_a_list_of_a_selection_is_one_query(
    workflow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow.mult.create_task(x=[1, 2, 3])
    selection = workflow.mult.select("x > 1")
    queries: list[int] = []
    real = query.select_records

    def counted(*args: Any, **options: Any) -> Any:
        queries.append(1)
        return real(*args, **options)

    monkeypatch.setattr("motoko.api.selection.select_records", counted)
    for read in (list, tuple, lambda pairs: [*pairs]):
        queries.clear()
        assert [run.id for run, _ in read(selection)] == [2, 3]
        assert len(queries) == 1
    iterator = iter(selection)
    next(iterator)
    workflow.mult.create_task(x=4)
    assert len(selection) == 3
    assert [run.id for run, _ in iterator] == [3]
    assert len(list(selection)) == 3
