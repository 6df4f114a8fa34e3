"""Axes of a parameter space: exact values, joint axes and samples."""

from __future__ import annotations

import math
import sys
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from motoko.config.job_space import parse_job_space
from motoko.core.axes import (
    MAX_POINTS,
    Column,
    Zip,
    check_count,
    linspace_values,
    logspace_values,
    range_values,
)
from motoko.core.parameter_space import expand_points, job_identity
from motoko.core.sampling import METHODS, Sample, SampledRange
from motoko.errors import MotokoError, ParameterError

if TYPE_CHECKING:
    from motoko.core.sampling import Method

pytestmark = pytest.mark.unit

ABC = dict.fromkeys("abc", "int")
UNIT = SampledRange("x", 0.0, 1.0)


@pytest.mark.parametrize("step", [0.1, 0.2, 0.3, 0.7, 1e-3, 2.5, 1e10, -0.1, -1e-7])
def test_a_range_holds_the_floats_that_users_write(step: float) -> None:
    count, start = 50, 0.4
    exact = [Fraction(repr(start)) + i * Fraction(repr(step)) for i in range(count)]
    found = range_values(start, float(exact[-1]), step)
    assert found == [float(value) for value in exact]


def test_a_range_ends_at_the_last_step_within_it() -> None:
    assert range_values(0, 1, 0.25) == [0, 0.25, 0.5, 0.75, 1]
    assert range_values(0, 1, 0.3) == [0, 0.3, 0.6, 0.9]
    assert range_values(1, 0, -0.5) == [1, 0.5, 0]
    assert range_values(2, 2, 1) == [2]
    assert range_values(2**60 + 1, 2**60 + 3, 1) == [2**60 + 1, 2**60 + 2, 2**60 + 3]


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0.1, 0.7), (-1e300, 1e300), (3.0, -7.0)])
def test_evenly_spaced_values_have_exact_ends(start: float, stop: float) -> None:
    found = linspace_values(start, stop, 7)
    assert (found[0], found[-1], len(found)) == (start, stop, 7)
    assert linspace_values(0, 1, 11) == [i / 10 for i in range(11)]
    assert all(isinstance(value, int) for value in linspace_values(0, 10, 6))


def test_logarithmic_values_have_a_constant_ratio_and_exact_ends() -> None:
    assert logspace_values(1e-3, 10, 5) == [0.001, 0.01, 0.1, 1, 10]
    assert logspace_values(1000, 1, 4) == [1000, 100, 10, 1]
    found = logspace_values(0.3, 0.7, 6)
    assert (found[0], found[-1]) == (0.3, 0.7)
    ratios = {round(b / a, 12) for a, b in pairwise(found)}
    assert ratios == {round((0.7 / 0.3) ** 0.2, 12)}


@pytest.mark.parametrize(
    ("compute", "words"),
    [
        (lambda: range_values(0, 1, 0), "step cannot be 0"),
        (lambda: range_values(0, 1, -0.1), "do not lead from 0 to 1"),
        (lambda: range_values(0, 1, 1e-300), "too many"),
        (lambda: range_values(0, 10**7, 1), "10,000,001 points are too many"),
        (lambda: linspace_values(0, 1, 10**7), "10,000,000 points are too many"),
        (lambda: logspace_values(0, 1, 5), "positive"),
        (lambda: logspace_values(1, -1, 5), "positive"),
        (lambda: check_count(MAX_POINTS + 1), "too many"),
        (lambda: expand_points("s", {"x": "int"}, {}, {"x": range(10**9)}), "study 's'"),
        (lambda: expand_points("s", ABC, {}, dict.fromkeys("abc", [1] * 999)), "997,002,999"),
    ],
)  # fmt: skip
def test_impossible_and_huge_axes_are_refused(compute: Any, words: str) -> None:
    with pytest.raises(ParameterError) as caught:
        compute()
    assert words in caught.value.message
    assert caught.value.hint


# -- joint axes ----------------------------------------------------------------------------------

TYPES = {"a": "int", "x": "float", "y": "float", "z": "str"}


def points(space: dict[str, Any], **given: Any) -> list[tuple[Any, ...]]:
    found = expand_points("s", TYPES, parse_job_space(space, TYPES), given)
    assert all(list(point) == list(TYPES) for point in found)
    return [tuple(point.values()) for point in found]


def test_zipped_parameters_vary_together_and_span_a_product_with_others() -> None:
    space = {"zip": {"y": [1, 2, 3], "a": {"range": {"start": 7, "stop": 9}}}, "z": ["p", "q"]}
    assert points(space, x=0) == [
        (a, 0.0, float(y), z) for a, y in [(7, 1), (8, 2), (9, 3)] for z in "pq"
    ]


def test_a_given_value_replaces_its_column_of_a_joint_axis() -> None:
    space = {"zip": {"x": [1, 2], "y": [3, 4]}, "a": 1, "z": "p"}
    assert points(space, x=9) == [(1, 9.0, 3.0, "p"), (1, 9.0, 4.0, "p")]
    assert points(space, x=[8, 9], y=5) == [(1, 8.0, 5.0, "p"), (1, 9.0, 5.0, "p")]


def test_a_sample_is_one_axis() -> None:
    ranges = {"x": [0, 1], "y": {"start": 1, "stop": 100, "log": True}, "a": [1, 3]}
    space = {"sample": {"method": "lhs", "n": 5, "ranges": ranges}, "z": ["p", "q"]}
    found = points(space)
    assert len(found) == 10
    assert len({point[:3] for point in found}) == 5


def test_a_parameter_called_zip_is_a_parameter() -> None:
    space = parse_job_space({"zip": [1, 2]}, {"zip": "int"})
    assert [p["zip"] for p in expand_points("s", {"zip": "int"}, space, {})] == [1, 2]


def test_a_dictionary_is_the_value_of_a_parameter_of_that_type() -> None:
    given = {"range": {"start": 0, "stop": 1}}
    assert parse_job_space({"d": given}, {"d": "dict"}) == {"d": given}


# -- samples -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_sample_depends_on_its_description_only(method: Method) -> None:
    ranges = (UNIT, SampledRange("y", -2.0, 5.0))
    found = Sample(method, 32, 7, ranges).columns()
    assert Sample(method, 32, 7, ranges).columns() == found
    assert Sample(method, 32, 8, ranges).columns() != found
    assert list(found) == ["x", "y"]
    for one in ranges:
        values = found[one.name]
        assert len(set(values)) == 32
        assert all(one.start <= value < one.stop for value in values)


@pytest.mark.parametrize(
    ("method", "values"),
    [
        # Independent of our code: from `b2sum -l 64` of "7 random x 0" and so on, by hand.
        ("random", [0.88941904, 0.34907380]),
    ],
)
def test_random_points_are_the_same_on_every_platform(method: Method, values: list[float]) -> None:
    found = Sample(method, 2, 7, (UNIT,)).columns()["x"]
    assert found == pytest.approx(values, abs=1e-8)


@pytest.mark.parametrize("method", ["lhs", "sobol"])
def test_stratified_samples_have_one_value_in_each_interval(method: Method) -> None:
    found = Sample(method, 64, 3, (UNIT, SampledRange("y", 0.0, 1.0))).columns()
    for values in found.values():
        assert sorted(math.floor(value * 64) for value in values) == list(range(64))


def test_a_sobol_sequence_is_balanced_in_two_dimensions() -> None:
    found = Sample("sobol", 16, 5, (UNIT, SampledRange("y", 0.0, 1.0))).columns()
    cells = {
        (math.floor(x * 4), math.floor(y * 4)) for x, y in zip(found["x"], found["y"], strict=True)
    }
    assert len(cells) == 16


@pytest.mark.parametrize("method", ["random", "sobol"])
def test_a_larger_sample_extends_a_smaller_one(method: Method) -> None:
    small, large = (Sample(method, n, 1, (UNIT,)).columns()["x"] for n in (5, 9))
    assert list(large)[:5] == small


def test_sampled_ranges_keep_types_and_ends() -> None:
    whole = SampledRange("n", 1, 3, whole=True)
    log = SampledRange("k", 1, 1000, log=True, whole=True)
    found = Sample("lhs", 300, 0, (whole, log)).columns()
    assert {value: found["n"].count(value) for value in (1, 2, 3)} == {1: 100, 2: 100, 3: 100}
    assert all(isinstance(value, int) and 1 <= value <= 1000 for value in found["k"])
    below = sum(value <= 31 for value in found["k"])
    assert 145 <= below <= 155  # half of the decades
    last = (1 << 53) - 1
    for one in (whole, log, UNIT, SampledRange("x", -1e308, 1e308)):
        start, stop = one.values([0, last])
        assert start == one.start
        assert one.start < stop <= one.stop


def test_only_sobol_needs_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("scipy", "scipy.stats"):
        monkeypatch.setitem(sys.modules, name, None)
    assert Sample("lhs", 2, 0, (UNIT,)).columns()
    with pytest.raises(MotokoError, match="sobol needs scipy") as caught:
        Sample("sobol", 2, 0, (UNIT,)).columns()
    assert "motoko[sample]" in (caught.value.hint or "")


def test_identities_of_computed_and_written_values_are_equal() -> None:
    written = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    for values in (range_values(0, 1, 0.1), linspace_values(0, 1, 11)):
        computed = [job_identity(p) for p in expand_points("s", {"x": "float"}, {"x": values}, {})]
        assert computed == [job_identity({"x": value}) for value in written]


def test_columns_of_one_axis_are_computed_once() -> None:
    class Counted:
        calls = 0

        def columns(self) -> dict[str, list[int]]:
            self.calls += 1
            return {"x": [1, 2], "y": [3, 4]}

    axis = Counted()
    space = {name: Column(axis, name) for name in "xy"}
    assert len(expand_points("s", dict.fromkeys("xy", "int"), space, {})) == 2
    assert axis.calls == 1
    assert expand_points("s", {"x": "int"}, space, {"x": 1}) == [{"x": 1}]
    assert axis.calls == 1
    assert Zip({"x": [1]}).names == ["x"]
