"""A study with changed parameters: equal points are kept, other runs are reported."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core import parameter_space
from motoko.core.parameter_space import describe_change
from motoko.errors import ParameterError
from motoko.storage.consistency import check_study
from motoko.storage.database import Database
from motoko.storage.schema import create_tables
from motoko.storage.session import run_transaction
from motoko.workflow import Workflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.storage.tables import Tables

pytestmark = pytest.mark.unit


@pytest.fixture
def database() -> Iterator[Database]:
    database = Database.in_memory()
    run_transaction(database, lambda root: create_tables(root, ["s"]), initialising=True)
    yield database
    database.close()


def open_workflow(directory: Path, database: Database, study: str) -> Workflow:
    """Return a workflow on an existing database whose study has this declaration."""
    (directory / "motoko.yaml").write_text("task_managers: {s: }\norchestrator: steps.main\n")
    (directory / "s").mkdir(exist_ok=True)
    (directory / "s" / "bd.yaml").write_text(study)
    (directory / "s" / "launch.sh").write_text("true\n")
    workflow = Workflow(directory, database=database)
    workflow.run_name = "a"
    return workflow


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def recount(workflow: Workflow) -> list[str]:
    with workflow.store.autocommit_scope.read() as session:
        return check_study(session.tables.study("s"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1, 2.0], [1.0, 2]),
        ([-0.0], [0.0]),
        ([[{"b": 1.0, "a": -0.0}]], [[{"a": 0, "b": 1}]]),
        ([(1, 2)], [[1.0, 2.0]]),
        ([{1.0, (2.0, -0.0)}], [{1, (2, 0)}]),
        ([1e300], [int(1e300)]),
    ],
)
def test_equal_numbers_in_containers_are_one_point(
    tmp_path: Path, database: Database, one: Any, other: Any
) -> None:
    workflow = open_workflow(tmp_path, database, "job: {x: list}\nrun: {y: list}\n")
    first = workflow.s.create_task({"y": one}, x=one)
    assert workflow.s.create_task({"y": other}, x=other).ids == first.ids == [1]
    assert repr(workflow.s.create_task(x=one)[0][1].x) == repr(one)  # as given
    assert recount(workflow) == []


@pytest.mark.parametrize(
    ("one", "other"), [([True], [1]), (["1"], [1]), ([1], [[1]]), ([0.5], [0])]
)
def test_different_values_in_containers_are_different_points(
    tmp_path: Path, database: Database, one: Any, other: Any
) -> None:
    workflow = open_workflow(tmp_path, database, "job: {x: list}\n")
    assert workflow.s.create_task(x=one).ids != workflow.s.create_task(x=other).ids


def test_values_without_identity_are_refused(tmp_path: Path, database: Database) -> None:
    workflow = open_workflow(
        tmp_path, database, "job: {x: list, d: dict, n: int}\njob_space: {n: 1, d: {}}"
    )
    circular: list[Any] = []
    circular.append(circular)
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"a": deep}
    for given in (
        {"x": circular},
        {"x": [], "d": deep},
        {"x": [], "d": circular},
        {"x": [], "n": 10**5000},
    ):
        with pytest.raises(ParameterError, match="job parameter"):
            workflow.s.create_task(**given)


def test_identities_in_existing_databases_are_stable() -> None:
    job = {"x": 1.0, "n": 3, "p": [1.0, -0.0, {"b": 2.5, "a": (1, 2.0)}], "s": "é"}
    assert (
        parameter_space.job_identity(job, literal=True).hex() == "b667cf84ce413f3bdc47f9a967dbb491"
    )
    run = parameter_space.run_identity("mult", "a", job, {"c": 2.0}, 1, literal=True)
    assert run.hex() == "6cd83eb39fb065fa737820272d6a302d"


def test_runs_of_existing_databases_are_found_and_deleted(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their identities predate the normalisation of numbers."""
    study = "job: {x: float, p: list}\n"
    points: list[dict[str, Any]] = [{"x": 1, "p": [1.0]}, {"x": 1, "p": [1]}, {"x": 2, "p": [-0.0]}]
    with monkeypatch.context() as then:
        then.setattr(parameter_space, "_normal", lambda value: value)
        workflow = open_workflow(tmp_path, database, study)
        assert [workflow.s.create_task(**point).ids for point in points] == [[1], [2], [3]]
    run_transaction(database, lambda tables: tables.study("s").trees.pop("normalised"))
    workflow = open_workflow(tmp_path, database, study)
    assert recount(workflow) == []
    assert [workflow.s.create_task(**point).ids for point in points] == [[1], [2], [3]]
    assert workflow.s.create_task(replicate=1, **points[0])[0][1].id == 1  # and its job
    assert run_transaction(database, lambda tables: remove(tables, [1, 3, 4])) == []
    assert workflow.s.create_task(**points[1]).ids == [2]


def remove(tables: Tables, ids: list[int]) -> list[str]:
    table = tables.study("s")
    for run_id in ids:
        table.delete(run_id)
    return check_study(table)


@pytest.mark.parametrize(
    ("types", "job", "how"),
    [
        ({"x": "float"}, {"x": 1.5}, None),
        ({"x": "float"}, {"x": 1}, None),
        ({"x": "int"}, {"x": 2.0}, None),
        ({"x": "int"}, {"x": 2.5}, "with 'x' of type float (declared as int now)"),
        ({"x": "str"}, {"x": 1}, "with 'x' of type int (declared as str now)"),
        ({"x": "datetime"}, {"x": "2024-05-01"}, "with 'x' of type str (declared as datetime now)"),
        ({"x": "int", "z": "int"}, {"x": 1}, "without 'z' (declared now)"),
        ({"x": "int"}, {"x": 1, "y": 2}, "with 'y' (no longer declared)"),
        (
            {"x": "int", "z": "int"},
            {"x": 1, "y": 2},
            "without 'z' (declared now) and with 'y' (no longer declared)",
        ),
    ],
)
def test_description_of_a_changed_job(
    types: dict[str, str], job: dict[str, Any], how: str | None
) -> None:
    assert describe_change(types, job) == how


def test_an_equal_float_is_the_same_point_as_an_int(
    tmp_path: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    open_workflow(tmp_path, database, "job: {x: int}\n").s.create_task(x=1).ids  # noqa: B018 - resolves
    workflow = open_workflow(tmp_path, database, "job: {x: float}\n")
    assert workflow.s.create_task(x=1).ids == workflow.s.create_task(x=1.0).ids == [1]
    assert workflow.s.create_task(x=1.5).ids == [2]
    assert warnings(caplog) == []


def test_runs_with_other_parameters_are_reported_once(
    tmp_path: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    workflow = open_workflow(tmp_path, database, "job: {x: int}\n")
    assert workflow.s.create_task(x=[1, 2]).ids == [1, 2]
    workflow.run_name = "b"
    assert workflow.s.create_task(x=1).ids == [3]
    assert warnings(caplog) == []
    workflow = open_workflow(tmp_path, database, "job: {x: int, z: float}\njob_space: {z: 0.0}\n")
    workflow.s.create_task(x=1)
    (told,) = warnings(caplog)
    assert told.startswith(
        f"study s: the job parameters in {tmp_path / 's' / 'bd.yaml'} have changed since runs of "
        "run name a were made: 2 runs without 'z' (declared now). "
    )
    assert "`motoko adopt s`" in told
    workflow.s.create_task(x=2)
    assert warnings(caplog) == [told]  # once
    workflow.run_name = "new"
    workflow.s.create_task(x=1)
    assert warnings(caplog) == [told]


def test_runs_of_the_only_run_name_are_counted(
    tmp_path: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    workflow = open_workflow(tmp_path, database, "job: {x: int}\n")
    for replicate in range(3):
        workflow.s.create_task(x=[1, 2], replicate=replicate)
    workflow = open_workflow(tmp_path, database, "job: {y: int}\n")
    workflow.s.create_task(y=1)
    (told,) = warnings(caplog)
    assert ": 6 runs without 'y' (declared now) and with 'x' (no longer declared). " in told


def test_runs_of_all_run_names_are_counted_for_info(tmp_path: Path, database: Database) -> None:
    workflow = open_workflow(tmp_path, database, "job: {x: int}\n")
    for name in ("a", "b"):
        workflow.run_name = name
        workflow.s.create_task(x=[1, 2]).ids  # noqa: B018 - resolves
    assert changes(workflow) == {}
    workflow = open_workflow(tmp_path, database, "job: {x: int, z: int}\njob_space: {z: 0}\n")
    assert changes(workflow) == {"without 'z' (declared now)": 4}
    workflow.s.create_task(x=1).ids  # noqa: B018 - resolves
    assert changes(workflow) == {"without 'z' (declared now)": 4}
    workflow = open_workflow(tmp_path, database, "job: {x: int}\n")  # the change is undone
    assert changes(workflow) == {"with 'z' (no longer declared)": 1}


def changes(workflow: Workflow) -> dict[str, int]:
    types = workflow.s.bd_config.job
    with workflow.store.autocommit_scope.read() as session:
        return session.tables.study("s").count_other_parameters(types)
