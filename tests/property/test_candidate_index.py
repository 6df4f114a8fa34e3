"""The index of constraints finds the same constraints as the evaluation of all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motoko.core.constraints import parse
from motoko.core.constraints.candidate_index import ConstraintIndex
from motoko.core.constraints.interval_index import IntervalIndex
from tests.property.test_constraints import comparisons, indexed, records, trees, unhurried
from tests.support.constraint_model import COLUMNS

if TYPE_CHECKING:
    from motoko.core.records import RunRecord

pytestmark = pytest.mark.property

texts = (trees(comparisons | indexed) | comparisons).map(lambda tree: tree.text())
keys = st.integers(0, 9)
changes = st.lists(st.tuples(keys, texts) | st.tuples(keys, st.none()), max_size=25)


@unhurried
@given(changes, st.lists(records(), min_size=1, max_size=5))
def test_matching_constraints_equal_the_evaluation_of_all(
    edits: list[tuple[int, str | None]], runs: list[RunRecord]
) -> None:
    index: ConstraintIndex[int] = ConstraintIndex()
    expected: dict[int, Any] = {}
    for key, text in edits:
        if text is None:
            index.discard(key)
            expected.pop(key, None)
        else:
            expected[key] = parse(text, COLUMNS)
            index.add(key, expected[key])
        for record in runs:
            matching = {key for key, one in expected.items() if one.matches(record)}
            assert set(index.matching(record)) == matching
            assert matching <= index.candidates(record).keys()
    assert len(index) == len(expected)


ends = st.sampled_from([float("-inf"), -1, 0, 0.5, 1, 2, 3.0, 10**400, float("inf")])
interval = st.tuples(ends, ends).map(sorted).map(tuple)


@unhurried
@given(st.lists(st.tuples(interval, keys, st.booleans())), st.lists(ends, min_size=1))
def test_intervals_that_contain_a_number(edits: Any, values: list[float]) -> None:
    index: IntervalIndex[int] = IntervalIndex()
    expected: set[Any] = set()
    for (low, high), key, added in edits:
        (index.add if added else index.discard)(low, high, key)
        (expected.add if added else expected.discard)((low, high, key))
        for value in values:
            found = list(index.containing(value))
            assert sorted(found) == sorted(k for lo, hi, k in expected if lo <= value <= hi)
    assert list(index.containing(float("nan"))) == []
