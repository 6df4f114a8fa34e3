"""The process that packs a database file beside its server: it copies what stays to a new file.

The server starts it (``file_packing``) with the two new files and the file's committed size. The
process answers with the copied size after each round; each request is a larger committed size. The
request "index" makes it save the index of the new file and exit. It syncs the new file as it writes
it: the file system may write all that is dirty before it lets any other process sync.
"""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from ZODB.FileStorage.FileStorage import RedundantPackWarning
from ZODB.FileStorage.format import CorruptedError
from ZODB.FileStorage.fspack import FileStoragePacker, PackCopier
from ZODB.POSException import POSError

from motoko.runtime import fault_points, helper_process
from motoko.runtime.ports import SYSTEM
from motoko.server.class_allow_list import references

if TYPE_CHECKING:
    from collections.abc import Sequence

SYNC_BYTES: Final = 2**20
REST: Final = 3  # times the duration of a sync: most of the disk's time is for commits
LONGEST_REST: Final = 0.5  # seconds
NICENESS: Final = 5
BUFFER: Final = 2**16
INDEX: Final = "index"  # the last request


@dataclass(frozen=True, slots=True)
class Copied:
    """The bytes of the file that are copied, and of the copy; ``problem`` if it failed."""

    read: int = 0
    written: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Source:
    """What ZODB's packer reads from a storage."""

    path: Path
    size: int
    blob_dir: str = ""
    _lock: Any = field(default_factory=threading.RLock)
    _commit_lock: Any = field(default_factory=threading.Lock)

    @property
    def _file(self) -> SimpleNamespace:
        return SimpleNamespace(name=str(self.path))

    def getSize(self) -> int:  # noqa: N802 - the name is ZODB's
        return self.size


class PackCopy(FileStoragePacker):  # type: ignore[misc]
    """Copies the first ``size`` bytes of a file, and later what was committed since.

    ``target``: the descriptor of the new file. ``index``: the index of what it contains.
    """

    _file: Any

    def __init__(
        self,
        path: Path,
        target: int,
        *,
        size: int = 0,
        stop: bytes = b"",
        gc: bool = True,
        index: Any = None,
    ) -> None:
        super().__init__(_Source(path, size), references, stop, gc)
        self._commit_lock.acquire()  # the superclass releases it now and then
        raw = io.FileIO(target, "r+", closefd=False)
        self._tfile = io.BufferedRandom(raw, BUFFER)
        self._synced = 0
        if index is not None:
            self.index = index
            self._synced = self._tfile.seek(0, os.SEEK_END)
        self._copier = PackCopier(self._tfile, self.index, self.tindex)

    def copy_old(self) -> Copied:
        """Copy what is reachable of all transactions until the pack time."""
        self.gc.findReachable()
        self._file.seek(0)
        self._tfile.write(self._file.read(self._metadata_size))
        read, written = self.copyToPacktime()
        del self.gc
        return Copied(read, written)

    def copy_new(self, start: int, end: int) -> Copied:
        """Copy all transactions between two positions, and sync the new file."""
        # Beyond the former end, the buffer may hold a part of a later commit.
        self._file = io.BufferedReader(self._file.detach(), BUFFER)
        while start < end:
            start = self.copyOne(start)
        self.sync()
        return Copied(start, self._tfile.tell())

    def copyDataRecords(self, pos: int, th: Any) -> Any:  # noqa: N802 - the name is ZODB's
        """Copy the reachable records of a transaction."""
        self._sync_if_due()
        return super().copyDataRecords(pos, th)

    def copyOne(self, ipos: int) -> int:  # noqa: N802 - the name is ZODB's
        """Copy a transaction; return where the next one begins."""
        self._sync_if_due()
        following: int = super().copyOne(ipos)
        return following

    def _sync_if_due(self) -> None:
        if self._tfile.tell() - self._synced > SYNC_BYTES:
            started = SYSTEM.clock.monotonic()
            self.sync()
            taken = SYSTEM.clock.monotonic() - started
            SYSTEM.clock.sleep(min(REST * taken, LONGEST_REST))

    def sync(self) -> None:
        """Make the new file survive a power cut."""
        self._tfile.flush()
        os.fdatasync(self._tfile.fileno())
        self._synced = self._tfile.tell()


def _pack(path: Path, stop: bytes, size: int, target: int, index: int) -> None:
    """Copy what is committed, and what the server says is committed since; save the index."""
    requests = helper_process.requests()
    copy = PackCopy(path, target, stop=stop, size=size)
    try:
        copied = copy.copy_old()
    except RedundantPackWarning:
        copied = Copied(copy.gc.packpos, copy.gc.packpos)
    fault_points.point("packing.old_copied")
    _reply(copied)
    for request in requests:
        if request.text == INDEX:
            break
        copied = copy.copy_new(copied.read, int(request.text))
        fault_points.point("packing.new_copied")
        _reply(copied)
    copy.index.save(copied.written, os.dup(index))
    os.fdatasync(index)
    fault_points.point("packing.index_saved")
    _reply(copied)


def _reply(copied: Copied) -> None:
    helper_process.reply(json.dumps(asdict(copied)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Pack the file that the command line names; return the exit status."""
    path, stop, *numbers = sys.argv[1:] if arguments is None else arguments
    os.nice(NICENESS)
    size, target, index = map(int, numbers)
    try:
        _pack(Path(path), bytes.fromhex(stop), size, target, index)
    except (OSError, ValueError, KeyError, POSError, CorruptedError) as error:
        _reply(Copied(problem=f"{type(error).__name__}: {error}"))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
