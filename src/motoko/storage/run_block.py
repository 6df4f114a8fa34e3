"""Blocks of runs: one persistent object for many runs, with their values as columns.

The stored mapping of a block has these keys::

    block    (BLOCK_VERSION, study, first id, number of runs)
    ids      None for consecutive ids, else the ids as 4-byte integers
    columns  name -> column, or PersistentMapping {"column": column}, see core/run_blocks.py
    own      IOBTree  id -> PersistentMapping, the stored form of an edited run
    moved    ids of the runs whose parameters changed since; absent without any
    ended    whether compaction wrote the block
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Final

from BTrees.IOBTree import IOBTree
from persistent.mapping import PersistentMapping

from motoko.core.constraints.column_scan import ABSENT
from motoko.core.records import RunKey, RunRecord, stored_key
from motoko.core.run_blocks import KEYS, STORED, decode_runs, encode_runs, encode_values
from motoko.core.run_rows import ColumnRows
from motoko.storage.bulk_read import prefetch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from motoko.core.column_encoding import Column
    from motoko.core.constraints.column_scan import ColumnScan
    from motoko.core.run_rows import Rows

BLOCK_VERSION: Final = 1
DELETED: Final = "deleted"


class RunBlock:
    """Reads one block; its ``item`` is the stored mapping."""

    def __init__(self, item: Any) -> None:
        self.item = item
        self._study: str
        self.first: int
        self._number: int
        # UserDict's own methods would take most of the time of a scan.
        _, self._study, self.first, self._number = item.data["block"]

    @property
    def ids(self) -> Sequence[int]:
        """Return the ids of its runs, those of deleted ones included, ascending."""
        stored = self.item.data["ids"]
        if stored is None:
            return range(self.first, self.first + self._number)
        return array("i", stored)

    @property
    def own(self) -> Any:
        """Return the tree of runs that have an object of their own."""
        return self.item.data["own"]

    def has(self, run_id: int) -> bool:
        """Return whether the run was in the block when the block was written."""
        if self.item.data["ids"] is None:
            return 0 <= run_id - self.first < self._number
        ids = self.ids
        position = bisect_left(ids, run_id)
        return position < len(ids) and ids[position] == run_id

    def column(self, name: str) -> Column | None:
        """Return a column, None if the block has none of this name."""
        stored = self.item.data["columns"].get(name)
        found: Column | None
        found = stored.data["column"] if isinstance(stored, PersistentMapping) else stored
        return found

    def records(self, ids: Sequence[int]) -> list[RunRecord]:
        """Return the records of runs without an object of their own."""
        kept = getattr(self.item, "_v_records", None) or {}
        missing = [run_id for run_id in ids if run_id not in kept]
        found: dict[int, RunRecord] = {}
        if missing:
            self.prefetch()
            own_ids = self.ids
            positions = [bisect_left(own_ids, run_id) for run_id in missing]
            found.update(
                zip(missing, decode_runs(self._study, missing, positions, self.column), strict=True)
            )
        return [found.get(run_id) or kept[run_id] for run_id in ids]

    def rows(self, ids: Sequence[int]) -> ColumnRows:
        """Return the rows of runs without an object of their own."""
        own_ids = self.ids
        positions: Sequence[int] = range(len(own_ids))
        if len(ids) < len(own_ids):
            positions = [bisect_left(own_ids, run_id) for run_id in ids]
        return ColumnRows(ids, positions, self.column)

    def record(self, run_id: int) -> RunRecord:
        """Return one record, which stays cached."""
        kept: RunRecord | None = (getattr(self.item, "_v_records", None) or {}).get(run_id)
        if kept is None:
            (kept,) = self.records([run_id])
            self.keep(kept)
        return kept

    def keep(self, record: RunRecord) -> None:
        """Let a record stay in the cache of the connection, with its block."""
        if getattr(self.item, "_v_records", None) is None:
            self.item._v_records = {}  # noqa: SLF001 - ZODB's volatile names begin so
        self.item._v_records[record.id] = record  # noqa: SLF001

    def scan(self, scan: ColumnScan) -> Sequence[int]:
        """Return the ids of a superset of the runs that match, ascending."""
        ids, found = self.ids, scan.positions(self)
        return ids if found is None else [ids[position] for position in sorted(found)]

    @property
    def length(self) -> int:
        """The number of runs when the block was written."""
        return self._number

    def member(self, part: str, name: str) -> Column | None:
        """Return the column of a value, ABSENT if no run has it, None if it has no column."""
        found = self.column(part)
        if found is not None and found[0] == KEYS:
            return self.column(f"{part}.{name}") or ABSENT
        return ABSENT if found == ("same", None) else None  # no run has any value

    def changed(self, part: str) -> AbstractSet[int]:
        """Return the positions of the runs whose values in a part may have changed."""
        ids = self.item.data.get("moved", ()) if part == "job" else self.own
        return {bisect_left(self.ids, run_id) for run_id in ids}

    def columns_of(self, names: Iterable[str]) -> list[Any]:
        """Return the objects of those columns that are objects of their own in a database."""
        if self.item._p_jar is None:
            return []
        found = map(self.item.data["columns"].get, names)
        return [stored for stored in found if isinstance(stored, PersistentMapping)]

    def scanned(self, names: Iterable[str]) -> list[Any]:
        """Return the objects that a scan of these columns reads."""
        fields = any(name.startswith("fields.") for name in names)
        return self.columns_of(names) + ([self.own] if fields else [])

    def prefetch(self) -> None:
        """Load all columns together."""
        prefetch(self.columns_of(self.item.data["columns"]))


def new_block(records: Sequence[RunRecord]) -> Any:
    """Return a new block of new runs of a study, in id order."""
    ids = [record.id for record in records]
    content = _content(records[0].study, ids, encode_runs(records))
    return new_object({**content, "own": IOBTree(), "ended": False})


def ended_block(study: str, rows: Rows) -> Any:
    """Return a new block of ended runs of a study, in id order."""
    return new_object({**_ended(study, rows), "own": IOBTree()})


def rewrite(item: Any, rows: Rows) -> None:
    """Store the ended runs of a block in its columns."""
    item.pop("moved", None)
    item._v_records = None  # noqa: SLF001
    item.update(_ended(item["block"][1], rows))


def _ended(study: str, rows: Rows) -> dict[str, Any]:
    columns = encode_values((name, rows.values(name)) for name in STORED)
    return {**_content(study, rows.values("id"), columns), "ended": True}


def _content(study: str, ids: Sequence[int], columns: Mapping[str, Column]) -> dict[str, Any]:
    consecutive = ids[-1] - ids[0] == len(ids) - 1
    return {
        "block": (BLOCK_VERSION, study, ids[0], len(ids)),
        "ids": None if consecutive else array("i", ids).tobytes(),
        "columns": {name: _stored_column(column) for name, column in columns.items()},
    }


def block_keys(data: Mapping[str, Any]) -> list[RunKey]:
    """Return the runs of a stored block, none for other data."""
    if "block" not in data:
        return []
    _, study, first, number = data["block"]
    stored = data["ids"]
    ids = range(first, first + number) if stored is None else array("i", stored)
    return [RunKey(study, run_id) for run_id in ids]


def changed_keys(data: Mapping[str, Any]) -> list[RunKey]:
    """Return the runs that a commit changed which wrote the object with this data."""
    if DELETED in data:
        return [RunKey(*data[DELETED])]
    if "block" in data:
        return [] if data["ended"] else block_keys(data)  # compaction changes no run
    key = stored_key(data)
    return [] if key is None else [key]


def stored_keys(data: Mapping[str, Any]) -> list[RunKey]:
    """Return the runs that may be stored elsewhere, or otherwise, since this data was written."""
    return block_keys(data) if "block" in data else changed_keys(data)


def check_current(item: Any, record: Any = None) -> None:
    """Refuse to commit if another client changes a persistent object, unless it is new.

    ``record``: its stored record, if it is not loaded.
    """
    if record is not None:
        item._p_jar.rely_on(item, record)
    elif item._p_jar is not None:
        item._p_activate()  # a ghost has no version
        item._p_jar.readCurrent(item)


def new_object(data: dict[str, Any]) -> Any:
    """Return a new persistent mapping with this data."""
    stored = PersistentMapping()
    stored.data = data  # its constructor copies item by item, slowly
    return stored


def _stored_column(column: Column) -> Any:
    """Return a column as it is stored: an object of its own unless it is a single value."""
    return column if column[0] in ("same", KEYS) else new_object({"column": column})
