"""The stored numbers of a study: no question about the number of runs or jobs reads ids or records.

The tree ``counts`` maps (index, key, run name) to a ``BTrees.Length``. The database merges
concurrent changes of one number, so counting causes no conflicts. A number that drops to zero
stays: removing it would conflict with another process that raises it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from BTrees.IIBTree import intersection
from BTrees.Length import Length
from BTrees.OOBTree import OOBTree

from motoko.core.states import TERMINAL, Lifecycle
from motoko.storage.bulk_read import prefetch, prefetch_range

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from motoko.core.records import RunRecord

# Indexes; "runs", "queued" and "ended_scripts" list no ids.
COUNTED: Final = ("runs", "states", "lifecycles", "queued", "remarks", "ended_scripts")
LAST: Final = "\U0010ffff"

CountKey: TypeAlias = "tuple[str, Any, str]"  # index, key in it, run name

JOBS: Final[CountKey] = ("jobs", "", "")  # the number of jobs, absent until a job is added


def count_keys(
    record: RunRecord, keys: Mapping[str, tuple[str, str] | None], uncounted: int = 0
) -> dict[str, tuple[Any, str] | None]:
    """Return the (key, run name) under which a run counts in each of COUNTED, None for none.

    ``keys``: its keys in the indexes. ``uncounted``: scripts of runs up to this id do not count.
    """
    run_name, queue = record.run_name, keys["queues"]
    has_scripts = record.lifecycle.is_terminal and record.id > uncounted
    return {
        **keys,
        "runs": ("", ""),
        "queued": None if queue is None else (queue, run_name),
        "ended_scripts": (record.scripts, run_name) if has_scripts else None,
    }


class RunCounts:
    """Reads and writes the numbers in a study's tree ``counts``."""

    def __init__(self, tree: Any) -> None:
        self._tree = tree

    def count(
        self, index: str, keys: Iterable[Any] | None = None, run_name: str | None = None
    ) -> int:
        """Return the number of runs under these keys of an index (None: all), of a run name."""
        return sum(number for _, _, number in self.numbers(index, keys, run_name))

    def by_key(self, index: str, run_name: str | None = None) -> dict[Any, int]:
        """Return the number of runs under each key of an index, of one run name or of all."""
        counts = Counter[Any]()
        for key, _, number in self.numbers(index, None, run_name):
            counts[key] += number
        return dict(counts)

    def by_run_name(self, index: str, keys: Iterable[Any] | None = None) -> dict[str, int]:
        """Return the number of runs under these keys of an index (None: all), by run name."""
        counts = Counter[str]()
        for _, run_name, number in self.numbers(index, keys):
            counts[run_name] += number
        return dict(counts)

    def numbers(
        self, index: str, keys: Iterable[Any] | None = None, run_name: str | None = None
    ) -> Iterator[tuple[Any, str, int]]:
        """Yield (key, run name, number of runs) of an index, without zeros."""
        found = self._lengths(index, keys, run_name)
        prefetch([length for _, length in found])
        for (_, key, name), length in found:
            if number := length():
                yield key, name, number

    def _lengths(
        self, index: str, keys: Iterable[Any] | None, run_name: str | None
    ) -> list[tuple[CountKey, Any]]:
        tree = self._tree
        if keys is None:
            items = tree.items((index,), (index + "\0",))
            return [item for item in items if run_name in (None, item[0][2])]
        wanted = dict.fromkeys(keys)
        if run_name is None:
            ranges = (tree.items((index, key), (index, key, LAST)) for key in wanted)
            return [item for items in ranges for item in items]
        named = [(index, key, run_name) for key in wanted]
        return [(key, length) for key in named if (length := tree.get(key)) is not None]

    def lengths(self, keys: Mapping[str, tuple[Any, str]]) -> list[Any]:
        """Return the numbers of these keys, by index, to change them."""
        return [self._length(index, keys[index]) for index in COUNTED if index in keys]

    def _length(self, index: str, key: tuple[Any, str]) -> Any:
        length = self._tree.get((index, *key))
        if length is None:
            length = self._tree[index, *key] = Length()
        return length

    def stored(self) -> dict[CountKey, int]:
        """Return all numbers except zeros."""
        return {key: number for key, length in self._tree.items() if (number := int(length()))}


def count_indexes(trees: Mapping[str, Any]) -> dict[CountKey, int]:
    """Return the numbers of runs in the id sets of a study's indexes, and of jobs, without zeros.

    Only format 2 has an index of scripts.
    """
    found = Counter[CountKey]()
    for index in ("states", "lifecycles", "remarks"):
        for key, ids in trees.get(index, {}).items():
            prefetch_range(ids, None, None)
            found[index, *key] = len(ids)
    created: dict[str, Any] = {}
    ended: dict[str, list[Any]] = {}
    for (lifecycle, name), ids in trees["lifecycles"].items():
        found["runs", "", ""] += found["lifecycles", lifecycle, name]
        if lifecycle in TERMINAL:
            ended.setdefault(name, []).append(ids)
        elif lifecycle == Lifecycle.CREATED:
            created[name] = ids
    for (digest, name), ids in trees.get("scripts", {}).items():
        prefetch_range(ids, None, None)
        found["ended_scripts", digest, name] = sum(_common(ids, one) for one in ended.get(name, ()))
    for queue, ids in trees["queues"].items():
        for name, others in created.items():
            found["queued", queue, name] = _common(ids, others)
    prefetch_range(trees["runs_of_job"], None, None)
    found[JOBS] = len(trees["runs_of_job"])
    return dict(+found)


def _common(ids: Any, others: Any) -> int:
    return len(intersection(ids, others)) if ids and others else 0


def write_counts(trees: Any) -> None:
    """Store the numbers of runs of a study's indexes, which were not stored before."""
    tree = trees["counts"] = OOBTree()
    for key, number in count_indexes(trees).items():
        tree[key] = Length(number)
