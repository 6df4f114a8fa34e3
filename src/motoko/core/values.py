"""Conversions of plain values for the orchestrator's side: they raise ParameterError."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import motoko.worker.values as codec
from motoko.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable

TYPE_NAMES: Final = codec.TYPE_NAMES


class Missing:
    """The type of ``MISSING``: no value, unlike ``None``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final = Missing()


def to_plain(value: Any, what: str) -> Any:
    """Return ``value`` as plain data, with a copy of every container.

    Arrays and other objects with ``tolist`` become numbers and lists. ``what`` names the value in
    the ParameterError for a value that cannot be stored.
    """
    return _checked(codec.to_plain, value, what)


def copy_plain(value: Any) -> Any:
    """Return plain data with a copy of every container."""
    if isinstance(value, list):
        return [copy_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: copy_plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(copy_plain(item) for item in value)
    return set(value) if isinstance(value, set) else value


def _checked(convert: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return convert(*arguments)
    except codec.PlainValueError as problem:
        raise ParameterError(problem.message, hint=problem.hint) from None


def values_equal(one: Any, other: Any) -> bool:
    """Return whether two plain values have equal types and contents; nan equals nan."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(values_equal, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(values_equal(one[key], other[key]) for key in one)
    return bool(one == other)


def coerce(value: Any, type_name: str, what: str) -> Any:
    """Return ``value`` as the declared type, or raise ParameterError naming ``what``.

    7 becomes the float 7.0, and 7.0 the int 7. Text never becomes a number. ``None`` and nan are
    errors because they identify no run.
    """
    result = coerce_result(value, type_name, what)
    if result is None:
        raise ParameterError(f"{what} is None", hint=f"Give a value of type {type_name}.")
    _refuse_nan(result, what)
    return result + 0.0 if type(result) is float else result  # -0.0 and 0.0 are one point


def coerce_result(value: Any, type_name: str, what: str) -> Any:
    """Return ``value`` as the declared type; a result may be None or nan."""
    return _checked(codec.convert_to_type, value, type_name, what)


def _refuse_nan(value: Any, what: str) -> None:
    if isinstance(value, float) and math.isnan(value):
        raise ParameterError(f"{what} is nan", hint="nan equals nothing, not even itself.")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ParameterError(f"{what} has the key {key!r}; keys must be text")
            _refuse_nan(item, f"{what}[{key!r}]")
    elif isinstance(value, list | tuple | set):
        for item in value:
            _refuse_nan(item, what)


def to_json(value: Any) -> Any:
    """Return a stored value as a value that JSON has."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((to_json(item) for item in value), key=str)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    return value
