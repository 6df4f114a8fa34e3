"""Points of a sweep as they are: ``create_tasks``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from motoko.core.axes import MAX_POINTS
from motoko.errors import ParameterError, RunFailed, RunNameError
from motoko.testing.fake_launcher import failing
from motoko.testing.memory import empty_database
from motoko.workflow import Workflow
from tests.support.orchestrating import execute

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.api.task_manager import TaskManager

pytestmark = pytest.mark.unit

STUDY = """
job: {x: float, n: int, mesh: list, opt: dict}
job_space: {n: [1, 2], mesh: [4], opt: {tol: 0.1}}
run: {scheme: str}
"""


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Workflow]:
    (tmp_path / "motoko.yaml").write_text(
        "task_managers: {s: }\norchestrator: steps.main\npoll_interval: 0.1\n"
    )
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "bd.yaml").write_text(STUDY)
    (tmp_path / "s" / "launch.sh").write_text("true\n")
    database = empty_database(["s"])
    workflow = Workflow(tmp_path, database=database)
    workflow.run_name = "a"
    yield workflow
    workflow.close()
    database.close()


@pytest.fixture
def s(workflow: Workflow) -> TaskManager:
    return workflow.s


def test_points_become_runs_in_list_order_in_one_commit(workflow: Workflow) -> None:
    notices: list[Any] = []
    workflow.store.database.feed.subscribe(notices.append)
    tasks = workflow.s.create_tasks([{"x": 3, "n": 1}, {"x": 1, "n": 2}, {"x": 2, "n": 1}])
    assert len(notices) == 1
    assert tasks.ids == [1, 2, 3]
    assert [(job.x, job.n, job.mesh, job.opt) for _, job in tasks] == [
        (3.0, 1, [4], {"tol": 0.1}), (1.0, 2, [4], {"tol": 0.1}), (2.0, 1, [4], {"tol": 0.1}),
    ]  # fmt: skip
    assert tasks.runs[0].event_name == "test_points_become_runs_in_list_order_in_one_commit"


def test_values_are_taken_as_they_are(s: TaskManager) -> None:
    (pair,) = s.create_tasks([{"x": 1, "n": 1, "mesh": [5, 6], "opt": {"steps": 3}}])
    assert (pair[1].mesh, pair[1].opt) == ([5, 6], {"tol": 0.1, "steps": 3})


def test_points_and_products_share_runs(s: TaskManager) -> None:
    first = s.create_task(x=[1, 2], n=1)
    again = s.create_tasks([{"x": 2.0, "n": 1}, {"x": 3, "n": 1}, {"x": 1, "n": 1}])
    assert again.ids == [first.ids[1], 3, first.ids[0]]


def test_duplicates_collapse(s: TaskManager) -> None:
    tasks = s.create_tasks([{"x": 1, "n": 1}, {"x": 2, "n": 1}, {"x": 1.0, "n": 1.0}])
    assert tasks.ids == [1, 2]
    assert s.create_tasks([]).ids == []


def test_a_point_has_run_params_and_a_replicate(s: TaskManager) -> None:
    tasks = s.create_tasks(
        [
            {"x": 1, "n": 1, "run_params": {"nproc": 4}},
            {"x": 1, "n": 1, "replicate": 1},
            {"x": 1, "n": 1, "run_params": {"scheme": "b"}},
        ],
        {"scheme": "a", "timeout": "1h"},
    )
    records = [run.record for run in tasks.runs]
    assert [r.fields["scheme"] for r in records] == ["a", "a", "b"]
    assert [dict(r.options) for r in records] == [
        {"nproc": 4, "timeout": 3600.0}, {"timeout": 3600.0}, {"timeout": 3600.0},
    ]  # fmt: skip
    assert [r.replicate for r in records] == [0, 1, 0]
    assert s.create_task({"scheme": "b"}, x=1, n=1).ids == [tasks.ids[2]]


def test_points_come_from_generators_and_data_frames(s: TaskManager) -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0], "n": [1, 2]})
    assert s.create_tasks(frame.to_dict("records")).ids == [1, 2]
    assert s.create_tasks({"x": x, "n": x} for x in (2, 1)).ids == [2, 1]


GOOD: dict[Any, Any] = {"x": 1, "n": 1}


@pytest.mark.parametrize(
    ("points", "words", "hint"),
    [
        ([GOOD, GOOD, {"x": 1, "m": 1}], "point 2: study 's' has no job parameter 'm'", "Known"),
        ([GOOD, {"n": 1}], "point 1: study 's': job parameter 'x' is missing", "Give x="),
        ([{"x": 1}], "point 0: study 's': job parameter 'n' is missing, and its", "each point"),
        ([{"x": [1, 2], "n": 1}], "point 0: study 's': job parameter 'x' = [1, 2] is a list", None),
        ([GOOD, {"x": float("nan"), "n": 1}], "point 1: study 's': job parameter 'x' is nan", None),
        (
            [GOOD, {**GOOD, "opt": [{}]}],
            "point 1: study 's': job parameter 'opt' = [{'tol': 0.1}]",
            None,
        ),
        ([GOOD, 3], "point 1: it is 3, not a dictionary", "to_dict"),
        (pd.DataFrame({"x": [1.0]}), "point 0: it is 'x', not a dictionary", "to_dict"),
        ([{**GOOD, "run_params": 3}], "point 0: run_params is 3", None),
        ([{**GOOD, "run_params": {"nproc": 0}}], "point 0: study 's': nproc cannot be 0", None),
        ([GOOD, {**GOOD, "run_params": {"schme": ""}}], "point 1: study 's' declares no", "scheme"),
        ([{**GOOD, "replicate": -1}], "point 0: study 's': replicate cannot be -1", None),
        ([{**GOOD, "fail_fast": True}], "point 0: study 's' has no job parameter 'fail_f", None),
        ([{**GOOD, 3: True}], "point 0: study 's' has no job parameter 3", None),
        (GOOD, "create_tasks needs a list of dictionaries, not {'x': 1, 'n': 1}", "create_task(x="),
        ("x", "create_tasks needs a list of dictionaries, not 'x'", None),
        (None, "create_tasks needs a list of dictionaries, not None", None),
    ],
)
def test_an_invalid_point_is_named_and_nothing_is_created(
    s: TaskManager, points: Any, words: str, hint: str | None
) -> None:
    with pytest.raises(ParameterError) as caught:
        s.create_tasks(points)
    assert words in caught.value.message
    assert hint is None or hint in (caught.value.hint or "")
    assert len(s.select()) == 0


def test_endless_points_are_refused(s: TaskManager) -> None:
    with pytest.raises(ParameterError, match=f"at most {MAX_POINTS:,}"):
        s.create_tasks(GOOD for _ in iter(int, 1))


def test_points_need_a_run_name(workflow: Workflow) -> None:
    workflow.run_name = None
    with pytest.raises(RunNameError, match="no run name"):
        workflow.s.create_tasks([GOOD])


def test_main_waits_for_points(workflow: Workflow) -> None:
    async def main(workflow: Workflow, **_: Any) -> None:
        await workflow.s.create_tasks([{"x": 1, "n": 1}, {"x": 2, "n": 2}])
        with pytest.raises(RunFailed) as caught:
            await workflow.s.create_tasks([{"x": -1, "n": 1}, {"x": 2, "n": 2}], fail_fast=True)
        assert [run.job.x for run in caught.value.runs] == [-1.0]
        workflow.finished = True

    execute(workflow, main, {"s": lambda job: failing() if job["x"] < 0 else None})
