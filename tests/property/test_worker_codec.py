"""Values survive the worker's codec, and complete records survive torn ones."""

from __future__ import annotations

import json
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motoko.worker import decode, encode, read_outbox

pytestmark = pytest.mark.property

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(fold=0))
)
keys = scalars | st.tuples(scalars, scalars) | st.sampled_from(["$set", "$", "$dict"])
values: st.SearchStrategy[Any] = st.recursive(
    scalars | st.sets(scalars, max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=8,
)


def shape(value: Any) -> Any:
    """Return a form that is equal only for values of equal type (1, 1.0, True)."""
    if isinstance(value, list | tuple):
        return type(value).__name__, [shape(item) for item in value]
    if isinstance(value, dict):
        return "dict", [(shape(key), shape(item)) for key, item in value.items()]
    if isinstance(value, set):
        return "set", sorted(repr(shape(item)) for item in value)
    return type(value).__name__, value


@given(values)
def test_encoded_values_are_decoded_unchanged(value: Any) -> None:
    text = json.dumps(encode(value))
    assert shape(decode(json.loads(text))) == shape(value)


@given(st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=8), st.integers(0, 60))
def test_complete_records_survive_torn_ones(parts: list[tuple[int, bool]], chunk: int) -> None:
    """Each writer stops after some bytes of a record, or writes all of it."""
    data, expected = b"", []
    for step, (length, whole) in enumerate(parts):
        record = {"t": 1.0, "op": "push", "name": "E", "step": step, "value": 1.5}
        line = b"\n" + json.dumps(record).encode() + b"\n"
        data += line if whole else line[: min(length, len(line) - 3)]
        expected += [step] if whole else []
    found, place, end = [], 0, 0
    while end < len(data):  # harvested while records are appended
        end = min(len(data), end + chunk + 1)
        records, used = read_outbox(data[place:end])
        place += used
        found += [record["step"] for record in records if record["op"] == "push"]
    assert found == expected
