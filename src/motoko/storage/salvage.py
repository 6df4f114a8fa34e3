"""Recover the intact parts of a damaged database file in a new one.

Every whole transaction is found, also behind damage, and the newest whole state of each object is
kept. If the tables are inconsistent then, they are rebuilt from the records of the runs.
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import starmap
from typing import IO, TYPE_CHECKING, Any, Final

from BTrees.OOBTree import OOBTree, OOTreeSet
from persistent.mapping import PersistentMapping
from ZODB.Connection import TransactionMetaData
from ZODB.POSException import POSError
from ZODB.utils import z64

from motoko.core.parameter_space import job_identity
from motoko.core.provenance import UNKNOWN
from motoko.core.records import RunKey, RunRecord, Transition, decode_record, stored_key
from motoko.errors import DatabaseDamagedError, MotokoError
from motoko.server.class_allow_list import references
from motoko.server.file_integrity import UNREADABLE_OBJECT
from motoko.server.safe_file import SafeFileStorage
from motoko.server.transaction_file import (
    MAGIC,
    FileRecords,
    FileTransaction,
    find_whole,
    read_closed,
    records_of,
)
from motoko.storage import history_archive
from motoko.storage.backup import summarise
from motoko.storage.commit import run_transaction
from motoko.storage.consistency import check_database_file
from motoko.storage.database import Database
from motoko.storage.run_block import DELETED, RunBlock, block_keys
from motoko.storage.schema import SCHEMA_VERSION, create_tables
from motoko.storage.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

UNREADABLE: Final = (MotokoError, POSError, *UNREADABLE_OBJECT)
BATCH: Final = 1000  # runs in one commit
# The record of an empty mapping, for a lost root object.
EMPTY_ROOT: Final = (
    b"\x80\x03cpersistent.mapping\nPersistentMapping\n.\x80\x03}X\x04\x00\x00\x00data}s."
)
# Not copied: indexes are rebuilt; leases belong to running processes; the rest is new.
INDEXES: Final = frozenset(
    {"runs", "blocks", "jobs", "runs_of_job", "by_identity", "by_job", "by_identity_parts",
     "by_job_parts", "states", "lifecycles", "scripts", "queues", "remarks", "counts", "ids",
     "histories", "uncounted"}
)  # fmt: skip
NOT_COPIED: Final = frozenset({"version", "written_by", "studies", "leases", "renewals"})


@dataclass(slots=True)
class SalvageReport:
    """The result: whole transactions, and runs by study.

    ``gaps``: lost parts of the file, as (position, bytes). ``rebuilt``: tables were rebuilt.
    ``notes``: the parts of the tables that could not be read.
    """

    transactions: int = 0
    runs: dict[str, int] = field(default_factory=dict)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    rebuilt: bool = False
    notes: list[str] = field(default_factory=list)


def salvage(source: Path, target: Path) -> SalvageReport:
    """Write the intact parts of ``source`` to ``target``; or raise DatabaseDamagedError."""
    report = SalvageReport()
    image = target.with_name(f"{target.name}.image")
    with source.open("rb") as file:
        newest = _scan(file, source.stat().st_size, report)
        if not newest.places:
            raise DatabaseDamagedError(
                f"{source} holds no whole transaction", hint="Put a copy in its place."
            )
    _write(newest, image)
    if check_database_file(image):
        report.rebuilt = True
        _rebuild(image, newest, target, report)
        report.notes += [
            f"still inconsistent: {problem}" for problem in check_database_file(target)
        ]
    else:
        image.rename(target)
        report.runs = summarise(target).runs
    return report


# -- the transactions ------------------------------------------------------------------------


@dataclass(slots=True)
class _Newest:
    """The newest (transaction id, data) of each object; and deleted objects that were runs."""

    places: dict[bytes, tuple[bytes, bytes]] = field(default_factory=dict)
    deleted: set[bytes] = field(default_factory=set)


def _whole_transactions(
    file: IO[bytes], size: int, gaps: list[tuple[int, int]]
) -> Iterator[tuple[FileTransaction, FileRecords]]:
    """Yield whole transactions with their records; append (position, size) to ``gaps``."""
    position, last = 0, bytes(8)
    if file.read(len(MAGIC)) == MAGIC:
        position = len(MAGIC)
    while position < size:
        found = read_closed(file, position, size)
        records = None
        if found is not None and found.finished and found.id > last:
            records = records_of(file, found)
        if found is not None and records is not None:
            yield found, records
            position, last = found.end, found.id
            continue
        following = find_whole(file, position + 1, size, last)
        end_of_gap = size if following is None else following.start
        gaps.append((position, end_of_gap - position))
        position = end_of_gap


def _scan(file: IO[bytes], size: int, report: SalvageReport) -> _Newest:
    newest = _Newest()
    for found, records in _whole_transactions(file, size, report.gaps):
        report.transactions += 1
        written = {oid: data for oid, data in records if data is not None}
        newest.places.update({oid: (found.id, data) for oid, data in written.items()})
        _record_deleted_runs(newest, written)
    return newest


def _record_deleted_runs(newest: _Newest, written: dict[bytes, bytes]) -> None:
    """Record which runs a transaction deleted: it writes them, but not in the tree of runs."""
    runs = [oid for oid, data in written.items() if b"PersistentMapping" in data[:60]]
    trees = [data for data in written.values() if b"BTrees.IOBTree" in data[:60]]
    listed = {oid for data in trees for oid in references(data)}
    for oid in runs:
        newest.deleted.discard(oid)
        if trees and oid not in listed:
            newest.deleted.add(oid)


def _write(newest: _Newest, image: Path) -> None:
    """Write the newest state of each object, as one transaction."""
    storage = SafeFileStorage(image)
    try:
        meta = TransactionMetaData(description="salvaged")
        tid = max(number for number, _ in newest.places.values())
        newest.places.setdefault(z64, (tid, EMPTY_ROOT))
        storage.tpc_begin(meta, tid)
        for oid, (_, data) in newest.places.items():
            storage.restore(oid, tid, data, "", None, meta)
        storage.tpc_vote(meta)
        storage.tpc_finish(meta)
    finally:
        storage.close()


# -- the tables ------------------------------------------------------------------------------


def _rebuild(image: Path, newest: _Newest, target: Path, report: SalvageReport) -> None:
    """Rebuild the tables of ``image`` in ``target``."""
    with (
        contextlib.closing(Database.read_file(image)) as old,
        contextlib.closing(Database(SafeFileStorage(target))) as new,
        old.snapshot() as connection,
    ):
        tables, studies = _read_tables(connection, report)
        runs = _read_runs(connection, studies, newest, report)
        names = sorted({*studies, *(record.study for record in runs.values())})
        run_transaction(new, lambda root: create_tables(root, names), initialising=True)
        run_transaction(new, lambda root: _copy(root, tables, studies, report), initialising=True)
        ordered = [runs[key] for key in sorted(runs)]
        histories = _read_histories(studies, report)
        for start in range(0, len(ordered), BATCH):
            batch = ordered[start : start + BATCH]
            insert = functools.partial(_insert, records=batch, histories=histories)
            run_transaction(new, insert, initialising=True)
        report.runs = dict(Counter(record.study for record in ordered))


def _read_tables(
    connection: Any, report: SalvageReport
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the readable tables by name, and those of each study."""
    tables: dict[str, Any] = {}
    studies: dict[str, dict[str, Any]] = {}
    try:
        tables = dict(connection.root()["motoko"])
        version = tables.get("version")
        if version != SCHEMA_VERSION:
            raise DatabaseDamagedError(
                f"the tables are of format {version}, and damaged",
                hint="Salvage them with the Motoko that wrote them.",
            )
        for name, table in _items(tables["studies"], "studies", report):
            try:
                studies[name] = dict(table)
            except UNREADABLE as error:
                report.notes.append(f"the tables of study {name!r}: {type(error).__name__}")
                studies[name] = {}
    except DatabaseDamagedError:
        raise
    except UNREADABLE as error:
        report.notes.append(f"the tables: {type(error).__name__}")
    return tables, studies


def _read_runs(
    connection: Any, studies: dict[str, dict[str, Any]], newest: _Newest, report: SalvageReport
) -> dict[tuple[str, int], RunRecord]:
    """Return all runs: those in the tables, and those that no whole commit deleted."""
    runs: dict[tuple[str, int], RunRecord] = {}
    _add_blocks(runs, connection, newest, report)
    for name, table in studies.items():
        for _, stored in _items(table.get("runs"), f"runs of {name}", report):
            _add_run(runs, stored, report)
    for oid, (_, data) in newest.places.items():
        if b"deleted" in data or (b"record" in data and oid not in newest.deleted):
            try:
                _add_run(runs, connection.get(oid), report)
            except UNREADABLE:
                continue
    return _without_duplicates(runs, report)


def _add_blocks(
    runs: dict[tuple[str, int], RunRecord], connection: Any, newest: _Newest, report: SalvageReport
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
                for _, own in _items(block.own, f"edited runs of {keys[0].study}", report):
                    _add_run(runs, own, report)
        except UNREADABLE as error:
            report.notes.append(f"a block of runs: {type(error).__name__}")


def _add_run(runs: dict[tuple[str, int], RunRecord], stored: Any, report: SalvageReport) -> None:
    try:
        if isinstance(stored, PersistentMapping) and stored_key(stored.data) is not None:
            record = decode_record(stored.data)
            runs[record.study, record.id] = record
        elif isinstance(stored, PersistentMapping) and DELETED in stored.data:
            runs.pop(tuple(stored.data[DELETED]), None)
    except UNREADABLE as error:
        report.notes.append(f"a run: {type(error).__name__}")


def _read_histories(
    studies: dict[str, dict[str, Any]], report: SalvageReport
) -> dict[RunKey, list[Transition]]:
    """Return the archived entries of the histories of runs, as far as they are readable."""
    found: dict[RunKey, list[Transition]] = {}
    for name, table in studies.items():
        chunks = dict(_items(table.get("histories"), f"histories of {name}", report))
        for key in sorted(chunks):
            try:
                moves = starmap(Transition, chunks[key]["moves"])
                found.setdefault(RunKey(name, key[0]), []).extend(moves)
            except UNREADABLE as error:
                report.notes.append(f"a part of the history of {name}.{key[0]}: {error}")
    return found


def _without_duplicates(
    runs: dict[tuple[str, int], RunRecord], report: SalvageReport
) -> dict[tuple[str, int], RunRecord]:
    """Return the runs without those that a later one of the same identity replaced."""
    last: dict[tuple[str, bytes], tuple[str, int]] = {}
    for key in sorted(runs):
        former = last.get((key[0], runs[key].identity))
        if former is not None:
            report.notes.append(f"run {former[0]}.{former[1]} is left out: {key[1]} is the same")
        last[key[0], runs[key].identity] = key
    return {key: runs[key] for key in last.values()}


def _copy(
    root: Any, tables: dict[str, Any], studies: dict[str, dict[str, Any]], report: SalvageReport
) -> None:
    motoko = root["motoko"]
    for name, table in tables.items():
        if name not in NOT_COPIED:
            motoko[name] = _copied(table, name, report)
    _complete_firings(motoko)
    for table in motoko["studies"].values():
        del table["normalised"]
    for study, parts in studies.items():
        for name, table in parts.items():
            if name not in INDEXES:
                motoko["studies"][study][name] = _copied(table, f"{name} of {study}", report)
        try:
            ids = dict(parts.get("ids", {}))
        except UNREADABLE:
            ids = {}
        for kind, number in ids.items():
            motoko["studies"][study]["ids"][kind] = number


def _complete_firings(motoko: Any) -> None:
    """Make the indexes of firings agree with their records.

    Each commit that opens or ends a firing writes both. If only the record is open, the commit that
    ended it is lost, and a later one wrote the index.
    """
    firings, listed = motoko["firings"], motoko["open"]
    for key in list(listed):
        if key not in firings or firings[key]["status"] != "open":
            listed.remove(key)
    for key, stored in firings.items():
        if stored["status"] == "open" and key not in listed:
            stored.update({"status": "done", "done": stored["opened"]})
        for one in stored.get("handled", ()):
            motoko.setdefault("handled", OOTreeSet()).insert((key[0], *one))


def _copied(item: Any, what: str, report: SalvageReport) -> Any:
    """Return a copy of a table or of an item in one, without unreadable parts."""
    kind = type(item).__name__
    if kind.endswith("BTree"):
        made = type(item)()
        for key, value in _items(item, what, report):
            try:
                made[key] = _copied(value, what, report)
            except UNREADABLE as error:
                report.notes.append(f"{what}: {key!r} ({type(error).__name__})")
        return made
    if kind.endswith("TreeSet"):
        return type(item)([key for key, _ in _items(item, what, report)])
    if isinstance(item, PersistentMapping):
        return PersistentMapping(item.data)
    return item


def _insert(
    root: Any, records: list[RunRecord], histories: Mapping[RunKey, Sequence[Transition]]
) -> None:
    tables = Tables(root)
    for found in records:
        stored = root["motoko"]["studies"][found.study]
        moves = histories.get(found.key, [])
        record = replace(_without_lost_facts(found, tables), archived=len(moves))
        tables.study(record.study).insert(record, job_identity(record.job))
        if moves:
            archive = stored.setdefault("histories", OOBTree())
            history_archive.append(archive, record.id, 0, moves)
        for kind, number in (("run", record.id), ("job", record.job_id)):
            stored["ids"][kind] = max(stored["ids"][kind], number)
    tables.flush()


def _without_lost_facts(record: RunRecord, tables: Tables) -> RunRecord:
    """Return the record without references to facts that are lost."""
    found = (one if tables.provenance(one) is not None else UNKNOWN for one in record.provenance)
    return replace(record, provenance=tuple(found))


# -- trees with holes ------------------------------------------------------------------------


def _items(tree: Any, what: str, report: SalvageReport) -> list[tuple[Any, Any]]:
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
        report.notes.append(f"{what}: {holes} parts of the index")
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
