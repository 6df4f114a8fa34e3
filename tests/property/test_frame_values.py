"""Data frames and CSV hold the values that handles return."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
from datetime import UTC, datetime
from typing import Any

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motoko.core.column_encoding import decode_column, encode_column
from motoko.core.constraints import Columns
from motoko.core.run_columns import CollectedColumns, ColumnTable
from motoko.core.values import to_json
from motoko.handles.frames import to_frame
from motoko.handles.run import Run
from motoko.operations.table_text import csv_text, json_text
from motoko.storage.columns import read_columns
from motoko.testing import add_run, memory_store, study_config
from motoko.testing.memory import commit

pytestmark = pytest.mark.property

TYPES: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(2**70), 2**70),
    "float": st.floats(),
    "str": st.text(st.characters()) | st.sampled_from(["None", "nan", '"', "a,b\r\n", "=1+1"]),
    "bool": st.booleans(),
    "datetime": st.datetimes(timezones=st.just(UTC)),
    "list": st.lists(st.integers() | st.text(max_size=3), max_size=3),
    "dict": st.dictionaries(st.text(max_size=3), st.floats(allow_nan=False), max_size=3),
}
DECLARED = Columns("s", {"x": "int"}, {f"f_{name}": name for name in TYPES})
ROWS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            **{f"f_{name}": values | st.none() for name, values in TYPES.items()},
            "other": st.one_of(*TYPES.values()),
        },
    ),
    min_size=1,
    max_size=5,
)


def same(found: Any, expected: Any) -> bool:
    """Return whether a cell of a frame holds a value; missing values have no value."""
    if expected is None or (isinstance(expected, float) and math.isnan(expected)):
        return bool(pandas.api.types.is_scalar(found) and pandas.isna(found))
    if isinstance(expected, datetime):
        return bool(found == expected)
    if isinstance(expected, list | dict):
        return bool(to_json(found) == to_json(expected))
    is_bool = pandas.api.types.is_bool(found)
    return bool(found == expected) and is_bool == isinstance(expected, bool)


@settings(max_examples=30)
@given(rows=ROWS)
def test_frame_csv_and_json_hold_the_values_of_handles(rows: list[dict[str, Any]]) -> None:
    store = memory_store({"s": study_config("s", DECLARED.job, run=DECLARED.run)})
    with contextlib.closing(store), store.autocommit_scope.read() as session:
        keys = [add_run(session, "s", {"x": i}, **fields) for i, fields in enumerate(rows)]
        commit(store.database, session)
        table = read_columns(session, DECLARED)
        runs = [Run(store, key) for key in keys]
        values = {
            name: [run[name] if name in run else None for run in runs]  # noqa: SIM401
            for name in table.names
            if name.startswith("f_") or name in ("other", "id", "state", "attempt")
        }

    frame = to_frame(table)
    read = list(csv.DictReader(io.StringIO(csv_text(table), newline="")))
    objects = json.loads(json_text(table))
    assert len(frame) == len(read) == len(objects) == len(rows)
    for name, column in values.items():
        for row, expected in enumerate(column):
            assert same(frame[name][row], expected), name
            assert objects[row][name] == to_json(expected)
            plain = to_json(expected)
            text = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
            if isinstance(expected, float) and math.isfinite(expected):
                assert float(read[row][name]) == expected
            else:
                assert read[row][name] == ("" if expected is None else text)


TEXTS = st.lists(st.lists(TYPES["str"], min_size=1, max_size=4), min_size=2, max_size=5)
PARTS = TEXTS | st.lists(
    st.one_of(
        *(st.lists(values | st.none(), min_size=1, max_size=3) for values in TYPES.values()),
        st.lists(st.integers(-9, 9), min_size=2, max_size=4),
        st.lists(st.floats(), min_size=2, max_size=4),
        st.lists(st.sampled_from(["", "ü", "a"]) | st.none(), min_size=12, max_size=20),
    ),
    min_size=1,
    max_size=3,
)


@given(parts=PARTS, declared=st.sampled_from([None, *TYPES]), first=st.integers(1, 9))
def test_a_frame_of_encoded_parts_equals_one_of_lists(
    parts: list[list[Any]], declared: str | None, first: int
) -> None:
    values = [value for part in parts for value in part]
    ids = range(first, first + len(values))
    encoded = [decode_column(encode_column(part), range(len(part))) for part in parts]
    types = {"id": "int", "value": declared}
    collected = CollectedColumns({"id": [ids], "value": encoded})
    found = ColumnTable("s", types, collected, length=len(values))
    expected = ColumnTable("s", types, {"id": list(ids), "value": values}, length=len(values))

    pandas.testing.assert_frame_equal(to_frame(found), to_frame(expected))
    assert list(map(repr, found.rows())) == list(map(repr, expected.rows()))
