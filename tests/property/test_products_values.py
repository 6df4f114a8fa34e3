"""The store returns plain data of any shape unchanged, or refuses to save it."""

from __future__ import annotations

import tempfile
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motoko.errors import NotStorableError
from motoko.products import WorkflowProducts

pytestmark = pytest.mark.property

ZONES = st.integers(-12 * 60, 12 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
KEYS = st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.floats(width=32)
LEAVES: st.SearchStrategy[Any] = (
    KEYS
    | st.floats()
    | st.complex_numbers()
    | st.dates(min_value=date(1000, 1, 1))
    | st.datetimes(min_value=datetime(1000, 1, 1))  # noqa: DTZ001 - naive ones too
    | st.datetimes(min_value=datetime(1000, 1, 2), timezones=ZONES)  # noqa: DTZ001
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(KEYS | st.tuples(KEYS, KEYS), inner)
        | st.sets(st.text() | st.integers())
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(VALUES)
def test_loaded_values_equal_saved_ones(value: Any) -> None:
    with tempfile.TemporaryDirectory() as directory:
        products = WorkflowProducts(products_dir=directory)
        try:
            products.save("x", value)
        except NotStorableError:
            return
        assert shape(products.load("x")) == shape(value)


def shape(value: Any) -> Any:
    """Return a form of a value that distinguishes types and equates NaNs."""
    if isinstance(value, dict):
        return [(shape(key), shape(one)) for key, one in value.items()]
    if isinstance(value, set):
        return {repr(one) for one in value}
    if isinstance(value, (list, tuple)):
        return type(value), [shape(one) for one in value]
    if isinstance(value, datetime):
        return value.utcoffset(), value.replace(tzinfo=None)
    return type(value), repr(value)
