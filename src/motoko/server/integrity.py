"""Whether a database file is whole: what a crash left at its end, and what is damage.

Whatever a process or a machine that died left is at the end, behind the last commit that was
acknowledged: cut off, nothing is lost. Of the last commit itself the status may be written and a
part of the contents not, for both go with one fsync. Anything else is damage. FileStorage takes the
one for the other: where a length in the middle is damaged, it cuts off all that follows.
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
from typing import IO, TYPE_CHECKING, Final

from ZODB.FileStorage.FileStorage import FileStorageError
from ZODB.FileStorage.format import CorruptedDataError, CorruptedError
from ZODB.POSException import POSError
from ZODB.TimeStamp import TimeStamp

from motoko.errors import DatabaseDamagedError
from motoko.runtime.clock import utc
from motoko.runtime.files import write_atomic
from motoko.runtime.ports import SYSTEM
from motoko.server.safe_file import saved_position
from motoko.server.transaction_file import (
    HEADER,
    LENGTH,
    MAGIC,
    FileTransaction,
    another_begins,
    closing_length,
    lacks_a_sector,
    only_zeros,
    read_before,
    read_header,
    sector_end,
    walk,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ZODB.FileStorage import FileStorage

    from motoko.runtime.ports import Clock

TRIES: Final = 3
MOMENT: Final = 0.05
# What FileStorage raises where bytes make no sense to it.
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
# What comes of objects that are not those that Motoko put there.
UNREADABLE_OBJECT: Final = (*PARSE_ERRORS, TypeError, AttributeError, LookupError, AssertionError)
CLOSED_MESSAGE: Final = "closed"  # what a ValueError says where a file is used too late
ADVICE: Final = (
    "Put a copy in its place with `motoko restore FILE --validated`, keep what is whole of it with "
    "`motoko restore --salvage`, or begin anew with `motoko create --validated`."
)

log = logging.getLogger("motoko.storage")


@dataclass(frozen=True, slots=True)
class FileCheck:
    """A file of ``size`` bytes, of which ``committed`` are whole transactions."""

    size: int
    committed: int


@dataclass(frozen=True, slots=True)
class TornTail:
    """What was cut off a file: when, how many bytes, and the time of the last commit before."""

    at: float
    size: int
    last: float

    def __str__(self) -> str:
        last = utc(self.last).isoformat(timespec="seconds")
        return f"{self.size} bytes of a commit that was not finished; the last commit is of {last}"


def damaged_error(path: Path, why: str) -> DatabaseDamagedError:
    """Return the error for a file that is damaged."""
    return DatabaseDamagedError(f"{path} {why}", hint=ADVICE)


def _senseless(error: Exception) -> bool:
    """Return whether an exception is one that FileStorage raises for bytes that make no sense."""
    if isinstance(error, OSError):
        return error.errno == errno.EINVAL  # which comes from positions in the file
    return isinstance(error, PARSE_ERRORS) and CLOSED_MESSAGE not in str(error)


@contextlib.contextmanager
def translate_errors(path: Path, *, opening: bool = False) -> Iterator[None]:
    """Have what ZODB makes of a damaged file raised as a DatabaseDamagedError.

    ``opening``: nothing else works with the file, and so what is missing is damage, too.
    """
    try:
        yield
    except Exception as error:
        if not (_senseless(error) or (opening and isinstance(error, POSError))):
            raise
        text = str(error).partition("\n")[0]
        why = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise damaged_error(path, f"is damaged: {why}") from error


def close_after_failure(storage: FileStorage) -> None:
    """Close what a FileStorage had opened when it failed to open its file."""
    for name in ("_file", "_files", "_tfile", "_lock_file"):
        opened = vars(storage).get(name)
        if opened is not None:
            opened.close()


def check_file(path: Path, *, clock: Clock = SYSTEM.clock) -> FileCheck:
    """Find out how much of a file is committed; DatabaseDamagedError if it is damaged.

    From where the index that a server saved leads to, if there is one: it knows how much was
    committed then.
    """
    for left in reversed(range(TRIES)):
        try:
            with path.open("rb") as file:
                return _examined(path, file, os.fstat(file.fileno()).st_size)
        except DatabaseDamagedError:
            if not left:
                raise
        clock.sleep(MOMENT)  # perhaps a server was just writing, or packing
    raise AssertionError


def _examined(path: Path, file: IO[bytes], size: int) -> FileCheck:
    if file.read(len(MAGIC)) != MAGIC[:size]:
        raise damaged_error(path, "is not a database of Motoko's")
    if size <= len(MAGIC):
        raise damaged_error(path, "is empty: it is no database")
    known = max(saved_position(path), len(MAGIC))
    if known > size:
        raise damaged_error(
            path, f"is cut off: of {known} bytes that were committed {size} are left"
        )
    for start in (known, len(MAGIC)):
        end, last = walk(file, start, size)
        if last is None and end > len(MAGIC):
            last = read_before(file, end)
            if last is None:
                continue  # the index leads nowhere
        if end == size or (end >= known and _is_torn(file, end, size, last)):
            return FileCheck(size, end)
    raise damaged_error(path, f"is damaged at byte {end} of {size}")


def check_complete(path: Path, *, clock: Clock = SYSTEM.clock) -> None:
    """Raise DatabaseDamagedError if a file, which nobody writes to, ends with half a transaction.

    Such a file is not mended: nobody knows how much else it lacks.
    """
    found = check_file(path, clock=clock)
    if found.committed < found.size:
        raise DatabaseDamagedError(
            f"{path} is cut off: a transaction at byte {found.committed} of {found.size} is not "
            "whole",
            hint="Take another copy: `motoko backup` makes whole ones only. Or keep what is whole "
            "of it: `motoko restore --salvage FILE`. Nothing was changed.",
        )


def cut_torn_tail(path: Path, *, clock: Clock = SYSTEM.clock) -> None:
    """Cut off what a commit that was not finished left; DatabaseDamagedError if it is damaged."""
    found = check_file(path, clock=clock)
    if found.committed == found.size:
        return
    with path.open("r+b") as file:
        cut = _cut(file, found, clock.now())
        write_atomic(_note(path), json.dumps(asdict(cut)).encode(), durable=True)
        file.truncate(found.committed)
        os.fsync(file.fileno())
    log.warning("cut off the end of %s: %s", path, cut)


def torn_tail(path: Path, found: FileCheck, now: float) -> TornTail | None:
    """Return what ``cut_torn_tail`` would cut off a file, None if nothing."""
    if found.committed == found.size:
        return None
    with path.open("rb") as file:
        return _cut(file, found, now)


def _cut(file: IO[bytes], found: FileCheck, now: float) -> TornTail:
    last = read_before(file, found.committed)
    when = 0.0 if last is None else TimeStamp(last.id).timeTime()
    return TornTail(now, found.size - found.committed, when)


def last_torn_tail(path: Path) -> TornTail | None:
    """Return what was last cut off a file, None if nothing ever was."""
    try:
        found = json.loads(_note(path).read_bytes())
        return TornTail(float(found["at"]), int(found["size"]), float(found["last"]))
    except (OSError, ValueError, TypeError, LookupError):
        return None


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.cut")


def _is_torn(file: IO[bytes], start: int, size: int, last: FileTransaction | None) -> bool:
    """Return whether what is at ``start`` is one commit that never was acknowledged.

    Then it is the end of the file, and its status says so, or a part of it was never written. A
    commit that is only changed is damage: it may have been acknowledged.
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
