"""Read many objects of a snapshot together, without loading each into the connection's cache."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST_LEAVES: Final = 64  # loaded ahead of a stream


def stored_data(items: Sequence[Any]) -> Iterator[Any]:
    """Yield the data of each persistent mapping; None for one that is loaded already.

    The storage sends many together if it supports that. Objects that are not loaded stay so.
    """
    return (data for data, _ in stored_records(items))


def stored_records(items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the data of each persistent mapping as ``stored_data`` does, and its stored record.

    Its connection's ``activate`` loads the object from that record.
    """
    ghosts = [item._p_jar is not None and item._p_changed is None for item in items]
    unread = [item for item, is_ghost in zip(items, ghosts, strict=True) if is_ghost]
    states = unread[0]._p_jar.stored_states(unread) if unread else iter(())
    for is_ghost in ghosts:
        if is_ghost:
            state, record = next(states)
            yield state["data"], record
        else:
            yield None, None


def prefetch(items: Sequence[Any]) -> None:
    """Send the storage one request for all objects that are not loaded, if it supports that."""
    ghosts = [item for item in items if item._p_jar is not None and item._p_changed is None]
    if len(ghosts) > 1:
        ghosts[0]._p_jar.prefetch(ghosts)


def prefetch_leaves(tree: Any, keys: Sequence[Any]) -> list[Any]:
    """Load the leaves of a BTree that hold these keys together, if the storage supports that.

    Return those that were not loaded.
    """
    children, separators = _children(tree) if len(keys) > 1 else ([], [])
    needed: dict[int, list[Any]] = {}
    for key in keys if children else ():
        needed.setdefault(bisect_right(separators, key), []).append(key)
    chosen = {position: children[position] for position in needed}
    unread = [child for child in chosen.values() if child._p_changed is None]
    prefetch(unread)
    if children and type(children[0]) is not type(tree):
        return unread
    below = (prefetch_leaves(child, needed[position]) for position, child in chosen.items())
    return [leaf for leaves in below for leaf in leaves]


def stream_keys(
    tree: Any, low: Any = None, high: Any = None, *, keep: bool = True
) -> Iterator[Any]:
    """Yield the keys of a BTree from ``low`` to ``high`` (None: its ends), ascending.

    It loads more leaves together as it proceeds; unless ``keep``, they do not stay loaded. The
    tree must not change meanwhile.
    """
    children, separators = _children(tree)
    if not children:
        yield from tree.keys(low, high)
        return
    position = 0 if low is None else bisect_right(separators, low)
    last = len(children) if high is None else bisect_right(separators, high) + 1
    number = 1
    while position < last:
        together = children[position : min(position + number, last)]
        prefetch(together)
        for child in together:
            if type(child) is type(tree):
                yield from stream_keys(child, low, high, keep=keep)
                continue
            unread = child._p_changed is None
            keys = list(child.keys(low, high))
            if unread and not keep:
                child._p_deactivate()  # noqa: SLF001 - ZODB's public names begin so
            yield from keys
        position += number
        number = min(4 * number, MOST_LEAVES)


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
