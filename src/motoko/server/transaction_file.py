"""The transactions in a database file, read without loading any object.

A file of FileStorage is a sequence of transactions. Each stores its length at both ends, and its
status. Its records repeat its id and position. Motoko adds a digest of the contents: after a crash,
the one fsync of a commit may have stored the status without a page of the contents.
"""

from __future__ import annotations

import mmap
import pickle
import re
import struct
from dataclasses import dataclass
from hashlib import blake2b
from typing import IO, TYPE_CHECKING, Final, TypeAlias

from motoko.server.class_allow_list import references

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MAGIC: Final = b"FS30"  # what a file of FileStorage begins with
# Id, length, status, lengths of user, description and extension.
HEADER: Final = struct.Struct(">8sQcHHH")
# Object id, transaction id, position of the previous record and of the transaction, 0, length.
RECORD: Final = struct.Struct(">8s8sQQHQ")
LENGTH: Final = struct.Struct(">Q")
FINISHED: Final = b" up"
PACKED: Final = b"p"  # packing may have dropped records of it
UNFINISHED: Final = b"c"
CHUNK: Final = 2**20
SECTOR: Final = 512  # bytes that a disk writes whole or not at all

# The extension of a transaction: a pickled dictionary, so that ZODB's own tools read it as well.
_DIGEST_BYTES: Final = 8
_BLANK: Final = bytes(_DIGEST_BYTES)
_LABEL: Final = pickle.dumps({"blake2b": _BLANK}, 3)
_BEFORE, _AFTER = _LABEL.split(_BLANK)
# A possible header: an id of this century or the next few, a length below 2**40, a status.
_HEADER_LIKE: Final = re.compile(rb"(?=[\x03-\x0f].{7}\x00\x00\x00.{5}[ up])", re.DOTALL)


# The (oid, data) of each object in a transaction; data is None if it refers to an earlier record.
FileRecords: TypeAlias = list[tuple[bytes, bytes | None]]


@dataclass(frozen=True, slots=True)
class FileTransaction:
    """The header of a transaction; with its second length it ends at ``end``."""

    start: int
    id: bytes
    length: int
    status: bytes
    texts: tuple[int, int, int]

    @property
    def end(self) -> int:
        """Return where the next transaction begins."""
        return self.start + self.length + LENGTH.size

    @property
    def contents(self) -> int:
        """Return the position of its first record."""
        return self.start + HEADER.size + sum(self.texts)

    @property
    def finished(self) -> bool:
        """Whether it was finished, by its status."""
        return self.status in FINISHED

    @property
    def plausible(self) -> bool:
        """Whether its status is valid, and its length covers its header."""
        room = self.length >= HEADER.size + sum(self.texts)
        return room and (self.finished or self.status == UNFINISHED)


def label(digest: bytes = _BLANK) -> bytes:
    """Return the extension with a digest; its length is constant."""
    return _BEFORE + digest + _AFTER


def digest_of(description: bytes, records: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the digest of a description and of the (oid, data) of records."""
    found = blake2b(description, digest_size=_DIGEST_BYTES)
    for oid, data in records:
        found.update(oid)
        found.update(data)
    return found.digest()


def read_header(file: IO[bytes], position: int) -> FileTransaction | None:
    """Return the header at ``position``, None if it is cut off."""
    file.seek(position)
    header = file.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    number, length, status, *texts = HEADER.unpack(header)
    return FileTransaction(position, number, length, status, (texts[0], texts[1], texts[2]))


def read_closed(file: IO[bytes], position: int, size: int) -> FileTransaction | None:
    """Return the transaction at ``position`` if the lengths at its ends agree."""
    found = read_header(file, position)
    if found is None or found.end > size or closing_length(file, found.end) != found.length:
        return None
    return found


def read_before(file: IO[bytes], end: int) -> FileTransaction | None:
    """Return the transaction that ends at ``end``, None if none does."""
    length = closing_length(file, end)
    found = None if length is None else read_closed(file, end - LENGTH.size - length, end)
    return found if found is not None and found.end == end else None


def closing_length(file: IO[bytes], end: int) -> int | None:
    """Return the length stored before ``end``, None if it is impossible."""
    file.seek(end - LENGTH.size)
    found: int = LENGTH.unpack(file.read(LENGTH.size))[0]
    return found if HEADER.size <= found <= end - LENGTH.size - len(MAGIC) else None


def walk(
    file: IO[bytes],
    position: int,
    size: int,
    visit: Callable[[FileTransaction, FileRecords], object] = lambda *_: None,
) -> tuple[int, FileTransaction | None]:
    """Return the end of the intact transactions from ``position``, and the last one.

    Call ``visit`` for each.
    """
    last: FileTransaction | None = None
    while position < size:
        found = read_closed(file, position, size)
        if found is None or (last is not None and found.id <= last.id):
            break
        records = intact_records(file, found, is_last=found.end == size)
        if records is None:
            break
        visit(found, records)
        position, last = found.end, found
    return position, last


def record_positions(
    transaction: FileTransaction, records: FileRecords
) -> Iterator[tuple[bytes, int]]:
    """Yield the id of each object in a transaction, and the position of its record."""
    position = transaction.contents
    for oid, data in records:
        yield oid, position
        position += RECORD.size + (len(data) if data else LENGTH.size)


def read_records(
    file: IO[bytes], transaction: FileTransaction, *, moved: int = 0
) -> FileRecords | None:
    """Return the records of a transaction, ``moved`` by some bytes; None if they do not fill it."""
    position = transaction.contents
    last = transaction.end - LENGTH.size
    found: FileRecords = []
    file.seek(position)
    while position < last:
        header = file.read(RECORD.size)
        if len(header) < RECORD.size:
            return None
        oid, number, former, start, version, length = RECORD.unpack(header)
        position += RECORD.size + (length or LENGTH.size)
        if (
            number != transaction.id
            or start != transaction.start - moved
            or version
            or former >= transaction.start - moved + transaction.length
            or position > last
        ):
            return None
        data = file.read(length or LENGTH.size)
        found.append((oid, data if length else None))
    return found if position == last else None


def intact_records(
    file: IO[bytes], transaction: FileTransaction, *, moved: int = 0, is_last: bool = True
) -> FileRecords | None:
    """Return the records if the digest, or without one each pickle, is right; else None.

    Only the last transaction may lack parts that were never written: each commit waits for the
    disk. So, in earlier ones without a digest, most pickles are checked at their ends only.
    """
    if not (transaction.finished and transaction.plausible):
        return None
    records = read_records(file, transaction, moved=moved)
    if records is None:
        return None
    description, digest = _described(file, transaction)
    pairs = [(oid, data) for oid, data in records if data is not None]
    # The digest does not cover packed transactions, nor records that refer to others.
    if digest is not None and transaction.status != PACKED and len(pairs) == len(records):
        return records if digest_of(description, pairs) == digest else None
    return records if all(_is_readable(data, thorough=is_last) for _, data in pairs) else None


def _described(file: IO[bytes], transaction: FileTransaction) -> tuple[bytes, bytes | None]:
    """Return a transaction's description, and its digest if it carries one."""
    user, description, extension = transaction.texts
    file.seek(transaction.start + HEADER.size + user)
    text, extra = file.read(description), file.read(extension)
    if len(extra) != len(_LABEL):
        return text, None
    if not (extra.startswith(_BEFORE) and extra.endswith(_AFTER)) and any(extra):
        return text, None
    return text, extra[len(_BEFORE) : len(_BEFORE) + _DIGEST_BYTES]


def _is_readable(data: bytes, *, thorough: bool) -> bool:
    """Return whether a record is two pickles, without loading the classes that they name."""
    if not thorough and data[:1] == pickle.PROTO and data[-1:] == pickle.STOP:
        return True
    try:
        references(data)
    except Exception:  # noqa: BLE001 - a corrupt pickle may raise anything
        return False
    return True


def find_whole(file: IO[bytes], position: int, size: int, after: bytes) -> FileTransaction | None:
    """Return the next whole transaction after ``position``, where the file is out of step.

    ``after``: the id of the transaction before. A shifted transaction, behind missing bytes, counts
    only if its digest is right.
    """
    for start in _possible_headers(file, position, size):
        found = read_closed(file, start, size)
        if found is None or not found.plausible or not found.finished or found.id <= after:
            continue
        if records_of(file, found) is not None:
            return found
    return None


def another_begins(file: IO[bytes], position: int, size: int) -> bool:
    """Return whether a transaction, whole or not, begins at ``position`` or later."""
    for start in _possible_headers(file, position, size):
        found = read_header(file, start)
        if found is not None and found.plausible:
            file.seek(found.contents)
            header = file.read(RECORD.size)
            if len(header) == RECORD.size:
                _, number, _, place, *_ = RECORD.unpack(header)
                if (number, place) == (found.id, start):
                    return True
    return False


def records_of(file: IO[bytes], transaction: FileTransaction) -> FileRecords | None:
    """Return the records of a whole transaction, shifted or not; else None."""
    records = intact_records(file, transaction)
    if records is not None or _described(file, transaction)[1] is None:
        return records
    file.seek(transaction.contents)
    header = file.read(RECORD.size)
    if len(header) < RECORD.size or transaction.status == PACKED:
        return None
    moved = transaction.start - RECORD.unpack(header)[3]
    return intact_records(file, transaction, moved=moved)


def _possible_headers(file: IO[bytes], position: int, size: int) -> Iterator[int]:
    if position >= size:
        return
    with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as content:
        for match in _HEADER_LIKE.finditer(content, position):
            yield match.start()


def only_zeros(file: IO[bytes], position: int, end: int) -> bool:
    """Return whether all bytes from ``position`` to ``end`` are zero."""
    file.seek(position)
    while position < end:
        chunk = file.read(min(CHUNK, end - position))
        if not chunk or any(chunk):
            return not chunk
        position += len(chunk)
    return True


def sector_end(position: int) -> int:
    """Return the end of the sector that holds the byte before ``position``."""
    return -(-position // SECTOR) * SECTOR


def lacks_a_sector(file: IO[bytes], position: int, end: int) -> bool:
    """Return whether a disk sector between ``position`` and ``end`` was never written."""
    while position < end:
        following = min(end, sector_end(position + 1))
        if only_zeros(file, position, following):
            return True
        position = following
    return False
