"""Canonical JSON: different values give different texts. Keys of products are digests of it.

Plain values are written as they are, others as their text if it is complete, else as a digest of
their contents. A value that offers neither is refused: it could be confused with another one.
"""

from __future__ import annotations

import copyreg
import hashlib
import json
import re
import reprlib
import sys
from dataclasses import asdict, is_dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

from motoko.errors import ParameterError

KEY_LENGTH: Final = 16
ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+>")
BY_TEXT: Final = (
    date, datetime, time, timedelta, timezone, Decimal, Fraction, UUID,
    complex, bytes, bytearray, range,
)  # fmt: skip


def as_json(value: object, *, sort_keys: bool = False) -> str:
    """Return JSON that differs for different values; ParameterError if that is impossible."""
    try:
        return json.dumps(value, sort_keys=sort_keys, default=_plain)
    except ParameterError:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise ParameterError(f"{reprlib.repr(value)} cannot be written as JSON: {error}") from error


def key_of(value: object) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of ``value`` as sorted JSON."""
    return _digest(as_json(value, sort_keys=True).encode())[:KEY_LENGTH]


def _plain(value: Any) -> Any:
    """Return a substitute for a value that :mod:`json` cannot write."""
    if type(value) in BY_TEXT or isinstance(value, (PurePath, type)):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(as_json(one, sort_keys=True) for one in value)
    for convert in (_of_numpy, _of_pandas):
        if (found := convert(value)) is not None:
            return found
    if callable(getattr(value, "model_dump", None)):
        return value.model_dump()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return _of_object(value)


def _of_numpy(value: Any) -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    if isinstance(value, numpy.generic):
        return str(value) if isinstance(value.item(), numpy.generic) else value.item()
    if type(value) not in (numpy.ndarray, numpy.memmap):  # subclasses have more than elements
        return None
    described = {"shape": value.shape, "dtype": str(value.dtype)}
    if value.dtype.hasobject:
        return {**described, "sha256": _digest(as_json(value.tolist(), sort_keys=True).encode())}
    return {**described, "sha256": _digest(value.tobytes())}


def _of_pandas(value: Any) -> Any:
    pandas = sys.modules.get("pandas")
    if pandas is None:
        return None
    if isinstance(value, pandas.DataFrame):
        columns = [_of_cells(pandas, value.iloc[:, number]) for number in range(value.shape[1])]
        index, names = _of_index(pandas, value.index), _of_index(pandas, value.columns)
        return _digested(value, [names, index, value.attrs, columns], shape=value.shape)
    if isinstance(value, pandas.Series):
        index, cells = _of_index(pandas, value.index), _of_cells(pandas, value)
        return _digested(value, [value.name, index, value.attrs, cells], shape=value.shape)
    if isinstance(value, pandas.Index):
        return _digested(value, _of_index(pandas, value), shape=value.shape)
    return None


def _of_index(pandas: Any, index: Any) -> list[Any]:
    levels = range(index.nlevels) if isinstance(index, pandas.MultiIndex) else ()
    cells = [_of_cells(pandas, index.get_level_values(number)) for number in levels]
    return [[*index.names], cells or _of_cells(pandas, index)]


def _of_cells(pandas: Any, column: Any) -> list[Any]:
    import numpy as np

    dtype, array = column.dtype, column.array
    if isinstance(dtype, np.dtype):
        return [str(dtype), column.to_numpy()]
    if isinstance(array, pandas.Categorical):
        return [array.ordered, array.codes, array.categories]
    if not type(array).__module__.startswith("pandas."):
        return [str(dtype), array]
    if dtype.kind in "mM":  # times with a zone
        return [str(dtype), array.view("int64")]
    return [str(dtype), array.to_numpy(dtype=object)]


def _of_object(value: Any) -> Any:
    """Return the class of an object and a digest of its pickle state."""
    try:
        reducer = copyreg.dispatch_table.get(type(value))
        reduced: Any = value.__reduce_ex__(4) if reducer is None else reducer(value)
    except Exception as error:
        raise _refused(value) from error
    if isinstance(reduced, str):
        return f"{type(value).__module__}.{reduced}"
    make, arguments = reduced[:2]
    contents: list[Any] = [list(one) if hasattr(one, "__next__") else one for one in reduced[2:]]
    # Without contents, only the text distinguishes objects of one class.
    if not any(contents) and all(isinstance(one, type) for one in arguments):
        text = str(value)
        if ADDRESS.search(text):
            raise _refused(value)
        contents = [text]
    name = f"{getattr(make, '__module__', None)}.{getattr(make, '__qualname__', make)}"
    return _digested(value, [name, arguments, contents])


def _refused(value: object) -> ParameterError:
    return ParameterError(
        f"{reprlib.repr(value)} cannot be part of a key: another session cannot distinguish it "
        f"from other objects of class {type(value).__qualname__}",
        hint="Use numbers, text, paths, arrays, data frames, or lists and dictionaries of them.",
    )


def _digested(value: object, contents: object, **described: Any) -> dict[str, Any]:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    digest = _digest(as_json(contents, sort_keys=True).encode())
    return {"type": kind, **described, "sha256": digest}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
