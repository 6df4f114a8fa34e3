"""Comparison, copies and JSON encoding of values."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pandas as pd
import pytest

from motoko.pipeline.json_codec import decode, encode
from motoko.pipeline.values import snapshot, values_equal

pytestmark = pytest.mark.unit


@dataclass
class Point:
    x: Any


def itself() -> list[Any]:
    value: list[Any] = [1]
    value.append(value)
    return value


def frame(**changes: Any) -> pd.DataFrame:
    """Return a frame with a column of many kinds."""
    columns: dict[str, Any] = {
        "ints": [1, 2],
        "floats": [1.5, np.nan],
        "texts": ["x", None],
        "times": pd.to_datetime(np.array(["2020-01-01", "NaT"], "M8[ns]")),
        "zoned": pd.date_range("2020", periods=2, tz="Europe/Zurich"),
        "spans": pd.to_timedelta([1, 2], unit="s"),
        "objects": [[1], {"k": 1}],
        "categories": pd.Categorical(["u", "v"], ordered=True),
        "nullable": pd.array([1, None], dtype="Int64"),
        "flags": pd.array([True, None], dtype="boolean"),
        "small": np.array([1, 2], dtype="i1"),
        **changes,
    }
    return pd.DataFrame(columns)


ALIKE: list[Any] = [
    [1, 2.5, None, True, "x", b"x", 2j, float("nan"), float("-inf")],
    [(1, 2), {3, 4}, frozenset({5}), {"a": {1: 2}}, {(1, 2): ()}],
    [datetime(2020, 1, 2, tzinfo=UTC), date(2020, 1, 2), time(3), timedelta(-1, 2, 3)],
    [Decimal("1.10"), Decimal("-Infinity")],
    [Path("a/b"), PurePosixPath("/"), PureWindowsPath("c:/")],
    [pd.Timestamp(1), pd.Timestamp("2020-05-05", tz="Europe/Zurich"), pd.Timestamp(2, unit="s")],
    [pd.Timestamp("2020-05-05T01:00+03:00"), pd.Timedelta(days=-1, nanoseconds=1)],
    {"$": 1},
    {"model": "x", "contents": {}},
    np.float64(2.5),
    np.array([[np.nan, 1.0]]),
    np.array(["a", "bb"]),
    np.array(["2020", "NaT"], dtype="M8[D]"),
    np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    np.array([1, [2, np.arange(2)]], dtype=object),
    np.empty((0, 3)),
    frame(),
    pd.Series([1, 2], name="s", index=pd.date_range("2020", periods=2)),
    pd.Series(["a", None], dtype="string"),
    pd.DataFrame([[1, 2.0]], columns=["a", "a"]),
    pd.DataFrame({("a", 1): [1]}, index=pd.MultiIndex.from_tuples([(1, "x")], names=["p", "q"])),
    pd.DataFrame(),
]


@pytest.mark.parametrize("value", ALIKE, ids=lambda value: type(value).__name__)
def test_copies_and_decoded_values_are_equal(value: Any) -> None:
    assert values_equal(snapshot(value), value)
    assert values_equal(
        decode(json.loads(json.dumps(encode(value, "value"), allow_nan=False))), value
    )


@pytest.mark.parametrize(
    "value",
    [
        np.ma.masked_array([1, 2], [False, True]),
        Point(np.arange(3)),
        deque([1]),
        OrderedDict(a=[1]),
        Fraction(1, 3),
        np.random.default_rng(1),
        itself(),
        len,
        Point,
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_copy_of_an_unserialisable_value_is_equal(value: Any) -> None:
    assert values_equal(snapshot(value), value)
    with pytest.raises(ValueError, match="value"):
        encode(value, "value")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        ((1,), [1]),
        ({1}, {True}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ([1, 2], [1]),
        (np.arange(3), np.arange(3.0)),
        (np.arange(3), np.arange(3).reshape(3, 1)),
        (np.arange(4), np.array([0, 1, 2, 4])),
        (np.array([1, None], dtype=object), np.array([True, None], dtype=object)),
        (np.ma.masked_array([1, 2], [False, True]), np.ma.masked_array([1, 2], [False, False])),
        (np.array([(1, 2.0)], "i4,f8"), np.array([(1, 3.0)], "i4,f8")),
        (frame(), frame(ints=[1, 3])),
        (frame(), frame(ints=[1.0, 2.0])),
        (frame(), frame(texts=["x", "y"])),
        (frame(), frame(objects=[[True], {"k": 1}])),
        (frame(), frame(categories=pd.Categorical(["u", "v"]))),
        (frame(), frame(zoned=pd.date_range("2020", periods=2, tz="UTC"))),
        (frame(), frame().rename(columns={"ints": "integers"})),
        (frame(), frame().set_axis([5, 6])),
        (frame(), frame().rename_axis("name")),
        (pd.Series([1], name="a"), pd.Series([1], name="b")),
        (Point(1), Point(2)),
        (Point([1]), Point([True])),
        (deque([1]), deque([2])),
        (defaultdict(int, a=1), defaultdict(int, a=2)),
        (Decimal("1.0"), Decimal("1.00")),
        (np.random.default_rng(1), np.random.default_rng(2)),
    ],
)
def test_values_that_differ(one: Any, other: Any) -> None:
    assert not values_equal(one, other)
    assert not values_equal([{"x": one}], [{"x": other}])


def test_opaque_values_are_not_equal_to_themselves() -> None:
    lock = threading.Lock()
    assert not values_equal(lock, lock)
    assert not values_equal([lock], [lock])
    generator = iter(range(one) for one in range(3))
    assert not values_equal(generator, generator)


def test_a_copy_shares_no_cell_of_a_frame() -> None:
    one: Any = frame()
    value = {"deep": [one, one["objects"]]}
    copied = snapshot(value)
    one.loc[0, "objects"].append(9)
    assert copied["deep"][0].loc[0, "objects"] == [1]
    assert copied["deep"][1][0] == [1]
    assert not values_equal(copied, value)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="kind 'spam'"):
        decode({"$": "spam"})


class Derived(pd.DataFrame):
    @property
    def _constructor(self) -> type[Derived]:
        return Derived


@pytest.mark.parametrize(
    "value",
    [pd.Series(pd.period_range("2020", periods=2, freq="M")), Derived({"a": [1]})],
    ids=["periods", "derived"],
)
def test_columns_that_json_cannot_represent_are_refused(value: Any) -> None:
    assert values_equal(snapshot(value), value)
    with pytest.raises(ValueError, match="value"):
        encode(value, "value")
