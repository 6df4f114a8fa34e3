"""Columns of plain values: every value comes back with its type and its bits."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motoko.core.column_encoding import EncodedValues, decode_column, encode_column

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.unit

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.binary(max_size=3)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=2), inner, max_size=3),
    ),
    max_leaves=6,
)
# Mixed values, and values of one shape, which become columns of columns.
COLUMNS = st.one_of(
    st.lists(VALUES, min_size=1, max_size=6),
    st.lists(st.tuples(st.floats(), st.text(max_size=2), st.integers()), min_size=1, max_size=6),
    st.lists(st.fixed_dictionaries({"x": st.floats(), "n": st.integers()}), min_size=1, max_size=6),
    st.lists(st.binary(min_size=2, max_size=2), min_size=1, max_size=6),
    st.lists(st.text(st.characters()), min_size=1, max_size=6),
    st.lists(st.sampled_from([None, True, "", "true"]), min_size=8, max_size=20),
    st.tuples(VALUES, st.integers(1, 5)).map(lambda pair: [pair[0]] * pair[1]),
)


def same(one: Any, other: Any) -> bool:
    """Return whether two values have equal types, contents, order of keys, and bits."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def has_nan(value: Any) -> bool:
    """Return whether a value is NaN or contains it."""
    if isinstance(value, dict):
        return any(map(has_nan, value.values()))
    if isinstance(value, list | tuple):
        return any(map(has_nan, value))
    return isinstance(value, float) and math.isnan(value)


@given(COLUMNS)
def test_values_come_back(values: list[Any]) -> None:
    column = encode_column(values)
    assert same(list(decode_column(column, range(len(values)))), values)


@given(COLUMNS, st.data())
def test_any_positions_come_back(values: list[Any], data: st.DataObject) -> None:
    positions = data.draw(st.lists(st.integers(0, len(values) - 1)))
    found = list(decode_column(encode_column(values), positions))
    assert same(found, [values[position] for position in positions])


@given(COLUMNS, VALUES)
def test_values_are_counted_and_typed_as_in_a_list(values: list[Any], value: Any) -> None:
    found = decode_column(encode_column(values), range(len(values)))
    for one in (value, *values):
        if not has_nan(one):  # a list counts one and the same NaN only
            assert found.count(one) == values.count(one)
    if isinstance(found, EncodedValues):
        assert set(map(type, values)) <= found.types()


@pytest.mark.parametrize("positions", [[], [7], [19, 0], range(5, 20), range(20)])
def test_few_or_many_texts_come_back(positions: Sequence[int]) -> None:
    values = [f"text €{number * 37}" for number in range(20)]
    column = encode_column(values)
    assert column[0] == "text"
    found = decode_column(column, positions)
    assert list(found) == [values[position] for position in positions]


@pytest.mark.parametrize("value", [1, 1.5, True, None, "a", b"a", (), (1, ("a",)), math.nan, -0.0])
def test_equal_values_are_stored_once(value: Any) -> None:
    assert same(encode_column([value] * 3), ("same", value))


@pytest.mark.parametrize("pair", [(0.0, -0.0), (1, True), (1, 1.0), (0, False), (None, 0)])
def test_equal_values_that_differ_are_not_mixed_up(pair: tuple[Any, Any]) -> None:
    assert same(list(decode_column(encode_column(pair), (0, 1))), list(pair))


def test_numbers_take_eight_bytes() -> None:
    for values in ([0.5, 1.5, 2.5], [1, 2, -3]):
        kind, data = encode_column(values)
        assert (kind, len(data)) == (type(values[0]).__name__, 24)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", "ü", "", "€"], "text"),
        (["a", "\ud800"], "list"),  # not UTF-8
        (["a", "b"] * 4, "choice"),
        ([None, "b"] * 4, "choice"),
        ([True, None] * 4, "choice"),
        ([True, "b"] * 3, "list"),  # two values share too little
        ([None, 1] * 4, "list"),  # 1 equals True
    ],
)
def test_texts_and_choices_are_joined(values: list[Any], kind: str) -> None:
    assert encode_column(values)[0] == kind


def test_a_byte_holds_each_of_the_most_choices() -> None:
    for number, kind in ((256, "choice"), (257, "text")):
        values = [str(at % number) for at in range(number * 4)]
        column = encode_column(values)
        assert (column[0], list(decode_column(column, range(len(values))))) == (kind, values)
