"""``job_space`` of ``bd.yaml``: default values of job parameters, and axes of several values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar, cast

from pydantic import BeforeValidator, ValidationError, ValidationInfo

from motoko.config.validation import (
    NUMBER,
    ConfigModel,
    InvalidValue,
    mapping,
    mistakes,
    model_form,
    number_hint,
    whole_number,
    written_as,
)
from motoko.core.axes import (
    Column,
    Zip,
    check_count,
    linspace_values,
    logspace_values,
    range_values,
)
from motoko.core.sampling import METHODS, Method, Sample, SampledRange
from motoko.core.values import coerce
from motoko.errors import ParameterError, nearest, suggestion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from motoko.config.yaml_document import KeyPath

    Types = Mapping[str, str]

NUMERIC: Final = ("int", "float")
Model = TypeVar("Model", bound=ConfigModel)
T = TypeVar("T")


@written_as(NUMBER)
def _number(value: Any, info: ValidationInfo) -> float:
    """Validate a finite number, and leave its type."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        raise InvalidValue(
            f"{info.field_name} must be a number, not {value!r}",
            hint=number_hint(value, "float") if isinstance(value, str) else None,
        )
    return value


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False


@written_as({"enum": list(METHODS)})
def _method(value: Any, info: ValidationInfo) -> Method:
    if value not in METHODS:
        known = suggestion(value, METHODS) if isinstance(value, str) else None
        raise InvalidValue(
            f"{info.field_name} must be {', '.join(METHODS[:-1])} or {METHODS[-1]}, not {value!r}",
            hint=known,
        )
    return cast("Method", value)


def _ranges(value: Any, info: ValidationInfo) -> dict[str, SampleEnds]:
    """Validate the ranges of a sample, each a list of two ends or a mapping."""
    found = {}
    for name, given in mapping(value, info).items():
        ends = given
        if isinstance(given, list):
            if len(given) != 2:
                raise InvalidValue(
                    f"ranges.{name} must have a start and a stop, not {given!r}",
                    (name,),
                    "Write [start, stop], or {start: , stop: , log: true}.",
                )
            ends = {"start": given[0], "stop": given[1]}
        found[name] = _parse(SampleEnds, ends, f"ranges.{name}", (name,))
    return found


Number = Annotated[int | float, BeforeValidator(_number)]


class RangeAxis(ConfigModel):
    """``range``: start, start + step, ... up to and including stop."""

    start: Number
    stop: Number
    step: Number = 1

    def values(self) -> list[float]:
        """Return the values, or raise ParameterError."""
        return range_values(self.start, self.stop, self.step)


class LinspaceAxis(ConfigModel):
    """``linspace``: evenly spaced values, with both ends."""

    start: Number
    stop: Number
    num: Annotated[int, BeforeValidator(whole_number(2))]

    def values(self) -> list[float]:
        """Return the values, or raise ParameterError."""
        return linspace_values(self.start, self.stop, self.num)


class LogspaceAxis(LinspaceAxis):
    """``logspace``: values with a constant ratio, with both ends; these are the values."""

    def values(self) -> list[float]:
        """Return the values, or raise ParameterError."""
        return logspace_values(self.start, self.stop, self.num)


class SampleEnds(ConfigModel):
    """The ends of a sampled range; ``log``: values are evenly spread on a logarithmic scale."""

    start: Number
    stop: Number
    log: bool = False


ENDS: Final = {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2}
written_as({"type": "object", "additionalProperties": {"anyOf": [ENDS, model_form(SampleEnds)]}})(
    _ranges
)


class SampleAxis(ConfigModel):
    """``sample``: points in ranges of several parameters."""

    method: Annotated[Method, BeforeValidator(_method)]
    n: Annotated[int, BeforeValidator(whole_number(1))]
    seed: Annotated[int, BeforeValidator(whole_number(0))] = 0
    ranges: Annotated[dict[str, SampleEnds], BeforeValidator(_ranges)]


AXES: Final[Mapping[str, type[RangeAxis | LinspaceAxis]]] = {
    "range": RangeAxis,
    "linspace": LinspaceAxis,
    "logspace": LogspaceAxis,
}


def job_space_form() -> dict[str, Any]:
    """Return the JSON Schema of the section.

    Any value is possible, as the types of parameters are in another section, and a parameter may be
    called ``zip`` or ``sample``. The axes are listed for editors.
    """
    axis = {
        "type": "object",
        "properties": {name: model_form(model) for name, model in AXES.items()},
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    }
    columns = {"type": "object", "minProperties": 1, "additionalProperties": {"type": "array"}}
    joint = {"zip": columns, "sample": model_form(SampleAxis)}
    return {
        "type": "object",
        "properties": {name: {"anyOf": [form, {}]} for name, form in joint.items()},
        "additionalProperties": {"anyOf": [axis, {}]},
    }


def parse_job_space(section: Mapping[str, Any], types: Types) -> dict[str, Any]:
    """Return the default of each parameter: a value, a list of values, or a Column."""
    found: dict[str, Any] = {}
    joint = {name: parse for name, parse in _JOINT.items() if name not in types}
    for name, given in section.items():
        if name in joint:
            _add_columns(found, joint[name](given, types), name)
        else:
            _check_known(name, types, "job_space", (name,), joint)
            _add(found, name, _default(given, types[name], f"job_space.{name}", (name,)), (name,))
    return found


def _add_columns(found: dict[str, Any], axis: Zip | Sample, key: str) -> None:
    for name in axis.names:
        _add(found, name, Column(axis, name), (key, name))


def _add(found: dict[str, Any], name: str, default: Any, path: KeyPath) -> None:
    if name in found:
        raise InvalidValue(
            f"job_space gives {name!r} twice", path, "A parameter has one default or axis."
        )
    found[name] = default


def _check_known(
    name: str, types: Types, what: str, path: KeyPath, more: Iterable[str] = ()
) -> None:
    if name in types:
        return
    near = nearest(name, [*types, *more])
    raise InvalidValue(
        f"{what} names {name!r}, which is not a job parameter",
        path,
        suggestion(name, [near] if near else list(types)),
    )


def _default(given: Any, type_name: str, what: str, path: KeyPath) -> Any:
    """Return a default value, or a list of values if it spans an axis."""
    if isinstance(given, dict) and type_name in NUMERIC:
        given = _axis_values(given, what, path)
    if type_name == "list" or not isinstance(given, list):
        check_type(given, type_name, what, path)
        return given
    for index, item in enumerate(given):
        check_type(item, type_name, f"{what}[{index}]", (*path, index))
    return given


def _axis_values(given: dict[str, Any], what: str, path: KeyPath) -> list[float]:
    if len(given) != 1:
        raise InvalidValue(
            f"{what} must be a value, a list, or one of {', '.join(AXES)}, not {given!r}", path
        )
    ((kind, ends),) = given.items()
    if kind not in AXES:
        hint = suggestion(kind, list(AXES))
        if kind in _JOINT:
            hint = f"{kind} describes several parameters: write it as a key of job_space."
        raise InvalidValue(f"{what} has the unknown key {kind!r}", (*path, kind), hint)
    axis = _parse(AXES[kind], ends, f"{what}.{kind}", (*path, kind))
    return _checked(axis.values, f"{what}.{kind}", (*path, kind))


def _zip(given: Any, types: Types) -> Zip:
    columns: dict[str, Any] = {}
    for name, values in _mapping(given, "job_space.zip", ("zip",)).items():
        what, path = f"job_space.zip.{name}", ("zip", name)
        _check_known(name, types, "job_space.zip", path)
        columns[name] = _column(values, types[name], what, path)
        first = next(iter(columns))
        if len(columns[name]) != len(columns[first]):
            raise InvalidValue(
                f"job_space.zip needs lists of equal length, but {first!r} has "
                f"{len(columns[first])} values and {name!r} has {len(columns[name])}",
                path,
                "The first values of all lists make the first point, and so on.",
            )
    return Zip(columns)


def _column(values: Any, type_name: str, what: str, path: KeyPath) -> list[Any]:
    if type_name == "list" and isinstance(values, list):
        for index, item in enumerate(values):
            check_type(item, type_name, f"{what}[{index}]", (*path, index))
    else:
        values = _default(values, type_name, what, path)
    if not isinstance(values, list):
        raise InvalidValue(f"{what} must be a list of values, not {values!r}", path)
    return values


def _sample(given: Any, types: Types) -> Sample:
    what, path = "job_space.sample", ("sample",)
    axis = _parse(SampleAxis, given, what, path)
    _checked(lambda: check_count(axis.n), f"{what}.n", (*path, "n"))
    if not axis.ranges:
        raise InvalidValue(f"{what}.ranges names no parameter", (*path, "ranges"))
    ranges = [_sampled_range(name, ends, types) for name, ends in axis.ranges.items()]
    return Sample(axis.method, axis.n, axis.seed, tuple(ranges))


def _sampled_range(name: str, ends: SampleEnds, types: Types) -> SampledRange:
    what, path = f"job_space.sample.ranges.{name}", ("sample", "ranges", name)
    _check_known(name, types, "job_space.sample.ranges", path)
    type_name = types[name]
    if type_name not in NUMERIC:
        raise InvalidValue(f"{what}: {name!r} is of type {type_name}; only numbers vary", path)
    for value in (ends.start, ends.stop):
        check_type(value, type_name, what, path)
    if ends.start >= ends.stop:
        raise InvalidValue(f"{what}: start {ends.start!r} must be below stop {ends.stop!r}", path)
    if ends.log and ends.start <= 0:
        raise InvalidValue(f"{what}: log needs positive values, not {ends.start!r}", path)
    whole = type_name == "int"
    start, stop = (coerce(value, type_name, what) for value in (ends.start, ends.stop))
    return SampledRange(name, start, stop, ends.log, whole)


_JOINT: Final[Mapping[str, Callable[[Any, Types], Zip | Sample]]] = {"zip": _zip, "sample": _sample}


def check_type(value: Any, type_name: str, what: str, path: KeyPath) -> None:
    """Raise InvalidValue unless a value fits a declared type."""
    try:
        coerce(value, type_name, what)
    except ParameterError as error:
        hint = error.hint
        if type_name == "str" and value is not None:
            hint = "Put it in quotes if it is text."
        elif type_name in NUMERIC and isinstance(value, str):
            hint = number_hint(value, type_name)
        raise InvalidValue(error.message, path, hint) from None


def _mapping(given: Any, what: str, path: KeyPath) -> dict[str, Any]:
    if not isinstance(given, dict) or not given:
        raise InvalidValue(f"{what} must be a mapping (`name: value`), not {given!r}", path)
    return given


def _parse(model: type[Model], given: Any, what: str, path: KeyPath) -> Model:
    try:
        return model.model_validate(_mapping(given, what, path))
    except ValidationError as error:
        message, inner, hint = mistakes(error)[0]
        raise InvalidValue(f"{what}: {message}", (*path, *inner), hint) from None


def _checked(compute: Callable[[], T], what: str, path: KeyPath) -> T:
    try:
        return compute()
    except ParameterError as error:
        raise InvalidValue(f"{what}: {error.message}", path, error.hint) from None
