"""Workflow variables keep the types of their values, or refuse them."""

from __future__ import annotations

import copy
import enum
import json
from array import array
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
import yaml

from motoko.errors import NoDatabaseError, ParameterError
from motoko.storage.database import Database
from motoko.storage.schema import create_tables
from motoko.storage.session import run_transaction
from motoko.workflow import Workflow

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.unit

ZURICH = ZoneInfo("Europe/Zurich")
FILES = {
    "motoko.yaml": "task_managers: {s: }\norchestrator: steps.main\n",
    "s/bd.yaml": "job: {x: float}\n",
    "s/launch.sh": "true\n",
}


def write(directory: Path) -> Path:
    for name, text in FILES.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(text)
    return directory


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Workflow]:
    database = Database.in_memory()
    run_transaction(database, lambda root: create_tables(root, ["s"]), initialising=True)
    workflow = Workflow(write(tmp_path), database=database)
    workflow.run_name = "a"
    yield workflow
    workflow.close()
    database.close()


def loaded(workflow: Workflow) -> Any:
    """Return the variable as loaded by another process."""
    other = Workflow(workflow.directory, database=workflow.store.database)
    other.run_name = "a"
    try:
        return copy.deepcopy(other.vars.a)
    finally:
        other.close()


def alike(one: Any, other: Any) -> bool:
    """Return whether two values are the same in type, zone and content."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        same = one.dtype == other.dtype and one.shape == other.shape
        return bool(same and one.tobytes() == other.tobytes())
    if isinstance(one, datetime):
        zones = str(one.tzinfo) == str(other.tzinfo) and one.fold == other.fold
        return zones and one == other and one.utcoffset() == other.utcoffset()
    return repr(one) == repr(other)


@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 1, 1, 12),  # noqa: DTZ001 - naive on purpose
        datetime(2026, 1, 1, 12, tzinfo=UTC),
        datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=30), "IST")),
        datetime(2026, 10, 25, 2, 30, tzinfo=ZURICH, fold=1),
        datetime(2026, 10, 25, 2, 30, fold=1),  # noqa: DTZ001 - naive on purpose
        time(2, 30, fold=1),
        date(2026, 1, 1),
        time(12, 30),
        time(12, 30, tzinfo=UTC),
        timedelta(days=-1, microseconds=1),
        1 + 2j,
        Path("a/b"),
        PurePosixPath("/x"),
        (1, (Path("a"), date(2026, 1, 1))),
        np.array([1.0, 2.0]),
        np.arange(12).reshape(3, 4),
        np.arange(12).reshape(3, 4).T,
        np.array([], dtype="float32"),
        np.zeros((2, 0), dtype="int8"),
        np.array(["ab", "c"]),
        np.array([""]),
        np.array([True, False]),
        np.array([1 + 2j]),
        np.array(5, dtype=">i4"),
        np.array(["2024-05-01", "NaT"], dtype="datetime64[ns]"),
        np.datetime64("2024-05-01", "D"),
        np.timedelta64(3, "h"),
        np.complex64(1j),
    ],
    ids=repr,
)
def test_types_are_kept(workflow: Workflow, value: Any) -> None:
    workflow.vars.a = value
    assert alike(workflow.vars.a, value)
    workflow.vars.a = [{"b": value}]
    assert alike(workflow.vars.a[0]["b"], value)
    workflow.vars.a.append(value)
    assert alike(workflow.vars.a[1], value)
    assert alike(workflow.vars.a[0]["b"], value)
    assert alike(loaded(workflow)[0]["b"], value)


@pytest.mark.parametrize(
    "value",
    [date(2026, 1, 1), Path("a"), timedelta(1), datetime(2026, 1, 1, 12, tzinfo=ZURICH), 1j],
)
def test_types_are_kept_in_keys_and_sets(workflow: Workflow, value: Any) -> None:
    workflow.vars.a = {value: {value}}
    ((key, members),) = workflow.vars.a.items()
    (member,) = members
    assert alike(key, value)
    assert alike(member, value)
    members.add("x")
    assert workflow.vars.a == {value: {value, "x"}}


def test_numbers_of_pandas_and_numpy_become_plain_numbers(workflow: Workflow) -> None:
    for given, expected in ((np.float32(0.5), 0.5), (np.int64(7), 7), (np.bool_(True), True)):
        workflow.vars.a = given
        assert alike(workflow.vars.a, expected)
    workflow.vars.a = pd.NaT
    assert workflow.vars.a is None
    workflow.vars.a = pd.Timestamp("2026-01-01T12:00", tz="Europe/Zurich")
    assert alike(workflow.vars.a, datetime(2026, 1, 1, 12, tzinfo=ZURICH))


class Colour(enum.Enum):
    RED = 1


class Sheep:
    """An object with a `fold` attribute that is not a time."""

    fold = 1


class Zone(tzinfo):
    """A time zone of another package."""

    def utcoffset(self, _: Any) -> timedelta:
        return timedelta(hours=1)

    def tzname(self, _: Any) -> str:
        return "somewhere"

    def dst(self, _: Any) -> timedelta:
        return timedelta(0)


@pytest.mark.parametrize(
    "value",
    [
        Decimal("0.1"),
        Colour.RED,
        object(),
        np.array([object()]),
        np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]),
        np.longdouble(1),
        np.array([1], dtype="longdouble"),
        np.ma.array([1, 2], mask=[True, False]),
        pd.Series([1]),
        pd.DataFrame({"a": [1]}),
        pd.Timedelta(1, "ns"),
        pd.Timestamp("2024-05-01T12:00:00.000000001"),
        pd.date_range("2024-05-01", periods=2),
        array("d", [1.0]),
        Sheep(),
        datetime(2026, 1, 1, tzinfo=Zone()),
        time(12, tzinfo=ZURICH),
        range(3),
        b"".join,
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_types_are_refused(workflow: Workflow, value: Any) -> None:
    for given in (value, [value], {"a": (value,)}):
        with pytest.raises(ParameterError, match=r"^workflow variable 'a'.*"):
            workflow.vars.a = given
    assert "a" not in workflow.vars


def test_an_array_refuses_changes_in_place(workflow: Workflow) -> None:
    workflow.vars.a = np.zeros(2)
    with pytest.raises(ValueError, match="read-only"):
        workflow.vars.a[0] = 1.0
    workflow.vars.a = workflow.vars.a + 1
    assert workflow.vars.a.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("value", [[1, [2]], {"a": [1], "b": {"c": None}}, {1, 2}, []])
@pytest.mark.parametrize("dump", [yaml.safe_dump, yaml.dump])
def test_tracked_containers_are_dumped_like_plain_ones(
    workflow: Workflow, value: Any, dump: Any
) -> None:
    workflow.vars.a = value
    assert dump(workflow.vars.a) == dump(value)
    ((run, _),) = workflow.s.create_task({"y": value}, x=1)
    assert dump(run.y) == dump(value)
    if not isinstance(value, set):
        assert json.dumps(workflow.vars.a) == json.dumps(value)


def test_vars_is_always_the_same_object(workflow: Workflow) -> None:
    assert workflow.vars is workflow.vars
    first = workflow.run_vars
    assert workflow.run_vars is first
    first.n = 1
    workflow.run_name = "b"
    assert workflow.run_vars is not first
    assert "n" not in workflow.run_vars


def test_reading_creates_nothing(tmp_path: Path) -> None:
    workflow = Workflow(write(tmp_path), look=True)
    assert workflow.vars.get("n", 7) == 7
    assert list(workflow.vars) == []
    with pytest.raises(NoDatabaseError):
        workflow.vars.n = 3
    assert not workflow.store.state.database.exists()
