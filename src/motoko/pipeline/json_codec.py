"""Values as JSON and back: plain data, models, arrays, data frames; no pickles.

What JSON has no word for is a dictionary with the key ``$``, which names its kind.
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
from motoko.pipeline import pandas_parts
from motoko.pipeline.import_paths import loaded, path_of
from motoko.pipeline.values import values_equal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KIND: Final = "$"
MODEL_KEYS: Final = {"model", "contents"}


def encode(value: Any, what: str) -> Any:
    """Return ``value`` as what :mod:`json` can write; ``what`` names it in errors.

    NotEncodableError if :func:`decode` could not give the same value back.
    """
    try:
        return _encode(value, what)
    except RecursionError:
        raise NotEncodableError(f"{what} contains itself, or is nested too deeply") from None


def _encode(value: Any, what: str) -> Any:
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {KIND: "float", "text": repr(value)}
    if kind is list:
        return [_encode(one, f"{what}[{number}]") for number, one in enumerate(value)]
    if kind is dict:
        return _encode_dictionary(value, what)
    if kind in COLLECTIONS.values():
        return {KIND: kind.__name__, "items": _encode([*value], what)}
    if kind in TEXTS:
        return {KIND: kind.__name__, "text": TEXTS[kind][0](value)}
    if isinstance(value, pydantic.BaseModel):
        return _encode_model(value, what)
    encoded = _encode_array(value, what)
    if encoded is None:
        encoded = _encode_frame(value, what)
    if encoded is None:
        raise NotEncodableError(
            f"could not infer type={kind} of {what}: it cannot be written as JSON",
            hint="Use plain data, decimal numbers, times, paths, models, NumPy arrays or data "
            "frames.",
        )
    return encoded


def decode(data: Any) -> Any:
    """Return the value that :func:`encode` wrote; of models the classes must be imported."""
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
        raise NotEncodableError(f"nothing is known of values of kind {kind!r}")
    return reader(data)


def _encode_dictionary(value: dict[Any, Any], what: str) -> Any:
    plain = all(type(key) is str for key in value)
    if plain and KIND not in value and value.keys() != MODEL_KEYS:
        return {key: _encode(one, f"{what}[{key!r}]") for key, one in value.items()}
    items = [
        [_encode(key, f"a key of {what}"), _encode(one, f"{what}[{key!r}]")]
        for key, one in value.items()
    ]
    return {KIND: "dict", "items": items}


def _encode_model(value: pydantic.BaseModel, what: str) -> Any:
    path = path_of(type(value))
    if "<locals>" in path:
        raise NotEncodableError(
            f"{what} is a {path}, a class in a function, which cannot be found again",
            hint="Define the class in a module.",
        )
    contents = {}
    for name, one in _written_as(value).items():
        try:
            encoded = _encode(one, f"{what}.{name}")
        except NotEncodableError:
            encoded = _as_pydantic_writes(value, name)
            if encoded is None:
                raise
        contents[name] = encoded
    return {"model": path, "contents": contents}


def _written_as(value: pydantic.BaseModel) -> dict[str, Any]:
    written_as: Callable[[], dict[str, Any]] | None = getattr(value, "written_as", None)
    return dict(value) if written_as is None else written_as()


def _as_pydantic_writes(value: pydantic.BaseModel, name: str) -> Any:
    """Return a field as pydantic writes it, if it reads back the same; else None."""
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
        raise NotAModelError(f"{path} is no pydantic model")
    return found.model_validate(decode(contents))


def _encode_array(value: Any, what: str) -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    if isinstance(value, numpy.generic) and not isinstance(value, numpy.void):
        return {KIND: "scalar", "npy": _npy(numpy.asarray(value))}
    if type(value) is not numpy.ndarray:
        return None
    if value.dtype == object:
        items = _encode([*value.flat], what)
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

    made = np.empty(len(data["items"]), dtype=object)
    for number, one in enumerate(data["items"]):
        made[number] = decode(one)
    return made.reshape(data["shape"])


def _encode_frame(value: Any, what: str) -> Any:
    parts = pandas_parts.parts(value)
    kind = pandas_parts.kind_of(value)
    if parts is None or kind is None:
        return None
    encoded = {KIND: kind, "parts": _encode(parts, what)}
    # There are more kinds of columns than are provided for here.
    try:
        if values_equal(decode(encoded), value):
            return encoded
    except (ValueError, TypeError, KeyError):
        pass
    raise NotEncodableError(f"{what} is a {type(value).__name__} that JSON cannot hold")


def _readers() -> dict[str, Callable[[Mapping[str, Any]], Any]]:
    readers: dict[str, Callable[[Mapping[str, Any]], Any]] = {
        "dict": lambda data: {decode(key): decode(one) for key, one in data["items"]},
        "float": lambda data: float(data["text"]),
        "ndarray": _read_npy,
        "scalar": lambda data: _read_npy(data)[()],
        "objects": _read_objects,
    }
    for name, collection in COLLECTIONS.items():
        readers[name] = functools.partial(_read_items, collection)
    for kind, (_, read) in TEXTS.items():
        readers[kind.__name__] = functools.partial(_read_text, read)
    for name, make in pandas_parts.MAKERS.items():
        readers[name] = functools.partial(_read_parts, make)
    return readers


def _read_items(make: Callable[[Any], Any], data: Mapping[str, Any]) -> Any:
    return make(decode(data["items"]))


def _read_text(make: Callable[[str], Any], data: Mapping[str, Any]) -> Any:
    return make(data["text"])


def _read_parts(make: Callable[..., Any], data: Mapping[str, Any]) -> Any:
    return make(*decode(data["parts"]))


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
