"""Values that went through a step: copies that nobody else changes, and comparing them."""

from __future__ import annotations

import copy
import math
import sys
from pathlib import PurePath
from types import BuiltinFunctionType, EllipsisType, FunctionType, ModuleType, NoneType
from typing import Any, Final

import pydantic

from motoko.pipeline import pandas_parts

ATOMS: Final = (NoneType, bool, int, str, bytes, EllipsisType)
BY_IDENTITY: Final = (type, FunctionType, BuiltinFunctionType, ModuleType)


def snapshot(value: Any) -> Any:
    """Return a copy of ``value`` that does not change when ``value`` is changed in place.

    Raises what the value's own way of copying raises, such as TypeError for a generator.
    """
    memo: dict[int, Any] = {}
    for frame in pandas_parts.within(value):
        # pandas' own deep copy shares the Python objects in the cells.
        memo[id(frame)] = pandas_parts.deep_copy(frame)
    return copy.deepcopy(value, memo)


def values_equal(one: Any, other: Any) -> bool:
    """Return whether two values are the same in type and content, however deep they are nested.

    nan is the same as nan, 1 is not the same as 1.0 or True, and dictionaries with another order
    are not the same. Arrays are compared by type, shape and elements, data frames by columns, index
    and types as well, other objects by what they would be pickled as. What cannot be looked into
    is the same as nothing, not even itself.
    """
    return _same(one, other, set())


def _same(one: Any, other: Any, compared: set[tuple[int, int]]) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, BY_IDENTITY):
        return one is other
    if type(one) in ATOMS:
        return bool(one == other)
    if type(one) is float:
        return _same_float(one, other)
    pair = (id(one), id(other))
    if pair in compared:  # a value that contains itself
        return True
    compared.add(pair)
    try:
        return _same_contents(one, other, compared)
    finally:
        compared.remove(pair)


def _same_contents(one: Any, other: Any, compared: set[tuple[int, int]]) -> bool:
    if type(one) in (list, tuple):
        return len(one) == len(other) and all(
            _same(*pair, compared) for pair in zip(one, other, strict=True)
        )
    if type(one) is dict:
        return _same([*one.items()], [*other.items()], compared)
    if isinstance(one, PurePath):
        # They are pickled by their parts or, from Python 3.13, as they were spelt.
        return str(one) == str(other)
    if type(one) in (set, frozenset):
        # Members that are equal may still be of different types.
        return bool(one == other) and _kinds(one) == _kinds(other)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(one, numpy.ndarray):
        return _same_array(one, other, compared)
    parts = pandas_parts.parts(one), pandas_parts.parts(other)
    if parts[0] is not None:
        return _same(*parts, compared)
    return _same_object(one, other, compared)


def _same_float(one: float, other: float) -> bool:
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return one == other and math.copysign(1, one) == math.copysign(1, other)


def _kinds(members: Any) -> list[tuple[int, str]]:
    return sorted((hash(member), type(member).__qualname__) for member in members)


def _same_array(one: Any, other: Any, compared: set[tuple[int, int]]) -> bool:
    import numpy as np

    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    # A subclass carries more than its elements: a mask, a unit.
    if not _same(getattr(one, "__dict__", None), getattr(other, "__dict__", None), compared):
        return False
    one, other = one.view(np.ndarray), other.view(np.ndarray)
    if one.dtype.names:
        return all(_same_array(one[name], other[name], compared) for name in one.dtype.names)
    if one.dtype.hasobject:
        return _same([*one.flat], [*other.flat], compared)
    if one.dtype.kind in "fcmM":
        return bool(np.array_equal(one, other, equal_nan=True))
    return bool(np.array_equal(one, other))


def _same_object(one: Any, other: Any, compared: set[tuple[int, int]]) -> bool:
    """Compare as pickled: neither an ``__eq__`` of the class nor identity sees all changes."""
    if hasattr(type(one), "compared_by"):
        return _same(one.compared_by(), other.compared_by(), compared)
    if isinstance(one, pydantic.BaseModel):  # which of its fields were given does not matter
        return _same(_fields(one), _fields(other), compared)
    try:
        states = one.__reduce_ex__(4), other.__reduce_ex__(4)
    except Exception:  # noqa: BLE001 - it cannot be looked into
        return False
    if isinstance(states[0], str) or isinstance(states[1], str):
        return bool(states[0] == states[1])
    first, second = ([_drained(part) for part in state] for state in states)
    return _same(first, second, compared)


def _fields(model: pydantic.BaseModel) -> list[Any]:
    return [model.__dict__, model.__pydantic_extra__, model.__pydantic_private__]


def _drained(part: Any) -> Any:
    return [*part] if hasattr(part, "__next__") else part
