"""Snapshots and comparison of values that pass through steps."""

from __future__ import annotations

import copy
import math
import sys
from pathlib import PurePath
from types import BuiltinFunctionType, EllipsisType, FunctionType, ModuleType, NoneType
from typing import Any, Final

import pydantic

from motoko.pipeline.pandas_parts import deep_copy, frames_in, to_parts

ATOMS: Final = (NoneType, bool, int, str, bytes, EllipsisType)
COMPARED_BY_IDENTITY: Final = (type, FunctionType, BuiltinFunctionType, ModuleType)


def snapshot(value: Any) -> Any:
    """Return a copy that is independent of changes of ``value`` in place, or raise TypeError."""
    memo: dict[int, Any] = {}
    for frame in frames_in(value):
        # pandas' own deep copy shares the Python objects in the cells.
        memo[id(frame)] = deep_copy(frame)
    return copy.deepcopy(value, memo)


def values_equal(one: Any, other: Any) -> bool:
    """Return whether two values are equal in type and content at every level.

    nan equals nan, but 1 equals neither 1.0 nor True, and dictionaries must have the same order.
    Arrays are compared by type, shape and elements, data frames also by columns, index and types,
    other objects by their pickle state. An object without one equals nothing, not even itself.
    """
    return _equal(one, other, set())


def _equal(one: Any, other: Any, compared: set[tuple[int, int]]) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, COMPARED_BY_IDENTITY):
        return one is other
    if type(one) in ATOMS:
        return bool(one == other)
    if type(one) is float:
        return _equal_float(one, other)
    pair = (id(one), id(other))
    if pair in compared:  # the value contains itself
        return True
    compared.add(pair)
    try:
        return _equal_contents(one, other, compared)
    finally:
        compared.remove(pair)


def _equal_contents(one: Any, other: Any, compared: set[tuple[int, int]]) -> bool:
    if type(one) in (list, tuple):
        return len(one) == len(other) and all(
            _equal(*pair, compared) for pair in zip(one, other, strict=True)
        )
    if type(one) is dict:
        return _equal([*one.items()], [*other.items()], compared)
    if isinstance(one, PurePath):
        # Their pickle state depends on the Python version.
        return str(one) == str(other)
    if type(one) in (set, frozenset):
        # Equal members may have different types.
        return bool(one == other) and _member_types(one) == _member_types(other)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(one, numpy.ndarray):
        return _equal_array(one, other, compared)
    parts = to_parts(one), to_parts(other)
    if parts[0] is not None:
        return _equal(*parts, compared)
    return _equal_object(one, other, compared)


def _equal_float(one: float, other: float) -> bool:
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return one == other and math.copysign(1, one) == math.copysign(1, other)


def _member_types(members: Any) -> list[tuple[int, str]]:
    return sorted((hash(member), type(member).__qualname__) for member in members)


def _equal_array(one: Any, other: Any, compared: set[tuple[int, int]]) -> bool:
    import numpy as np

    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    # A subclass has more than its elements: a mask, a unit.
    if not _equal(getattr(one, "__dict__", None), getattr(other, "__dict__", None), compared):
        return False
    one, other = one.view(np.ndarray), other.view(np.ndarray)
    if one.dtype.names:
        return all(_equal_array(one[name], other[name], compared) for name in one.dtype.names)
    if one.dtype.hasobject:
        return _equal([*one.flat], [*other.flat], compared)
    if one.dtype.kind in "fcmM":
        return bool(np.array_equal(one, other, equal_nan=True))
    return bool(np.array_equal(one, other))


def _equal_object(one: Any, other: Any, compared: set[tuple[int, int]]) -> bool:
    """Compare pickle states: neither ``__eq__`` nor identity detects all changes."""
    if hasattr(type(one), "comparison_key"):
        return _equal(one.comparison_key(), other.comparison_key(), compared)
    if isinstance(one, pydantic.BaseModel):  # the set of explicitly set fields does not matter
        return _equal(_fields(one), _fields(other), compared)
    try:
        states = one.__reduce_ex__(4), other.__reduce_ex__(4)
    except Exception:  # noqa: BLE001 - it has no pickle state
        return False
    if isinstance(states[0], str) or isinstance(states[1], str):
        return bool(states[0] == states[1])
    first, second = (
        [[*part] if hasattr(part, "__next__") else part for part in state] for state in states
    )
    return _equal(first, second, compared)


def _fields(model: pydantic.BaseModel) -> list[Any]:
    return [model.__dict__, model.__pydantic_extra__, model.__pydantic_private__]
