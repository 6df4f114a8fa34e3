"""Times at which Python conditions are evaluated, and the runs for which they are."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest

from motoko.core.changes import EditRun
from motoko.core.edits import SetFields
from motoko.core.firing import EventSpec, FiringEngine, WriteSet
from motoko.core.records import RunKey
from motoko.orchestrator.actions import ALL, Action, condition_kind, no_action
from motoko.orchestrator.change_listener import ChangeSet
from motoko.orchestrator.condition_poller import ConditionPoller
from motoko.runtime.ports import SYSTEM
from motoko.storage.session import Session
from motoko.testing import add_run
from motoko.testing.memory import commit, memory_store, study_config
from tests.unit.test_condition_runner import PATIENCE, Tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from motoko.orchestrator.conditions import Matches, Truth

pytestmark = pytest.mark.unit

T = TypeVar("T")
RUNS = 55  # more than a walk reads at once
POLL = 5.0


class Poller:
    """A poller of conditions on the runs of the study ``mult``, and its results."""

    def __init__(self) -> None:
        self.store = memory_store({"mult": study_config("mult", {"x": "float"})})
        self.session = Session(self.store.database)
        for number in range(RUNS):
            add_run(self.session, "mult", {"x": float(number)}, run_name="a")
        add_run(self.session, "mult", {"x": 0.0}, run_name="b")
        self.commit()
        self.tasks = Tasks()
        self.engine = FiringEngine(POLL)
        self.context: Any = SimpleNamespace(
            host=SimpleNamespace(task_manager=lambda study: study),
            store=self.store,
            run_name="a",
            tasks=self.tasks,
            clock=SYSTEM.clock,
            engine=self.engine,
            actions={},
        )
        self.results: list[Matches | Truth] = []
        self.poller = ConditionPoller(
            cast("Any", self.context),
            POLL,
            is_busy=lambda: False,
            on_result=self.results.append,
            on_evaluated=lambda: None,
        )

    def commit(self) -> None:
        commit(self.store.database, self.session)

    def register(self, name: str, condition: Any) -> None:
        kind = condition_kind(name, condition)
        self.context.actions[name] = Action(name, ALL, ("mult",), kind, condition, no_action)
        self.engine.register(EventSpec(name, ("mult",), kind))
        self.poller.register(self.engine.event(name))

    def change(self, *numbers: int) -> None:
        keys = [RunKey("mult", number) for number in numbers]
        written = WriteSet(frozenset(keys), number=1)
        records = {key: self.session.run(key) for key in keys}
        self.poller.on_change(ChangeSet((written,), records))

    async def settle(self) -> list[Matches | Truth]:
        """Start the open evaluations, and return their results."""
        self.poller.start()
        async with asyncio.timeout(PATIENCE):
            while self.tasks.tasks:
                await asyncio.wait(tuple(self.tasks.tasks))
        assert self.poller.is_idle
        found, self.results[:] = [*self.results], []
        return found


def run(body: Callable[[Poller], Coroutine[Any, Any, T]]) -> T:
    async def main() -> T:
        found = Poller()
        with contextlib.closing(found.store), contextlib.closing(found.session):
            try:
                return await body(found)
            finally:
                found.poller.close()

    return asyncio.run(main())


def ids(keys: frozenset[RunKey]) -> list[int]:
    return sorted(key.id for key in keys)


async def is_small(run: Any, job: Any) -> bool:
    return bool(job.x < 2)


def returns_coroutine(run: Any, job: Any) -> Any:
    return is_small(run, job)


FILTERS = {
    "sync": lambda run, job: job.x < 2,
    "async": is_small,
    "returning a coroutine": returns_coroutine,
}


@pytest.mark.parametrize("form", FILTERS)
def test_a_run_filter_is_evaluated_for_all_runs_then_for_changed_ones(form: str) -> None:
    async def body(one: Poller) -> None:
        one.register("e", FILTERS[form])
        assert not one.poller.is_idle
        (matches,) = await one.settle()
        assert (matches.evaluated, ids(matches.matching)) == ("mult", [1, 2])  # type: ignore[union-attr]
        assert one.poller.answers("e")["mult"].evaluated == RUNS
        one.change(2, 3, RUNS + 1)
        assert not one.poller.is_idle
        one.poller.evaluate_due(SYSTEM.clock.monotonic())
        assert not one.tasks.tasks, "a change starts no evaluation before the actions"
        (matches,) = await one.settle()
        assert ids(matches.evaluated) == [2, 3, RUNS + 1]  # type: ignore[union-attr, arg-type]
        assert ids(matches.matching) == [2]  # type: ignore[union-attr]
        assert one.poller.answers("e")["mult"].reads == ("mult",)

    run(body)


def below(limit: int) -> Any:
    return lambda run, job: job.x < limit


def test_run_filters_of_one_study_share_a_walk() -> None:
    async def body(one: Poller) -> None:
        for number in range(5):
            one.register(f"e{number}", below(number))
        assert [ids(m.matching) for m in await one.settle()] == [  # type: ignore[union-attr]
            list(range(1, number + 1)) for number in range(5)
        ]

    run(body)


class Calls(list[str]):
    """Conditions that record their calls."""

    def run_filter(self, run: Any, job: Any) -> bool:
        self.append("e")
        return True

    def task_manager_filter(self, workflow: Any, task_manager: Any) -> bool:
        assert task_manager == "mult"
        self.append("w")
        return False

    def function(self) -> bool:
        self.append("p")
        return False

    def pop_all(self) -> list[str]:
        found, self[:] = sorted(self), []
        return found

    def register(self, one: Poller) -> None:
        one.register("e", self.run_filter)
        one.register("w", self.task_manager_filter)
        one.register("p", self.function)


def test_conditions_are_due_by_time() -> None:
    async def body(one: Poller) -> None:
        calls = Calls()
        calls.register(one)
        await one.settle()
        assert calls.pop_all() == [*["e"] * RUNS, "p", "w"]
        first = one.poller.next_time()
        assert first is not None
        one.change(1)
        await one.settle()
        assert calls.pop_all() == ["e", "w"]
        one.poller.evaluate_due(first - 0.001)
        assert not one.tasks.tasks
        assert one.poller.is_idle
        one.poller.evaluate_due(first + 1000 * POLL)
        await one.settle()
        assert calls.pop_all() == [*["e"] * RUNS, "p"]

    run(body)


def test_everything_may_have_changed() -> None:
    async def body(one: Poller) -> None:
        calls = Calls()
        calls.register(one)
        await one.settle()
        calls.pop_all()
        one.poller.on_change(ChangeSet(everything=True))
        await one.settle()
        assert calls.pop_all() == [*["e"] * RUNS, "p", "w"]
        one.poller.reevaluate({"w"})
        assert not one.poller.is_settled({"w"})
        assert one.poller.is_settled({"e"})
        await one.settle()
        assert calls.pop_all() == ["w"]

    run(body)


def test_repeated_results_are_reported_only_after_activity_of_the_event() -> None:
    async def body(one: Poller) -> None:
        one.register("w", lambda workflow, task_manager: False)
        assert len(await one.settle()) == 2
        version = one.poller.answer_version("w")
        one.change(1)
        assert await one.settle() == []
        assert one.poller.answer_version("w") == version
        one.engine.on_finished(one.engine.resume("w", ()), "x", 0.0)
        one.change(1)
        assert len(await one.settle()) == 2

    run(body)


def test_the_answer_of_a_run_filter_repeats_whichever_runs_it_was_called_for() -> None:
    async def body(one: Poller) -> None:
        one.register("e", lambda run, job: job.x == 3.0)
        await one.settle()
        assert [result.matching for result in await changed(one, 1)] == [frozenset()]
        version, asked = one.poller.answer_version("e"), one.poller.answers("e")["mult"].asked
        results = await changed(one, 2)
        assert [ids(result.evaluated) for result in results] == [[2]]
        assert one.poller.answer_version("e") == version
        assert one.poller.answers("e")["mult"].asked > asked
        (matches,) = await changed(one, 4)
        assert ids(matches.matching) == [4]
        await changed(one, 1, 2)
        assert one.poller.answer_version("e") != version

    async def changed(one: Poller, *numbers: int) -> list[Any]:
        one.change(*numbers)
        return await one.settle()

    run(body)


def test_a_result_newer_than_a_walk_remains() -> None:
    """A run changes after the walk has evaluated it, and before the walk ends."""

    async def body(one: Poller) -> None:
        loop, evaluated = asyncio.get_running_loop(), threading.Event()
        seen: list[int] = []

        def change() -> None:
            one.session.add(EditRun(RunKey("mult", 1), SetFields({"mark": 1})))
            one.commit()
            one.change(1)
            one.poller.start()

        def is_marked(run: Any, job: Any) -> bool:
            if run.id == RUNS and not seen:
                seen.append(run.id)
                loop.call_soon_threadsafe(change)
                assert evaluated.wait(PATIENCE)
            marked = "mark" in run
            if marked:
                evaluated.set()
            return marked

        one.register("e", is_marked)
        results = await one.settle()
        found: set[RunKey] = set()
        for result in results:
            everything = result.evaluated == "mult"  # type: ignore[union-attr]
            found = set() if everything else found
            found |= result.matching  # type: ignore[union-attr]
        assert found == {RunKey("mult", 1)}
        assert len(results) == 2

    run(body)


def test_a_replaced_condition_has_no_more_results() -> None:
    async def body(one: Poller) -> None:
        one.register("e", lambda run, job: True)
        one.register("e", lambda run, job: False)
        found = await one.settle()
        assert [ids(m.matching) for m in found] == [[]]  # type: ignore[union-attr]
        one.register("e", "x > 1")
        assert one.poller.is_idle

    run(body)


def test_an_exception_names_the_condition() -> None:
    async def body(one: Poller) -> None:
        def bad(run: Any, job: Any) -> bool:
            raise ValueError("bad")

        one.register("e", lambda run, job: True)
        one.register("f", bad)
        one.poller.start()
        async with asyncio.timeout(PATIENCE):
            while not one.tasks.errors:  # noqa: ASYNC110 - set by a task of the test
                await asyncio.sleep(0)
        (error,) = one.tasks.errors
        assert error.__notes__[0].startswith("in the condition of event 'f', ")
        assert "ValueError: bad" in one.poller.answers("f")["mult"].error
        assert one.results == []

    run(body)


def test_no_condition_is_evaluated_at_the_end() -> None:
    async def body(one: Poller) -> None:
        one.register("e", lambda run, job: True)
        await one.settle()
        one.tasks.ending = True
        one.poller.reevaluate({"e"})
        assert not one.tasks.tasks

    run(body)
