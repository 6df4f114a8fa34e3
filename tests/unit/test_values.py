"""What may be stored, and how values are read as their declared types."""

from __future__ import annotations

import enum
import math
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from motoko.core.values import MISSING, TYPE_NAMES, coerce, plain, same
from motoko.errors import ParameterError

pytestmark = pytest.mark.unit

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
NAN = math.nan


class Level(enum.IntEnum):
    HIGH = 3


class Point(NamedTuple):
    x: int
    y: int


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (7.5, 7.5),
        ("é\n'$(x)'", "é\n'$(x)'"),
        (b"\x00", b"\x00"),
        ([1, (2, [3])], [1, (2, [3])]),
        ({"a": {1: [2]}, (1, 2): 3}, {"a": {1: [2]}, (1, 2): 3}),
        ({1, 2}, {1, 2}),
        (frozenset({1}), {1}),
        (Level.HIGH, 3),
        (Point(1, 2), (1, 2)),
        (np.float64(0.5), 0.5),
        (np.int32(7), 7),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array(5.0), 5.0),
        ({"a": np.arange(2)}, {"a": [0, 1]}),
        (NOON, NOON),
        (datetime(2024, 5, 1, 12), NOON),  # noqa: DTZ001 - what has no zone is taken for UTC
        (datetime(2024, 5, 1, 14, tzinfo=timezone(timedelta(hours=2))), NOON),
        (pd.Timestamp("2024-05-01T14:00+02:00"), NOON),
    ],
)
def test_plain_values(value: Any, expected: Any) -> None:
    found = plain(value, "x")
    assert found == expected
    assert type(found) is type(expected)


def test_dates_are_kept_in_utc_and_as_datetimes() -> None:
    found = plain(pd.Timestamp("2024-05-01T14:00+02:00"), "x")
    assert type(found) is datetime
    assert found.tzinfo is UTC


def test_containers_are_copied() -> None:
    inner: list[int] = [1]
    given = {"a": inner}
    found = plain(given, "x")
    inner.append(2)
    assert found == {"a": [1]}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), "x is a object"),
        (1j, "x is a complex"),
        (np.complex128(1j), "x is a complex"),
        (np.longdouble(1), "x is a longdouble"),
        (date(2024, 5, 1), "x is a date"),
        ({"a": [lambda: None]}, r"x\['a'\] is a function"),
        ({frozenset({1}): 2}, "cannot be a key"),
        ({frozenset({1})}, "member of a set"),
    ],
)
def test_what_cannot_be_stored(value: Any, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        plain(value, "x")


def test_moments_outside_utc_years() -> None:
    moment = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    with pytest.raises(ParameterError, match="no moment"):
        plain(moment, "x")


@pytest.mark.parametrize(
    ("value", "type_name", "expected"),
    [
        (7, "int", 7),
        (7.0, "int", 7),
        (np.int64(7), "int", 7),
        (10**30, "int", 10**30),
        (7, "float", 7.0),
        (np.float32(0.5), "float", 0.5),
        (math.inf, "float", math.inf),
        ("7", "str", "7"),
        ("", "str", ""),
        (True, "bool", True),
        (np.bool_(False), "bool", False),
        ([1, "a"], "list", [1, "a"]),
        ((1, 2), "list", [1, 2]),
        (np.arange(2), "list", [0, 1]),
        ({"a": 1}, "dict", {"a": 1}),
        (NOON, "datetime", NOON),
        ("2024-05-01T12:00:00", "datetime", NOON),
        ("2024-05-01T14:00:00+02:00", "datetime", NOON),
    ],
)
def test_coercion(value: Any, type_name: str, expected: Any) -> None:
    found = coerce(value, type_name, "x")
    assert found == expected
    assert type(found) is type(expected)


def test_the_two_zeros_are_one_point() -> None:
    assert math.copysign(1.0, coerce(-0.0, "float", "x")) == 1.0


@pytest.mark.parametrize(
    ("value", "type_name"),
    [
        (7.5, "int"),
        (math.inf, "int"),
        (True, "int"),
        ("7", "int"),
        (True, "float"),
        ("7", "float"),
        (10**400, "float"),
        (7, "str"),
        (1, "bool"),
        ("true", "bool"),
        ("ab", "list"),
        ({1}, "list"),
        ([("a", 1)], "dict"),
        ("noon", "datetime"),
        (7, "datetime"),
        ("0001-01-01T00:00:00+02:00", "datetime"),
    ],
)
def test_values_of_another_type(value: Any, type_name: str) -> None:
    with pytest.raises(ParameterError, match=f"not of type {type_name}"):
        coerce(value, type_name, "study 'mult': job parameter 'x'")


@pytest.mark.parametrize("type_name", TYPE_NAMES)
def test_none_is_refused(type_name: str) -> None:
    with pytest.raises(ParameterError, match="x is None") as caught:
        coerce(None, type_name, "x")
    assert type_name in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("value", "type_name"),
    [
        (NAN, "float"),
        ([1, [NAN]], "list"),
        ([(1, NAN)], "list"),
        ([{NAN}], "list"),
        ({"a": [NAN]}, "dict"),
        (np.array([NAN]), "list"),
    ],
)
def test_nan_is_refused(value: Any, type_name: str) -> None:
    with pytest.raises(ParameterError, match="nan"):
        coerce(value, type_name, "x")


def test_dictionaries_of_parameters_have_text_as_keys() -> None:
    with pytest.raises(ParameterError, match="the key 1"):
        coerce({"a": {1: 2}}, "dict", "x")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (1, 1, True),
        (1, 1.0, False),
        (1, True, False),
        (NAN, float("nan"), True),
        (NAN, 1.0, False),
        ([NAN, {"a": (NAN,)}], [float("nan"), {"a": (float("nan"),)}], True),
        ([1], [1, 2], False),
        ({"a": 1}, {"b": 1}, False),
        ({"a": 1}, {"a": 2}, False),
        (MISSING, MISSING, True),
        (MISSING, None, False),
        ({1, 2}, {2, 1}, True),
    ],
)
def test_sameness(one: Any, other: Any, expected: bool) -> None:
    assert same(one, other) is expected
    assert same(other, one) is expected


def test_missing_is_false_and_says_so() -> None:
    assert not MISSING
    assert repr(MISSING) == "MISSING"
