"""Compaction: store runs that have all ended as columns, in bounded steps beside the work.

A step rewrites one block, or makes one of single runs. Runs of an older Motoko are single runs, so
compaction also converts old databases. Each step is one commit, and a database between two steps is
as valid as any other. A step changes no run: readers find the same records before and after it.

A step conflicts with every concurrent edit of its runs: it checks that their objects did not change
since it read them, and each edit of an ended run checks the mapping that the step writes. That is
the block, or the study's table for runs that are stored alone. See ``RunStore.to_write``.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from motoko.core.states import NON_TERMINAL
from motoko.storage import run_store
from motoko.storage.commit import run_transaction
from motoko.storage.run_block import RunBlock, check_current, ended_block, rewrite

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from motoko.core.run_rows import Rows
    from motoko.storage.database import Database
    from motoko.storage.study_table import StudyTable
    from motoko.storage.tables import Tables

EDITED: Final = 0.1  # of the runs of a compacted block may have objects of their own
LOOKED: Final = 100  # blocks, or groups of single runs, that one step examines


class Step(NamedTuple):
    """Whether a step compacted runs; the id from which the next one proceeds, None at the end."""

    compacted: bool
    following: int | None


def compact_step(table: StudyTable, low: int = 0) -> Step:
    """Compact the first runs from the id ``low`` that need it; examine a bounded number of them.

    Call it in a transaction of its own.
    """
    blocks, single = table.trees["blocks"], table.trees["runs"]
    for _ in range(LOOKED):
        block, run = _first(blocks, low), _first(single, low)
        if block is None and run is None:
            return Step(False, None)
        if run is None or (block is not None and block <= run):
            assert block is not None
            compacted, low = _compact_block(table, block)
        else:
            compacted, low = _compact_single_runs(table, run, block)
        if compacted:
            return Step(True, low)
    return Step(False, low)


def _compact_block(table: StudyTable, first: int) -> tuple[bool, int]:
    """Compact a block, and the single runs between its runs, if it needs that.

    Return whether it did, and the id after the block.
    """
    item = table.trees["blocks"][first]
    block = RunBlock(item)
    ids, own = block.ids, block.own
    active = _active(table, ids[0], ids[-1])
    single = [i for i in table.trees["runs"].keys(ids[0], ids[-1]) if i not in active]
    is_due = not item["ended"] or len(own) + len(single) > EDITED * len(ids)
    if not is_due or any(map(block.has, active)):
        return False, ids[-1] + 1
    rows = _rows(table, sorted({*ids, *single}))
    _remove(own, list(own))
    if single:
        _remove_single(table, single)
    if len(rows):
        rewrite(item, rows)
    else:  # all of them were deleted
        item._p_changed = True
        del table.trees["blocks"][first]
    return True, ids[-1] + 1


def _compact_single_runs(table: StudyTable, first: int, block: int | None) -> tuple[bool, int]:
    """Make a block of ended single runs from ``first`` to the next ``block``, if there are enough.

    Return whether it did, and the id after those runs. Fewer than a block's runs are enough only
    if a block follows them.
    """
    single = table.trees["runs"]
    group = list(islice(single.keys(first, block), run_store.BLOCK))
    active = _active(table, group[0], group[-1])
    ended = [run_id for run_id in group if run_id not in active]
    is_last = block is None and len(group) < run_store.BLOCK
    if is_last or len(ended) < run_store.LEAST:
        return False, group[-1] + 1
    rows = _rows(table, ended)
    _remove_single(table, ended)
    table.trees["blocks"][ended[0]] = ended_block(table.name, rows)
    return True, group[-1] + 1


def _rows(table: StudyTable, ids: Sequence[int]) -> Rows:
    """Return the rows of ended runs; the commit fails if one is edited meanwhile."""
    return table.runs.stored_rows(ids, check_current)


def _first(tree: Any, low: int) -> int | None:
    """Return the first key from ``low``, None if there is none."""
    return next(iter(tree.keys(low)), None)


def _active(table: StudyTable, low: int, high: int) -> set[int]:
    """Return the ids from ``low`` to ``high`` of the runs that have not ended."""
    sets: Iterable[Any] = table.id_sets("lifecycles", NON_TERMINAL, None)
    return {run_id for ids in sets for run_id in ids.keys(low, high)}


def _remove_single(table: StudyTable, ids: Sequence[int]) -> None:
    """Remove runs that are stored alone, and write the mapping that their edits check."""
    _remove(table.trees["runs"], ids)
    table.trees._p_changed = True


def _remove(tree: Any, ids: Sequence[int]) -> None:
    """Remove the objects of runs from a tree."""
    for run_id in ids:
        del tree[run_id]


def compact_study(database: Database, study: str, low: int) -> int | None:
    """Make one step in a commit of its own; return where the next one proceeds, None at the end."""

    def compact(tables: Tables) -> int | None:
        if study not in tables.study_names():
            return None
        return compact_step(tables.study(study), low).following

    return run_transaction(database, compact)
