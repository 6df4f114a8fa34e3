"""Columns of runs as pandas data frames with typed columns."""

from __future__ import annotations

import contextlib
import json
from array import array
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any, Final

from motoko.core.column_encoding import IS_BIG_ENDIAN, EncodedValues
from motoko.core.run_columns import CollectedColumns
from motoko.core.values import to_json
from motoko.errors import MotokoError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from pandas import DataFrame

    from motoko.core.column_encoding import Column
    from motoko.core.run_columns import ColumnTable

INT64: Final = range(-(2**63), 2**63)
SEPARATE: Final = 20  # columns; from 100 on, pandas warns that a frame is fragmented
MAX_EXACT: Final = 2**53  # larger integers are not exact as floats


def require_pandas(what: str, extra: str = "pandas") -> Any:
    """Return pandas; if it is not installed, MotokoError with what needs it and its extra."""
    try:
        import pandas
    except ImportError as error:
        raise MotokoError(
            f"{what} needs pandas, which is not installed", hint=f"pip install 'motoko[{extra}]'"
        ) from error
    return pandas


def to_frame(table: ColumnTable) -> DataFrame:
    """Return a pandas DataFrame of a table.

    Integers are Int64, floats float64, texts string, truth values boolean, times
    datetime64[ns, UTC] ([us, UTC] if one is outside the years 1678 to 2261). Missing values are NaN
    or NA. A column is object if it holds lists or dictionaries, if no one type fits all its values,
    or for integers beyond 64 bits.
    """
    pandas = require_pandas("to_frame")
    series = {name: _array(pandas, table.types[name], _parts(table, name)) for name in table.names}
    frame: DataFrame = pandas.DataFrame(
        series,
        index=range(len(table)),
        columns=[*table.names],
        copy=len(series) > SEPARATE,  # the frame alone has the arrays
    )
    return frame


def to_flat_frame(table: ColumnTable) -> DataFrame:
    """Return a frame for programs that know tables only.

    As ``to_frame``, but object columns become text: JSON, unless all values are lists of numbers or
    of texts.
    """
    pandas = require_pandas("to_flat_frame")
    frame = to_frame(table)
    for name in table.names:
        if frame[name].dtype == object:
            values = table.values[name]
            vectors = _vectors(values)
            if vectors is not None:
                frame[name] = pandas.Series(vectors, dtype="object")
            else:
                texts = [None if value is None else json.dumps(to_json(value)) for value in values]
                frame[name] = pandas.array(texts, dtype="string")
    return frame


def _vectors(values: Sequence[Any]) -> list[Any] | None:
    """Return lists with items of one type; None for other values."""
    if not all(value is None or value.__class__ is list for value in values):
        return None
    items = [item for value in values if value for item in value]
    kinds = {item.__class__ for item in items}
    if kinds == {str} and all(map(_encodable, items)):
        return list(values)
    if kinds <= {int} and all(item in INT64 for item in items):
        return list(values)
    if kinds <= {int, float} and _exact_as_floats(items, kinds):
        return [None if value is None else [float(item) for item in value] for value in values]
    return None


def _parts(table: ColumnTable, name: str) -> Sequence[Sequence[Any]]:
    values = table.values
    return values.parts(name) if isinstance(values, CollectedColumns) else [values[name]]


def _array(pandas: Any, declared: str | None, parts: Sequence[Sequence[Any]]) -> Any:
    kinds = set(chain.from_iterable(map(_types, parts)))
    is_complete = type(None) not in kinds
    kinds.discard(type(None))
    kind = _common_kind(kinds, declared)
    if kind == "float" and (int not in kinds or _exact_as_floats(chain(*parts), kinds)):
        return pandas.array(_numbers(parts, "float64"), dtype="float64", copy=False)
    with contextlib.suppress(OverflowError):  # an integer of more than 64 bits
        if kind == "int" and is_complete:
            return pandas.array(_numbers(parts, "int64"), dtype="Int64", copy=False)
        if kind == "int":
            return pandas.array(list(chain(*parts)), dtype="Int64")
    with contextlib.suppress(UnicodeEncodeError):
        if kind == "str":
            return pandas.array(_texts(pandas, parts), dtype="string")
    values = list(chain.from_iterable(parts))
    if kind == "bool":
        return pandas.array(values, dtype="boolean")
    if kind == "datetime":
        return _times(pandas, values)
    # A series: the frame would convert an array again.
    objects = [pandas.NA if value is None else value for value in values]
    return pandas.Series(objects, dtype="object")


def _types(values: Sequence[Any]) -> set[type]:
    if isinstance(values, array | range):
        return {type(value) for value in values[:1]}
    return values.types() if isinstance(values, EncodedValues) else set(map(type, values))


def _numbers(parts: Sequence[Sequence[Any]], dtype: str) -> Any:
    """Return numbers as a numpy array; None becomes nan."""
    import numpy

    found, start = numpy.empty(sum(map(len, parts)), dtype), 0
    for values in parts:
        end = start + len(values)
        if isinstance(values, range):
            found[start:end] = numpy.arange(values.start, values.stop, values.step)
        else:
            found[start:end] = values
        start = end
    return found


def _texts(pandas: Any, parts: Sequence[Sequence[Any]]) -> Any:
    """Return texts in the form that pandas converts with the least work.

    Raise UnicodeEncodeError for lone surrogates, as a file name in another encoding may have.
    """
    if pandas.StringDtype().storage != "pyarrow":
        values = list(chain.from_iterable(parts))
        for value in filter(None, values):
            value.encode()
        return values
    import pyarrow

    groups = groupby(parts, lambda part: None if IS_BIG_ENDIAN else _encoding(part))
    found = [_arrow(pyarrow, encoding, [*group]) for encoding, group in groups]
    return pyarrow.concat_arrays(found) if found else pyarrow.array([], pyarrow.large_string())


def _encoding(part: Sequence[Any]) -> tuple[Any, ...] | None:
    """Return what parts have in common that are joined without Python objects."""
    if not isinstance(part, EncodedValues):
        return None
    kind, content, _ = part.column
    return (kind, content) if kind == "choice" else (kind,)


def _arrow(pyarrow: Any, encoding: tuple[Any, ...] | None, parts: Sequence[Any]) -> Any:
    """Return texts of one encoding as an Arrow array."""
    texts = pyarrow.large_string()
    if encoding is None:
        return pyarrow.array(list(chain.from_iterable(parts)), texts)
    data = b"".join(part.column[2] for part in parts)
    if encoding[0] == "text":
        bounds = pyarrow.py_buffer(_joined_bounds([part.column for part in parts]))
        buffers = [None, bounds, pyarrow.py_buffer(data)]
        found = pyarrow.Array.from_buffers(texts, sum(map(len, parts)), buffers)
        found.validate(full=True)
        return found
    places = pyarrow.Array.from_buffers(pyarrow.uint8(), len(data), [None, pyarrow.py_buffer(data)])
    return pyarrow.array(encoding[1], texts).take(places)


def _joined_bounds(columns: Sequence[Column]) -> Any:
    """Return the bounds of texts in the joined data of columns of the kind "text"."""
    import numpy

    parts = [numpy.frombuffer(bounds, "<i4") for _, bounds, _ in columns]
    found = numpy.zeros(sum(map(len, parts)) - len(parts) + 1, numpy.int64)
    start = joined = 0
    for part, (_, _, data) in zip(parts, columns, strict=True):
        end = start + len(part) - 1
        numpy.add(part[1:], joined, out=found[start + 1 : end + 1], dtype=numpy.int64)
        start, joined = end, joined + len(data)
    return found


def _common_kind(kinds: set[type], declared: str | None) -> str | None:
    """Return the type of all values; of a column without values, the declared one."""
    names = {kind.__name__ for kind in kinds}
    if not names:
        return declared or "float"
    if names <= {"int", "float"} and len(names) == 2:
        return "float"
    if names == {"int"} and declared == "float":
        return "float"
    return names.pop() if len(names) == 1 else None


def _exact_as_floats(values: Iterable[Any], kinds: set[type]) -> bool:
    return int not in kinds or all(
        abs(value) <= MAX_EXACT for value in values if value.__class__ is int
    )


def _encodable(text: str) -> bool:
    """Return whether a text has no lone surrogates, as a file name in another encoding may have."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _times(pandas: Any, values: Sequence[datetime | None]) -> Any:
    given = [None if value is None else value.replace(tzinfo=None) for value in values]
    in_range = all(value is None or 1678 <= value.year < 2262 for value in given)
    dtype = f"datetime64[{'ns' if in_range else 'us'}]"
    return pandas.Series(given, dtype=dtype).dt.tz_localize("UTC").array
