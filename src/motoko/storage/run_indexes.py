"""The indexes of runs in a study's table: the key of each run in them, and their changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from BTrees.IIBTree import IITreeSet
from BTrees.OOBTree import OOBTree

from motoko.core.states import Lifecycle
from motoko.storage.run_counts import count_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motoko.core.records import RunRecord
    from motoko.storage.run_counts import RunCounts


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
        self._places: dict[tuple[Any, ...], tuple[list[Any], list[Any]]] = {}

    def add(self, record: RunRecord) -> None:
        """Add a new run. Equal ones go to equal places, which are found once."""
        keys = index_keys(record)
        place = tuple(keys.values())
        if place not in self._places:
            sets = [id_set(self._trees, index, key) for index, key in keys.items() if key]
            self._places[place] = sets, self._numbers.lengths(self._counts(record, keys))
        sets, lengths = self._places[place]
        for ids in sets:
            ids.insert(record.id)
        for length in lengths:
            length.change(1)

    def change(self, old: RunRecord, new: RunRecord | None) -> None:
        """Move a run to its new places; None: remove it."""
        before = index_keys(old)
        after = {} if new is None else index_keys(new)
        for index, former in before.items():
            present = after.get(index)
            if former == present:
                continue
            if former is not None:
                self._trees[index][former].remove(old.id)
            if present is not None:
                id_set(self._trees, index, present).insert(old.id)
        counted = {} if new is None else self._counts(new, after)
        self._numbers.update(self._counts(old, before), counted)

    def _counts(
        self, record: RunRecord, keys: Mapping[str, tuple[str, str] | None]
    ) -> dict[str, tuple[Any, str] | None]:
        return count_keys(record, keys, self._uncounted)
