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
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from pandas import DataFrame

    from motoko.core.run_columns import ColumnTable

INT64: Final = range(-(2**63), 2**63)
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
    frame: DataFrame = pandas.DataFrame(series, index=range(len(table)), columns=[*table.names])
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
        return pandas.array(_numbers(parts, "float64"), dtype="float64")
    with contextlib.suppress(OverflowError):  # an integer of more than 64 bits
        if kind == "int" and is_complete:
            return pandas.array(_numbers(parts, "int64"), dtype="Int64")
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

    found = [numpy.empty(0, dtype)]
    for values in parts:
        if isinstance(values, range):
            found.append(numpy.arange(values.start, values.stop, values.step).astype(dtype))
        else:
            found.append(numpy.array(values, dtype))
    return numpy.concatenate(found)


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

    texts = pyarrow.large_string()
    found = [_arrow(pyarrow, part).cast(texts) for part in _joined_choices(parts)]
    return pyarrow.concat_arrays(found) if found else pyarrow.array([], texts)


def _joined_choices(parts: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    """Yield parts, those with the same choices as one."""
    for choices, group in groupby(parts, _choices):
        if choices is None:
            yield from group
        else:
            columns = [part.column for part in group if isinstance(part, EncodedValues)]
            yield EncodedValues(("choice", choices, b"".join(data for _, _, data in columns)))


def _choices(part: Sequence[Any]) -> tuple[Any, ...] | None:
    if isinstance(part, EncodedValues) and part.column[0] == "choice":
        choices: tuple[Any, ...] = part.column[1]
        return choices
    return None


def _arrow(pyarrow: Any, values: Sequence[str | None]) -> Any:
    """Return texts as an Arrow array, without Python objects if they are encoded."""
    if IS_BIG_ENDIAN or not isinstance(values, EncodedValues):
        return pyarrow.array(list(values), pyarrow.large_string())
    kind, content, data = values.column
    if kind == "choice":
        places = pyarrow.Array.from_buffers(
            pyarrow.uint8(), len(data), [None, pyarrow.py_buffer(data)]
        )
        return pyarrow.array(content, pyarrow.large_string()).take(places)
    buffers = [None, pyarrow.py_buffer(content), pyarrow.py_buffer(data)]
    found = pyarrow.Array.from_buffers(pyarrow.string(), len(values), buffers)
    found.validate(full=True)
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
