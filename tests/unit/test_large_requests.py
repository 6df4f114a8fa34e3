"""A call of ``create_task`` for many runs takes several commits, in a script and in ``main``."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motoko.api import task_manager
from motoko.core.axes import MAX_RUNS
from motoko.core.parameter_space import Points
from motoko.errors import ParameterError
from motoko.orchestrator import main_scope
from motoko.workflow import event
from tests.support.orchestrating import execute, memory_workflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.workflow import Workflow

pytestmark = pytest.mark.unit


@pytest.fixture
def workflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workflow]:
    monkeypatch.setattr(task_manager, "PIECE", 3)
    monkeypatch.setattr(main_scope, "MOST_RUNS", 3)
    with memory_workflow(tmp_path, ["s"]) as workflow:
        yield workflow


def commits(workflow: Workflow) -> list[int]:
    """Return a list that will have the number of runs of each commit."""
    found: list[int] = []
    workflow.store.database.feed.subscribe(lambda notice: found.append(len(notice.runs)))
    return found


def test_a_script_creates_pieces_in_list_order(workflow: Workflow) -> None:
    found = commits(workflow)
    values = [3, 1, 2, 5, 4, 9, 8, 7]
    tasks = workflow.s.create_task(x=values)
    assert found == [3, 3, 2]
    assert len(tasks) == 8
    assert tasks.ids == [*range(1, 9)]
    assert [job.x for _, job in tasks] == values
    assert [job.x for _, job in tasks[2:7]] == values[2:7]
    assert {run.event_name for run in tasks.runs} == {"test_a_script_creates_pieces_in_list_order"}
    assert workflow.s.create_task(x=values).ids == tasks.ids
    assert sum(found) == 8


def test_duplicates_in_different_pieces_collapse(workflow: Workflow) -> None:
    tasks = workflow.s.create_task(x=[1, 2, 3, 4, 1.0, 2, 5])
    assert [job.x for _, job in tasks] == [1, 2, 3, 4, 5]
    assert len(tasks) == 5


def test_an_interrupted_call_is_completed_by_the_next_one(
    workflow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope = workflow.store.autocommit_scope
    enqueue, calls = scope.enqueue, itertools.count()

    def failing(request: Any) -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt
        enqueue(request)

    monkeypatch.setattr(scope, "enqueue", failing)
    with pytest.raises(KeyboardInterrupt):
        workflow.s.create_task(x=range(10))
    assert len(workflow.s.select()) == 6
    assert len(workflow.s.create_task(x=range(10))) == len(workflow.s.select()) == 10


@pytest.mark.parametrize("reads", [False, True])
def test_main_commits_pieces_and_awaits_all(workflow: Workflow, reads: bool) -> None:
    found = commits(workflow)

    async def main(workflow: Workflow) -> None:
        workflow.run_vars.before = 1
        tasks = workflow.s.create_task(x=range(10))
        if reads:
            assert tasks.ids == [*range(1, 11)]
        workflow.run_vars.after = 2
        done = await tasks
        assert [run.state for run in done.runs] == ["FINISHED"] * 10
        assert [run.id for run, _ in done] == [*range(1, 11)]
        seen = [run.id async for run in workflow.s.create_task(x=range(10)).as_completed()]
        assert sorted(seen) == [*range(1, 11)]
        assert len(await workflow.s.create_task(x=range(10)).settled()) == 10

    execute(workflow, main, {"s": lambda job: None})
    assert max(found) <= 10
    assert found[:4] in ([3, 3, 3, 1], [3, 3, 3, 0])
    assert (workflow.run_vars.before, workflow.run_vars.after) == (1, 2)


def test_main_commits_requests_of_several_calls_in_order(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        tasks = [workflow.s.create_task(x=[2 * n, 2 * n + 1]) for n in range(5)]
        for one in tasks:
            await one
        assert [run_id for one in tasks for run_id in one.ids] == [*range(1, 11)]

    execute(workflow, main, {"s": lambda job: None})


def test_an_action_creates_all_its_runs_in_one_commit(workflow: Workflow) -> None:
    found = commits(workflow)

    @event
    async def act(workflow: Workflow) -> None:
        workflow.s.create_task(x=range(1, 11))
        workflow.finished = True

    async def main(workflow: Workflow) -> None:
        workflow.add_action("act", task="s", event="state = FINISHED, x = 0", f=act, once=True)
        await workflow.s.create_task(x=0)

    execute(workflow, main, {"s": lambda job: None})
    assert len(workflow.s.select()) == 11
    assert 10 in found


def test_more_runs_than_anyone_can_create_are_refused(workflow: Workflow) -> None:
    with pytest.raises(ParameterError, match=f"at most {MAX_RUNS:,}") as caught:
        workflow.s.create_task(x=range(MAX_RUNS + 1))
    assert "study 's'" in caught.value.message
    assert len(workflow.s.select()) == 0


@given(st.lists(st.lists(st.integers(), min_size=1, max_size=4), min_size=1, max_size=4))
def test_points_are_the_product_of_their_axes(values: list[list[int]]) -> None:
    axes: list[dict[str, list[Any]]] = [
        {f"p{n}": axis, f"q{n}": [*map(str, axis)]} for n, axis in enumerate(values)
    ]
    names = [name for axis in axes for name in reversed(axis)]
    points = Points(names, axes)
    assert len(points) == math.prod(map(len, values))
    expected = [
        {name: (str if name[0] == "q" else int)(row[int(name[1:])]) for name in names}
        for row in itertools.product(*values)
    ]
    assert list(points) == expected == points[:]
    assert points[1:3] == expected[1:3]
    assert [list(point) for point in points] == [names] * len(points)
