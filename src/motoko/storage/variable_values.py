"""The stored form of values of workflow variables that are not plain.

A variable keeps the type of its value, or the value is refused. Times, dates, time differences and
complex numbers are stored as they are. A value whose class belongs to another package, such as an
array or a path, is stored as a tuple that begins with MARK.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from motoko.errors import ParameterError
from motoko.worker.values import PlainValueError, is_a, to_plain, unstorable_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

MARK: Final = "\0motoko"
KINDS: Final = "biufcmMSU"  # of NumPy arrays; others hold objects, or differ between machines
PATHS: Final = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")


def encode_value(value: Any, what: str) -> Any:
    """Return the stored form of ``value``; ParameterError if its type cannot be stored."""
    try:
        return to_plain(value, what, special=_stored)
    except PlainValueError as problem:
        raise ParameterError(problem.message, hint=problem.hint) from None


def decode_value(value: Any) -> Any:
    """Return the original of a stored value that is not a container."""
    if type(value) is not tuple:
        return value
    if value[:1] != (MARK,):
        return tuple(decode_value(item) for item in value)
    _, kind, *content = value
    revive: dict[str, Callable[..., Any]] = {
        "path": _path,
        "array": _array,
        "zoned": _zoned,
        "folded": _folded,
    }
    return revive[kind](*content)


def _stored(value: Any, what: str) -> Any:
    from datetime import date, datetime, time, timedelta

    if is_a(value, "pandas", "NaTType", "NAType"):
        return None
    finer = ("nanosecond", "nanoseconds")  # pandas'
    if isinstance(value, datetime | timedelta) and any(getattr(value, n, 0) for n in finer):
        raise PlainValueError(f"{what} has nanoseconds, which are lost", "Round it: .round('us').")
    if isinstance(value, datetime | time) and value.fold:  # ZODB's pickles leave it out
        return MARK, "folded", _stored(value.replace(fold=0), what)
    if isinstance(value, datetime):
        return _time_of_day(value, what)
    if isinstance(value, date):
        return date(value.year, value.month, value.day)
    if isinstance(value, time):
        _check_zone(value.tzinfo, value, what)
        return value if type(value) is time else _refuse(value, what)
    if isinstance(value, timedelta):
        return timedelta(value.days, value.seconds, value.microseconds)
    if isinstance(value, complex):
        return complex(value)
    if type(value).__name__ in PATHS and is_a(value, "pathlib", *PATHS):
        return MARK, "path", type(value).__name__, str(value)
    if is_a(value, "numpy", "generic", "ndarray"):
        return _numpy(value, what)
    return _refuse(value, what)


def _refuse(value: Any, what: str) -> Any:
    problem = unstorable_error(value, what)
    if hasattr(value, "tolist"):
        problem.hint = "Store it as a list (.tolist()) or as a NumPy array (.to_numpy())."
    raise problem


def _time_of_day(moment: datetime, what: str) -> Any:
    from datetime import datetime

    clock = (moment.hour, moment.minute, moment.second, moment.microsecond)
    naive = datetime(moment.year, moment.month, moment.day, *clock)  # noqa: DTZ001
    if is_a(moment.tzinfo, "zoneinfo", "ZoneInfo") and getattr(moment.tzinfo, "key", None):
        return MARK, "zoned", naive, str(moment.tzinfo)
    _check_zone(moment.tzinfo, moment, what)
    return naive.replace(tzinfo=moment.tzinfo)


def _check_zone(zone: object, value: object, what: str) -> None:
    from datetime import timezone

    if zone is not None and type(zone) is not timezone:
        hint = "Use zoneinfo.ZoneInfo or datetime.timezone for times of a day, or .astimezone(UTC)."
        raise PlainValueError(f"{what} = {value} has a time zone that cannot be stored", hint)


def _zoned(naive: datetime, key: str) -> datetime:
    from zoneinfo import ZoneInfo

    return naive.replace(tzinfo=ZoneInfo(key))


def _folded(stored: Any) -> Any:
    """Return the later of two equal local times."""
    return decode_value(stored).replace(fold=1)


def _path(kind: str, text: str) -> Any:
    import pathlib

    return getattr(pathlib, kind)(text)


def _numpy(value: Any, what: str) -> Any:
    """Return the bytes of an array, or of a scalar without a Python type."""
    import numpy as np

    if value.dtype.kind not in KINDS or value.dtype.char in "gG":
        return _refuse(value, what)
    scalar = isinstance(value, np.generic)
    if scalar and value.dtype.kind in "biuf":
        return value.item()
    if not scalar and type(value) is not np.ndarray:
        return _refuse(value, what)
    return MARK, "array", value.dtype.str, value.shape, value.tobytes(), scalar


def _array(kind: str, shape: tuple[int, ...], data: bytes, scalar: bool) -> Any:
    """Return a read-only array: changes in place would not be stored."""
    import numpy as np

    if not np.dtype(kind).itemsize:
        return np.empty(shape, kind)
    array = np.frombuffer(data, kind).reshape(shape)
    return array[()] if scalar else array
