"""The database file as its server holds it: survives a full disk, and is packed atomically."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zc.lockfile import LockError  # type: ignore[import-untyped]
from ZODB.FileStorage.FileStorage import TempFormatter
from ZODB.utils import z64

from motoko.runtime import fault_points
from motoko.runtime.files import sync_directory
from motoko.runtime.ports import SYSTEM
from motoko.server import integrity
from motoko.server.class_allow_list import references
from motoko.server.safe_file import SafeFileStorage

if TYPE_CHECKING:
    from collections.abc import Callable

    from motoko.runtime.ports import Clock

log = logging.getLogger(__name__)


class AtomicFileStorage(SafeFileStorage):
    """A SafeFile, but nothing of a commit that could not be written stays in any buffer.

    ``committed`` is called with the file's size in bytes after every commit.
    """

    _pos: int

    def __init__(
        self,
        path: Path,
        *,
        committed: Callable[[int], None] | None = None,
        clock: Clock = SYSTEM.clock,
    ) -> None:
        self._clock = clock
        self._committed = committed
        self._over = False
        self._adrift = False
        self._new = not path.exists()
        try:
            with integrity.translate_errors(path, opening=True):
                super().__init__(path)
                if not self._new:
                    self.getTid(z64)  # without a root, the next client would make one
        except BaseException:
            integrity.close_after_failure(self)
            raise

    def _restore_index(self) -> Any:
        _lock(self._file)
        # By now this process has locked the file, and has read nothing of it.
        if not self._new:
            integrity.cut_torn_tail(Path(self._file_name), clock=self._clock)
        return super()._restore_index()

    # -- commits ---------------------------------------------------------------------------

    def tpc_vote(self, transaction: Any) -> Any:
        """Write a transaction; OSError where there is no room, and then nothing of it stays."""
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
            # Whether it is in the file is not known here: whoever opens it anew will find out.
            log.critical("the database cannot be written any more: %s", error)
            raise SystemExit(1) from error
        fault_points.point("server.after_finish")
        if self._committed is not None:
            self._committed(self.getSize())
        return tid

    def _drop_unwritten(self) -> None:
        """Cut off what was half-written; the buffer would be written as soon as there is room."""
        os.ftruncate(self._file.fileno(), self._pos)
        self._file = _exchanged(self._file, self._file_name, "r+b")
        _lock(self._file)

    def _clear_temp(self) -> None:
        try:
            super()._clear_temp()
        except OSError:
            self._tfile = _exchanged(self._tfile, f"{self._file_name}.tmp", "w+b")
            self._tfmt = TempFormatter(self._tfile)

    # -- packing ---------------------------------------------------------------------------

    @staticmethod
    def packer(storage: AtomicFileStorage, _: Any, stop: bytes, gc: bool) -> None:
        """Pack, and exchange the files in one step: at no time is there no database file."""
        found = SafeFileStorage.packer(storage, references, stop, gc)
        if found is None:
            return
        position, index = found
        try:
            _make_durable(f"{storage._file_name}.pack")
            with storage._files.write_lock(), storage._lock:
                storage._take_packed(position, index)
        finally:
            storage._commit_lock.release()  # which the packer took
        with storage._lock:
            storage._save_index()

    def _take_packed(self, position: int, index: Any) -> None:
        if self._over:
            return
        self._clear_index()  # before it would be wrong
        sync_directory(Path(self._file_name).parent)  # an index of more than there is means damage
        fault_points.point("server.before_exchange")
        os.replace(f"{self._file_name}.pack", self._file_name)
        fault_points.point("server.after_exchange")
        self._files.empty()
        self._file = _exchanged(self._file, self._file_name, "r+b")
        _lock(self._file)
        self._initIndex(index, self._tindex)
        self._pos = position

    def _save_index(self) -> None:
        if not (self._over or self._adrift):
            super()._save_index()

    # -- the end ---------------------------------------------------------------------------

    def in_place(self) -> bool:
        """Return whether the file is still there under its name; if not, nothing is noted of it."""
        with self._lock:  # a pack exchanges the files under it
            if self._over:
                return True
            try:
                found = os.stat(self._file_name)
            except (FileNotFoundError, NotADirectoryError):
                self._adrift = True
            except OSError:  # it cannot be told now
                pass
            else:
                self._adrift = not os.path.samestat(found, os.fstat(self._file.fileno()))
            return not self._adrift

    def close(self) -> None:
        """Close the file; a pack under way comes to nothing."""
        with self._lock:
            if not self._over:
                super().close()
            self._over = True


def _exchanged(file: Any, name: str, mode: str) -> Any:
    """Return the file opened anew, without what the buffer of the former one still holds."""
    file.raw.close()
    return open(name, mode)


def _lock(file: Any) -> None:
    """Lock the database file itself, for its lock file may be removed; LockError if it is served.

    The lock ends with the file object.
    """
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LockError(f"{file.name} is served by another process") from error


def _make_durable(name: str) -> None:
    descriptor = os.open(name, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
