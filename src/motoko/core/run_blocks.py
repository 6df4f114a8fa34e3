"""Blocks of runs: many records as columns, one for each value that they store.

The columns of a block are named after the stored values of a record, such as ``identity``. Where
all runs have the same parameters, each parameter has a column of its own: ``job.x``. Their names
are then the column ``job``, of kind "keys". The same holds for ``fields``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from motoko.core.column_encoding import Column, decode_column, encode_column
from motoko.core.records import (
    STORED_FIELDS,
    RunRecord,
    default_value,
    record_of_values,
    stored_values,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

KEYS: Final = "keys"  # the kind of a column that only names the columns of its members
DIVIDED: Final = ("job", "fields")
STORED: Final = tuple(name for name in STORED_FIELDS if name not in ("study", "id"))


def encode_runs(records: Sequence[RunRecord]) -> dict[str, Column]:
    """Return the columns of one or more runs of a study, without their ids."""
    values = dict(zip(STORED_FIELDS, zip(*map(stored_values, records), strict=True), strict=True))
    return encode_values((name, values[name]) for name in STORED)


def encode_values(named: Iterable[tuple[str, Sequence[Any]]]) -> dict[str, Column]:
    """Return the columns of values that have these names in STORED_FIELDS."""
    columns: dict[str, Column] = {}
    for name, values in named:
        column = encode_column(values)
        if name in DIVIDED and column[0] == "dict":
            _, keys, members = column
            columns[name] = (KEYS, keys)
            columns.update({f"{name}.{key}": one for key, one in zip(keys, members, strict=True)})
        else:
            columns[name] = column
    return columns


def decode_runs(
    study: str, ids: Sequence[int], positions: Sequence[int], column: Callable[[str], Column | None]
) -> Iterator[RunRecord]:
    """Yield the records at these positions of a block; ``ids`` are theirs.

    ``column`` returns a column of the block by its name, None if the block was written before there
    was such a column.
    """
    values = {name: _values(name, positions, column) for name in STORED}
    everything = {"study": [study] * len(ids), "id": ids, **values}
    for row in zip(*(everything[name] for name in STORED_FIELDS), strict=True):
        yield record_of_values(list(row))


def _values(
    name: str, positions: Sequence[int], column: Callable[[str], Column | None]
) -> Sequence[Any]:
    found = column(name) or ("same", default_value(name))
    if found[0] != KEYS:
        return decode_column(found, positions)
    members = tuple(column(f"{name}.{key}") for key in found[1])
    return decode_column(("dict", found[1], members), positions)
