"""Drawings of tables, as coordinates."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motoko.errors import PlotError
from motoko.operations.plotting.binning import Bins, bin_cells, bin_line, count_bars
from motoko.operations.plotting.coordinates import CATEGORY, TIME, Scale, coordinates, distinct
from motoko.operations.plotting.drawing import Bars, Cells, Drawing, Line, Points, Strands
from motoko.operations.plotting.preparation import LIMIT, RUN, STEP, VALUE, prepare
from motoko.operations.plotting.spec import PlotSpec, default_kind

pytestmark = pytest.mark.unit

Table: TypeAlias = dict[str, Any]

NAN, INF = math.nan, math.inf


def spec(kind: str = "scatter", *columns: str, **more: Any) -> PlotSpec:
    return PlotSpec("s", kind, columns or ("x", "y"), **more)


def only(drawing: Drawing, kind: type) -> Any:
    (layer,) = drawing.layers
    assert isinstance(layer, kind)
    return layer


# -- coordinates -------------------------------------------------------------------------------


def test_numbers_are_their_own_coordinates() -> None:
    found = coordinates("x", [1, 2.5, None, NAN, -INF])
    assert [str(at) for at in found.at] == ["1.0", "2.5", "nan", "nan", "-inf"]


@pytest.mark.parametrize("value", [10**400, 1e300, -(10**400)])
def test_numbers_that_cannot_be_drawn_are_infinite(value: float) -> None:
    assert math.isinf(coordinates("x", [value]).at[0])


@pytest.mark.parametrize(
    ("values", "at", "names"),
    [
        (["b", None, "a", "b"], [1.0, NAN, 0.0, 1.0], ("a", "b")),
        ([True, False], [1.0, 0.0], ("False", "True")),
        (["1", 1, NAN], [1.0, 0.0, NAN], ("1", "1")),
    ],
)
def test_other_values_are_categories(
    values: list[Any], at: list[float], names: tuple[str, ...]
) -> None:
    found = coordinates("x", values)
    assert found.scale == Scale("x", CATEGORY, categories=names)
    assert found.at == pytest.approx(at, nan_ok=True)


def test_times_are_seconds() -> None:
    found = coordinates("when", [datetime(1970, 1, 1, 0, 1, tzinfo=UTC), None])
    assert found.scale.kind == TIME
    assert found.at[0] == 60.0


@pytest.mark.parametrize("value", [[1, 2], {"a": 1}, {1}, b"x"])
def test_collections_have_no_place_on_an_axis(value: Any) -> None:
    with pytest.raises(PlotError, match="column 'x' cannot be drawn"):
        coordinates("x", [1.0, value])


def test_a_log_scale_needs_numbers() -> None:
    with pytest.raises(PlotError, match="log scale"):
        coordinates("x", ["a"], log=True)


def test_distinct_numbers_become_ordered_categories() -> None:
    found = distinct("n", [20, 5, None, 20])
    assert found.scale.categories == ("5", "20")
    assert found.at == pytest.approx([1.0, 0.0, NAN, 1.0], nan_ok=True)


# -- bins --------------------------------------------------------------------------------------

FINITE = st.floats(-1e9, 1e9)


@given(st.lists(FINITE, min_size=1), st.integers(1, 100))
def test_each_value_is_in_one_bin(values: list[float], count: int) -> None:
    bins = Bins.of(values, Scale("x"), count)
    margin = 1e-9 * (abs(bins.low) + bins.width * bins.count)
    for value in values:
        index = bins.index(value)
        assert bins.edge(index) - margin <= value <= bins.edge(index + 1) + margin


@given(st.lists(st.floats(1e-9, 1e9), min_size=1), st.integers(1, 100))
def test_bins_of_a_log_scale_are_positive(values: list[float], count: int) -> None:
    bins = Bins.of(values, Scale("x", log=True), count)
    for value in values:
        index = bins.index(value)
        assert 0 < bins.edge(index) <= value * (1 + 1e-9)
        assert value <= bins.edge(index + 1) * (1 + 1e-9)


@given(st.lists(st.tuples(FINITE, FINITE), min_size=1))
def test_binned_lines_keep_mean_minimum_and_maximum(points: list[tuple[float, float]]) -> None:
    x, y = [p[0] for p in points], [p[1] for p in points]
    found = bin_line(x, y, Bins.of(x, Scale("x"), 7))
    assert (min(found.low), max(found.high)) == (min(y), max(y))
    for low, mean, high in zip(found.low, found.mean, found.high, strict=True):
        assert low - 1e-6 <= mean <= high + 1e-6


@given(st.lists(st.tuples(FINITE, FINITE), min_size=1))
def test_cells_hold_each_point_once(points: list[tuple[float, float]]) -> None:
    x, y = [p[0] for p in points], [p[1] for p in points]
    cells = bin_cells(x, y, (Bins.of(x, Scale("x"), 5), Bins.of(y, Scale("y"), 4)))
    assert sorted(row for rows in cells.values() for row in rows) == list(range(len(points)))


def test_whole_numbers_have_a_bar_each() -> None:
    bins = count_bars([3.0, 5.0, 3.0], Scale("n"))
    assert [bins.edge(i) for i in range(bins.count + 1)] == [2.5, 3.5, 4.5, 5.5]


# -- drawings ----------------------------------------------------------------------------------


def test_rows_without_values_are_left_out_and_counted() -> None:
    table: Table = {"x": [1.0, 2.0, None, INF, 3.0], "y": [1.0, NAN, 1.0, 1.0, 5.0]}
    drawing = prepare(spec(), table)
    points = only(drawing, Points)
    assert (points.x, points.y) == ([1.0, 3.0], [1.0, 5.0])
    (note,) = drawing.notes
    assert note == "3 of 5 runs left out: 1 without x, 1 with infinite x, 1 without y"


def test_log_scales_leave_out_numbers_without_logarithm() -> None:
    drawing = prepare(spec(logx=True), {"x": [0.0, -1.0, 1.0], "y": [1.0, 1.0, 1.0]})
    assert only(drawing, Points).x == [1.0]
    assert "2 with x <= 0 on a log scale" in drawing.notes[0]


@pytest.mark.parametrize("kind", ["scatter", "line", "hist", "parallel"])
@pytest.mark.parametrize(
    ("x", "message"),
    [([], "no runs of s"), ([None, None], "2 without x"), ([NAN, INF], "1 without x, 1 with inf")],
)
def test_nothing_to_draw_is_an_error_with_the_reason(kind: str, x: list[Any], message: str) -> None:
    columns = ("x",) if kind == "hist" else ("x", "y")
    with pytest.raises(PlotError, match=f"nothing can be drawn.*{message}"):
        prepare(spec(kind, *columns), {"x": x, "y": [1.0] * len(x)})


def test_groups_have_their_own_points_and_colours() -> None:
    table: Table = {"x": [1, 2, 3], "y": [1, 2, 3], "n": [20, 5, 20]}
    drawing = prepare(spec(by="n"), table)
    found = {layer.group: layer.x for layer in drawing.layers if isinstance(layer, Points)}
    assert found == {0: [2.0], 1: [1.0, 3.0]}
    assert drawing.by is not None
    assert drawing.by.categories == ("5", "20")
    assert drawing.color is not None
    assert drawing.color.scale == drawing.by


@pytest.mark.parametrize("option", ["by", "color"])
def test_too_many_groups_are_an_error(option: str) -> None:
    table: Table = {
        "x": list(range(30)),
        "y": list(range(30)),
        "name": [f"n{i}" for i in range(30)],
    }
    with pytest.raises(PlotError, match=f"--{option} name has 30 different values"):
        prepare(PlotSpec("s", "scatter", ("x", "y"), **{option: "name"}), table)  # type: ignore[arg-type]


def test_many_points_become_cells_and_the_figure_says_so() -> None:
    number = LIMIT + 1
    table: Table = {"x": [i / 7 for i in range(number)], "y": [i % 100 for i in range(number)]}
    assert only(prepare(spec(), {k: v[:-1] for k, v in table.items()}), Points)
    drawing = prepare(spec(), table)
    assert sum(only(drawing, Cells).colors) == number
    assert "5,001 points, more than 5,000, are drawn as a 2-d histogram" in drawing.notes[0]


@pytest.mark.parametrize(
    ("values", "expected"), [([1.0, 3.0], 2.0), (["a", "b"], 0.0), (["b", "a"], 0.0)]
)
def test_the_colour_of_a_cell_is_the_mean_or_the_most_frequent(
    values: list[Any], expected: float
) -> None:
    number = LIMIT + 2
    table: Table = {"x": [0.0] * number, "y": [0.0] * number, "c": values * (number // 2)}
    assert only(prepare(spec(color="c"), table), Cells).colors == [expected]


def test_lines_follow_x_in_each_group() -> None:
    table: Table = {"x": [3, 1, 2, 1], "y": [9, 1, 4, 0], "n": ["a", "a", "a", "b"]}
    drawing = prepare(spec("line", by="n"), table)
    lines = [layer for layer in drawing.layers if isinstance(layer, Line)]
    assert [(line.x, line.y) for line in lines] == [([1, 2, 3], [1, 4, 9]), ([1], [0])]


def test_many_points_of_lines_become_means_with_bands() -> None:
    number = LIMIT + 2
    table: Table = {"x": [i // 2 for i in range(number)], "y": [(-1) ** i for i in range(number)]}
    drawing = prepare(spec("line"), table)
    line = only(drawing, Line)
    assert (min(line.low), max(line.high), len(line.x)) == (-1.0, 1.0, 2501)
    assert "mean, minimum and maximum in 5,000 bins" in drawing.notes[0]


def test_a_quantity_has_a_line_for_each_run_in_the_order_pushed() -> None:
    table: Table = {
        RUN: [1, 1, 2, 2],
        STEP: [0, 1, 0, 0],
        VALUE: [5, 6, 8, 7],
        "c": [0.5, 0.5, 2, 2],
    }
    drawing = prepare(spec("quantity", "e", color="c"), table)
    lines = [layer for layer in drawing.layers if isinstance(layer, Line)]
    assert [(line.x, line.y, line.color) for line in lines] == [
        ([0, 1], [5, 6], 0.5), ([0, 0], [8, 7], 2.0),
    ]  # fmt: skip
    assert (drawing.x and drawing.x.name, drawing.y and drawing.y.name) == ("step", "e")


def test_very_many_runs_of_a_quantity_are_drawn_together() -> None:
    number = LIMIT + 1
    table: Table = {RUN: list(range(number)), STEP: [0] * number, VALUE: [1.0] * number,
             "c": [float(i) for i in range(number)]}  # fmt: skip
    drawing = prepare(spec("quantity", "e", color="c"), table)
    assert only(drawing, Line).color is None
    assert "5,001 lines are drawn together, without c" in drawing.notes[0]


def test_a_histogram_counts_every_run_once() -> None:
    table: Table = {"x": [i / 10 for i in range(100_000)], "n": [i % 3 for i in range(100_000)]}
    drawing = prepare(spec("hist", "x", by="n"), table)
    heights = [sum(layer.heights) for layer in drawing.layers if isinstance(layer, Bars)]
    assert heights == [33_334, 33_333, 33_333]


@pytest.mark.parametrize("values", [[2.5, 2.5], [0.0], ["a", "a"], [1e-300, 1e-300]])
@pytest.mark.parametrize("kind", ["scatter", "hist", "line", "parallel"])
def test_a_constant_column_can_be_drawn(kind: str, values: list[Any]) -> None:
    columns = ("x",) if kind == "hist" else ("x", "y")
    drawing = prepare(spec(kind, *columns), {"x": values, "y": values})
    if kind == "hist":
        assert max(only(drawing, Bars).heights) == len(values)
    if kind == "parallel":
        assert set(only(drawing, Strands).positions) == {(0.5, 0.5)}


def test_parallel_axes_run_from_minimum_to_maximum() -> None:
    table: Table = {"x": [1.0, 3.0, 2.0], "s": ["b", "a", "c"], "y": [1, 2, 3]}
    drawing = prepare(spec("parallel", "x", "s", "y"), table)
    assert only(drawing, Strands).positions == [(0.0, 0.5, 0.0), (1.0, 0.0, 0.5), (0.5, 1.0, 1.0)]


def test_many_parallel_lines_are_binned_between_neighbours() -> None:
    number = LIMIT + 1
    table: Table = {"x": [i % 2 for i in range(number)], "y": [1 - i % 2 for i in range(number)]}
    drawing = prepare(spec("parallel", "x", "y"), table)
    strands = only(drawing, Strands)
    assert strands.colors == [2501, 2500]
    assert strands.positions == [(0.02, pytest.approx(0.98)), (pytest.approx(0.98), 0.02)]
    assert "5,001 lines, more than 5,000" in drawing.notes[0]


def test_the_summary_lists_the_drawn_values() -> None:
    drawing = prepare(spec(color="c"), {"x": [1, 2], "y": [2.5, 2.5], "c": ["u", "v"]})
    rows = [(s.name, s.count, s.minimum, s.mean, s.maximum) for s in drawing.summary]
    assert rows == [("x", 2, "1", "1.5", "2"), ("y", 2, "2.5", "2.5", "2.5"),
                    ("c", 2, "u", "", "v")]  # fmt: skip


# -- specifications ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "columns", "more"),
    [
        ("pie", ("x",), {}),
        ("scatter", ("x",), {}),
        ("line", ("x", "y", "z"), {}),
        ("hist", ("x", "y"), {}),
        ("parallel", ("x",), {}),
        ("quantity", (), {}),
        ("parallel", ("x", "y"), {"logx": True}),
        ("hist", ("x",), {"color": "a", "by": "b"}),
        ("scatter", ("x", "y"), {"size": (0.5, 4.0)}),
        ("scatter", ("x", "y"), {"size": (4.0, NAN)}),
        ("scatter", ("x", "y"), {"size": (4.0, INF)}),
    ],
)
def test_invalid_specifications_are_errors(
    kind: str, columns: tuple[str, ...], more: dict[str, Any]
) -> None:
    with pytest.raises(PlotError):
        PlotSpec("s", kind, columns, **more)


@pytest.mark.parametrize(("number", "kind"), [(1, "hist"), (2, "scatter"), (3, "parallel")])
def test_the_number_of_columns_determines_the_kind(number: int, kind: str) -> None:
    assert default_kind(["x"] * number) == kind
