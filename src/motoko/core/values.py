"""Plain values: what run fields, job parameters and workflow variables may hold."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, Final

from motoko.errors import ParameterError

TYPE_NAMES: Final = ("int", "float", "str", "bool", "list", "dict", "datetime")


class Missing:
    """The type of ``MISSING``: there is no such value, which differs from ``None``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final = Missing()


def plain(value: Any, what: str) -> Any:
    """Return ``value`` as plain data (a copy of every container).

    NumPy scalars and arrays, and anything else with ``tolist``, become numbers and lists.
    ``what`` names the value in the ParameterError raised for anything else.
    """
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    if isinstance(value, datetime):
        moment = _aware(value)
        if moment is MISSING:
            raise ParameterError(f"{what} = {value} is no moment in UTC's years 1 to 9999")
        return moment
    if isinstance(value, dict):
        return {_key(key, what): plain(item, f"{what}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item, what) for item in value]
    if isinstance(value, tuple):
        return tuple(plain(item, what) for item in value)
    if isinstance(value, set | frozenset):
        return {_key(item, what) for item in value}
    for base in (int, float, str):  # subclasses: enumerations, NumPy's float64
        if isinstance(value, base):
            return base.__new__(base, base.__str__(value)) if base is str else base(value)
    if hasattr(value, "tolist"):
        given = value.tolist()
        if type(given) is not type(value):  # NumPy's longdouble has no counterpart
            return plain(given, what)
    raise ParameterError(
        f"{what} is a {type(value).__name__}, which cannot be stored",
        hint="Store numbers, text, lists, dictionaries, dates or NumPy arrays.",
    )


def _key(value: Any, what: str) -> Any:
    """Return ``value`` as plain data that can be in a set or a dictionary's key."""
    result = plain(value, what)
    try:
        hash(result)
    except TypeError:
        raise ParameterError(f"{what}: {value!r} cannot be a key or a member of a set") from None
    return result


def same(one: Any, other: Any) -> bool:
    """Return whether two plain values are the same in type and content; nan is the same as nan."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def coerce(value: Any, type_name: str, what: str) -> Any:
    """Return ``value`` as the declared type, or raise ParameterError naming ``what``.

    7 becomes 7.0 where ``float`` is declared, 7.0 becomes 7 where ``int`` is. Text is never
    read as a number. ``None`` and nan are refused, for a run must be found again by its values.
    """
    if value is None:
        raise ParameterError(f"{what} is None", hint=f"Give a value of type {type_name}.")
    given = plain(value, what)
    result = _convert(given, type_name)
    if result is MISSING:
        raise ParameterError(
            f"{what} = {value!r} is a {type(value).__name__}, not of type {type_name}"
        )
    _refuse_nan(result, what)
    return result


def _convert(value: Any, type_name: str) -> Any:
    if type_name == "bool":
        return value if isinstance(value, bool) else MISSING
    if isinstance(value, bool):
        return MISSING
    if type_name == "int":
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return value if isinstance(value, int) else MISSING
    if type_name == "float":
        return _float(value)
    if type_name == "str":
        return value if isinstance(value, str) else MISSING
    if type_name == "list":
        return list(value) if isinstance(value, list | tuple) else MISSING
    if type_name == "dict":
        return value if isinstance(value, dict) else MISSING
    return _datetime(value)


def _float(value: Any) -> Any:
    if not isinstance(value, int | float):
        return MISSING
    try:
        number = float(value)
    except OverflowError:
        return MISSING
    return number + 0.0  # -0.0 and 0.0 are one point of the parameter space


def _datetime(value: Any) -> Any:
    if isinstance(value, datetime):
        return value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return MISSING
        return _aware(moment)
    return MISSING


def _aware(moment: datetime) -> Any:
    try:
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        return MISSING
    # A new one, for the class of a subclass (pandas' Timestamp) must not be stored.
    clock = (moment.hour, moment.minute, moment.second, moment.microsecond)
    return datetime(moment.year, moment.month, moment.day, *clock, tzinfo=UTC)


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
