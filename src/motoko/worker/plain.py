"""Plain values as JSON and as text: one codec for workers and the launcher."""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from typing import Any


def encode(value: Any, what: str = "value") -> Any:
    """Return ``value`` as what JSON can hold, so that ``decode`` gives it back.

    What JSON does not know becomes an object with one key: ``$tuple``, ``$set``, ``$bytes``,
    ``$datetime``, and ``$dict`` (pairs) for keys that are not text or begin with ``$``. Times
    become aware (naive ones are taken as UTC), arrays become lists. Raise TypeError, naming
    ``what``, for anything that is not plain data.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, list):
        return [encode(item, what) for item in value]
    if isinstance(value, tuple):
        return {"$tuple": [encode(item, what) for item in value]}
    if isinstance(value, dict):
        return _encode_dict(value, what)
    if isinstance(value, set | frozenset):
        return {"$set": _hashable([encode(item, what) for item in value], what)}
    if isinstance(value, bytes):
        from binascii import b2a_base64

        return {"$bytes": b2a_base64(value, newline=False).decode()}
    if isinstance(value, str):  # an enumeration, NumPy's text
        return str.__str__(value)
    for base in (int, float):
        if isinstance(value, base):
            return base(value)
    return _encode_object(value, what)


def _encode_dict(value: dict[Any, Any], what: str) -> Any:
    if all(type(key) is str and not key.startswith("$") for key in value):
        return {key: encode(item, what) for key, item in value.items()}
    keys = _hashable([encode(key, what) for key in value], what)
    items = [encode(item, what) for item in value.values()]
    return {"$dict": [[key, item] for key, item in zip(keys, items, strict=True)]}


def _hashable(items: list[Any], what: str) -> list[Any]:
    """Frozen sets come back as sets, which cannot be in a set: better refused than lost."""
    try:
        for item in items:
            hash(decode(item))
    except TypeError as error:
        raise TypeError(f"{what}: a set within a set or a key cannot be stored") from error
    return items


def _encode_object(value: Any, what: str) -> Any:
    from datetime import UTC, datetime

    if isinstance(value, datetime):
        aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return {"$datetime": aware.isoformat()}
    for name in ("tolist", "item"):  # NumPy and its like
        convert = getattr(value, name, None)
        if convert is not None and not isinstance(value, type):
            return encode(convert(), what)
    raise TypeError(
        f"{what}: a value of type {type(value).__name__} cannot be stored\n"
        "  Store numbers, text, lists, dictionaries, dates, bytes or NumPy arrays."
    )


def decode(data: Any) -> Any:
    """Return the value that ``encode`` made ``data`` of; ValueError or TypeError if it did not."""
    if isinstance(data, list):
        return [decode(item) for item in data]
    if not isinstance(data, dict):
        return data
    tag = next(iter(data), "")
    if not tag.startswith("$"):
        return {key: decode(item) for key, item in data.items()}
    if len(data) != 1:
        raise ValueError(f"{tag} is not alone in its object")
    return _decode_tagged(tag, data[tag])


def _decode_tagged(tag: str, content: Any) -> Any:
    if tag == "$tuple":
        return tuple(decode(item) for item in content)
    if tag == "$set":
        return {decode(item) for item in content}
    if tag == "$dict":
        return {decode(key): decode(item) for key, item in content}
    if tag == "$bytes":
        from binascii import a2b_base64

        return a2b_base64(content)
    if tag == "$datetime":
        from datetime import datetime

        return datetime.fromisoformat(content)
    raise ValueError(f"unknown kind of value {tag}")


def as_text(value: Any) -> str:
    """Return ``value`` as shell scripts see it: ``MOTOKO_JOB_...``, ``motoko-worker get``.

    Text as it is, numbers as Python writes them, ``true`` and ``false``, times in ISO form,
    bytes in base 64, lists, tuples, sets and dictionaries as JSON, nothing for None.
    """
    if value is None:
        return ""
    readable = _readable(value)
    if isinstance(readable, str):
        return readable
    if isinstance(readable, int | float) and not isinstance(readable, bool):
        return repr(readable)
    import json

    return json.dumps(readable)


def _readable(value: Any) -> Any:
    if isinstance(value, dict):
        return {as_text(key): _readable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_readable(item) for item in value]
    encoded = encode(value)
    return next(iter(encoded.values())) if isinstance(encoded, dict) else encoded
