"""Follow a database file by position: which objects the transactions behind a place wrote.

Only finished transactions up to a known one are read. ``FileStorage.iterator(start)`` would not do:
it fails while a commit is half written.
"""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING, NamedTuple

from motoko.server.safe_file import saved_position
from motoko.server.transaction_file import (
    LENGTH,
    MAGIC,
    RECORD,
    FileTransaction,
    read_before,
    read_closed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Place(NamedTuple):
    """The end of a transaction in a file with this inode number; packing makes another file."""

    inode: int
    position: int
    tid: bytes


def place_of(file: IO[bytes], path: Path, tid: bytes) -> Place | None:
    """Return the place of a transaction in the database file ``path``; None if it is not there."""
    size = os.fstat(file.fileno()).st_size
    end = start = min(saved_position(path), size) or len(MAGIC)
    for found in _finished(file, start, size):
        end = found.end
        if found.id >= tid:
            break
    before = read_before(file, end) if end > len(MAGIC) else None
    while before is not None and before.id > tid:
        before = read_before(file, before.start) if before.start > len(MAGIC) else None
    if before is None or before.id != tid:
        return None
    return Place(os.fstat(file.fileno()).st_ino, before.end, tid)


def changed_since(
    file: IO[bytes], place: Place, last: bytes, limit: int
) -> tuple[set[bytes], Place] | None:
    """Return the objects that changed behind a place up to the transaction ``last``, and its place.

    None: the file was replaced, lacks a transaction, or has more than ``limit`` changed objects.
    """
    found = os.fstat(file.fileno())
    before = read_before(file, place.position) if place.position <= found.st_size else None
    if found.st_ino != place.inode or before is None or before.id != place.tid:
        return None
    oids: set[bytes] = set()
    for one in _finished(file, place.position, found.st_size) if last > place.tid else ():
        if one.id > last:
            break
        oids.update(_objects(file, one))
        place = Place(place.inode, one.end, one.id)
        if len(oids) > limit:
            return None
    return (oids, place) if place.tid == last else None


def _finished(file: IO[bytes], position: int, size: int) -> Iterator[FileTransaction]:
    while position < size:
        found = read_closed(file, position, size)
        if found is None or not found.finished:
            return
        yield found
        position = found.end


def _objects(file: IO[bytes], transaction: FileTransaction) -> Iterator[bytes]:
    """Yield the ids of the objects that a transaction wrote."""
    position = transaction.contents
    while position < transaction.end - LENGTH.size:
        file.seek(position)
        oid, tid, *_, length = RECORD.unpack(file.read(RECORD.size))
        if tid != transaction.id:
            raise ValueError("a transaction in the file is damaged")
        yield oid
        position += RECORD.size + (length or LENGTH.size)
