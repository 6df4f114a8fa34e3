"""Constraints that the index excludes without evaluating them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from motoko.core.constraints import Columns, parse
from motoko.core.constraints.candidate_index import ConstraintIndex
from motoko.core.records import RunRecord
from motoko.core.states import Lifecycle

pytestmark = pytest.mark.unit

COLUMNS = Columns("s", {"x": "float", "name": "str", "when": "datetime"}, {})
DAY = datetime(2024, 5, 1, tzinfo=UTC)


def record(**fields: Any) -> RunRecord:
    job = {"x": 5.0, "name": "a", "when": DAY}
    return RunRecord("s", 7, 1, "a", b"", job, Lifecycle.FINISHED, fields=fields)


def candidates(*texts: str, run: RunRecord | None = None) -> list[str]:
    index: ConstraintIndex[str] = ConstraintIndex()
    for text in texts:
        index.add(text, parse(text, COLUMNS))
    return list(index.candidates(run or record(y=1)))


@pytest.mark.parametrize(
    ("selected", "excluded"),
    [
        ("state = FINISHED", "state = FAILED"),
        ("state in (NEW, FINISHED)", "state in (NEW, OLD)"),
        ("id = 7", "id = 8"),
        ("id <= 7", "id < 5 and name ~ a"),
        ("x = 5", "x = 6"),
        ("x > 4 and x < 6", "x > 6 and x < 8"),
        ("name = a and x > 1", "name = b and x > 1"),
        ("state = FINISHED and x in (4, 5)", "state = FINISHED and x in (6, 7)"),
        ("x = 6 or y = 1", "x = 6 or y = 2"),
        ("when = '2024-05-01'", "when = '2024-05-02'"),
        ("not (x != 5 or y = 2)", "not (not x = 6 or y = 1)"),
        ("jobs.x > 4", "runs.exit_code > 4"),
    ],
)
def test_constraints_on_values_are_excluded(selected: str, excluded: str) -> None:
    assert candidates(selected, excluded) == [selected]


@pytest.mark.parametrize(
    "text", ["name ~ zzz", "x != 5", "not x < 10", "name > z", "x = 6 or name ~ zzz", ""]
)
def test_other_constraints_are_always_candidates(text: str) -> None:
    assert candidates(text) == [text]


def test_the_number_of_candidates_does_not_grow_with_common_values() -> None:
    texts = [f"state = FINISHED and name = a and id = {number}" for number in range(50)]
    assert len(candidates(*texts)) <= 2


def test_contradictory_bounds_are_never_candidates() -> None:
    assert candidates("x > 6 and x < 4") == []


def test_values_that_are_not_scalars_equal_nothing() -> None:
    assert candidates("y = 1", "y > 0", run=record(y=[1])) == []
    assert candidates("y = 1", run=record(y=(1, [2]))) == []


def test_a_text_that_is_a_time_finds_both() -> None:
    text = "y = '2024-05-01'"
    assert candidates(text, run=record(y=DAY)) == [text]
    assert candidates(text, run=record(y="2024-05-01")) == [text]
