"""Read the tables of a damaged database as far as they are readable.

Each function appends the names of the other parts to ``notes``.
"""

from __future__ import annotations

from itertools import starmap
from typing import TYPE_CHECKING, Any, Final

from persistent.mapping import PersistentMapping
from ZODB.POSException import POSError

from motoko.core.records import RunKey, RunRecord, Transition, decode_record, stored_key
from motoko.errors import DatabaseVersionError, MotokoError
from motoko.server.file_integrity import UNREADABLE_OBJECT
from motoko.storage.run_block import DELETED, RunBlock, block_keys
from motoko.storage.schema import check_readable

if TYPE_CHECKING:
    from motoko.storage.whole_transactions import NewestStates

UNREADABLE: Final = (MotokoError, POSError, *UNREADABLE_OBJECT)


def read_tables(
    connection: Any, notes: list[str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the readable tables by name, and those of each study, of this or an earlier format.

    DatabaseVersionError if a newer Motoko wrote them.
    """
    tables: dict[str, Any] = {}
    studies: dict[str, dict[str, Any]] = {}
    try:
        tables = dict(connection.root()["motoko"])
        check_readable(connection.root())
        for name, table in _items(tables["studies"], "studies", notes):
            try:
                studies[name] = dict(table)
            except UNREADABLE as error:
                notes.append(f"the tables of study {name!r}: {type(error).__name__}")
                studies[name] = {}
    except DatabaseVersionError:
        raise
    except UNREADABLE as error:
        notes.append(f"the tables: {type(error).__name__}")
    return tables, studies


def read_runs(
    connection: Any, studies: dict[str, dict[str, Any]], newest: NewestStates, notes: list[str]
) -> dict[tuple[str, int], RunRecord]:
    """Return all runs: those in the tables, and those that no whole commit deleted."""
    runs: dict[tuple[str, int], RunRecord] = {}
    _add_blocks(runs, connection, newest, notes)
    for name, table in studies.items():
        for _, stored in _items(table.get("runs"), f"runs of {name}", notes):
            _add_run(runs, stored, notes)
    for oid, (_, data) in newest.places.items():
        if b"deleted" in data or (b"record" in data and oid not in newest.deleted):
            try:
                _add_run(runs, connection.get(oid), notes)
            except UNREADABLE:
                continue
    return _without_duplicates(runs, notes)


def _add_blocks(
    runs: dict[tuple[str, int], RunRecord], connection: Any, newest: NewestStates, notes: list[str]
) -> None:
    """Add the runs of all blocks, and then their edited runs."""
    for oid, (_, data) in newest.places.items():
        if b"block" not in data:
            continue
        try:
            stored = connection.get(oid)
            if isinstance(stored, PersistentMapping) and (keys := block_keys(stored.data)):
                block = RunBlock(stored)
                records = block.records([key.id for key in keys])
                runs.update({(record.study, record.id): record for record in records})
                for _, own in _items(block.own, f"edited runs of {keys[0].study}", notes):
                    _add_run(runs, own, notes)
        except UNREADABLE as error:
            notes.append(f"a block of runs: {type(error).__name__}")


def _add_run(runs: dict[tuple[str, int], RunRecord], stored: Any, notes: list[str]) -> None:
    try:
        if isinstance(stored, PersistentMapping) and stored_key(stored.data) is not None:
            record = decode_record(stored.data)
            runs[record.study, record.id] = record
        elif isinstance(stored, PersistentMapping) and DELETED in stored.data:
            runs.pop(tuple(stored.data[DELETED]), None)
    except UNREADABLE as error:
        notes.append(f"a run: {type(error).__name__}")


def read_histories(
    studies: dict[str, dict[str, Any]], notes: list[str]
) -> dict[RunKey, list[Transition]]:
    """Return the archived entries of the histories of runs, as far as they are readable."""
    found: dict[RunKey, list[Transition]] = {}
    for name, table in studies.items():
        chunks = dict(_items(table.get("histories"), f"histories of {name}", notes))
        for key in sorted(chunks):
            try:
                moves = starmap(Transition, chunks[key]["moves"])
                found.setdefault(RunKey(name, key[0]), []).extend(moves)
            except UNREADABLE as error:
                notes.append(f"a part of the history of {name}.{key[0]}: {error}")
    return found


def _without_duplicates(
    runs: dict[tuple[str, int], RunRecord], notes: list[str]
) -> dict[tuple[str, int], RunRecord]:
    """Return the runs without those that a later one of the same identity replaced."""
    last: dict[tuple[str, bytes], tuple[str, int]] = {}
    for key in sorted(runs):
        former = last.get((key[0], runs[key].identity))
        if former is not None:
            notes.append(f"run {former[0]}.{former[1]} is left out: {key[1]} is the same")
        last[key[0], runs[key].identity] = key
    return {key: runs[key] for key in last.values()}


def copy_readable(item: Any, what: str, notes: list[str]) -> Any:
    """Return a copy of a table or of an item in one, without unreadable parts."""
    kind = type(item).__name__
    if kind.endswith("BTree"):
        made = type(item)()
        for key, value in _items(item, what, notes):
            try:
                made[key] = copy_readable(value, what, notes)
            except UNREADABLE as error:
                notes.append(f"{what}: {key!r} ({type(error).__name__})")
        return made
    if kind.endswith("TreeSet"):
        return type(item)([key for key, _ in _items(item, what, notes)])
    if isinstance(item, PersistentMapping):
        return PersistentMapping(item.data)
    return item


def _items(tree: Any, what: str, notes: list[str]) -> list[tuple[Any, Any]]:
    """Return the (key, value) of a tree or set (there None), except those of missing nodes."""
    items: dict[Any, Any] = {}
    holes = 0
    seen: set[int] = set()
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        try:
            node._p_activate()
            state = node.__getstate__()
        except UNREADABLE:
            holes += 1
            continue
        children, entries = _children_and_entries(type(node).__name__, state)
        nodes += children
        items.update(entries)
    if holes:
        notes.append(f"{what}: {holes} parts of the index")
    return list(items.items())


def _children_and_entries(kind: str, state: Any) -> tuple[list[Any], dict[Any, Any]]:
    """Return the nodes below a node, and its own entries."""
    if not state:
        return [], {}
    mapping = kind.endswith(("BTree", "Bucket"))
    if kind.endswith(("BTree", "TreeSet")):
        if len(state) == 1:  # it contains its only bucket
            return [], _entries(state[0][0][0], mapping=mapping)
        return [*state[0][::2], state[1]], {}
    return list(state[1:]), _entries(state[0], mapping=mapping)


def _entries(flat: tuple[Any, ...], *, mapping: bool) -> dict[Any, Any]:
    if mapping:
        return dict(zip(flat[::2], flat[1::2], strict=True))
    return dict.fromkeys(flat)
