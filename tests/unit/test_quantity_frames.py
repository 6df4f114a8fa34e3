"""Quantities as data frames."""

from __future__ import annotations

import pytest

from motoko.handles.run import Quantity

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("name", "values", "columns"),
    [
        ("energy", [0.5, 1.5], ["step", "energy"]),
        ("step", [0.5, 1.5], ["step", "value"]),
        ("step", [[1, 2], [3, 4]], ["step", 0, 1]),
        ("value", [0.5, 1.5], ["step", "value"]),
    ],
)
def test_a_frame_has_a_column_per_component(
    name: str, values: list[object], columns: list[object]
) -> None:
    frame = Quantity([3, 7], values).to_frame(name)
    assert list(frame.columns) == columns
    assert list(frame["step"]) == [3, 7]
    assert list(frame[columns[-1]]) == [v[-1] if isinstance(v, list) else v for v in values]
