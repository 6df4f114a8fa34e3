"""Plain values of fields, parameters and variables, and their conversion to declared types.

Scripts, launcher and API share this codec. It stores a value unchanged or raises. It imports
little, for scripts, and is pure, for the core.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from typing import Any

TYPE_NAMES = ("int", "float", "str", "bool", "list", "dict", "datetime")
MAX_DEPTH = 100  # of nested containers
MAX_BITS = 14_000  # of an integer: Python writes at most 4,300 digits
MAX_EXACT = 2**53  # larger floats stand for several integers
SHOWN = 200  # characters of a value in a message
STORABLE = "Store numbers, text, lists, dictionaries, times, bytes or NumPy arrays."


class HintedError(Exception):
    """An error with a hint at the next step."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  {self.hint}"


class PlainValueError(HintedError, TypeError):
    """A value that cannot be stored or does not fit its declared type."""


class InexactValueError(PlainValueError):
    """A value that can only be stored inexactly."""


def to_plain(
    value: Any, what: str, depth: int = 0, special: Callable[[Any, str], Any] | None = None
) -> Any:
    """Return ``value`` as plain data, with a copy of every container, or raise PlainValueError.

    Arrays and other objects with ``tolist`` become numbers and lists, times aware in UTC, missing
    values of pandas and NumPy None. ``what`` names the value in messages. ``special`` converts
    objects that are not plain.
    """
    if value is None or type(value) in (bool, float, str, bytes):
        return value
    if isinstance(value, int):
        return _whole(int.__int__(value), what)
    if depth > MAX_DEPTH:
        raise PlainValueError(
            f"{what} is nested more than {MAX_DEPTH} deep, or contains itself",
            "Store its parts, or a file.",
        )
    if isinstance(value, dict):
        return _dictionary(value, what, depth + 1, special)
    if isinstance(value, list):
        return [to_plain(item, what, depth + 1, special) for item in value]
    if isinstance(value, tuple):
        return tuple(to_plain(item, what, depth + 1, special) for item in value)
    if isinstance(value, set | frozenset):
        return set(_distinct(value, what, depth + 1, special))
    # Subclasses: enumerations, NumPy's scalars.
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes):
        return bytes.__getitem__(value, slice(None))
    return _object(value, what, depth + 1) if special is None else special(value, what)


def _whole(value: int, what: str) -> int:
    if value.bit_length() > MAX_BITS:
        raise PlainValueError(
            f"{what} is an integer of more than 4,200 digits, which cannot be stored",
            "Store it as text, such as hex(...).",
        )
    return value


def _dictionary(value: dict[Any, Any], what: str, depth: int, special: Any) -> dict[Any, Any]:
    names = all(type(key) is str for key in value)
    keys = value.keys() if names else _distinct(value, what, depth, special)
    items = (to_plain(item, _part(what, key), depth, special) for key, item in value.items())
    return dict(zip(keys, items, strict=True))


def _part(what: str, key: Any) -> str:
    """Return the name of an item, of bounded length."""
    name = f"{what}[{shorten(key)}]"
    if len(name) <= SHOWN:
        return name
    return what if what.endswith("[...]") else f"{what}[...]"


def _distinct(values: Any, what: str, depth: int, special: Any) -> list[Any]:
    """Return the keys of a dictionary or members of a set, which must stay distinct."""
    found = [to_plain(item, what, depth, special) for item in values]
    for item in found:
        try:
            hash(item)
        except TypeError:
            problem = f"{what}: {shorten(item)} cannot be a key or a member of a set"
            raise PlainValueError(problem) from None
    if len(set(found)) != len(found):
        raise PlainValueError(f"{what}: two keys or members would be stored as the same value")
    return found


def _object(value: Any, what: str, depth: int) -> Any:
    from datetime import datetime

    if is_a(value, "pandas", "NaTType", "NAType"):
        return None
    if isinstance(value, datetime):
        return in_utc(value, what)
    tolist = getattr(value, "tolist", None)
    if tolist is None or isinstance(value, type | memoryview):
        raise unstorable_error(value, what)
    if is_a(value, "numpy", "generic", "ndarray"):
        kind = value.dtype.kind
        if kind == "M":
            return _numpy_times(value, what)
        if kind in "mVgG":  # time differences would become numbers, records lose their names
            raise unstorable_error(value, what)
    given = tolist()
    if type(given) is type(value):  # NumPy's longdouble has no counterpart
        raise unstorable_error(value, what)
    return to_plain(given, what, depth)


def unstorable_error(value: Any, what: str) -> PlainValueError:
    """Return the error for a value whose type cannot be stored."""
    name = type(value).__name__
    hint = STORABLE
    if is_a(value, "pathlib", "PurePath") or is_a(value, "decimal", "Decimal"):
        hint = f"Store it as text: str({what.rpartition('.')[2] if '.' in what else '...'})."
    elif is_a(value, "enum", "Enum"):
        hint = "Store its name or its value."
    elif is_a(value, "datetime", "date"):
        hint = "Store a datetime, or text: .isoformat()."
    elif is_a(value, "datetime", "timedelta"):
        hint = "Store seconds: .total_seconds()."
    return PlainValueError(f"{what} is a {name}, which cannot be stored", hint)


def is_a(value: Any, package: str, *names: str) -> bool:
    """Return whether ``value`` has one of these classes of a package, without importing it."""
    return any(
        base.__name__ in names and base.__module__.partition(".")[0] == package
        for base in type(value).__mro__
    )


def _numpy_times(array: Any, what: str) -> Any:
    """Return NumPy's times of any unit as times in whole microseconds."""
    try:
        rounded = array.astype("datetime64[us]")
        # As integers because a missing time equals nothing.
        exact = bool((rounded.astype(array.dtype).view("i8") == array.view("i8")).all())
    except (OverflowError, ValueError):
        exact = False
    if not exact:
        raise _inexact(what)

    def convert(item: Any) -> Any:
        if isinstance(item, list):
            return [convert(part) for part in item]
        if isinstance(item, int):  # before or after the years that Python knows
            raise _inexact(what)
        return item if item is None else in_utc(item, what)

    return convert(rounded.tolist())


def _inexact(what: str) -> InexactValueError:
    return InexactValueError(
        f"{what} is not a time in whole microseconds in the years 1 to 9999",
        "Round it first, e.g. with .round('us') or .astype('datetime64[us]').",
    )


def in_utc(time: datetime, what: str) -> datetime:
    """Return a time in UTC; a naive time counts as UTC."""
    from datetime import UTC, datetime

    if getattr(time, "nanosecond", 0):  # pandas'
        raise _inexact(what)
    try:
        naive = time.utcoffset() is None
        time = time.replace(tzinfo=UTC) if naive else time.astimezone(UTC)
    except OverflowError:
        raise PlainValueError(f"{what} = {time} is outside UTC's years 1 to 9999") from None
    # A new object: subclasses such as pandas' Timestamp must not be stored.
    of_day = (time.hour, time.minute, time.second, time.microsecond)
    return datetime(time.year, time.month, time.day, *of_day, tzinfo=UTC)


# -- declared types ------------------------------------------------------------------------


def convert_to_type(value: Any, type_name: str | None, what: str) -> Any:
    """Return ``value`` as plain data of the declared type (None: any type); None stays None."""
    given = _day(value) if type_name == "datetime" else value
    given = to_plain(given, what)
    if given is None or type_name is None:
        return given
    result = _convert(given, type_name, what)
    if result is not None:
        return result
    hint = None
    if type_name in ("int", "float") and isinstance(given, str):
        hint = f"Text is not converted to a number: use {type_name}(...)."
    kind = type(value).__name__
    raise PlainValueError(f"{what} = {shorten(value)} is a {kind}, not of type {type_name}", hint)


def _day(value: Any) -> Any:
    """Return a date as midnight of that day, other values unchanged."""
    from datetime import UTC, date, datetime

    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value


def _convert(value: Any, type_name: str, what: str) -> Any:
    """Return plain data as the type, None if it does not fit."""
    if type_name == "bool" or isinstance(value, bool):
        return value if type_name == "bool" and isinstance(value, bool) else None
    if type_name == "int":
        if isinstance(value, float) and value.is_integer():
            if abs(value) >= MAX_EXACT:
                hint = "Give it as an integer, with all its digits."
                raise InexactValueError(f"{what} = {value} is a float, not an exact integer", hint)
            return int(value)
        return value if isinstance(value, int) else None
    if type_name == "float":
        return _float(value)
    if type_name == "list" and isinstance(value, tuple):
        return list(value)
    if type_name == "datetime" and isinstance(value, str):
        return _read_time(value, what)
    return value if type(value).__name__ == type_name else None


def _float(value: Any) -> float | None:
    if not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _read_time(text: str, what: str) -> datetime | None:
    from datetime import datetime

    whole = text.replace(",", ".").partition(".")[0]
    if whole[:9].isdigit() or whole[-9:].isdigit():  # `fromisoformat` accepts these
        return None
    try:
        time = in_utc(datetime.fromisoformat(text), what)
    except (ValueError, PlainValueError):
        return None
    if finer_than_microseconds(text):  # `fromisoformat` truncates
        raise _inexact(f"{what} = {shorten(text)}")
    return time


def finer_than_microseconds(text: str) -> bool:
    """Return whether a time in ISO 8601 has digits beyond microseconds."""
    fraction = text.replace(",", ".").partition(".")[2]
    digits = fraction[: len(fraction) - len(fraction.lstrip("0123456789"))]
    return digits[6:].strip("0") != ""


def read_text(text: str, type_name: str | None, what: str) -> Any:
    """Return the value of a shell script's ``text`` in the declared type, or raise PlainValueError.

    Without a type it is JSON, a number as printf, awk and Fortran write it, or else text.
    """
    if type_name is None:
        try:
            return to_plain(json_value(text), what)
        except ValueError:
            return _evident_number(text)
    try:
        return convert_to_type(_as_type(text, type_name), type_name, what)
    except InexactValueError:
        raise
    except PlainValueError:
        message = f"{what} = {shorten(text)} is not of type {type_name}"
        raise PlainValueError(message, _HINTS[type_name]) from None


def _as_type(text: str, type_name: str) -> Any:
    if type_name in ("int", "float"):
        return None if text.strip() == "null" else parse_number(text)
    if type_name == "bool" and text.strip().lower() in ("true", "false"):
        return text.strip().lower() == "true"
    if type_name == "str" and not (text[:1] == text[-1:] == '"' and len(text) > 1):
        return text  # 1.10 may be a version
    try:
        return json_value(text)
    except ValueError:
        return text


_HINTS = {
    "int": "Write a whole number, such as 7 or 1e3, or null for none.",
    "float": "Write a number, such as 7, .5, 1e-3 or 1.5D+02, or null for none.",
    "str": "Write text, or JSON text.",
    "bool": "Write true or false.",
    "list": "Write a list in JSON.",
    "dict": "Write a dictionary in JSON.",
    "datetime": "Write a time in ISO 8601, such as 2024-05-01T12:00:00+00:00.",
}


def json_value(text: str) -> Any:
    """Return the value of JSON text; ValueError for other text and numbers that are too large."""
    import json

    try:
        return json.loads(text, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def parse_number(text: str) -> int | float | str:
    """Return a number as Python or Fortran (``1.5D+02``, ``1.5+102``) writes it, else the text."""
    word = text.strip()
    body = word[1:] if word[:1] in ("+", "-") else word
    if not word.isascii() or "_" in word:
        return text
    try:
        if body.isdigit():
            return int(word)
        if body[:1] not in tuple(".0123456789"):
            return float(word) if body.isalpha() else text  # nan, inf
        mantissa, sign, exponent = body[:-4], body[-4:-3], body[-3:]
        plain_mantissa = "." in mantissa and mantissa.replace(".", "", 1).isdigit()
        if sign in ("+", "-") and exponent.isdigit() and plain_mantissa:
            word = f"{word[:-4]}e{word[-4:]}"
        return _finite(word.lower().replace("d", "e"))
    except ValueError:
        return text


def _finite(text: str) -> float:
    """Return the number of a text, or raise ValueError if it is too large."""
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(text)
    return number


def _evident_number(text: str) -> Any:
    """Return a text that is certainly a number (with a point or a plus) as one, else the text."""
    body = text[1:] if text[:1] in ("+", "-") else text
    if body[:1] == "0" and body[1:2] not in (".", ""):
        return text  # 007
    if "." not in body and text[:1] != "+":
        return text
    fortran = body.lower().replace("d", "e")
    mantissa, _, exponent = fortran.partition("e")
    parts = (*mantissa.split("."), exponent.lstrip("+-"))
    if len(parts) > 3 or not all(part.isdigit() or not part for part in parts):
        return text
    return parse_number(text)


def shorten(value: Any) -> str:
    """Return a shortened value for messages."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a long integer or deep nesting
        return f"a {type(value).__name__}"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
