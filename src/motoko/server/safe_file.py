"""A FileStorage that loads no foreign pickle, and writes a digest with each transaction.

FileStorage itself unpickles the index beside a file, and the extension of a transaction. To resolve
a conflict, it imports whatever the records name.
"""

from __future__ import annotations

import logging
import os
import pickle
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from ZODB.FileStorage import FileStorage
from ZODB.fsIndex import fsIndex
from ZODB.POSException import ConflictError

from motoko.server import transaction_file
from motoko.server.class_allow_list import check_record
from motoko.server.transaction_file import RECORD

if TYPE_CHECKING:
    from collections.abc import Iterator

STATE: Final = ".wf"  # the directory in which servers save indexes
OTHERS_WRITE: Final = 0o022

log = logging.getLogger("motoko.storage")


class SafeFileStorage(FileStorage):  # type: ignore[misc]
    """A FileStorage. ``committed``: read only so many bytes of the file, and write none."""

    _file: Any
    _tfile: Any
    _ude: Any
    _view: int | None = None

    def __init__(self, path: Path, *, committed: int | None = None) -> None:
        self._view = committed
        super().__init__(str(path), read_only=committed is not None)

    # -- reading ---------------------------------------------------------------------------

    def _restore_index(self) -> Any:
        """Return the server's saved index; None makes FileStorage read the whole file."""
        if self._view is not None:
            self._file = _Committed(self._file, self._view)
        found = saved_index(Path(self._file_name))
        if found is None:
            return None
        position, index = found
        try:
            tid = self._sane(index, position)
        except Exception:  # noqa: BLE001 - a wrong index may raise anything
            return None
        return (index, position, tid) if tid else None

    def _read_txn_header(self, pos: int, tid: bytes | None = None) -> Any:
        header = super()._read_txn_header(pos, tid)
        header.ext = b""  # FileStorage would unpickle it
        return header

    def tryToResolveConflict(  # noqa: N802 - the name is ZODB's
        self,
        oid: bytes,
        committedSerial: bytes,  # noqa: N803
        oldSerial: bytes,  # noqa: N803
        newpickle: bytes,
        committedData: bytes = b"",  # noqa: N803
    ) -> Any:
        """Resolve a conflict, unless a record names a class that Motoko never stores."""
        committed = committedData or self.loadSerial(oid, committedSerial)
        try:
            for data in (newpickle, committed, self.loadSerial(oid, oldSerial)):
                check_record(data)
        except Exception as error:  # noqa: BLE001 - a corrupt pickle may raise anything
            log.error("a conflict was not resolved: %s", error)
            serials = (committedSerial, oldSerial)
            # Without the data: ZODB would load its class for the message.
            raise ConflictError(oid=oid, serials=serials) from None
        return super().tryToResolveConflict(oid, committedSerial, oldSerial, newpickle, committed)

    # -- writing ---------------------------------------------------------------------------

    def _begin(self, tid: bytes, user: bytes, description: bytes, extension: bytes) -> None:
        extension = transaction_file.label()
        self._ude = user, description, extension
        super()._begin(tid, user, description, extension)

    def tpc_vote(self, transaction: Any) -> Any:
        """Write a transaction with the digest of its contents."""
        with self._lock:
            if transaction is self._transaction:
                user, description, _ = self._ude
                digest = transaction_file.digest_of(description, self._new_records())
                self._ude = user, description, transaction_file.label(digest)
        return super().tpc_vote(transaction)

    def _new_records(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the (oid, data) that the current transaction has stored."""
        size, position = self._tfile.tell(), 0
        while position < size:
            self._tfile.seek(position)
            oid, *_, length = RECORD.unpack(self._tfile.read(RECORD.size))
            if length:
                yield oid, self._tfile.read(length)
            position += RECORD.size + (length or transaction_file.LENGTH.size)
        self._tfile.seek(size)


class _Committed:
    """The first ``size`` bytes of a file."""

    def __init__(self, file: Any, size: int) -> None:
        self._file = file
        self._size = size

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            offset += self._size
            whence = os.SEEK_SET
        return int(self._file.seek(offset, whence))

    def read(self, size: int) -> bytes:
        found: bytes = self._file.read(max(0, min(size, self._size - self._file.tell())))
        return found


# -- the index -------------------------------------------------------------------------------


class _NoClasses(pickle.Unpickler):
    """Reads a saved index of numbers, bytes and pairs of them."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"an index names {module}.{name}")


def saved_position(path: Path) -> int:
    """Return how many bytes were committed when the index was saved, 0 if unknown."""
    try:
        with _own_index(path) as file:
            found = _NoClasses(file).load()
    except Exception:  # noqa: BLE001 - a damaged index may raise anything; it is rebuilt
        return 0
    return found if type(found) is int and found > 0 else 0


def unindexed_bytes(path: Path) -> int:
    """Return the size of the part of a file that its saved index does not cover, or all of it."""
    size = path.stat().st_size if path.exists() else 0
    return max(0, size - saved_position(path))


def saved_index(path: Path) -> tuple[int, fsIndex] | None:
    """Return the server's saved index, None if there is no valid one."""
    try:
        with _own_index(path) as file:
            return load_index(file)
    except Exception:  # noqa: BLE001 - see above
        return None


def load_index(file: IO[bytes]) -> tuple[int, fsIndex]:
    """Return the size of the indexed file, and its index; a damaged one raises anything."""
    unpickler = _NoClasses(file)
    position = unpickler.load()
    if type(position) is not int:
        raise TypeError("an index does not begin with a position")
    buckets: dict[bytes, Any] = {}
    while pair := unpickler.load():
        prefix, bucket = pair
        buckets[prefix] = bucket
    index = fsIndex()
    index.__setstate__({"state_version": 1, "_data": list(buckets.items())})
    return position, index


@contextmanager
def _own_index(path: Path) -> Iterator[IO[bytes]]:
    """Open the index of a file, if it is the server's own in a private directory; else OSError."""
    directory = path.parent.stat()
    descriptor = os.open(
        f"{path}.index", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    )
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        ours = all(
            one.st_uid == os.getuid() and not one.st_mode & OTHERS_WRITE
            for one in (directory, found)
        )
        if path.parent.name != STATE or not ours or not stat.S_ISREG(found.st_mode):
            raise PermissionError(f"{path}.index is not the server's own")
        yield file
