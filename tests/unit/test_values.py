"""Storable values, and their conversion to declared types."""

from __future__ import annotations

import enum
import json
import math
import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from motoko.core.values import MISSING, TYPE_NAMES, coerce, to_plain, values_equal
from motoko.errors import ParameterError
from motoko.worker import decode, encode
from motoko.worker.values import PlainValueError, read_text

pytestmark = pytest.mark.unit

INEXACT = r"^x = .* not an? (exact integer|time in whole micro)"

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
NAN = math.nan


class Level(enum.IntEnum):
    HIGH = 3


class Plain(enum.Enum):
    RED = 1


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
    found = to_plain(value, "x")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    "value",
    [
        date(2024, 5, 1),
        time(12),
        timedelta(1),
        pd.Timedelta(1),
        np.timedelta64(1, "ns"),
        np.array([1, 2], "timedelta64[ns]"),
        np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]),
        Plain.RED,
        Level.HIGH,
        Path("a"),
        Decimal("0.1"),
        Fraction(1, 3),
        1j,
        bytearray(b"a"),
        memoryview(b"a"),
        range(3),
        b"a",
        np.bytes_(b"a"),
        frozenset({1}),
        {frozenset({1})},
        2**70,
        math.nan,
        -math.inf,
        np.float32(0.1),
        np.uint64(2**64 - 1),
        np.array(1.5),
        np.ma.masked,
        np.longdouble(1),
        pd.Timestamp("2024-05-01T14:00+02:00"),
        pd.NaT,
        pd.NA,
        pd.Series([1.5, None]),
        pd.Series([pd.Timestamp("2024-05-01"), pd.NaT]),
        pd.Period("2024-05"),
        pd.DataFrame({"a": [1]}),
        object(),
        int,
    ],
    ids=lambda value: type(value).__name__,
)
def test_scripts_and_the_api_agree(value: Any) -> None:
    """The codec of scripts accepts, refuses and converts values as the API does."""
    try:
        expected = to_plain(value, "x")
    except ParameterError as error:
        with pytest.raises(TypeError, match=re.escape(error.message)):
            encode(value, "x")
        return
    assert values_equal(decode(json.loads(json.dumps(encode(value, "x")))), expected)


MOMENT = datetime(2024, 5, 1, 12, 30, 15, 250_000, tzinfo=UTC)


@pytest.mark.parametrize("unit", ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns"])
def test_numpys_times_of_any_unit_are_equal(unit: str) -> None:
    given = np.datetime64("2024-05-01T12:30:15.250", "ms").astype(f"datetime64[{unit}]")
    expected = datetime.fromisoformat(str(given.astype("datetime64[us]"))).replace(tzinfo=UTC)
    assert to_plain(given, "x") == expected
    assert to_plain(np.array([[given]]), "x") == [[expected]]
    assert to_plain(np.array(given), "x") == expected
    if unit in ("ms", "us", "ns"):
        assert expected == MOMENT


@pytest.mark.parametrize(
    "value",
    [
        np.datetime64("2024-05-01T12:00:00.000000001", "ns"),
        pd.Timestamp("2024-05-01T12:00:00.000000001"),
        np.datetime64(300_000, "Y"),
        np.datetime64(-5_000, "Y"),
        np.datetime64(1, "ps"),
    ],
)
def test_times_that_cannot_be_stored_exactly_are_refused(value: Any) -> None:
    with pytest.raises(ParameterError, match="not a time in whole microseconds"):
        to_plain([value], "x")


@pytest.mark.parametrize(
    "value", [pd.NaT, pd.NA, np.datetime64("NaT", "s"), np.datetime64("NaT", "ns")]
)
def test_missing_values_are_none(value: Any) -> None:
    assert to_plain(value, "x") is None
    assert to_plain({"a": [value]}, "x") == {"a": [None]}
    assert to_plain(np.array([value, value]), "x") == [None, None]


def test_recursive_values_are_refused() -> None:
    circular: list[Any] = []
    circular.append(circular)
    deep: Any = 1
    for _ in range(100_000):
        deep = {"a": deep}
    for value in (circular, deep):
        with pytest.raises(ParameterError, match="nested more than 100 deep, or contains itself"):
            to_plain(value, "x")
        with pytest.raises(ParameterError, match="nested more than 100 deep, or contains itself"):
            coerce([value], "list", "x")
    for digits in (5_000, 100_000):
        with pytest.raises(ParameterError, match="x is an integer of more than 4,200 digits"):
            coerce(10**digits, "int", "x")
    assert to_plain(10**4_200, "x") == 10**4_200


def test_different_keys_stay_different() -> None:
    noon = datetime(2024, 5, 1, 12)  # noqa: DTZ001 - naive on purpose
    with pytest.raises(ParameterError, match="two keys or members"):
        to_plain({noon: 1, NOON: 2}, "x")
    with pytest.raises(ParameterError, match="two keys or members"):
        to_plain({noon, NOON}, "x")


@pytest.mark.parametrize(
    ("text", "type_name", "expected"),
    [
        (".5", "float", 0.5),
        ("+1", "float", 1.0),
        ("5.", "float", 5.0),
        (" 1.5\n", "float", 1.5),
        ("1.5D+02", "float", 150.0),
        ("-0.5d-3", "float", -0.0005),
        ("1.5-102", "float", 1.5e-102),
        ("-.15+100", "float", -0.15e100),
        ("1.5E+102", "float", 1.5e102),
        ("-6.626E-134", "float", -6.626e-134),
        ("1.5D+102", None, 1.5e102),
        ("007", "float", 7.0),
        ("-inf", "float", -math.inf),
        ("Infinity", "float", math.inf),
        ("null", "float", None),
        ("+7", "int", 7),
        ("1e3", "int", 1000),
        ("12345678901234567890123", "int", 12345678901234567890123),
        ("1.10", "str", "1.10"),
        ("true", "str", "true"),
        ('"a"', "str", "a"),
        ("True", "bool", True),
        ("false", "bool", False),
        ("[1, 2]", "list", [1, 2]),
        ('{"a": 1}', "dict", {"a": 1}),
        ("2024-05-01T12:00:00Z", "datetime", NOON),
        (".5", None, 0.5),
        ("+1", None, 1),
        ("1.5D+02", None, 150.0),
        ("-.25", None, -0.25),
        ("007", None, "007"),
        ("1.2.3", None, "1.2.3"),
        ("12D4", None, "12D4"),
        ("1e400", None, "1e400"),
        ("+0123", None, "+0123"),
        ("2.5-3", None, "2.5-3"),
        ("a.b", None, "a.b"),
        ("", None, ""),
        ("[1e999]", None, "[1e999]"),
    ],
)
def test_conversion_of_text(text: str, type_name: str | None, expected: Any) -> None:
    found = read_text(text, type_name, "x")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("text", "type_name"),
    [
        ("", "float"),
        ("abc", "float"),
        ("********", "float"),
        ("1,5", "float"),
        ("1_000", "float"),
        ("1.5-3", "float"),
        ("1.5DD3", "float"),
        ("1e400", "float"),
        ("--5", "float"),
        ("[1]", "float"),
        ("true", "float"),
        ("\u0663", "int"),
        ("nan", "int"),
        ("1.5", "int"),
        ("1", "bool"),
        ("yes", "bool"),
        ("1", "list"),
        ("[1]", "dict"),
        ("noon", "datetime"),
    ],
)
def test_text_of_another_type_is_refused(text: str, type_name: str) -> None:
    with pytest.raises(PlainValueError, match=f"not of type {type_name}\n  Write "):
        read_text(text, type_name, "x")


@pytest.mark.parametrize(
    ("value", "type_name"),
    [
        (1e23, "int"),
        (2.0**53, "int"),
        (-1e300, "int"),
        ("2024-05-01T12:00:00.123456789", "datetime"),
        ("2024-05-01T12:00:00,0000001Z", "datetime"),
    ],
)
def test_inexact_values_are_refused(value: Any, type_name: str) -> None:
    with pytest.raises(ParameterError, match=INEXACT):
        coerce(value, type_name, "x")
    with pytest.raises(PlainValueError, match=INEXACT):
        read_text(str(value), type_name, "x")


def test_times_in_text_may_have_only_zeros_beyond_microseconds() -> None:
    assert coerce("2024-05-01T12:00:00.000000000Z", "datetime", "x") == NOON
    for text in ("1" * 21, "20240501112000012"):
        with pytest.raises(ParameterError, match="not of type datetime"):
            coerce(text, "datetime", "x")


def test_a_message_about_deep_nesting_stays_short() -> None:
    circular: dict[str, Any] = {}
    circular["key"] = circular
    with pytest.raises(ParameterError, match=r"^x\['key'\].*\[\.\.\.\] is nested more") as caught:
        to_plain(circular, "x")
    assert len(caught.value.message) < 300


def test_dates_are_stored_as_datetimes_in_utc() -> None:
    found = to_plain(pd.Timestamp("2024-05-01T14:00+02:00"), "x")
    assert type(found) is datetime
    assert found.tzinfo is UTC


def test_containers_are_copied() -> None:
    inner: list[int] = [1]
    given = {"a": inner}
    found = to_plain(given, "x")
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
def test_values_that_cannot_be_stored(value: Any, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        to_plain(value, "x")


def test_times_outside_utc_years() -> None:
    moment = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    with pytest.raises(ParameterError, match="outside UTC's years"):
        to_plain(moment, "x")


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


def test_positive_and_negative_zero_are_one_point() -> None:
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


def test_dictionary_parameters_have_text_keys() -> None:
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
def test_equality_of_values(one: Any, other: Any, expected: bool) -> None:
    assert values_equal(one, other) is expected
    assert values_equal(other, one) is expected


def test_missing_is_false() -> None:
    assert not MISSING
    assert repr(MISSING) == "MISSING"
