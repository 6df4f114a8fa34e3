"""The server's database file: it survives a full disk, and is packed atomically."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zc.lockfile import LockError  # type: ignore[import-untyped]
from ZODB.FileStorage.FileStorage import TempFormatter
from ZODB.utils import z64

from motoko.runtime import fault_points
from motoko.runtime.files import sync_directory
from motoko.runtime.ports import SYSTEM
from motoko.server import file_integrity
from motoko.server.file_packing import PackError, packing
from motoko.server.recent_commits import count_commits
from motoko.server.safe_file import SafeFileStorage

if TYPE_CHECKING:
    from collections.abc import Callable

    from motoko.runtime.ports import Clock
    from motoko.server.file_packing import FilePack

log = logging.getLogger(__name__)

# The index is saved after so many bytes of commits, or after this share of the file if that is
# more. Without a recent index, the next server and direct readers must read the whole file.
INDEX_BYTES: Final = 2**20
INDEX_SHARE: Final = 256


class AtomicFileStorage(SafeFileStorage):
    """A SafeFileStorage that keeps nothing of an unwritable commit in any buffer.

    ``committed`` is called with the file's size in bytes after every commit.
    """

    _pos: int
    _read_whole = False  # at the opening, because there was no index
    _indexed = 0  # position at which the index was last saved
    packed_bytes = 0  # of the last pack
    _pack: FilePack | None = None  # the last one

    def __init__(
        self,
        path: Path,
        *,
        committed: Callable[[int], None] | None = None,
        clock: Clock = SYSTEM.clock,
    ) -> None:
        self._clock = clock
        self._committed = committed
        self._closed = False
        self._replaced = False
        self._new = not path.exists()
        try:
            with file_integrity.translate_errors(path, opening=True):
                super().__init__(path)
                if self._read_whole:
                    self._save_index()
                if not self._new:
                    self.getTid(z64)  # without a root, the next client would make one
        except BaseException:
            file_integrity.close_after_failure(self)
            raise

    def _restore_index(self) -> Any:
        _lock(self._file)
        # This process has locked the file, and not read it yet.
        if not self._new:
            found = file_integrity.cut_torn_tail(Path(self._file_name), clock=self._clock)
            self._read_whole = bool(found.index)
            if self._read_whole:  # do not read it again
                return found.index, found.committed, found.last
        return super()._restore_index()

    def lastInvalidations(self, count: int) -> Any:  # noqa: N802 - the name is ZODB's
        """Return the ids of recent commits, and of the objects that each wrote; oldest first."""
        with self._lock:
            count = count_commits(self._file, self._pos, count)
        return super().lastInvalidations(count)

    # -- commits ---------------------------------------------------------------------------

    def tpc_vote(self, transaction: Any) -> Any:
        """Write a transaction; on a full disk raise OSError and keep nothing of it."""
        try:
            return super().tpc_vote(transaction)
        except OSError:
            with self._lock:
                self._drop_unwritten()
            self._files.flush()
            raise

    def tpc_finish(self, transaction: Any, f: Callable[[bytes], None] | None = None) -> Any:
        """Make a transaction the last one."""
        fault_points.point("server.before_finish")
        try:
            tid = super().tpc_finish(transaction, f)
        except OSError as error:
            # It may be in the file: the process that opens that next finds out.
            log.critical("the database cannot be written: %s", error)
            raise SystemExit(1) from error
        fault_points.point("server.after_finish")
        self._save_index_if_old()
        if self._committed is not None:
            self._committed(self.getSize())
        return tid

    def _save_index_if_old(self) -> None:
        if self._pos - self._indexed > max(INDEX_BYTES, self._pos // INDEX_SHARE):
            try:
                with self._lock:
                    self._save_index()
            except OSError as error:  # such as a full disk
                log.debug("the index was not saved: %s", error)

    def _drop_unwritten(self) -> None:
        """Cut off half-written data; the buffer would be written once the disk has space."""
        os.ftruncate(self._file.fileno(), self._pos)
        self._file = _reopen(self._file, self._file_name, "r+b")
        _lock(self._file)

    def _clear_temp(self) -> None:
        try:
            super()._clear_temp()
        except OSError:
            self._tfile = _reopen(self._tfile, f"{self._file_name}.tmp", "w+b")
            self._tfmt = TempFormatter(self._tfile)

    # -- packing ---------------------------------------------------------------------------

    @staticmethod
    def packer(storage: AtomicFileStorage, _: Any, stop: bytes, gc: bool) -> None:
        """Pack in another process, and exchange the files in one step.

        So the database file always exists. ``packed_bytes`` is the size of what the pack time
        allowed to pack.
        """
        assert gc
        with packing(Path(storage._file_name), stop, storage.getSize()) as pack:
            storage._pack = pack
            pack.start()
            storage.packed_bytes = pack.old
            if not pack.is_useful:
                return
            pack.follow(storage.getSize)
            with storage._commit_lock:
                former = storage._exchange(pack)
            # A large file takes its time to disappear.
            former.raw.close()
            storage._take_index(pack)

    def _exchange(self, pack: FilePack) -> Any:
        """Replace the file by a packed copy; return the former one, open."""
        position, index = pack.finish(self._pos)
        directory = Path(self._file_name).parent
        with self._files.write_lock(), self._lock:
            if self._closed or not self.in_place():
                raise PackError("the database was closed or replaced while it was packed")
            file = _open(f"{self._file_name}.pack", "r+b")
            _lock(file)
            self._clear_index()  # it becomes wrong
            sync_directory(directory)  # an index beyond the file's end means damage
            fault_points.point("server.before_exchange")
            os.replace(f"{self._file_name}.pack", self._file_name)
            fault_points.point("server.after_exchange")
            self._files.empty()
            former, self._file = self._file, file
            self._initIndex(index, self._tindex)
            self._pos = position
            self._indexed = pack.index_position
            sync_directory(directory)  # the next commits survive in the new file only
            return former

    def _take_index(self, pack: FilePack) -> None:
        """Use the index that was saved with a packed copy, unless there is a newer one."""
        with self._lock:
            newer = self._indexed != pack.index_position
            if not (self._closed or self._replaced or newer):
                os.replace(f"{self._file_name}.pack.index", f"{self._file_name}.index")

    def _save_index(self) -> None:
        if not (self._closed or self._replaced):
            self._indexed = self._pos
            super()._save_index()

    # -- the end ---------------------------------------------------------------------------

    def in_place(self) -> bool:
        """Return whether the file still has its name; if not, its index is not saved."""
        with self._lock:  # a pack exchanges the files under it
            if self._closed:
                return True
            try:
                found = os.stat(self._file_name)
            except (FileNotFoundError, NotADirectoryError):
                self._replaced = True
            except OSError:  # temporarily unavailable
                pass
            else:
                self._replaced = not os.path.samestat(found, os.fstat(self._file.fileno()))
            return not self._replaced

    def close(self) -> None:
        """Close the file, and abandon a running pack."""
        with self._lock:
            if not self._closed:
                super().close()
            self._closed = True
        if self._pack is not None:
            self._pack.abandon()

    @property
    def is_closed(self) -> bool:
        """Whether the file was closed, which also ends a running pack."""
        return self._closed


def _reopen(file: Any, name: str, mode: str) -> Any:
    """Return the reopened file, without the data in the buffer of the old one."""
    file.raw.close()
    return _open(name, mode)


def _open(name: str, mode: str) -> Any:
    return open(name, mode)


def _lock(file: Any) -> None:
    """Lock the database file itself until it is closed; LockError if another process serves it."""
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LockError(f"{file.name} is served by another process") from error
