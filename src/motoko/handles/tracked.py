"""Lists, dictionaries and sets that report changes in place.

Run fields and workflow variables return them, so that ``workflow.vars.todo.append(3)`` is stored
like an assignment. They are real lists, dictionaries and sets: they copy, pickle and serialise as
such.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from yaml.representer import Representer, SafeRepresenter

from motoko.storage.variable_values import MARK, decode_value

if TYPE_CHECKING:
    from collections.abc import Callable


class TrackedList(list[Any]):
    """A list that calls ``changed`` after every change in place."""

    _changed: Callable[[], None]

    def __reduce__(self) -> Any:
        return list, (list(self),)


class TrackedDict(dict[Any, Any]):
    """A dictionary that calls ``changed`` after every change in place."""

    _changed: Callable[[], None]

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


class TrackedSet(set[Any]):
    """A set that calls ``changed`` after every change in place."""

    _changed: Callable[[], None]

    def __reduce__(self) -> Any:
        return set, (list(self),)


def _notifying(base: type, name: str) -> Callable[..., Any]:
    original = getattr(base, name)

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        _adopt(self, self._changed)
        self._changed()
        return self[args[0]] if name == "setdefault" else result

    return method


_LIST_CHANGES: Final = (
    "append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse",
    "__setitem__", "__delitem__", "__iadd__", "__imul__",
)  # fmt: skip
_DICT_CHANGES: Final = (
    "update", "setdefault", "pop", "popitem", "clear", "__setitem__", "__delitem__", "__ior__",
)  # fmt: skip
_SET_CHANGES: Final = (
    "add", "remove", "discard", "pop", "clear", "update", "intersection_update",
    "difference_update", "symmetric_difference_update",
    "__ior__", "__iand__", "__isub__", "__ixor__",
)  # fmt: skip
for _name in _LIST_CHANGES:
    setattr(TrackedList, _name, _notifying(list, _name))
for _name in _DICT_CHANGES:
    setattr(TrackedDict, _name, _notifying(dict, _name))
for _name in _SET_CHANGES:
    setattr(TrackedSet, _name, _notifying(set, _name))


def _adopt(container: Any, changed: Callable[[], None]) -> None:
    """Make the containers inside a changed container report their changes too."""
    if isinstance(container, TrackedSet):
        return
    places = enumerate(container) if isinstance(container, list) else list(container.items())
    for place, item in places:
        if type(item) in (list, dict, set, tuple):
            adopted = tracked(item, changed)
            if isinstance(container, list):
                list.__setitem__(container, place, adopted)
            else:
                dict.__setitem__(container, place, adopted)


def tracked(value: Any, changed: Callable[[], None]) -> Any:
    """Return a stored ``value`` in which all lists, dictionaries and sets report changes."""
    made: Any
    if isinstance(value, list):
        made = TrackedList(tracked(item, changed) for item in value)
    elif isinstance(value, dict):
        made = TrackedDict(
            {decode_value(key): tracked(item, changed) for key, item in value.items()}
        )
    elif isinstance(value, set):
        made = TrackedSet(map(decode_value, value))
    elif type(value) is tuple and value[:1] != (MARK,):
        return tuple(tracked(item, changed) for item in value)
    else:
        return decode_value(value)
    made._changed = changed  # noqa: SLF001 - set here so that filling it is not a change
    return made


# PyYAML selects representers by the exact class.
for _representer in (SafeRepresenter, Representer):
    _representer.add_representer(TrackedList, SafeRepresenter.represent_list)
    _representer.add_representer(TrackedDict, SafeRepresenter.represent_dict)
    _representer.add_representer(TrackedSet, SafeRepresenter.represent_set)
