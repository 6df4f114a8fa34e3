"""What pandas objects consist of: for comparing, copying and writing them; pandas is an extra."""

from __future__ import annotations

import copy
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def parts(value: Any) -> list[Any] | None:
    """Return what a data frame, series, index, array or time of pandas is made of; None for others.

    The parts are NumPy arrays, plain data, and again objects of pandas.
    """
    pandas = sys.modules.get("pandas")
    if pandas is None:
        return None
    if type(value) is pandas.Timestamp:
        return [int(value.asm8.astype("int64")), value.unit, value.tz and str(value.tz)]
    if type(value) is pandas.Timedelta:
        return [int(value.asm8.astype("int64")), value.unit]
    if isinstance(value, pandas.DataFrame):
        columns = [value.iloc[:, number].array for number in range(value.shape[1])]
        return [value.columns, value.index, value.attrs, columns]
    if isinstance(value, pandas.Series):
        return [value.name, value.index, value.attrs, value.array]
    if isinstance(value, pandas.MultiIndex):
        levels = [value.get_level_values(number) for number in range(value.nlevels)]
        return [[*value.names], levels]
    if isinstance(value, pandas.RangeIndex):
        return [value.name, value.start, value.stop, value.step]
    if isinstance(value, pandas.Index):
        return [value.name, value.array]
    if isinstance(value, pandas.Categorical):
        return [value.codes, value.categories, bool(value.ordered)]
    if type(value) is pandas.arrays.NumpyExtensionArray:  # arrays of text are derived from it
        return [value.to_numpy()]
    if isinstance(value, pandas.api.extensions.ExtensionArray):
        return _parts_of_array(pandas, value)
    return None


def _parts_of_array(pandas: Any, value: Any) -> list[Any]:
    dtype = value.dtype
    if dtype.kind in "mM":  # times, with a zone or without one
        return [str(dtype), value.view("int64")]
    values = value.to_numpy(dtype=object, copy=True)
    values[value.isna()] = None
    return [str(dtype), values]


def within(value: Any) -> Iterator[Any]:
    """Yield the data frames and series in ``value``, and in lists, tuples, dictionaries in it."""
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
    """Return a copy of a data frame or series that shares no Python object in a cell."""
    import pandas as pd

    made = frame.copy(deep=True)
    if isinstance(frame, pd.Series):
        if frame.dtype == object:
            made = pd.Series(_cells(frame), index=made.index, name=made.name, dtype=object)
    else:
        for number, dtype in enumerate(frame.dtypes):
            if dtype.kind == "O" and not hasattr(dtype, "na_value"):
                column = pd.Series(_cells(frame.iloc[:, number]), index=made.index, dtype=object)
                made.isetitem(number, column)
    made.attrs = copy.deepcopy(frame.attrs)
    return made


def _cells(series: Any) -> Any:
    import numpy as np

    cells = np.empty(len(series), dtype=object)
    for number, cell in enumerate(series):
        cells[number] = copy.deepcopy(cell)
    return cells


def kind_of(value: Any) -> str | None:
    """Return the name of the function in :data:`MAKERS` that makes it of its parts, if any."""
    import pandas as pd

    kinds: tuple[tuple[type, str], ...] = (
        (pd.Timestamp, "Timestamp"),
        (pd.Timedelta, "Timedelta"),
        (pd.DataFrame, "DataFrame"),
        (pd.Series, "Series"),
        (pd.MultiIndex, "MultiIndex"),
        (pd.RangeIndex, "RangeIndex"),
        (pd.Index, "Index"),
        (pd.Categorical, "Categorical"),
        (pd.api.extensions.ExtensionArray, "Array"),
    )
    if type(value) is pd.arrays.NumpyExtensionArray:
        return "NumpyArray"
    return next((name for kind, name in kinds if isinstance(value, kind)), None)


def _make_timestamp(count: int, unit: Any, zone: str | None) -> Any:
    import numpy as np
    import pandas as pd

    made = pd.Timestamp(np.datetime64(count, unit))
    return made if zone is None else made.tz_localize("UTC").tz_convert(zone)


def _make_timedelta(count: int, unit: Any) -> Any:
    import numpy as np
    import pandas as pd

    return pd.Timedelta(np.timedelta64(count, unit))


def _make_frame(columns: Any, index: Any, attrs: dict[Any, Any], arrays: list[Any]) -> Any:
    import pandas as pd

    series = {number: pd.Series(array, index=index) for number, array in enumerate(arrays)}
    made = pd.DataFrame(series, index=index)
    made.columns = columns
    made.attrs = attrs
    return made


def _make_series(name: Any, index: Any, attrs: dict[Any, Any], array: Any) -> Any:
    import pandas as pd

    made = pd.Series(array, index=index, name=name)
    made.attrs = attrs
    return made


def _make_multi_index(names: list[Any], levels: list[Any]) -> Any:
    import pandas as pd

    return pd.MultiIndex.from_arrays(levels, names=names)


def _make_range(name: Any, start: int, stop: int, step: int) -> Any:
    import pandas as pd

    return pd.RangeIndex(start, stop, step, name=name)


def _make_index(name: Any, array: Any) -> Any:
    import pandas as pd

    return pd.Index(array, name=name)


def _make_categorical(codes: Any, categories: Any, ordered: bool) -> Any:
    import pandas as pd

    return pd.Categorical.from_codes(codes, categories=categories, ordered=ordered)


def _make_numpy_array(array: Any) -> Any:
    import pandas as pd

    return pd.arrays.NumpyExtensionArray(array)


def _make_array(dtype: str, *parts_: Any) -> Any:
    import pandas as pd

    return pd.array(parts_[-1], dtype=dtype)


MAKERS: Final[dict[str, Callable[..., Any]]] = {
    "Timestamp": _make_timestamp,
    "Timedelta": _make_timedelta,
    "DataFrame": _make_frame,
    "Series": _make_series,
    "MultiIndex": _make_multi_index,
    "RangeIndex": _make_range,
    "Index": _make_index,
    "Categorical": _make_categorical,
    "NumpyArray": _make_numpy_array,
    "Array": _make_array,
}
