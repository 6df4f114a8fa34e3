"""Lists, dictionaries and sets that notify of changes in place."""

from __future__ import annotations

import copy
import json
import operator
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.values import to_plain
from motoko.handles.tracked import tracked

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.unit


class Holder:
    """A holder like a run field or variable: every change writes the whole value."""

    def __init__(self, value: Any) -> None:
        self.stored = to_plain(value, "value")
        self.writes = 0

    def write(self, value: Any) -> None:
        self.stored = to_plain(value, "value")
        self.writes += 1

    @property
    def value(self) -> Any:
        whole = tracked(to_plain(self.stored, "value"), lambda: self.write(whole))
        return whole


@pytest.mark.parametrize(
    ("start", "change", "end"),
    [
        ([1], lambda v: v.append(2), [1, 2]),
        ([1], lambda v: v.extend([2, 3]), [1, 2, 3]),
        ([1], lambda v: v.insert(0, 2), [2, 1]),
        ([1, 2], lambda v: v.remove(1), [2]),
        ([1, 2], lambda v: v.pop(), [1]),
        ([1, 2], lambda v: v.clear(), []),
        ([2, 1], lambda v: v.sort(), [1, 2]),
        ([2, 1], lambda v: v.reverse(), [1, 2]),
        ([2, 1], lambda v: operator.setitem(v, 0, 3), [3, 1]),
        ([2, 1], lambda v: operator.setitem(v, slice(0, 2), [4]), [4]),
        ([2, 1], lambda v: operator.delitem(v, 0), [1]),
        ([1], lambda v: v.__iadd__([2]), [1, 2]),
        ([1], lambda v: v.__imul__(2), [1, 1]),
        ({"a": 1}, lambda v: v.update(b=2), {"a": 1, "b": 2}),
        ({"a": 1}, lambda v: v.setdefault("b", 2), {"a": 1, "b": 2}),
        ({"a": 1}, lambda v: v.pop("a"), {}),
        ({"a": 1}, lambda v: v.popitem(), {}),
        ({"a": 1}, lambda v: v.clear(), {}),
        ({"a": 1}, lambda v: operator.setitem(v, "a", 2), {"a": 2}),
        ({"a": 1}, lambda v: operator.delitem(v, "a"), {}),
        ({"a": 1}, lambda v: v.__ior__({"b": 2}), {"a": 1, "b": 2}),
        ({1}, lambda v: v.add(2), {1, 2}),
        ({1, 2}, lambda v: v.discard(2), {1}),
        ({1, 2}, lambda v: v.remove(2), {1}),
        ({1}, lambda v: v.pop(), set()),
        ({1}, lambda v: v.clear(), set()),
        ({1}, lambda v: v.update({2}), {1, 2}),
        ({1, 2}, lambda v: v.intersection_update({2}), {2}),
        ({1, 2}, lambda v: v.difference_update({2}), {1}),
        ({1, 2}, lambda v: v.symmetric_difference_update({2, 3}), {1, 3}),
        ({1}, lambda v: v.__ior__({2}), {1, 2}),
        ({1, 2}, lambda v: v.__iand__({2}), {2}),
        ({1, 2}, lambda v: v.__isub__({2}), {1}),
        ({1, 2}, lambda v: v.__ixor__({2, 3}), {1, 3}),
        ({"a": [[1], {"b": {2}}]}, lambda v: v["a"][0].append(2), {"a": [[1, 2], {"b": {2}}]}),
        ({"a": [[1], {"b": {2}}]}, lambda v: v["a"][1]["b"].add(3), {"a": [[1], {"b": {2, 3}}]}),
        (([1], 2), lambda v: v[0].append(3), ([1, 3], 2)),
    ],
)
def test_every_change_in_place_is_written(
    start: Any, change: Callable[[Any], Any], end: Any
) -> None:
    holder = Holder(start)
    change(holder.value)
    assert holder.stored == end
    assert holder.writes == 1


def test_values_inserted_later_are_tracked() -> None:
    holder = Holder({})
    whole = holder.value
    whole["a"] = []
    whole["a"].append({})
    whole["a"][0]["b"] = [1]
    whole["a"][0]["b"] += [2]
    whole.setdefault("c", []).append(3)
    whole["d"] = ([],)
    whole["d"][0].append(4)
    assert holder.stored == {"a": [{"b": [1, 2]}], "c": [3], "d": ([4],)}


def test_setdefault_returns_a_tracked_value() -> None:
    holder = Holder({})
    holder.value.setdefault("c", []).append(3)
    assert holder.stored == {"c": [3]}


def test_a_change_that_fails_writes_nothing() -> None:
    holder = Holder({"a": [1]})
    with pytest.raises(ValueError, match="not in list"):
        holder.value["a"].remove(2)
    with pytest.raises(KeyError):
        del holder.value["b"]
    assert holder.writes == 0


@pytest.mark.parametrize("value", [[1, {"a": [2]}], {"a": [1, {2}]}, {1, 2}])
def test_copies_are_not_tracked(value: Any) -> None:
    holder = Holder(value)
    whole = holder.value
    assert whole == value
    for duplicate in (copy.deepcopy(whole), pickle.loads(pickle.dumps(whole))):
        assert duplicate == value
        assert type(duplicate) is type(value)
        duplicate.clear()
    inner = copy.deepcopy(whole)
    for item in inner.values() if isinstance(inner, dict) else inner:
        assert type(item) in (int, list, dict, set)
    assert type(copy.copy(whole)) is type(value)
    assert holder.writes == 0


def test_tracked_values_can_be_written_as_json() -> None:
    assert json.dumps(Holder({"a": [1, [2]]}).value) == '{"a": [1, [2]]}'


@pytest.mark.parametrize("value", [1, 2.5, "text", None, True, b"x"])
def test_other_values_are_returned_unchanged(value: Any) -> None:
    assert tracked(value, lambda: None) is value
