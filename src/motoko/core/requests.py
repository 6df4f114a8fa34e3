"""The arguments of ``create_task`` and ``create_tasks``, as the values of single runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, overload

from motoko.core.axes import MAX_POINTS, check_count
from motoko.core.parameter_space import (
    Points,
    check_replicate,
    merge_defaults,
    run_values,
    single_point,
    spanned_points,
)
from motoko.errors import ParameterError
from motoko.worker.values import shorten

NOT_JOB_PARAMETERS: Final = ("run_params", "replicate")  # other keys of a point


class StudySpace(Protocol):
    """The declarations of a study in ``bd.yaml``."""

    @property
    def job(self) -> Mapping[str, str]:
        """Return the job parameters and their types."""

    @property
    def run(self) -> Mapping[str, str]:
        """Return the run fields and their types."""

    @property
    def job_space(self) -> Mapping[str, Any]:
        """Return the defaults of job parameters."""

    @property
    def run_params(self) -> Mapping[str, Any]:
        """Return the defaults of run fields and options."""


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """The values of one run: its job, declared and other fields, options, and replicate."""

    job: dict[str, Any]
    declared: dict[str, Any]
    other: dict[str, Any]
    options: dict[str, Any]
    replicate: int


def plan_product(
    name: str,
    space: StudySpace,
    run_params: Mapping[str, Any],
    replicate: int,
    job_params: Mapping[str, Any],
) -> PlannedProduct:
    """Return the runs of a product of axes, in list order, or raise ParameterError."""
    _check_dictionary(run_params, f"study {name!r}: run_params")
    points = spanned_points(name, space.job, space.job_space, job_params)
    values = run_values(name, space.run, space.run_params, run_params)
    return PlannedProduct(points, values, check_replicate(replicate, name))


class PlannedProduct(Sequence[PlannedRun]):
    """The runs of a product of axes, made when they are used."""

    def __init__(
        self,
        points: Points,
        values: tuple[dict[str, Any], dict[str, Any], dict[str, Any]],
        replicate: int,
    ) -> None:
        self._points = points
        self._values = values
        self._replicate = replicate

    def __len__(self) -> int:
        return len(self._points)

    @overload
    def __getitem__(self, index: int) -> PlannedRun: ...

    @overload
    def __getitem__(self, index: slice) -> list[PlannedRun]: ...

    def __getitem__(self, index: int | slice) -> PlannedRun | list[PlannedRun]:
        found = self._points[index]
        if isinstance(found, list):
            return [PlannedRun(point, *self._values, self._replicate) for point in found]
        return PlannedRun(found, *self._values, self._replicate)


def plan_points(
    name: str,
    space: StudySpace,
    points: Iterable[Mapping[Any, Any]],
    run_params: Mapping[str, Any],
) -> list[PlannedRun]:
    """Return the runs of these points, in list order.

    Raise a ParameterError that names the index of an invalid point.
    """
    if isinstance(points, Mapping | str) or not isinstance(points, Iterable):
        raise ParameterError(
            f"study {name!r}: create_tasks needs a list of dictionaries, not {shorten(points)}",
            hint="For one point, or a product of axes, use create_task(x=1.0).",
        )
    _check_dictionary(run_params, f"study {name!r}: run_params")
    listed = list(itertools.islice(points, MAX_POINTS + 1))
    check_count(len(listed), f"study {name!r}: ")
    common = run_values(name, space.run, space.run_params, run_params)
    planned = []
    for index, point in enumerate(listed):
        try:
            planned.append(_plan_point(name, space, point, run_params, common))
        except ParameterError as error:
            raise ParameterError(f"point {index}: {error.message}", hint=error.hint) from None
    return planned


def _plan_point(
    name: str,
    space: StudySpace,
    point: Mapping[Any, Any],
    run_params: Mapping[str, Any],
    values: tuple[dict[str, Any], dict[str, Any], dict[str, Any]],
) -> PlannedRun:
    _check_dictionary(point, "it", "Get them from a data frame with frame.to_dict('records').")
    given = {key: value for key, value in point.items() if key not in NOT_JOB_PARAMETERS}
    if "run_params" in point:
        own = _check_dictionary(point["run_params"], "run_params")
        values = run_values(name, space.run, space.run_params, merge_defaults(run_params, own))
    job = single_point(name, space.job, space.job_space, given)
    return PlannedRun(job, *values, check_replicate(point.get("replicate", 0), name))


def _check_dictionary(
    value: Any, what: str, hint: str = "Pass job parameters by name: create_task(x=1.0)."
) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ParameterError(f"{what} is {shorten(value)}, not a dictionary", hint=hint)
    return value
