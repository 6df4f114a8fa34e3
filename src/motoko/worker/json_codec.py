"""Plain values as JSON and as text, for workers and the launcher."""

from __future__ import annotations

from motoko.worker.values import to_plain

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from typing import Any


def encode(value: Any, what: str = "value") -> Any:
    """Return ``value`` as JSON data for ``decode``, or raise PlainValueError naming ``what``.

    Types unknown to JSON become objects with one key: ``$tuple``, ``$set``, ``$bytes``,
    ``$datetime``, and ``$dict`` (pairs) for keys that are not text or begin with ``$``.
    """
    return _encoded(to_plain(value, what))


def _encoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_encoded(item) for item in value]
    if isinstance(value, tuple):
        return {"$tuple": [_encoded(item) for item in value]}
    if isinstance(value, dict):
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: _encoded(item) for key, item in value.items()}
        return {"$dict": [[_encoded(key), _encoded(item)] for key, item in value.items()]}
    if isinstance(value, set):
        return {"$set": [_encoded(item) for item in value]}
    if isinstance(value, bytes):
        from binascii import b2a_base64

        return {"$bytes": b2a_base64(value, newline=False).decode()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return {"$datetime": value.isoformat()}


def decode(data: Any) -> Any:
    """Return the value that ``encode`` encoded; ValueError or TypeError for other data."""
    if isinstance(data, list):
        return [decode(item) for item in data]
    if not isinstance(data, dict):
        return data
    tag = next(iter(data), "")
    if not tag.startswith("$"):
        return {key: decode(item) for key, item in data.items()}
    if len(data) != 1:
        raise ValueError(f"{tag} is not the only key of its object")
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
    """Return ``value`` as text for shell scripts: ``MOTOKO_JOB_...``, ``motoko-worker get``.

    Text is unchanged, numbers are as in Python, booleans ``true`` and ``false``, times ISO 8601,
    bytes base 64, containers JSON, None is empty.
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
