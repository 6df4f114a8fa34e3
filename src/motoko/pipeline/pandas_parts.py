"""The parts of pandas objects, to compare, copy and write them; pandas is optional."""

from __future__ import annotations

import copy
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS: Final = (
    "Timestamp", "Timedelta", "DataFrame", "Series", "MultiIndex", "RangeIndex", "Index",
    "Categorical", "NumpyArray", "Array",
)  # fmt: skip


def to_parts(value: Any) -> tuple[str, list[Any]] | None:
    """Return the kind and the parts of a pandas object; None for other values."""
    pandas = sys.modules.get("pandas")
    if pandas is None:
        return None
    if type(value) is pandas.Timestamp:
        count = int(value.asm8.astype("int64"))
        return "Timestamp", [count, value.unit, value.tz and str(value.tz)]
    if type(value) is pandas.Timedelta:
        return "Timedelta", [int(value.asm8.astype("int64")), value.unit]
    if isinstance(value, pandas.DataFrame):
        columns = [value.iloc[:, number].array for number in range(value.shape[1])]
        return "DataFrame", [value.columns, value.index, value.attrs, columns]
    if isinstance(value, pandas.Series):
        return "Series", [value.name, value.index, value.attrs, value.array]
    if isinstance(value, pandas.MultiIndex):
        levels = [value.get_level_values(number) for number in range(value.nlevels)]
        return "MultiIndex", [[*value.names], levels]
    if isinstance(value, pandas.RangeIndex):
        return "RangeIndex", [value.name, value.start, value.stop, value.step]
    if isinstance(value, pandas.Index):
        return "Index", [value.name, value.array]
    if isinstance(value, pandas.Categorical):
        return "Categorical", [value.codes, value.categories, bool(value.ordered)]
    if type(value) is pandas.arrays.NumpyExtensionArray:  # not its subclasses for text
        return "NumpyArray", [value.to_numpy()]
    if not isinstance(value, pandas.api.extensions.ExtensionArray):
        return None
    if value.dtype.kind in "mM":  # times, with or without a zone
        return "Array", [str(value.dtype), value.view("int64")]
    values = value.to_numpy(dtype=object, copy=True)
    values[value.isna()] = None
    return "Array", [str(value.dtype), values]


def rebuild(kind: str, parts: list[Any]) -> Any:
    """Return the pandas object of one of :data:`KINDS` that has these parts."""
    import numpy as np
    import pandas as pd

    match kind, parts:
        case "Timestamp", [count, unit, zone]:
            time = pd.Timestamp(np.datetime64(count, unit))
            return time if zone is None else time.tz_localize("UTC").tz_convert(zone)
        case "Timedelta", [count, unit]:
            return pd.Timedelta(np.timedelta64(count, unit))
        case "DataFrame", [columns, index, attrs, arrays]:
            series = {number: pd.Series(array, index=index) for number, array in enumerate(arrays)}
            frame = pd.DataFrame(series, index=index)
            frame.columns = columns
            frame.attrs = attrs
            return frame
        case "Series", [name, index, attrs, array]:
            column = pd.Series(array, index=index, name=name)
            column.attrs = attrs
            return column
        case "MultiIndex", [names, levels]:
            return pd.MultiIndex.from_arrays(levels, names=names)
        case "RangeIndex", [name, start, stop, step]:
            return pd.RangeIndex(start, stop, step, name=name)
        case "Index", [name, array]:
            return pd.Index(array, name=name)
        case "Categorical", [codes, categories, ordered]:
            return pd.Categorical.from_codes(codes, categories=categories, ordered=ordered)
        case "NumpyArray", [array]:
            return pd.arrays.NumpyExtensionArray(array)
        case "Array", [dtype, *_, values]:
            return pd.array(values, dtype=dtype)
    raise TypeError(f"no {kind} consists of {len(parts)} parts")


def frames_in(value: Any) -> Iterator[Any]:
    """Yield the data frames and series in ``value`` and in its lists, tuples, dictionaries."""
    pandas = sys.modules.get("pandas")
    if pandas is None:
        return
    seen: set[int] = set()
    stack = [value]
    while stack:
        current = stack.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, (pandas.DataFrame, pandas.Series)):
            yield current
        elif isinstance(current, dict):
            stack.extend(current.values())
        elif isinstance(current, (list, tuple)):
            stack.extend(current)


def deep_copy(frame: Any) -> Any:
    """Return a copy of a data frame or series that shares no Python objects in cells."""
    import pandas as pd

    copied = frame.copy(deep=True)
    if isinstance(frame, pd.Series):
        if frame.dtype == object:
            copied = pd.Series(_cells(frame), index=copied.index, name=copied.name, dtype=object)
    else:
        for number, dtype in enumerate(frame.dtypes):
            if dtype.kind == "O" and not hasattr(dtype, "na_value"):
                column = pd.Series(_cells(frame.iloc[:, number]), index=copied.index, dtype=object)
                copied.isetitem(number, column)
    copied.attrs = copy.deepcopy(frame.attrs)
    return copied


def _cells(series: Any) -> Any:
    import numpy as np

    cells = np.empty(len(series), dtype=object)
    for number, cell in enumerate(series):
        cells[number] = copy.deepcopy(cell)
    return cells
