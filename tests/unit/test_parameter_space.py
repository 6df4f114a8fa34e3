"""Expansion of parameters to points, and identities of runs."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

from motoko.core.parameter_space import (
    check_replicate,
    check_run_name,
    expand_points,
    job_identity,
    merge_defaults,
    run_identity,
    run_values,
)
from motoko.errors import ParameterError, RunNameError

pytestmark = pytest.mark.unit

TYPES = {"x": "float", "n": "int", "mesh": "list", "options": "dict", "name": "str"}
DEFAULTS: dict[str, Any] = {"n": 1, "mesh": [4, 4], "options": {"tol": 0.1}, "name": "a"}


def points(**given: Any) -> list[dict[str, Any]]:
    return expand_points("mult", TYPES, DEFAULTS, given)


def test_one_point() -> None:
    assert points(x=2) == [{"x": 2.0, "n": 1, "mesh": [4, 4], "options": {"tol": 0.1}, "name": "a"}]


def test_lists_span_their_product_in_list_order() -> None:
    found = [(point["x"], point["n"]) for point in points(x=[2, 1], n=(5, 6))]
    assert found == [(2.0, 5), (2.0, 6), (1.0, 5), (1.0, 6)]
    assert len(points(x=[1, 2], n=range(3), name=["a", "b"])) == 12


def test_arrays_span_axes_as_lists_do() -> None:
    assert [point["x"] for point in points(x=np.linspace(0, 1, 3))] == [0.0, 0.5, 1.0]
    assert [point["n"] for point in points(x=1, n=np.arange(2))] == [0, 1]
    assert [point["x"] for point in points(x=np.array(2.5))] == [2.5]


def test_defaults_span_axes() -> None:
    assert [p["n"] for p in expand_points("s", {"n": "int"}, {"n": [1, 2]}, {})] == [1, 2]
    assert [p["n"] for p in expand_points("s", {"n": "int"}, {"n": [1, 2]}, {"n": 3})] == [3]


def test_an_empty_axis_has_no_points() -> None:
    assert points(x=[]) == []


def test_lists_are_values_for_list_parameters() -> None:
    assert [point["mesh"] for point in points(x=1, mesh=[1, 2, 3])] == [[1, 2, 3]]
    assert [point["mesh"] for point in points(x=1, mesh=np.array([[1, 2]]))] == [[[1, 2]]]


def test_text_is_not_an_axis() -> None:
    assert [point["name"] for point in points(x=1, name="abc")] == ["abc"]


def test_dictionaries_merge_over_defaults() -> None:
    (point,) = points(x=1, options={"steps": 5})
    assert point["options"] == {"tol": 0.1, "steps": 5}
    (point,) = points(x=1, options={"tol": 0.5})
    assert point["options"] == {"tol": 0.5}
    assert DEFAULTS["options"] == {"tol": 0.1}
    assert merge_defaults({"a": {"b": 1}}, {"a": 2}) == {"a": 2}
    several = points(x=1, options=[{"steps": 5}, {"tol": 0.5}])
    assert [point["options"] for point in several] == [{"tol": 0.1, "steps": 5}, {"tol": 0.5}]


@pytest.mark.parametrize(
    ("given", "words", "hint"),
    [
        ({"x": 1, "meshh": [1]}, "no job parameter 'meshh'", "'mesh'"),
        ({}, "job parameter 'x' is missing", "Give x="),
        ({"x": "1"}, "job parameter 'x' = '1' is a str, not of type float", None),
        ({"x": [1, "a"]}, "job parameter 'x' = 'a'", None),
        ({"x": 1, "n": 1.5}, "job parameter 'n' = 1.5", None),
        ({"x": np.ones((2, 2))}, "job parameter 'x'", None),
        ({"x": None}, "job parameter 'x' is None", "float"),
        ({"x": [1.0, float("nan")]}, "job parameter 'x' is nan", None),
        ({"x": 1, "mesh": [float("nan")]}, "job parameter 'mesh' is nan", None),
    ],
)
def test_invalid_parameters_are_refused(
    given: dict[str, Any], words: str, hint: str | None
) -> None:
    with pytest.raises(ParameterError) as caught:
        points(**given)
    assert caught.value.message.startswith("study 'mult'")
    assert words in caught.value.message
    assert hint is None or hint in (caught.value.hint or "")


# -- run fields ----------------------------------------------------------------------------------


def test_run_values_are_declared_fields_others_or_options() -> None:
    types = {"scheme": "str"}
    found = run_values("mult", types, {"scheme": "a", "nproc": 2}, {"scheme": "b", "timeout": 5})
    assert found == ({"scheme": "b"}, {}, {"nproc": 2, "timeout": 5.0})


def test_any_field_is_accepted_if_none_is_declared() -> None:
    assert run_values("mult", {}, {}, {"note": (1, 2)}) == ({}, {"note": (1, 2)}, {})


@pytest.mark.parametrize(
    ("types", "given", "words"),
    [
        ({"scheme": "str"}, {"schema": "a"}, "declares no run field 'schema'"),
        ({"scheme": "str"}, {"scheme": 1}, "run field 'scheme' = 1"),
        ({}, {"nproc": "two"}, "run field 'nproc'"),
        ({}, {"state": "FINISHED"}, "Motoko reserves the name"),
        ({}, {"id": 3}, "Motoko reserves the name"),
        ({}, {"note": object()}, "cannot be stored"),
        ({}, {"a note": 1}, "'a note' cannot be the name of a run field"),
        ({}, {"_note": 1}, "'_note' cannot be the name"),
        ({}, {"7up": 1}, "'7up' cannot be the name"),
        ({}, {3: 1}, "3 cannot be the name"),
        ({"scheme": "str"}, {3: 1}, "3 cannot be the name"),
        ({}, {"nproc": 0}, "'mult': nproc cannot be 0\n  Give at least 1"),
        ({}, {"timeout": 0}, "timeout cannot be 0.0"),
        ({}, {"timeout": -1.5}, "timeout cannot be -1.5"),
        ({}, {"timeout": math.inf}, "timeout cannot be inf\n .* no limit"),
        ({}, {"retries": -1}, "retries cannot be -1"),
        ({}, {"retry_delay": -0.1}, "retry_delay cannot be -0.1"),
        ({}, {"retry_delay": math.inf}, "retry_delay cannot be inf"),
        ({}, {"generator": "bsh"}, "unknown generator 'bsh'\n  Did you mean 'bash'"),
        ({}, {"generator": "slrum"}, "unknown generator 'slrum'\n  Did you mean 'slurm'"),
        ({}, {"slurm_options": ["array=1-3"]}, "'mult': run_params: slurm_options: 'array=1-3'"),
        ({}, {"slurm_options": ["-n", 4, "wrap=ls"]}, "'wrap=ls' cannot be given"),
        ({}, {"slurm_options": ["acount=a"]}, "no option 'acount'\n  Did you mean 'account'"),
    ],
)
def test_invalid_run_fields_are_refused(
    types: dict[str, str], given: dict[str, Any], words: str
) -> None:
    with pytest.raises(ParameterError, match=words):
        run_values("mult", types, {}, given)


def test_times_of_a_run_may_be_text() -> None:
    given = {"timeout": "1-12:00:00", "retry_delay": timedelta(minutes=1)}
    assert run_values("mult", {}, {}, given)[2] == {"timeout": 129_600.0, "retry_delay": 60.0}
    for timeout in ("soon", "0", True):
        with pytest.raises(ParameterError, match="timeout"):
            run_values("mult", {}, {}, {"timeout": timeout})


def test_run_options_at_their_limits_are_valid() -> None:
    given = {"nproc": 1, "timeout": 0.001, "retries": 0, "retry_delay": 0, "generator": "bash"}
    assert run_values("mult", {}, {}, given) == ({}, {}, given)
    assert run_values("mult", {}, {"generator": "bashCoat"}, {})[2] == {"generator": "bash"}


@pytest.mark.parametrize(("given", "words"), [(-1, "cannot be -1"), ("a", "'a'"), (True, "True")])
def test_invalid_replicates_are_refused(given: Any, words: str) -> None:
    with pytest.raises(ParameterError, match=f"study 'mult': replicate.*{words}"):
        check_replicate(given, "mult")


def test_replicates_start_at_zero() -> None:
    assert [check_replicate(n, "mult") for n in (0, 2.0)] == [0, 2]


# -- identity ------------------------------------------------------------------------------------


def test_an_int_for_a_float_parameter_has_the_same_identity() -> None:
    one, other = (expand_points("s", {"x": "float"}, {}, {"x": x})[0] for x in (7, 7.0))
    assert job_identity(one) == job_identity(other)
    assert len(job_identity(one)) == 16


def test_equal_times_in_different_zones_have_the_same_identity() -> None:
    moment = datetime(2024, 5, 1, 12, tzinfo=UTC)
    elsewhere = moment.astimezone(timezone(timedelta(hours=5)))
    one, other = (
        expand_points("s", {"t": "datetime"}, {}, {"t": t})[0] for t in (moment, elsewhere)
    )
    assert job_identity(one) == job_identity(other)


def test_the_order_of_names_does_not_matter() -> None:
    assert job_identity({"x": 1, "y": {"a": 1, "b": 2}}) == job_identity(
        {"y": {"b": 2, "a": 1}, "x": 1}
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"x": 1.0}, {"x": 2.0}),
        ({"x": "1"}, {"x": 1}),
        ({"x": True}, {"x": 1}),
        ({"x": [1, 2]}, {"x": [2, 1]}),
        ({"x": 0.1 + 0.2}, {"x": 0.3}),
        ({"x": "a", "y": "b"}, {"x": "b", "y": "a"}),
        ({"x": datetime(2024, 1, 1, tzinfo=UTC)}, {"x": "2024-01-01T00:00:00+00:00"}),
        ({"x": [b"a"]}, {"x": ["a"]}),
        ({"x": [{1}]}, {"x": [{2}]}),
        ({"x": "\ud800"}, {"x": "?"}),
    ],
)
def test_different_points_have_different_identities(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert job_identity(one) != job_identity(other)


def test_every_part_of_a_run_changes_its_identity() -> None:
    base: tuple[Any, ...] = ("mult", "a", {"x": 1.0}, {"scheme": "b"}, 0)
    changed: list[tuple[Any, ...]] = [
        ("add", *base[1:]),
        (base[0], "b", *base[2:]),
        (*base[:2], {"x": 2.0}, *base[3:]),
        (*base[:3], {"scheme": "c"}, 0),
        (*base[:4], 1),
    ]
    digests = {run_identity(*values) for values in [base, *changed]}
    assert len(digests) == 6
    assert run_identity("mult", "a", {"x": 1.0}, {"scheme": "b"}, 0) in digests


# -- run names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a", "with spaces", " ", "'quoted' \"", "a:b", "state", "é", "x" * 100]
)
def test_valid_run_names(name: str) -> None:
    assert check_run_name(name) == name


@pytest.mark.parametrize("name", ["", "x" * 101, "a/b", "a\nb", "a\x00", "\ud800", None, 3])
def test_invalid_run_names_are_refused(name: object) -> None:
    with pytest.raises(RunNameError):
        check_run_name(name)
