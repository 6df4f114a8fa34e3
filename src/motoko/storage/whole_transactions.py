"""The whole transactions of a damaged database file, and the newest states of objects in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Final

from ZODB.Connection import TransactionMetaData
from ZODB.utils import z64

from motoko.server.class_allow_list import references
from motoko.server.safe_file import SafeFileStorage
from motoko.server.transaction_file import (
    MAGIC,
    FileRecords,
    FileTransaction,
    find_whole,
    read_closed,
    records_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The record of an empty mapping, for a lost root object.
EMPTY_ROOT: Final = (
    b"\x80\x03cpersistent.mapping\nPersistentMapping\n.\x80\x03}X\x04\x00\x00\x00data}s."
)


@dataclass(slots=True)
class NewestStates:
    """The newest (transaction id, data) of each object; and deleted objects that were runs.

    ``transactions``: the number of whole ones.
    """

    places: dict[bytes, tuple[bytes, bytes]] = field(default_factory=dict)
    deleted: set[bytes] = field(default_factory=set)
    transactions: int = 0


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


def scan_file(file: IO[bytes], size: int, gaps: list[tuple[int, int]]) -> NewestStates:
    """Return the states in a file; append its lost parts to ``gaps``, as (position, bytes)."""
    newest = NewestStates()
    for found, records in _whole_transactions(file, size, gaps):
        newest.transactions += 1
        written = {oid: data for oid, data in records if data is not None}
        newest.places.update({oid: (found.id, data) for oid, data in written.items()})
        _record_deleted_runs(newest, written)
    return newest


def _record_deleted_runs(newest: NewestStates, written: dict[bytes, bytes]) -> None:
    """Record which runs a transaction deleted: it writes them, but not in the tree of runs."""
    runs = [oid for oid, data in written.items() if b"PersistentMapping" in data[:60]]
    trees = [data for data in written.values() if b"BTrees.IOBTree" in data[:60]]
    listed = {oid for data in trees for oid in references(data)}
    for oid in runs:
        newest.deleted.discard(oid)
        if trees and oid not in listed:
            newest.deleted.add(oid)


def write_image(newest: NewestStates, image: Path) -> None:
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
