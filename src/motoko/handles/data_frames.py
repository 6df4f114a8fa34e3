"""Quantities as pandas data frames; pandas is an extra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from motoko.errors import MotokoError

if TYPE_CHECKING:
    from motoko.handles.run import Quantity

STEP: Final = "step"
VALUE: Final = "value"  # the column of a quantity whose own name is STEP


def quantity_frame(name: str, quantity: Quantity) -> Any:
    """Return a DataFrame with the column ``step``, then one column for each component.

    A scalar's column has the quantity's name (``value`` where that is ``step``), a vector's are
    numbered from 0, those of nested lists are numbered in row-major order.
    """
    try:
        import pandas
    except ImportError as error:
        raise MotokoError(
            "get_quantity needs pandas, which is not installed",
            hint="Install motoko[pandas], or use run.quantity(name).",
        ) from error
    rows = [_flat(value) for value in quantity.values]
    scalar = all(not isinstance(value, list | tuple) for value in quantity.values)
    columns = [name] if scalar else list(range(max((len(row) for row in rows), default=0)))
    if columns == [STEP]:
        columns = [VALUE]
    frame = pandas.DataFrame(rows, columns=columns)
    frame.insert(0, STEP, quantity.steps)
    return frame


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [number for item in value for number in _flat(item)]
    return [value]
