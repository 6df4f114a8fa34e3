"""Encodes values as JSON and decodes them: plain data, models, arrays, data frames; no pickles.

Values without a JSON type become a dictionary whose key ``$`` names their kind.
"""

from __future__ import annotations

import base64
import functools
import io
import math
import sys
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, Final

import pydantic

from motoko.errors import NotAModelError, NotEncodableError
from motoko.pipeline.import_paths import loaded, path_of
from motoko.pipeline.pandas_parts import KINDS, rebuild, to_parts
from motoko.pipeline.values import values_equal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KIND: Final = "$"
MODEL_KEYS: Final = {"model", "contents"}


def encode(value: Any, label: str) -> Any:
    """Return ``value`` in the types of JSON, or raise NotEncodableError with ``label``."""
    try:
        return _encode(value, label)
    except RecursionError:
        raise NotEncodableError(f"{label} contains itself, or is nested too deeply") from None


def _encode(value: Any, label: str) -> Any:
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {KIND: "float", "text": repr(value)}
    if kind is list:
        return [_encode(one, f"{label}[{number}]") for number, one in enumerate(value)]
    if kind is dict:
        return _encode_dictionary(value, label)
    if kind in COLLECTIONS.values():
        return {KIND: kind.__name__, "items": _encode([*value], label)}
    if kind in TEXTS:
        return {KIND: kind.__name__, "text": TEXTS[kind][0](value)}
    if isinstance(value, pydantic.BaseModel):
        return _encode_model(value, label)
    encoded = _encode_array(value, label)
    if encoded is None:
        encoded = _encode_frame(value, label)
    if encoded is None:
        raise NotEncodableError(
            f"could not infer type={kind} of {label}: it cannot be written as JSON",
            hint="Use plain data, decimal numbers, times, paths, models, NumPy arrays or data "
            "frames.",
        )
    return encoded


def decode(data: Any) -> Any:
    """Return the value that :func:`encode` wrote; the classes of models must be imported."""
    if isinstance(data, list):
        return [decode(one) for one in data]
    if not isinstance(data, dict):
        return data
    if data.keys() == MODEL_KEYS:
        return _decode_model(data["model"], data["contents"])
    if KIND not in data:
        return {key: decode(one) for key, one in data.items()}
    kind = data[KIND]
    reader = _readers().get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise NotEncodableError(f"values of kind {kind!r} are unknown")
    return reader(data)


def _encode_dictionary(value: dict[Any, Any], label: str) -> Any:
    plain = all(type(key) is str for key in value)
    if plain and KIND not in value and value.keys() != MODEL_KEYS:
        return {key: _encode(one, f"{label}[{key!r}]") for key, one in value.items()}
    items = [
        [_encode(key, f"a key of {label}"), _encode(one, f"{label}[{key!r}]")]
        for key, one in value.items()
    ]
    return {KIND: "dict", "items": items}


def _encode_model(value: pydantic.BaseModel, label: str) -> Any:
    path = path_of(type(value))
    if "<locals>" in path:
        raise NotEncodableError(
            f"{label} is a {path}, a class in a function, which cannot be imported",
            hint="Define the class in a module.",
        )
    contents = {}
    json_fields: Callable[[], Any] = getattr(value, "json_fields", lambda: dict(value))
    for name, one in json_fields().items():
        try:
            encoded = _encode(one, f"{label}.{name}")
        except NotEncodableError:
            encoded = _encode_by_pydantic(value, name)
            if encoded is None:
                raise
        contents[name] = encoded
    return {"model": path, "contents": contents}


def _encode_by_pydantic(value: pydantic.BaseModel, name: str) -> Any:
    """Return the JSON that pydantic writes for a field, if it can be read back; else None."""
    try:
        field = type(value).model_fields.get(name)
        if field is None:
            return None
        written = value.model_dump(mode="json", include={name})[name]
        adapter = pydantic.TypeAdapter[Any](field.rebuild_annotation())
        if values_equal(adapter.validate_python(written), getattr(value, name)):
            return _encode(written, name)
    except (ValueError, TypeError, pydantic.PydanticUserError):
        pass
    return None


def _decode_model(path: Any, contents: Any) -> Any:
    found = loaded(path, "model")
    if not (isinstance(found, type) and issubclass(found, pydantic.BaseModel)):
        raise NotAModelError(f"{path} is not a pydantic model")
    return found.model_validate(decode(contents))


def _encode_array(value: Any, label: str) -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    if isinstance(value, numpy.generic) and not isinstance(value, numpy.void):
        return {KIND: "scalar", "npy": _npy(numpy.asarray(value))}
    if type(value) is not numpy.ndarray:
        return None
    if value.dtype == object:
        items = _encode([*value.flat], label)
        return {KIND: "objects", "shape": [*value.shape], "items": items}
    return None if value.dtype.hasobject else {KIND: "ndarray", "npy": _npy(value)}


def _npy(value: Any) -> str:
    import numpy as np

    file = io.BytesIO()
    np.save(file, value, allow_pickle=False)
    return base64.b64encode(file.getvalue()).decode()


def _read_npy(data: Mapping[str, Any]) -> Any:
    import numpy as np

    return np.load(io.BytesIO(base64.b64decode(data["npy"])), allow_pickle=False)


def _read_objects(data: Mapping[str, Any]) -> Any:
    import numpy as np

    array = np.empty(len(data["items"]), dtype=object)
    for number, one in enumerate(data["items"]):
        array[number] = decode(one)
    return array.reshape(data["shape"])


def _encode_frame(value: Any, label: str) -> Any:
    typed_parts = to_parts(value)
    if typed_parts is None:
        return None
    kind, parts = typed_parts
    encoded = {KIND: kind, "parts": _encode(parts, label)}
    # Some kinds of columns are not supported.
    try:
        if values_equal(decode(encoded), value):
            return encoded
    except (ValueError, TypeError, KeyError):
        pass
    raise NotEncodableError(f"{label} is a {type(value).__name__} that JSON cannot represent")


@functools.cache
def _readers() -> dict[str, Callable[[Mapping[str, Any]], Any]]:
    readers: dict[str, Callable[[Mapping[str, Any]], Any]] = {
        "dict": lambda data: {decode(key): decode(one) for key, one in data["items"]},
        "float": lambda data: float(data["text"]),
        "ndarray": _read_npy,
        "scalar": lambda data: _read_npy(data)[()],
        "objects": _read_objects,
    }
    for name, collection in COLLECTIONS.items():
        readers[name] = functools.partial(_read, collection, "items")
    for kind, (_, parse) in TEXTS.items():
        readers[kind.__name__] = functools.partial(_read, parse, "text")
    for name in KINDS:
        readers[name] = functools.partial(_read, functools.partial(rebuild, name), "parts")
    return readers


def _read(make: Callable[[Any], Any], key: str, data: Mapping[str, Any]) -> Any:
    return make(decode(data[key]))


COLLECTIONS: Final[dict[str, type]] = {"tuple": tuple, "set": set, "frozenset": frozenset}
TEXTS: Final[dict[type, tuple[Callable[[Any], str], Callable[[str], Any]]]] = {
    bytes: (lambda value: base64.b64encode(value).decode(), base64.b64decode),
    complex: (repr, complex),
    Decimal: (str, Decimal),
    type(Path()): (str, Path),
    PurePosixPath: (str, PurePosixPath),
    PureWindowsPath: (str, PureWindowsPath),
    datetime: (datetime.isoformat, datetime.fromisoformat),
    date: (date.isoformat, date.fromisoformat),
    time: (time.isoformat, time.fromisoformat),
    timedelta: (
        lambda value: f"{value.days} {value.seconds} {value.microseconds}",
        lambda text: timedelta(*map(int, text.split())),
    ),
}
