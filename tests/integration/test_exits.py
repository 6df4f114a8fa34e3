"""Actions that exit, hang or raise exception groups, and the results of checks."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from motoko.errors import EventError, MotokoError, ParameterError, RunFailed
from motoko.launcher import control
from motoko.orchestrator import asyncio_tasks
from motoko.orchestrator.loading import load_function
from motoko.testing.fake_launcher import FakeLauncher, failing
from motoko.workflow import Workflow, event
from tests.support.orchestrating import execute, memory_workflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration


@pytest.fixture
def workflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workflow]:
    """A workflow of one study that gives user code half a second to end."""
    patience = asyncio_tasks.end_tasks.__defaults__
    assert patience == (asyncio_tasks.CANCEL_TIMEOUT,)
    monkeypatch.setattr(asyncio_tasks.end_tasks, "__defaults__", (0.5,))
    with memory_workflow(tmp_path, ["mult"], "aliases: {times: mult}") as made:
        yield made


SCRIPTS: dict[str, Any] = {"mult": lambda job: {}}


def acting(callback: Any) -> Any:
    """Return a main whose only action is ``callback``."""

    async def main(workflow: Workflow) -> None:
        workflow.add_action("act", "mult", "state = FINISHED", f=callback)
        await workflow.mult.create_task(x=1)

    return main


# -- exits ------------------------------------------------------------------------------------


async def exits(workflow: Workflow, runs: Any) -> None:
    workflow.vars.lost = True
    sys.exit(3)


def exits_in_a_thread(workflow: Workflow, runs: Any) -> None:
    sys.exit(3)


@pytest.mark.parametrize("callback", [exits, event(exits), exits_in_a_thread])
def test_an_exit_with_a_status_names_the_action(workflow: Workflow, callback: Any) -> None:
    with pytest.raises(MotokoError, match=r"sys\.exit\(3\) was called") as caught:
        execute(workflow, acting(callback), SCRIPTS)
    places = [n for n in caught.value.__notes__ if n.startswith("in the action of event 'act', ")]
    assert len(places) == 1
    assert "test_exits.py:" in places[0]
    assert "lost" not in workflow.vars


@pytest.mark.parametrize("status", [0, None])
def test_an_exit_with_success_commits_and_ends_the_workflow(
    workflow: Workflow, status: int | None
) -> None:
    async def act(workflow: Workflow, runs: Any) -> None:
        workflow.vars.seen = [run.id for run, _ in runs]
        sys.exit(status)

    async def main(workflow: Workflow) -> None:
        workflow.add_action("act", "mult", "state = FINISHED", f=act)
        workflow.mult.create_task(x=1)
        await asyncio.sleep(600)

    execute(workflow, main, SCRIPTS)
    assert workflow.vars.seen == [1]
    assert workflow.finished


def test_main_and_conditions_can_exit_with_success(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        workflow.vars.main = True
        sys.exit()

    async def waiting(workflow: Workflow) -> None:
        workflow.add_action("never", event=lambda: sys.exit(0))
        await asyncio.sleep(600)

    execute(workflow, main, SCRIPTS)
    assert workflow.vars.main is True
    execute(workflow, waiting, SCRIPTS)
    assert workflow.finished


# -- several exceptions -----------------------------------------------------------------------


async def fails(text: str) -> None:
    raise ValueError(text)


async def raises_two(workflow: Workflow, runs: Any) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fails("one"))
        tasks.create_task(fails("two"))


def test_a_group_of_exceptions_names_the_action_that_raised_it(workflow: Workflow) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        execute(workflow, acting(raises_two), SCRIPTS)
    assert [str(one) for one in caught.value.exceptions] == ["one", "two"]
    assert any(note.startswith("in the action of event 'act'") for note in caught.value.__notes__)


# -- kinds of callables -----------------------------------------------------------------------


async def is_two(run: Any, job: Any) -> bool:
    return bool(job.x == 2)


class IsTwo:
    async def __call__(self, run: Any, job: Any) -> bool:
        return await is_two(run, job)


def returns_coroutine(run: Any, job: Any) -> Any:
    return is_two(run, job)


@pytest.mark.parametrize("condition", [is_two, IsTwo(), returns_coroutine])
def test_a_coroutine_returned_by_a_condition_is_awaited(workflow: Workflow, condition: Any) -> None:
    @event
    async def act(workflow: Workflow, runs: Any) -> None:
        workflow.vars.seen = [job.x for _, job in runs]
        workflow.finished = True

    async def main(workflow: Workflow) -> None:
        workflow.add_action("act", "mult", condition, f=act)
        await workflow.mult.create_task(x=[1, 2, 3])
        await workflow.mult.select("state = NEVER")

    execute(workflow, main, SCRIPTS)
    assert workflow.vars.seen == [2.0]


def test_a_condition_that_yields_is_refused(workflow: Workflow) -> None:
    async def condition(run: Any, job: Any) -> Any:
        yield True

    with pytest.raises(EventError, match=r"'act': the condition .* is a generator function"):
        workflow.add_action("act", "mult", condition, f=exits)


def test_main_can_be_an_object_with_an_async_call_method(workflow: Workflow) -> None:
    class Main:
        async def __call__(self, workflow: Workflow) -> None:
            workflow.vars.called = True

    function = load_function(SimpleNamespace(main=Main()), workflow.config)
    execute(workflow, function, SCRIPTS)
    assert workflow.vars.called is True


def test_a_main_that_yields_is_reported_with_the_line_of_its_assignment(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> Any:
        yield 1

    with pytest.raises(ParameterError, match=r"test_exits\.py:\d+\) is an async generator: it has"):
        execute(workflow, main, SCRIPTS)


# -- exceptions of other kinds ----------------------------------------------------------------


class Unusual(BaseException):
    """A ``BaseException``, such as ``pytest.fail()`` raises."""


def unusual(*args: Any, **kwargs: Any) -> Any:
    raise Unusual("on purpose")


async def unusual_in_the_loop(workflow: Workflow, runs: Any) -> None:
    unusual()


@pytest.mark.parametrize(
    ("callback", "condition", "place"),
    [
        (lambda workflow, runs: unusual(), "state = FINISHED", "in the action of event 'act'"),
        (unusual_in_the_loop, "state = FINISHED", "in the action of event 'act'"),
        (event(unusual_in_the_loop), "state = FINISHED", "in the action of event 'act'"),
        (exits, lambda run, job: unusual(), "in the condition of event 'act'"),
    ],
)
def test_a_base_exception_ends_the_workflow(
    workflow: Workflow, callback: Any, condition: Any, place: str
) -> None:
    async def main(workflow: Workflow) -> None:
        workflow.add_action("act", "mult", condition, f=callback)
        await workflow.mult.create_task(x=1)
        await workflow.mult.select("state = NEVER")

    with pytest.raises(Unusual, match="on purpose") as caught:
        execute(workflow, main, SCRIPTS)
    assert any(note.startswith(place) for note in caught.value.__notes__)


def test_a_base_exception_in_an_error_handler_ends_the_workflow(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        workflow.add_error_handler(f=unusual)
        await workflow.mult.create_task(x=1)

    with pytest.raises(RunFailed) as caught:
        execute(workflow, main, {"mult": lambda job: failing()})
    assert any("handler failed too: Unusual" in note for note in caught.value.__notes__)


# -- ignored cancellation ---------------------------------------------------------------------


async def swallows(workflow: Workflow, runs: Any) -> None:
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            workflow.vars.late = True


async def swallows_all(workflow: Workflow, runs: Any) -> None:
    while True:
        try:
            await asyncio.sleep(600)
        except BaseException as error:
            if isinstance(error, GeneratorExit):
                raise


@pytest.mark.parametrize("callback", [swallows, swallows_all])
def test_an_action_that_swallows_its_cancellation_is_named_and_abandoned(
    workflow: Workflow, callback: Any, caplog: pytest.LogCaptureFixture
) -> None:
    began = asyncio.Event()

    async def act(workflow: Workflow, runs: Any) -> None:
        began.set()
        await callback(workflow, runs)

    async def main(workflow: Workflow) -> None:
        workflow.add_action("act", "mult", "state = FINISHED", f=act)
        await workflow.mult.create_task(x=1)
        await began.wait()
        workflow.finished = True

    with caplog.at_level(logging.WARNING, "motoko.orchestrator"):
        execute(workflow, main, SCRIPTS)
    messages = [r.getMessage() for r in caplog.records if "is abandoned" in r.getMessage()]
    assert len(messages) == 1
    assert messages[0].startswith("the action of event 'act', ")
    assert "did not end within 0.5 s after it was cancelled, and is abandoned at " in messages[0]
    assert "test_exits.py:" in messages[0].partition("is abandoned at ")[2]
    assert "late" not in workflow.vars


def test_child_tasks_that_swallow_their_cancellation_are_abandoned(
    workflow: Workflow, caplog: pytest.LogCaptureFixture
) -> None:
    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                continue

    async def main(workflow: Workflow) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stubborn(), name="child")
            await asyncio.sleep(0.1)
            workflow.finished = True

    workflow.orchestrator_function = main
    with caplog.at_level(logging.WARNING, "motoko.orchestrator"):
        workflow.execute()
    messages = " ".join(r.getMessage() for r in caplog.records)
    assert "the orchestrator function " in messages
    assert "task child did not end" in messages


# -- results of checks ------------------------------------------------------------------------


def test_check_event_returns_whether_it_fired(workflow: Workflow) -> None:
    async def act(workflow: Workflow, runs: Any) -> None:
        """Change nothing."""

    async def check() -> list[bool]:
        first = await workflow.check_event("act", "mult")
        await workflow.mult.create_task(x=1)
        return [first, await workflow.check_event("act", "mult")]

    workflow.add_action("act", "mult", "state = FINISHED", f=act)
    with FakeLauncher(workflow.store, {"mult": lambda job: {}}):
        assert asyncio.run(check()) == [False, True]


@pytest.mark.parametrize(
    ("given", "studies"),
    [("all", None), (None, None), ("mult", ["mult"]), ("times", ["mult"])],
)
def test_a_launcher_can_be_started_for_all_studies_or_for_one(
    workflow: Workflow, monkeypatch: pytest.MonkeyPatch, given: str | None, studies: Any
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(control, "start_launcher", lambda _, **options: asked.append(options))
    workflow.start_launcher_daemons(argparse.Namespace(bd_study=given))
    assert asked == []  # its database is in memory
    state = workflow.store.state
    state.path.mkdir(exist_ok=True)
    state.database.touch()
    with contextlib.closing(Workflow(workflow.directory)) as served:
        served.start_launcher_daemons(argparse.Namespace(bd_study=given))
    assert [options["studies"] for options in asked] == [studies]
