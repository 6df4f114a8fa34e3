"""Columns of plain values in a compact form, of which any value can be read alone.

A column is plain data, one of::

    ("same", value)                  every value is this one
    ("int" | "float", bytes)         8 bytes a value, little-endian
    ("bytes", size, bytes)           values of this size, joined
    ("tuple", columns)               tuples of one length, a column for each position
    ("dict", keys, columns)          dictionaries with these keys in this order, a column for each
    ("list", values)                 any values

Values keep their types, so that 1, 1.0 and True stay different; so do 0.0 and -0.0.
"""

from __future__ import annotations

import struct
from array import array
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

Column: TypeAlias = tuple[Any, ...]

CODES: Final = {"int": "q", "float": "d"}
SIZE: Final = 8  # bytes of a number
IS_BIG_ENDIAN: Final = struct.pack("=h", 1) != struct.pack("<h", 1)
CONSTANTS: Final = (type(None), bool, str, bytes)


def encode_column(values: Sequence[Any]) -> Column:
    """Return one or more values as a column."""
    kinds = set(map(type, values))
    if len(kinds) > 1:
        return ("list", list(values))
    kind, first = kinds.pop(), values[0]
    if kind.__name__ in CODES:
        return _encode_numbers(values, kind.__name__)
    if kind in CONSTANTS and values.count(first) == len(values):
        return ("same", first)
    if kind is bytes and first and len(set(map(len, values))) == 1:
        return ("bytes", len(first), b"".join(values))
    if kind is tuple and len(set(map(len, values))) == 1:
        columns = tuple(map(encode_column, zip(*values, strict=True)))
        if all(column[0] == "same" for column in columns):
            return ("same", first)
        return ("tuple", columns)
    if kind is dict and len(set(map(tuple, values))) == 1:
        members = (encode_column([value[key] for value in values]) for key in first)
        return ("dict", tuple(first), tuple(members))
    return ("list", list(values))


def decode_column(column: Column, positions: Sequence[int]) -> Sequence[Any]:
    """Return the values of a column at these positions, in their order.

    If they are an array, all are numbers of its type.
    """
    kind, *content = column
    if kind == "same":
        return [content[0]] * len(positions)
    if kind == "bytes":
        size, data = content
        return [data[size * position : size * (position + 1)] for position in positions]
    if kind == "tuple":
        return list(zip(*(decode_column(one, positions) for one in content[0]), strict=True))
    if kind == "dict":
        keys, members = content
        if not keys:
            return [{} for _ in positions]
        rows = zip(*(decode_column(one, positions) for one in members), strict=True)
        return [dict(zip(keys, row, strict=True)) for row in rows]
    values: Sequence[Any] = content[0] if kind == "list" else decode_numbers(column)
    if positions == range(len(values)):
        return values
    return [values[position] for position in positions]


def decode_numbers(column: Column) -> array[Any]:
    """Return all values of a column of kind "int" or "float"."""
    kind, data = column
    numbers: array[Any] = array(CODES[kind], data)
    if IS_BIG_ENDIAN:
        numbers.byteswap()
    return numbers


def _encode_numbers(values: Sequence[Any], kind: str) -> Column:
    try:
        data = struct.pack(f"<{len(values)}{CODES[kind]}", *values)
    except struct.error:  # an integer of more than 8 bytes
        return ("list", list(values))
    if data == data[:SIZE] * len(values):  # equal bits: -0.0 differs from 0.0, nan is like nan
        return ("same", values[0])
    return (kind, data)
