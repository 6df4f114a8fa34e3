"""The parameter space of a study: expands given values to points with an identity."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, overload

from motoko.core.axes import MAX_RUNS, Column, check_count
from motoko.core.run_options import OPTIONS, STORED_OPTIONS
from motoko.core.values import coerce, to_plain
from motoko.errors import ParameterError, suggestion
from motoko.worker.validation import RESERVED_FIELDS

if TYPE_CHECKING:
    from collections.abc import Mapping


def merge_defaults(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``defaults`` overridden by ``given``; dictionaries are merged, not replaced."""
    merged = dict(defaults)
    for name, value in given.items():
        merged[name] = _merge_value(merged.get(name), value)
    return merged


def _merge_value(default: Any, given: Any) -> Any:
    if not isinstance(default, dict):
        return given
    if isinstance(given, list):  # an axis of dictionaries
        return [{**default, **item} if isinstance(item, dict) else item for item in given]
    return {**default, **given} if isinstance(given, dict) else given


def expand_points(
    study: str, types: Mapping[str, str], defaults: Mapping[str, Any], given: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the coerced points spanned by ``given`` over ``defaults``, in list order.

    A list value spans an axis unless its type is ``list``; the last axis varies fastest. Raises
    ParameterError for an unknown, missing or mistyped parameter.
    """
    points = spanned_points(study, types, defaults, given)
    check_count(len(points), f"study {study!r}: ")
    return list(points)


def spanned_points(
    study: str, types: Mapping[str, str], defaults: Mapping[str, Any], given: Mapping[str, Any]
) -> Points:
    """Return the points of ``expand_points``, however many, without making them."""
    _check_names(study, types, given)
    return Points(list(types), _axes(study, types, merge_defaults(defaults, given)))


class Points(Sequence[dict[str, Any]]):
    """The product of axes, each with the values of its parameters; the last varies fastest."""

    def __init__(self, names: Sequence[str], axes: Sequence[Mapping[str, Sequence[Any]]]) -> None:
        self._names = names
        lengths = [min(map(len, axis.values())) for axis in axes]
        strides = [math.prod(lengths[n + 1 :]) for n in range(len(axes))]
        place = zip(axes, lengths, strides, strict=True)
        found = {name: (axis[name], size, stride) for axis, size, stride in place for name in axis}
        self._columns = [(name, *found[name]) for name in names]
        self._number = math.prod(lengths)

    def __len__(self) -> int:
        return min(self._number, 2**62)  # `len` returns no larger numbers

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        positions = range(len(self))[index]
        if isinstance(positions, range):
            return list(map(self._point, positions))
        return self._point(positions)

    def _point(self, position: int) -> dict[str, Any]:
        return {
            name: values[position // stride % size] for name, values, size, stride in self._columns
        }


def single_point(
    study: str, types: Mapping[str, str], defaults: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the coerced point of ``given`` over ``defaults``; no value spans an axis.

    Raises ParameterError as ``expand_points`` does, and for a missing parameter whose default spans
    an axis.
    """
    _check_names(study, types, given)
    merged = merge_defaults(defaults, given)
    point = {}
    for name, type_name in types.items():
        value = _given(study, name, type_name, merged)
        what = f"study {study!r}: job parameter {name!r}"
        if name not in given and is_axis(value, type_name):
            raise ParameterError(
                f"{what} is missing, and its default spans an axis",
                hint=f"Give each point a value of {name!r}.",
            )
        point[name] = coerce(value, type_name, what)
    return point


def _check_names(study: str, types: Mapping[str, str], given: Mapping[str, Any]) -> None:
    for name in given:
        if name not in types:
            raise ParameterError(
                f"study {study!r} has no job parameter {name!r}",
                hint=suggestion(str(name), list(types)),
            )


def _given(study: str, name: str, type_name: str, merged: Mapping[str, Any]) -> Any:
    if name not in merged:
        raise ParameterError(
            f"study {study!r}: job parameter {name!r} is missing",
            hint=f"Give {name}= (of type {type_name}), or a default in job_space of bd.yaml.",
        )
    return merged[name]


def _axes(
    study: str, types: Mapping[str, str], merged: Mapping[str, Any]
) -> list[dict[str, list[Any]]]:
    """Return the values of the parameters of each axis."""
    columns: dict[object, dict[str, list[Any]]] = {}
    joint: dict[int, Mapping[str, Sequence[Any]]] = {}
    for name, type_name in types.items():
        what = f"study {study!r}: job parameter {name!r}"
        value, axis = _given(study, name, type_name, merged), object()
        if isinstance(value, Column):
            axis = id(value.axis)
            if axis not in joint:
                joint[axis] = value.axis.columns()
            values = joint[axis][name]
        else:
            values = value if is_axis(value, type_name) else [value]
        check_count(len(values), f"{what}: ", MAX_RUNS)
        columns.setdefault(axis, {})[name] = [coerce(v, type_name, what) for v in values]
    return list(columns.values())


def is_axis(value: Any, type_name: str) -> bool:
    """Return whether a value of a parameter of this type spans an axis."""
    if isinstance(value, Column):
        return True
    if type_name == "list":
        return False
    return isinstance(value, list | tuple | range) or getattr(value, "ndim", 0) == 1


def run_values(
    study: str,
    types: Mapping[str, str],
    defaults: Mapping[str, Any],
    given: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return (declared fields, other fields, run options) of a run, or raise ParameterError."""
    declared: dict[str, Any] = {}
    other: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for name, value in merge_defaults(defaults, given).items():
        what = f"study {study!r}: run field {name!r}"
        if name in STORED_OPTIONS:
            options[name] = OPTIONS[name].check(value, study)
        elif name in RESERVED_FIELDS:
            raise ParameterError(f"{what}: Motoko reserves the name", hint="Choose another.")
        elif name in types:
            declared[name] = coerce(value, types[name], what)
        else:
            _check_field_name(name, types, study)
            other[name] = to_plain(value, what)
    return declared, other, options


def _check_field_name(name: object, declared: Mapping[str, str], study: str) -> None:
    if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
        raise ParameterError(
            f"study {study!r}: {name!r} cannot be the name of a run field",
            hint="Use letters, digits and underscores, beginning with a letter.",
        )
    if declared:
        raise ParameterError(
            f"study {study!r} declares no run field {name!r}",
            hint=suggestion(name, [*declared, *STORED_OPTIONS]),
        )


def check_replicate(value: object, study: str) -> int:
    """Return ``value`` as a whole number of at least 0, or raise ParameterError."""
    what = f"study {study!r}: replicate"
    number: int = coerce(value, "int", what)
    if number < 0:
        raise ParameterError(f"{what} cannot be {number}", hint="Count replicates from 0.")
    return number


def job_identity(job: Mapping[str, Any], *, literal: bool = False) -> bytes:
    """Return the digest (16 bytes) of a point.

    ``literal`` omits the normalisation of numbers, as in old databases.
    """
    return _digest(_json(dict(job) if literal else _normal(job)))


class RunIdentities:
    """Computes the digests of the runs of one study and run name, quickly for many."""

    def __init__(self, study: str, run_name: str) -> None:
        self._start = f"[{_json(study)},{_json(run_name)},"

    def of(
        self, job: Mapping[str, Any], declared: Mapping[str, Any], replicate: int
    ) -> tuple[bytes, bytes]:
        """Return the digests of a run and of its job, as ``run_identity`` and ``job_identity``."""
        point = _json(_normal(job))
        fields = _json(_normal(declared)) if declared else "{}"
        return _digest(f"{self._start}{point},{fields},{replicate}]"), _digest(point)


def run_identity(
    study: str,
    run_name: str,
    job: Mapping[str, Any],
    declared: Mapping[str, Any],
    replicate: int,
    *,
    literal: bool = False,
) -> bytes:
    """Return the digest (16 bytes) of a run; equal runs have equal digests."""
    values = [dict(job), dict(declared)]
    values = values if literal else _normal(values)
    return _digest(_json([study, run_name, *values, replicate]))


def describe_change(types: Mapping[str, str], job: Mapping[str, Any]) -> str | None:
    """Return how a job differs from the declared parameters, None if it is the same point."""
    if job.keys() == types.keys() and all(
        type(value).__name__ == types[name] for name, value in job.items()
    ):
        return None
    words = [f"without {name!r} (declared now)" for name in types if name not in job]
    words += [f"with {name!r} (no longer declared)" for name in job if name not in types]
    if not words:
        words = [
            f"with {name!r} of type {type(value).__name__} (declared as {types[name]} now)"
            for name, value in job.items()
            if type(value).__name__ != types[name] and not _same_point(value, types[name])
        ]
    return " and ".join(words) or None


def _same_point(value: Any, type_name: str) -> bool:
    try:
        converted = coerce(value, type_name, "value")
    except ParameterError:
        return False
    return job_identity({"": value}) == job_identity({"": converted})


def format_changes(changed: Mapping[str, int]) -> str:
    """Return a message that counts runs by ``describe_change``."""
    return "; ".join(f"{n} run{'s' * (n != 1)} {how}" for how, n in changed.items())


def _normal(value: Any) -> Any:
    """Return plain data with equal numbers made identical: 1 and 1.0, 0.0 and -0.0."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, list | tuple):
        return [_normal(item) for item in value]
    if isinstance(value, dict):
        return {key: _normal(item) for key, item in value.items()}
    return {_normal_member(item) for item in value} if isinstance(value, set) else value


def _normal_member(item: Any) -> Any:
    return tuple(_normal(list(item))) if isinstance(item, tuple) else _normal(item)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _tagged(value: Any) -> Any:
    if isinstance(value, datetime):
        return {"$datetime": value.isoformat()}
    if isinstance(value, bytes):
        return {"$bytes": value.hex()}
    if isinstance(value, set):
        return {"$set": sorted(repr(item) for item in value)}
    raise ParameterError(f"{value!r} cannot be part of a run's identity")


_json: Final = json.JSONEncoder(sort_keys=True, default=_tagged, separators=(",", ":")).encode


def check_run_name(run_name: object) -> str:
    """Return printable text of 1 to 100 characters without a slash, or raise RunNameError."""
    from motoko.errors import RunNameError

    if not isinstance(run_name, str):
        raise RunNameError(f"a run name must be text, not {run_name!r}")
    if not run_name:
        raise RunNameError("the run name is empty", hint="Give --run_name NAME.")
    if len(run_name) > 100:
        raise RunNameError(f"the run name has {len(run_name)} characters; at most 100 are allowed")
    if not run_name.isprintable():
        raise RunNameError(f"the run name {run_name!r} has unprintable characters")
    if "/" in run_name:
        raise RunNameError(f"the run name {run_name!r} has a slash", hint="Use '-' or '_'.")
    return run_name
