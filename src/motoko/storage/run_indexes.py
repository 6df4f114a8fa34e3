"""The indexes of runs in a study's table: the key of each run in them, and their changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from BTrees.IIBTree import IITreeSet
from BTrees.OOBTree import OOBTree

from motoko.core.states import Lifecycle
from motoko.storage.run_counts import count_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motoko.core.records import RunRecord
    from motoko.storage.run_counts import RunCounts

LISTED: Final = ("states", "lifecycles", "queues", "remarks")  # indexes of ids

_Places: TypeAlias = "tuple[list[Any], list[Any]]"  # sets of ids, and numbers


def index_keys(record: RunRecord) -> dict[str, tuple[str, str] | None]:
    """Return the key of a run in each index, None if it is not in that index."""
    run_name, reason = record.run_name, None
    if record.lifecycle is Lifecycle.FINISHED and record.reason:
        reason = record.reason, run_name
    return {
        "states": (record.state, run_name),
        "lifecycles": (record.lifecycle.value, run_name),
        "queues": _queue(record),
        "remarks": reason,
    }


def _queue(record: RunRecord) -> tuple[str, str] | None:
    if record.lifecycle is not Lifecycle.CREATED or not record.options:
        return None
    names = (record.options.get("generator"), record.options.get("machine_name"))
    return (str(names[0] or ""), str(names[1] or "")) if any(names) else None


def id_set(trees: Any, index: str, key: tuple[str, str]) -> Any:
    """Return the ids of runs under ``key`` of an index; a new set if there is none."""
    tree = trees.get(index)
    if tree is None:
        tree = trees[index] = OOBTree()
    ids = tree.get(key)
    if ids is None:
        ids = tree[key] = IITreeSet()
    return ids


class RunIndexes:
    """Changes the indexes of a study's runs and their numbers, in one transaction."""

    def __init__(self, trees: Any, numbers: RunCounts) -> None:
        self._trees = trees
        self._numbers = numbers
        self._uncounted = trees.get("uncounted", 0)
        self._moves: dict[tuple[Any, Any], tuple[_Places, _Places]] = {}

    def change(self, run_id: int, old: RunRecord | None, new: RunRecord | None) -> None:
        """Move a run to its new places. ``old`` None: add it; ``new`` None: remove it.

        Equal moves go from equal to equal places, which are found once.
        """
        before, after = self._keys(old), self._keys(new)
        move = tuple(before.values()), tuple(after.values())
        if move not in self._moves:
            self._moves[move] = self._places(before, after), self._places(after, before)
        (left, fewer), (entered, more) = self._moves[move]
        for ids in left:
            ids.remove(run_id)
        for ids in entered:
            ids.insert(run_id)
        for length in fewer:
            length.change(-1)
        for length in more:
            length.change(1)

    def _keys(self, record: RunRecord | None) -> dict[str, tuple[Any, str] | None]:
        """Return the key of a run in each index of ids or of numbers."""
        if record is None:
            return {}
        return count_keys(record, index_keys(record), self._uncounted)

    def _places(
        self,
        keys: Mapping[str, tuple[Any, str] | None],
        others: Mapping[str, tuple[Any, str] | None],
    ) -> _Places:
        """Return the sets of ids and the numbers under those of the keys that differ."""
        own = {i: key for i, key in keys.items() if key is not None and key != others.get(i)}
        sets = [id_set(self._trees, index, key) for index, key in own.items() if index in LISTED]
        return sets, self._numbers.lengths(own)
