"""Read many objects of a snapshot together, without loading each into the connection's cache."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def stored_data(items: Sequence[Any]) -> Iterator[Any]:
    """Yield the data of each persistent mapping; None for one that is loaded already.

    The storage sends many together if it supports that. Objects that are not loaded stay so.
    """
    ghosts = [item._p_jar is not None and item._p_changed is None for item in items]
    unread = [item for item, is_ghost in zip(items, ghosts, strict=True) if is_ghost]
    states = unread[0]._p_jar.stored_states(unread) if unread else iter(())
    for is_ghost in ghosts:
        yield next(states)["data"] if is_ghost else None


def prefetch(items: Sequence[Any]) -> None:
    """Send the storage one request for all objects that are not loaded, if it supports that."""
    ghosts = [item for item in items if item._p_jar is not None and item._p_changed is None]
    if len(ghosts) > 1:
        ghosts[0]._p_jar.prefetch(ghosts)


def prefetch_leaves(tree: Any, keys: Sequence[Any]) -> None:
    """Load the leaves of a BTree that hold these keys together, if the storage supports that."""
    children, separators = _children(tree) if len(keys) > 1 else ([], [])
    if not children:
        return
    needed: dict[int, list[Any]] = {}
    for key in keys:
        needed.setdefault(bisect_right(separators, key), []).append(key)
    prefetch([children[position] for position in needed])
    for position, within in needed.items():
        if type(children[position]) is type(tree):
            prefetch_leaves(children[position], within)


def prefetch_range(tree: Any, low: Any, high: Any) -> None:
    """Load the leaves of a BTree with keys from ``low`` to ``high`` (None: its ends) together."""
    children, separators = _children(tree)
    first = 0 if low is None else bisect_right(separators, low)
    last = len(children) if high is None else bisect_right(separators, high) + 1
    prefetch(children[first:last])
    for child in children[first:last]:
        if type(child) is type(tree):
            prefetch_range(child, low, high)


def _children(tree: Any) -> tuple[Sequence[Any], Sequence[Any]]:
    """Return the children of a BTree's root and the keys between them; none for a small tree."""
    state = None if tree._p_jar is None else tree.__getstate__()
    if state is None or len(state) == 1:  # it is empty, or has one leaf of its own
        return (), ()
    return state[0][::2], state[0][1::2]
