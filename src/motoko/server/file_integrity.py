"""Distinguish what a crash left at the end of a database file from damage.

A crash leaves an unfinished commit at the end, behind the last acknowledged one: it is cut off, and
no commit is lost. One fsync writes both status and contents, so the status may be stored without a
part of the contents. Anything else is damage. FileStorage confuses the two: at a damaged length in
the middle, it cuts off all that follows.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import pickle
import struct
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any, Final

from ZODB.FileStorage.FileStorage import FileStorageError
from ZODB.FileStorage.format import CorruptedDataError, CorruptedError
from ZODB.fsIndex import fsIndex
from ZODB.POSException import POSError
from ZODB.TimeStamp import TimeStamp

from motoko.errors import DatabaseDamagedError
from motoko.runtime.files import write_atomic
from motoko.runtime.ports import SYSTEM, utc_text
from motoko.server.safe_file import saved_position
from motoko.server.transaction_file import (
    HEADER,
    LENGTH,
    MAGIC,
    FileRecords,
    FileTransaction,
    another_begins,
    closing_length,
    lacks_a_sector,
    only_zeros,
    read_before,
    read_header,
    record_positions,
    sector_end,
    walk,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ZODB.FileStorage import FileStorage

    from motoko.runtime.ports import Clock

COLLECTED: Final = 100_000  # positions
ATTEMPTS: Final = 3
PAUSE: Final = 0.05
# Raised by FileStorage for bytes that it cannot parse.
PARSE_ERRORS: Final = (
    FileStorageError,
    CorruptedError,
    CorruptedDataError,
    struct.error,
    EOFError,
    OverflowError,
    ValueError,
    pickle.UnpicklingError,
)
# Raised for objects that Motoko did not write.
UNREADABLE_OBJECT: Final = (*PARSE_ERRORS, TypeError, AttributeError, LookupError, AssertionError)
CLOSED_MESSAGE: Final = "closed"  # in a ValueError for the use of a closed file
DAMAGE_HINT: Final = (
    "Replace it with a copy: `motoko restore FILE --validated`; recover its intact parts: `motoko "
    "restore --salvage`; or start over: `motoko create --validated`."
)

log = logging.getLogger("motoko.storage")


@dataclass(frozen=True, slots=True)
class FileCheck:
    """A file of ``size`` bytes, of which ``committed`` are whole transactions.

    If the whole file was read, ``index`` has all objects, and ``last`` is the id of the last
    transaction.
    """

    size: int
    committed: int
    index: Any = None
    last: bytes = b""


class _Index:
    """Collects the positions of objects in a FileStorage's index; bounded memory beside that."""

    def __init__(self) -> None:
        self.index = fsIndex()
        self._new: dict[bytes, int] = {}

    def add(self, transaction: FileTransaction, records: FileRecords) -> None:
        """Add the records of the next transaction."""
        self._new.update(record_positions(transaction, records))
        if len(self._new) > COLLECTED:
            self.complete()

    def complete(self) -> Any:
        """Return the index."""
        self.index.update(self._new)
        self._new.clear()
        return self.index


@dataclass(frozen=True, slots=True)
class TornTail:
    """The unfinished commit that was cut off: when, its size, and the time of the last commit."""

    at: float
    size: int
    last: float

    def __str__(self) -> str:
        last = utc_text(self.last)
        return f"{self.size} bytes of an unfinished commit; the last commit is of {last}"


def damaged_error(path: Path, why: str) -> DatabaseDamagedError:
    """Return the error for a damaged file."""
    return DatabaseDamagedError(f"{path} {why}", hint=DAMAGE_HINT)


def _is_parse_error(error: Exception) -> bool:
    """Return whether FileStorage raised this for bytes that it cannot parse."""
    if isinstance(error, OSError):
        return error.errno == errno.EINVAL  # from corrupt file positions
    return isinstance(error, PARSE_ERRORS) and CLOSED_MESSAGE not in str(error)


@contextlib.contextmanager
def translate_errors(path: Path, *, opening: bool = False) -> Iterator[None]:
    """Raise ZODB's errors about a damaged file as DatabaseDamagedError.

    ``opening``: missing objects are damage too, since no other process uses the file yet.
    """
    try:
        yield
    except Exception as error:
        if not (_is_parse_error(error) or (opening and isinstance(error, POSError))):
            raise
        text = str(error).partition("\n")[0]
        why = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise damaged_error(path, f"is damaged: {why}") from error


def close_after_failure(storage: FileStorage) -> None:
    """Close the files of a FileStorage that failed to open."""
    for name in ("_file", "_files", "_tfile", "_lock_file"):
        opened = vars(storage).get(name)
        if opened is not None:
            opened.close()


def check_file(path: Path, *, clock: Clock = SYSTEM.clock) -> FileCheck:
    """Return how much of a file is committed; DatabaseDamagedError if it is damaged.

    Start at the position of the server's saved index, if any: until there it was committed.
    """
    for left in reversed(range(ATTEMPTS)):
        try:
            with path.open("rb") as file:
                return _check(path, file, os.fstat(file.fileno()).st_size)
        except DatabaseDamagedError:
            if not left:
                raise
        clock.sleep(PAUSE)  # a server may be writing or packing
    raise AssertionError


def _check(path: Path, file: IO[bytes], size: int) -> FileCheck:
    if file.read(len(MAGIC)) != MAGIC[:size]:
        raise damaged_error(path, "is not a Motoko database")
    if size <= len(MAGIC):
        raise damaged_error(path, "is empty: it is not a database")
    known = max(saved_position(path), len(MAGIC))
    if known > size:
        raise damaged_error(
            path, f"is cut off: of {known} bytes that were committed {size} are left"
        )
    for start in (known, len(MAGIC)):
        places = _Index()
        end, last = walk(file, start, size, places.add)
        if last is None and end > len(MAGIC):
            last = read_before(file, end)
            if last is None:
                continue  # the index is wrong
        if end == size or (end >= known and _is_torn(file, end, size, last)):
            index = places.complete() if start == len(MAGIC) else None
            return FileCheck(size, end, index, b"" if last is None else last.id)
    raise damaged_error(path, f"is damaged at byte {end} of {size}")


def check_complete(path: Path, *, clock: Clock = SYSTEM.clock) -> None:
    """Raise DatabaseDamagedError if an unused file ends with an unfinished commit."""
    found = check_file(path, clock=clock)
    if found.committed < found.size:
        raise DatabaseDamagedError(
            f"{path} is cut off: a transaction at byte {found.committed} of {found.size} is "
            "incomplete",
            hint="Use another copy: `motoko backup` makes complete ones only. Or recover its "
            "intact parts: `motoko restore --salvage FILE`. Nothing was changed.",
        )


def cut_torn_tail(path: Path, *, clock: Clock = SYSTEM.clock) -> FileCheck:
    """Cut off an unfinished commit; DatabaseDamagedError if the file is damaged."""
    found = check_file(path, clock=clock)
    if found.committed == found.size:
        return found
    with path.open("r+b") as file:
        tail = _tail(file, found, clock.now())
        write_atomic(_tail_file(path), json.dumps(asdict(tail)).encode(), durable=True)
        file.truncate(found.committed)
        os.fsync(file.fileno())
    log.warning("cut off the end of %s: %s", path, tail)
    return found


def torn_tail(path: Path, found: FileCheck, now: float) -> TornTail | None:
    """Return the unfinished commit that ``cut_torn_tail`` would cut off, None without one."""
    if found.committed == found.size:
        return None
    with path.open("rb") as file:
        return _tail(file, found, now)


def _tail(file: IO[bytes], found: FileCheck, now: float) -> TornTail:
    last = read_before(file, found.committed)
    when = 0.0 if last is None else TimeStamp(last.id).timeTime()
    return TornTail(now, found.size - found.committed, when)


def last_torn_tail(path: Path) -> TornTail | None:
    """Return the last unfinished commit that was cut off, None if there was none."""
    try:
        found = json.loads(_tail_file(path).read_bytes())
        return TornTail(float(found["at"]), int(found["size"]), float(found["last"]))
    except (OSError, ValueError, TypeError, LookupError):
        return None


def _tail_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.cut")


def _is_torn(file: IO[bytes], start: int, size: int, last: FileTransaction | None) -> bool:
    """Return whether the bytes from ``start`` are one commit that was never acknowledged.

    It is the last one, and its status says so or a part was never written. A changed commit is
    damage: it may have been acknowledged.
    """
    if only_zeros(file, start, size):
        return True
    if another_begins(file, start + 1, size):
        return False
    found = read_header(file, start)
    if found is None:
        return True
    if not found.plausible or (last is not None and found.id <= last.id):
        contents = start + HEADER.size
        return only_zeros(file, contents, size) or lacks_a_sector(
            file, start, min(size, sector_end(contents))
        )
    if found.end > size:
        length = closing_length(file, size)
        return length is None or size - LENGTH.size - length != start
    if not found.finished:
        return only_zeros(file, found.end, size)
    unclosed = closing_length(file, found.end) != found.length
    return only_zeros(file, found.end, size) and (
        (unclosed and only_zeros(file, found.end - 1, size))
        or lacks_a_sector(file, start, found.end)
    )
