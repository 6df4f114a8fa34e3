"""The runs of a study: objects of single runs, and blocks of columns.

A run that was created alone, or by an older Motoko, is an object in ``runs``. Runs that one commit
creates together are a block, up to BLOCK runs with neighbouring ids::

    runs    IOBTree  id -> PersistentMapping, the stored form of a RunRecord
    blocks  IOBTree  first id -> PersistentMapping, see run_block.py

The first edit of a run in a block gives it an object of its own, in the block's tree ``own``. So
edits of different runs do not conflict, edits of one run do, and each object has the version of its
run. A deleted run of a block leaves ``{"deleted": (study, id)}`` there. Every write of an ended run
checks that its block, or the study's table, did not change: compaction.py writes that.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from heapq import merge
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, Final

from motoko.core.records import RunRecord, decode_record, encode_record
from motoko.core.run_rows import StoredRows, join_rows
from motoko.storage.bulk_read import prefetch, prefetch_leaves, stored_records, stream_keys
from motoko.storage.run_block import DELETED, RunBlock, check_current, new_block, new_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from motoko.core.constraints.column_scan import ColumnScan
    from motoko.core.run_rows import Part, Rows

    Visit = Callable[[Any, Any], object]

BLOCK: Final = 1000  # runs
LEAST: Final = 100  # runs with neighbouring ids that become a block
SCANNED: Final = 100  # blocks that a scan loads together
TOGETHER: Final = 32  # blocks of which all rows are read together


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """A record, and where to keep it: in the object of its run, or in its block.

    ``stored``: what was loaded of the object, unless it was loaded before.
    """

    record: RunRecord
    item: Any = None
    stored: Any = None
    block: RunBlock | None = None

    def keep(self) -> None:
        """Let the record stay in the cache of the connection."""
        if self.stored is not None:
            self.item._p_jar.activate(self.item, self.stored)
            self.item._v_record = self.record
        if self.block is not None:
            self.block.keep(self.record)


class RunStore:
    """Reads and writes the records of one study's runs in the snapshot of one connection."""

    def __init__(self, study: str, trees: Any) -> None:
        self._study = study
        self._table = trees
        self._single = trees["runs"]
        self._blocks = trees.get("blocks")  # None: written by an older Motoko
        self._new: dict[int, RunRecord] = {}  # created since the last flush, not stored yet

    # -- reading ---------------------------------------------------------------------------

    def find(self, run_id: int) -> RunRecord | None:
        """Return one run's record, None if it does not exist."""
        if (new := self._new.get(run_id)) is not None:
            return new
        return _record_in(*self._place(run_id), run_id)

    def has(self, run_id: int) -> bool:
        """Return whether a run exists, without decoding its record."""
        if run_id in self._new:
            return True
        stored, block = self._place(run_id)
        return block is not None if stored is None else DELETED not in stored.data

    def version(self, run_id: int) -> bytes | None:
        """Return a value that changes with every commit to the run, None before the first."""
        stored, block = self._place(run_id)
        if stored is None and block is not None:
            stored = block.item
        if stored is None or stored._p_jar is None:
            return None
        stored._p_activate()
        return bytes(stored._p_serial)  # noqa: SLF001 - ZODB's public names begin so

    def _place(self, run_id: int) -> tuple[Any, RunBlock | None]:
        """Return the object of a stored run, None if it has none of its own, and its block."""
        stored = self._single.get(run_id)
        if stored is not None or (block := self._block_with(run_id)) is None:
            return stored, None
        return block.own.get(run_id), block

    @contextlib.contextmanager
    def loaded(self, ids: Sequence[int], *, release: bool) -> Iterator[dict[int, LoadedRun]]:
        """Load the existing ones of these runs together, and yield them by id.

        ``release``: what was loaded does not stay in the cache after the block.
        """
        blocks = self._blocks_with(ids)
        objects, unread = self._own_objects(ids, blocks)
        found = {}
        for (run_id, item), (data, stored) in zip(
            objects.items(), stored_records(list(objects.values())), strict=True
        ):
            record = _record_of(item) if data is None else _decoded(data)
            found[run_id] = None if record is None else LoadedRun(record, item, stored)
        for block, within in blocks:
            rest = [run_id for run_id in within if run_id not in found]
            found.update({run.id: LoadedRun(run, block=block) for run in block.records(rest)})
        found.update({i: LoadedRun(run) for i in ids if (run := self._new.get(i)) is not None})
        yield {run_id: run for run_id, run in found.items() if run is not None}
        if release:
            for leaf in unread:  # else it holds an object for each of its runs
                leaf._p_deactivate()  # noqa: SLF001
        if self._single._p_jar is not None:
            self._single._p_jar.cacheGC()

    def rows(
        self, ids: Sequence[int], select: Callable[[Part], Part], *, keep: bool = False
    ) -> Rows:
        """Return the rows of those of these runs that exist and that ``select`` takes, by id.

        ``keep``: the objects of single runs stay in the cache.
        """
        new = StoredRows.of(run for i in ids if (run := self._new.get(i)) is not None)
        visit = _activate if keep else None
        stored = self._joined(ids, self._blocks_with(ids), select, visit)
        return join_rows([stored, select(new)])

    def stored_rows(self, ids: Sequence[int], visit: Visit) -> Rows:
        """Return the rows of stored runs, by id.

        Call ``visit`` for each object, with its stored record if it is not loaded.
        """
        return self._joined(ids, self._blocks_with(ids), lambda part: part, visit)

    def every_row(
        self,
        low: int,
        high: int,
        select: Callable[[Part], Part],
        names: Iterable[str] | None,
        *,
        scan: ColumnScan | None = None,
        keep: bool = False,
    ) -> Iterator[Rows]:
        """Yield the rows of all stored runs from ``low`` to ``high``, as ``rows`` does.

        ``names``: the columns that the caller uses, None: all. ``scan`` finds all runs of blocks
        that ``select`` takes. It needs no index.
        """
        start, visit = low, _activate if keep else None
        for some in self._groups(low, high, TOGETHER):
            prefetch([block.own for block in some])
            for block, ids in _found(some, scan, names):
                first, last = block.ids[0], block.ids[-1]
                yield from self._single_rows(start, first - 1, select, visit)
                within = ids
                if first < low or last > high:
                    within = [run_id for run_id in ids if low <= run_id <= high]
                between = list(self._single.keys(max(first, low), min(last, high)))
                if within or between:
                    yield self._joined(between, [(block, within)], select, visit)
                start = max(start, last + 1)
        yield from self._single_rows(start, high, select, visit)

    def _single_rows(
        self, low: int, high: int, select: Callable[[Part], Part], visit: Visit | None
    ) -> Iterator[Rows]:
        ids = stream_keys(self._single, low, high, keep=False) if low <= high else iter(())
        while batch := list(islice(ids, BLOCK)):
            yield self._joined(batch, [], select, visit)

    def _joined(
        self,
        single: Sequence[int],
        blocks: Sequence[tuple[RunBlock, Sequence[int]]],
        select: Callable[[Part], Part],
        visit: Visit | None,
    ) -> Rows:
        """Return the rows of runs: of some that may be single, and of some in each block."""
        objects, unread = self._own_objects(single, blocks)
        items, rows = list(objects.values()), []
        for item, (unloaded, stored) in zip(items, stored_records(items), strict=True):
            data = item.data if unloaded is None else unloaded
            if DELETED not in data:
                rows.append(data["record"])
            if visit is not None:
                visit(item, stored)
        parts: list[Part] = [StoredRows(rows)]
        for block, ids in blocks:
            parts.append(block.rows([i for i in ids if i not in objects] if objects else ids))
        if visit is None:
            for leaf in unread:
                leaf._p_deactivate()  # noqa: SLF001
        if self._single._p_jar is not None:
            self._single._p_jar.cacheGC()
        return join_rows([select(part) for part in parts if len(part)])

    @property
    def has_new(self) -> bool:
        """Whether there are runs that were inserted and not stored yet."""
        return bool(self._new)

    def stored_ids(self) -> list[int]:
        """Return the ids of all stored runs, ascending. This loads every edited run."""
        found = set(self._single)
        for block in self._every_block():
            deleted = {run_id for run_id, item in block.own.items() if DELETED in item.data}
            found.update(set(block.ids) - deleted)
        return sorted(found)

    def problems(self) -> Iterator[str]:
        """Yield the faults in the layout."""
        last = 0
        for key, block in zip(self._blocks or (), self._every_block(), strict=True):
            ids = block.ids
            if not last < key <= ids[0] or list(ids) != sorted(set(ids)):
                yield f"block {key} is not in order"
            last = ids[-1]
            if not all(map(block.has, block.own)):
                yield f"block {key} has edited runs that are not its own"
            if any(map(block.has, self._single.keys(key, last))):
                yield f"block {key} has runs that are stored alone as well"

    def _every_block(self) -> Iterator[RunBlock]:
        return map(RunBlock, () if self._blocks is None else self._blocks.values())

    def candidates(self, scan: ColumnScan, low: int | None, high: int | None) -> Iterator[int]:
        """Yield the ids from ``low`` to ``high`` of a superset of the runs that match, ascending.

        Some of them may be deleted.
        """
        single = self._single.keys(low, high)
        return merge(single, sorted(self._new), self._scanned(scan, low, high))

    def _scanned(self, scan: ColumnScan, low: int | None, high: int | None) -> Iterator[int]:
        for some in self._groups(low, high, SCANNED):
            prefetch([item for block in some for item in block.scanned(scan.names)])
            for block in some:
                yield from (
                    run_id
                    for run_id in block.scan(scan)
                    if (low is None or run_id >= low) and (high is None or run_id <= high)
                )

    def _groups(self, low: int | None, high: int | None, size: int) -> Iterator[list[RunBlock]]:
        """Yield the blocks that may have runs from ``low`` to ``high``, some loaded together."""
        if not self._blocks:
            return
        first = self._blocks.minKey()
        start = first if low is None or low < first else self._blocks.maxKey(low)
        items = iter(self._blocks.values(start, high))
        while some := list(islice(items, size)):
            prefetch(some)
            yield list(map(RunBlock, some))

    def _block_with(self, run_id: int) -> RunBlock | None:
        if self._blocks is None:
            return None
        try:
            first = self._blocks.maxKey(run_id)
        except ValueError:  # all blocks are behind it
            return None
        block = RunBlock(self._blocks[first])
        return block if block.has(run_id) else None

    def _blocks_with(self, ids: Iterable[int]) -> list[tuple[RunBlock, list[int]]]:
        """Return the blocks that have some of these runs, each with its own among them."""
        if not self._blocks:
            return []
        least = self._blocks.minKey()
        firsts = [(self._blocks.maxKey(one), one) for one in sorted(set(ids)) if one >= least]
        groups = [(first, [i for _, i in g]) for first, g in groupby(firsts, lambda f: f[0])]
        items = [self._blocks[first] for first, _ in groups]
        prefetch(items)
        blocks = [RunBlock(item) for item in items]
        found = [
            (block, [run_id for run_id in within if block.has(run_id)])
            for block, (_, within) in zip(blocks, groups, strict=True)
        ]
        return [(block, within) for block, within in found if within]

    def _own_objects(
        self, ids: Sequence[int], blocks: Sequence[tuple[RunBlock, Sequence[int]]]
    ) -> tuple[dict[int, Any], list[Any]]:
        """Return the objects of runs, and the leaves of trees that were loaded for them."""
        unread = prefetch_leaves(self._single, ids)
        prefetch([block.own for block, _ in blocks])
        found = {run_id: self._single.get(run_id) for run_id in ids}
        for block, within in blocks:
            own = block.own
            if own:
                unread += prefetch_leaves(own, within)
                found.update((run_id, own[run_id]) for run_id in within if run_id in own)
        return {run_id: item for run_id, item in found.items() if item is not None}, unread

    # -- writing ---------------------------------------------------------------------------

    def insert(self, record: RunRecord) -> None:
        """Insert a run under ``record.id``; ``flush`` stores it."""
        self._new[record.id] = record

    def update(self, record: RunRecord) -> None:
        """Replace the record of an existing run."""
        if record.id in self._new:
            self._new[record.id] = record
            return
        self.to_write(record.id, record)

    def replace(self, records: Mapping[int, RunRecord | None]) -> None:
        """Replace runs, or delete them (None), in a store that is no database."""
        for run_id, record in records.items():
            block = self._block_with(run_id)
            data = {DELETED: (self._study, run_id)} if record is None else encode_record(record)
            (self._single if block is None else block.own)[run_id] = new_object(data)
        for block, ids in self._blocks_with(list(records)):
            block.item["moved"] = (*block.item.get("moved", ()), *ids)

    def move(self, run_id: int) -> None:
        """Record that the parameters of a run change, so that scans do not trust its columns."""
        block = None if run_id in self._new else self._block_with(run_id)
        if block is not None and run_id not in (moved := block.item.get("moved", ())):
            block.item["moved"] = (*moved, run_id)

    def rely_on(self, run_id: int) -> None:
        """Make the commit conflict with every other one that changes a stored run.

        A run without an object of its own gets one, as by an edit. To check the tree instead would
        not help: it does not change if one of its leaves does.
        """
        check_current(self.to_write(run_id))

    def delete(self, run_id: int) -> None:
        """Delete a run. Concurrent edits conflict, and other clients are notified."""
        if self._new.pop(run_id, None) is not None:
            return
        stored = self.to_write(run_id)
        if run_id in self._single:
            stored._p_changed = True
            del self._single[run_id]
            return
        stored.data = {DELETED: (self._study, run_id)}
        stored._v_record = None

    def to_write(self, run_id: int, new: RunRecord | None = None) -> Any:
        """Return the object of a stored run, with the record ``new``, None: the present one.

        A run of a block gets an object if it has none of its own. The commit conflicts with a
        compaction of the run. Only ended runs are compacted.
        """
        stored, block = self._place(run_id)
        record = _record_in(stored, block, run_id)
        if record is not None and record.lifecycle.is_terminal:
            check_current(self._table if block is None else block.item)
        if stored is None and block is not None:
            stored = block.own[run_id] = new_object({})
            new = new or record
        if new is not None:
            stored.data = encode_record(new)
            stored._v_record = new
        return stored

    def flush(self) -> None:
        """Store the new runs: as blocks, or as objects where fewer have neighbouring ids."""
        new, self._new = self._new, {}
        for stretch in _stretches(sorted(new)):
            for start in range(0, len(stretch), BLOCK):
                records = [new[run_id] for run_id in stretch[start : start + BLOCK]]
                if len(records) < LEAST or self._blocks is None:
                    for record in records:
                        self._single[record.id] = new_object(encode_record(record))
                else:
                    self._blocks[records[0].id] = new_block(records)


def _found(
    blocks: Sequence[RunBlock], scan: ColumnScan | None, names: Iterable[str] | None
) -> list[tuple[RunBlock, Sequence[int]]]:
    """Return each block with the ids that a scan finds, and load the columns of these names."""
    if scan is not None:
        prefetch([column for block in blocks for column in block.columns_of(scan.names)])
    found = [(block, block.ids if scan is None else block.scan(scan)) for block in blocks]
    full = [block for block, ids in found if ids and len(block.own) < block.length]
    used = (block.columns_of(block.item["columns"] if names is None else names) for block in full)
    prefetch([column for of_block in used for column in of_block])
    return found


def _stretches(ids: Sequence[int]) -> Iterator[list[int]]:
    """Yield the longest stretches of consecutive ids."""
    for _, stretch in groupby(enumerate(ids), lambda pair: pair[1] - pair[0]):
        yield [run_id for _, run_id in stretch]


def _activate(item: Any, stored: Any) -> None:
    if stored is not None:
        item._p_jar.activate(item, stored)


def _record_of(stored: Any) -> RunRecord | None:
    """Return the record in an object, cached there; None for a deleted run."""
    stored._p_activate()
    record: RunRecord | None = getattr(stored, "_v_record", None)
    if record is None:
        record = stored._v_record = _decoded(stored.data)
    return record


def _record_in(stored: Any, block: RunBlock | None, run_id: int) -> RunRecord | None:
    """Return the record in a place, None if there is none."""
    if stored is not None:
        return _record_of(stored)
    return None if block is None else block.record(run_id)


def _decoded(data: Any) -> RunRecord | None:
    return None if DELETED in data else decode_record(data)
