"""Runs as data frames."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pandas
import pytest

from motoko.core.run_columns import ColumnTable
from motoko.handles.frames import to_flat_frame, to_frame

pytestmark = pytest.mark.unit

NOON = datetime(2026, 5, 1, 12, 30, 15, 123456, tzinfo=UTC)
ANCIENT = datetime(1, 1, 1, tzinfo=UTC)


def table(declared: str | None, *values: Any) -> ColumnTable:
    return ColumnTable("s", {"v": declared}, {"v": list(values)}, length=len(values))


@pytest.mark.parametrize(
    ("declared", "values", "dtype"),
    [
        ("int", [1, None, -3], "Int64"),
        ("int", [2**63 - 1, None], "Int64"),
        ("int", [2**63, None], "object"),
        ("float", [0.5, None, math.inf], "float64"),
        ("float", [1, 2.5], "float64"),
        ("float", [2**53 + 1, 0.5], "object"),
        ("str", ["a", None, "None", ""], "string"),
        ("str", ["\ud800", None], "object"),
        ("bool", [True, None], "boolean"),
        ("datetime", [NOON, None], "datetime64[ns, UTC]"),
        ("datetime", [ANCIENT, None, NOON], "datetime64[us, UTC]"),
        ("list", [[1, 2], None, []], "object"),
        ("dict", [{"a": 1}, None], "object"),
        # Of another type than declared: the declaration has changed since.
        ("float", ["text", None], "string"),
        ("int", [1, "text"], "object"),
        (None, [1, None], "Int64"),
        (None, [1, 0.5], "float64"),
        (None, [True, 1], "object"),
        (None, [b"\0"], "object"),
        # Without values.
        ("int", [None], "Int64"),
        ("str", [], "string"),
        ("datetime", [], "datetime64[ns, UTC]"),
        ("list", [None], "object"),
        (None, [None], "float64"),
    ],
)
def test_a_column_has_the_dtype_of_its_type(
    declared: str | None, values: list[Any], dtype: str
) -> None:
    frame = to_frame(table(declared, *values))
    assert str(frame["v"].dtype) == dtype
    assert list(frame["v"].isna()) == [value is None for value in values]
    for found, expected in zip(frame["v"], values, strict=True):
        assert expected is None or found == expected


@pytest.mark.parametrize("width", [3, 120])
def test_a_frame_of_any_width_takes_values_and_columns(width: int) -> None:
    names = [f"c{number}" for number in range(width)]
    values = {name: [0.5, None] for name in names}
    frame = to_frame(ColumnTable("s", dict.fromkeys(names, "float"), values, length=2))
    frame["new"] = 1  # pandas warns if the columns are apart, and a warning fails the test
    frame.loc[1, "c1"] = 2.5
    assert frame["c1"].tolist() == [0.5, 2.5]
    assert values["c1"] == [0.5, None]


def test_a_frame_without_rows_or_columns_keeps_the_others() -> None:
    assert list(to_frame(table("int")).columns) == ["v"]
    assert to_frame(ColumnTable("s", {}, {}, length=3)).shape == (3, 0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[1, 2], None], [[1, 2], None]),
        ([[1, 0.5]], [[1.0, 0.5]]),
        ([["a"], []], [["a"], []]),
        ([[[1]], None], ["[[1]]", None]),
        ([[2**70]], [f"[{2**70}]"]),
        ([[True]], ["[true]"]),
        ([{"a": [1, None]}], ['{"a": [1, null]}']),
        ([1, "a", None], ["1", '"a"', None]),
        ([2**70, None], [str(2**70), None]),
        ([["\ud800"]], ['["\\ud800"]']),
    ],
)
def test_a_flat_frame_has_json_text_for_other_values_than_vectors(
    values: list[Any], expected: list[Any]
) -> None:
    found = [None if v is pandas.NA else v for v in to_flat_frame(table(None, *values))["v"]]
    assert found == expected
