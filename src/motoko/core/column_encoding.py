"""Columns of plain values in a compact form, of which any value can be read alone.

A column is plain data, one of::

    ("same", value)                  every value is this one
    ("int" | "float", bytes)         8 bytes a value, little-endian
    ("bytes", size, bytes)           values of this size, joined
    ("text", bounds, bytes)          texts as UTF-8, joined; their bounds there, 4 bytes each
    ("choice", values, bytes)        few different texts, truth values and None: a byte a value
    ("tuple", columns)               tuples of one length, a column for each position
    ("dict", keys, columns)          dictionaries with these keys in this order, a column for each
    ("list", values)                 any values

Values keep their types, so that 1, 1.0 and True stay different; so do 0.0 and -0.0.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

Column: TypeAlias = tuple[Any, ...]

CODES: Final = {"int": "q", "float": "d"}
SIZE: Final = 8  # bytes of a number
BOUND: Final = 4  # bytes of a position in joined texts
IS_BIG_ENDIAN: Final = struct.pack("=h", 1) != struct.pack("<h", 1)
CONSTANTS: Final = (type(None), bool, str, bytes)
CHOSEN: Final = frozenset({type(None), bool, str})
CHOICES: Final = 256
SHARE: Final = 4  # values for each choice, at least
ENCODED: Final = ("text", "choice")


class EncodedValues(Sequence[Any]):
    """The values of a column of kind "text" or "choice", decoded when they are used."""

    __slots__ = ("_decoded", "column")

    def __init__(self, column: Column) -> None:
        self.column = column
        self._decoded: list[Any] | None = None

    def __len__(self) -> int:
        kind, content, data = self.column
        return len(data) if kind == "choice" else len(content) // BOUND - 1

    def __getitem__(self, at: Any) -> Any:
        return self.decoded()[at]

    def some(self, positions: Sequence[int]) -> list[Any]:
        """Return the values at these positions; few texts are decoded alone."""
        kind, content, data = self.column
        if kind == "choice" or len(positions) * SHARE > len(self):
            return list(map(self.decoded().__getitem__, positions))
        bounds = (struct.unpack_from("<2i", content, BOUND * at) for at in positions)
        return [data[start:end].decode() for start, end in bounds]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.decoded())

    def count(self, value: Any) -> int:
        """Return the number of values that equal this one."""
        kind, content, data = self.column
        if kind != "choice":
            return self.decoded().count(value)
        return sum(data.count(place) for place, one in enumerate(content) if one == value)

    def types(self) -> set[type]:
        """Return the types of the values, or of more."""
        return {str} if self.column[0] == "text" else set(map(type, self.column[1]))

    def decoded(self) -> list[Any]:
        """Return the values, as one list for all callers."""
        if self._decoded is None:
            kind, content, data = self.column
            if kind == "choice":
                self._decoded = [content[place] for place in data]
            else:
                self._decoded = _decode_texts(content, data)
        return self._decoded


def encode_column(values: Sequence[Any]) -> Column:
    """Return one or more values as a column."""
    kinds = set(map(type, values))
    if len(kinds) > 1:
        return _encode_choices(values, kinds) or ("list", list(values))
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
    found = _encode_choices(values, {kind})
    if found is None and kind is str:
        found = _encode_texts(values)
    return found or ("list", list(values))


def decode_column(column: Column, positions: Sequence[int]) -> Sequence[Any]:
    """Return the values of a column at these positions, in their order.

    If they are an array, all are numbers of its type. They may be EncodedValues.
    """
    kind, *content = column
    if kind == "same" and type(content[0]) in CHOSEN:
        return EncodedValues(("choice", (content[0],), bytes(len(positions))))
    if kind == "same":
        return [content[0]] * len(positions)
    if kind == "choice" and positions != range(len(content[1])):
        return EncodedValues(("choice", content[0], bytes(content[1][at] for at in positions)))
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
    if kind in ENCODED:
        encoded = EncodedValues(column)
        return encoded if positions == range(len(encoded)) else encoded.some(positions)
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


def _encode_choices(values: Sequence[Any], kinds: set[type]) -> Column | None:
    if not kinds <= CHOSEN:
        return None
    places = {value: place for place, value in enumerate(dict.fromkeys(values))}
    if len(places) > min(CHOICES, len(values) // SHARE):
        return None
    return ("choice", tuple(places), bytes(map(places.__getitem__, values)))


def _encode_texts(values: Sequence[str]) -> Column | None:
    try:
        texts = [value.encode() for value in values]
        bounds = struct.pack(f"<{len(texts) + 1}i", 0, *accumulate(map(len, texts)))
    except (UnicodeEncodeError, struct.error):  # a lone surrogate; more than 2 GB
        return None
    return ("text", bounds, b"".join(texts))


def _decode_texts(bounds: bytes, data: bytes) -> list[str]:
    places = struct.unpack(f"<{len(bounds) // BOUND}i", bounds)
    text = data.decode()
    if len(text) == len(data):  # a character is a byte
        return [text[start:end] for start, end in pairwise(places)]
    return [data[start:end].decode() for start, end in pairwise(places)]


def _encode_numbers(values: Sequence[Any], kind: str) -> Column:
    try:
        data = struct.pack(f"<{len(values)}{CODES[kind]}", *values)
    except struct.error:  # an integer of more than 8 bytes
        return ("list", list(values))
    if data == data[:SIZE] * len(values):  # equal bits: -0.0 differs from 0.0, nan is like nan
        return ("same", values[0])
    return (kind, data)
