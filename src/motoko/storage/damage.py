"""Whether a database file is whole: what a crash left at its end, and what is damage.

A file of FileStorage is a sequence of transactions; each tells its length at both of its ends, and
its status says whether it was finished. Whatever a process or a machine that died left is at the
end, behind the last finished one: cut off, no commit is lost. Anything else is damage. FileStorage
takes the one for the other: where a length in the middle is damaged, it cuts off all that follows.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import pickle
import struct
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

from ZODB.FileStorage.FileStorage import FileStorageError
from ZODB.FileStorage.format import CorruptedDataError, CorruptedError
from ZODB.POSException import POSError

from motoko.errors import DatabaseDamagedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ZODB.FileStorage import FileStorage

MAGIC: Final = b"FS30"  # what a file of FileStorage begins with
# Id, length, status, lengths of user, description and extension.
HEADER: Final = struct.Struct(">8sQcHHH")
LENGTH: Final = struct.Struct(">Q")
FINISHED: Final = b" up"
UNFINISHED: Final = b"c"
CHUNK: Final = 2**20
TRIES: Final = 3
MOMENT: Final = 0.05
# What FileStorage raises where bytes make no sense to it.
NONSENSE: Final = (
    FileStorageError,
    CorruptedError,
    CorruptedDataError,
    struct.error,
    EOFError,
    OverflowError,
    ValueError,
    pickle.UnpicklingError,
)
CLOSED: Final = "closed"  # what a ValueError says where a file is used too late
ADVICE: Final = (
    "Put a copy in its place with `motoko restore FILE --validated`, or begin anew with "
    "`motoko create --validated`."
)

log = logging.getLogger("motoko.storage")


@dataclass(frozen=True, slots=True)
class Sound:
    """A file of ``size`` bytes, of which ``committed`` are finished transactions.

    ``last`` is the id of the last of these.
    """

    size: int
    committed: int
    last: bytes


@dataclass(frozen=True, slots=True)
class _Transaction:
    id: bytes
    length: int
    status: bytes
    end: int


def damaged(path: Path, why: str) -> DatabaseDamagedError:
    """Return the error for a file that is damaged."""
    return DatabaseDamagedError(f"{path} {why}", hint=ADVICE)


def _senseless(error: Exception) -> bool:
    """Return whether an exception is one that FileStorage raises for bytes that make no sense."""
    if isinstance(error, OSError):
        return error.errno == errno.EINVAL  # which comes from positions in the file
    return isinstance(error, NONSENSE) and CLOSED not in str(error)


@contextlib.contextmanager
def told(path: Path, *, opening: bool = False) -> Iterator[None]:
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
        raise damaged(path, f"is damaged: {why}") from error


def abandon(storage: FileStorage) -> None:
    """Close what a FileStorage had opened when it failed to open its file."""
    for name in ("_file", "_files", "_tfile", "_lock_file"):
        opened = vars(storage).get(name)
        if opened is not None:
            opened.close()


def examine(path: Path) -> Sound:
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
        time.sleep(MOMENT)  # perhaps a server was just writing, or packing
    raise AssertionError


def _examined(path: Path, file: IO[bytes], size: int) -> Sound:
    if file.read(len(MAGIC)) != MAGIC[:size]:
        raise damaged(path, "is not a database of Motoko's")
    if size <= len(MAGIC):
        raise damaged(path, "is empty: it is no database")
    known = _indexed(path)
    if known > size:
        raise damaged(path, f"is cut off: of {known} bytes that were committed {size} are left")
    for start in (known, len(MAGIC)):
        end, last = _walk(file, start, size)
        if end == size or _left_by_a_crash(file, end, size):
            before = last or _before(file, end)
            if before is not None:
                return Sound(size, end, before)
    raise damaged(path, f"is damaged at byte {end} of {size}")


def check_whole(path: Path) -> None:
    """Raise DatabaseDamagedError if a file, which nobody writes to, ends with half a transaction.

    Such a file is not mended: nobody knows how much else it lacks.
    """
    found = examine(path)
    if found.committed < found.size:
        raise DatabaseDamagedError(
            f"{path} is cut off: a transaction at byte {found.committed} of {found.size} is not "
            "whole",
            hint="Take another copy: `motoko backup` makes whole ones only. Nothing was changed.",
        )


def mend(path: Path) -> None:
    """Cut off what a commit that was not finished left; DatabaseDamagedError if it is damaged."""
    found = examine(path)
    if found.committed == found.size:
        return
    with path.open("r+b") as file:
        file.truncate(found.committed)
        os.fsync(file.fileno())
    log.warning(
        "cut off %d bytes at the end of %s, which a commit that was not finished left",
        found.size - found.committed, path,
    )  # fmt: skip


def _indexed(path: Path) -> int:
    """Return how many bytes were committed when the index was saved, as far as is known."""
    try:
        with path.with_name(f"{path.name}.index").open("rb") as file:
            found = pickle.load(file)  # noqa: S301 - the server's own, in a private directory
    except Exception:  # noqa: BLE001 - of an index that is damaged, anything; it is made anew
        return len(MAGIC)
    return found if isinstance(found, int) and found > len(MAGIC) else len(MAGIC)


def _walk(file: IO[bytes], position: int, size: int) -> tuple[int, bytes]:
    """Return where the finished transactions from ``position`` on end, and the last one's id."""
    last = b""
    while position < size:
        found = _whole(file, position, size)
        if found is None or found.status not in FINISHED or found.id <= last:
            break
        position, last = found.end, found.id
    return position, last


def _whole(file: IO[bytes], position: int, size: int) -> _Transaction | None:
    """Return the transaction at ``position`` if both its ends tell the same length."""
    found = _at(file, position)
    if found is None or found.end > size or _length(file, found.end) != found.length:
        return None
    return found


def _at(file: IO[bytes], position: int) -> _Transaction | None:
    """Return what the header at ``position`` says, None if it is cut off."""
    file.seek(position)
    header = file.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    number, length, status, *_ = HEADER.unpack(header)
    return _Transaction(number, length, status, position + length + LENGTH.size)


def _length(file: IO[bytes], end: int) -> int | None:
    """Return how long the transaction says to be that ends at ``end``, None if it cannot be."""
    file.seek(end - LENGTH.size)
    found: int = LENGTH.unpack(file.read(LENGTH.size))[0]
    return found if HEADER.size <= found <= end - LENGTH.size - len(MAGIC) else None


def _before(file: IO[bytes], position: int) -> bytes | None:
    """Return the id of the transaction that ends at ``position``; zero at the file's beginning.

    None if what is there is no transaction.
    """
    if position == len(MAGIC):
        return bytes(8)
    found = _last(file, position)
    return None if found is None else found.id


def _last(file: IO[bytes], end: int) -> _Transaction | None:
    """Return the transaction that ends at ``end``, None if what is there is none."""
    length = _length(file, end)
    found = None if length is None else _whole(file, end - LENGTH.size - length, end)
    return found if found is not None and found.end == end else None


def _left_by_a_crash(file: IO[bytes], position: int, size: int) -> bool:
    """Return whether what is at ``position`` is one transaction that was not finished."""
    found = _at(file, position)
    if found is None or _only_zeros(file, position):
        return True
    if found.status != UNFINISHED and (found.status not in FINISHED or found.end < size):
        return False
    # If something finished ends the file, it is a length, an id or a status that is wrong.
    last = _last(file, size)
    return last is None or last.status not in FINISHED


def _only_zeros(file: IO[bytes], position: int) -> bool:
    file.seek(position)
    while chunk := file.read(CHUNK):
        if any(chunk):
            return False
    return True
