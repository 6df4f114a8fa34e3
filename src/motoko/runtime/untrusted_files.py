"""Read untrusted files: reading never blocks, never raises and is bounded.

A script can write anything into its run directory: a FIFO, a device, a directory, a link to another
place. Reading returns such problems as a text that names the file.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from motoko.worker.regular_files import FLAGS, kind

if TYPE_CHECKING:
    from pathlib import Path

SMALL: Final = 64 * 2**10  # bytes; more than any file that Motoko writes into a run directory
_PIECE: Final = 4 * 2**20  # bytes per read
_LATEST: Final = 4e9  # seconds since the epoch; datetime has no year far beyond


@dataclass(frozen=True, slots=True)
class FileContent:
    """The content of a regular file, or the reason why it cannot be read.

    ``data`` is None if the file does not exist or cannot be read; ``fault`` is the reason.
    ``size`` is in bytes, ``modified`` in seconds since the epoch.
    """

    data: bytes | None = None
    fault: str | None = None
    size: int = 0
    modified: float = 0.0

    @property
    def missing(self) -> bool:
        """Return whether the path does not exist."""
        return self.data is None and self.fault is None

    @property
    def text(self) -> str:
        """Return the data as text; replace invalid UTF-8."""
        return (self.data or b"").decode("utf-8", "replace")


_MISSING: Final = FileContent()


def read_file(path: str | Path, *, offset: int = 0, limit: int = SMALL) -> FileContent:
    """Read up to ``limit`` bytes of the regular file ``path`` from ``offset``."""
    try:
        seen = os.lstat(path)
        if (other := kind(seen.st_mode)) is not None:
            return _wrong_kind(path, other, seen)  # a device must not even be opened
        descriptor = os.open(path, FLAGS | os.O_NOFOLLOW)
    except FileNotFoundError:
        return _MISSING
    except OSError as error:
        return _unreadable(path, error)
    try:
        found = os.fstat(descriptor)
        if (other := kind(found.st_mode)) is not None:
            return _wrong_kind(path, other, found)
        data = _read(descriptor, offset, limit, found.st_size)
        return FileContent(data, None, found.st_size, _modified(found))
    except OSError as error:
        return _unreadable(path, error)
    finally:
        with contextlib.suppress(OSError):  # the content is already read
            os.close(descriptor)


def read_end(path: str | Path, limit: int) -> FileContent:
    """Read the last ``limit`` bytes of the regular file ``path``."""
    seen = stat_file(path)
    return read_file(path, offset=max(0, seen.size - limit), limit=limit)


def stat_file(path: str | Path) -> FileContent:
    """Return size and time of the regular file ``path``, with empty data."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return _MISSING
    except OSError as error:
        return _unreadable(path, error)
    if (other := kind(found.st_mode)) is not None:
        return _wrong_kind(path, other, found)
    return FileContent(b"", None, found.st_size, _modified(found))


def _read(descriptor: int, offset: int, limit: int, size: int) -> bytes:
    pieces: list[bytes] = []
    while limit > 0 and (piece := os.pread(descriptor, min(limit, _PIECE), offset)):
        pieces.append(piece)
        offset += len(piece)
        limit -= len(piece)
        if offset == size:  # most often: it has not grown since
            break
    return b"".join(pieces)


def _wrong_kind(path: str | Path, other: str, found: os.stat_result) -> FileContent:
    return FileContent(None, f"{path} is {other}", 0, _modified(found))


def _unreadable(path: str | Path, error: OSError) -> FileContent:
    return FileContent(None, f"{path} cannot be read: {error.strerror or error}")


def _modified(found: os.stat_result) -> float:
    return min(max(0.0, found.st_mtime), _LATEST)


def write_error(directory: str | Path) -> OSError | None:
    """Return the error of writing a file into ``directory``, or None.

    This distinguishes a problem of one file from one of the disk.
    """
    probe = os.path.join(directory, f".probe-{os.urandom(6).hex()}")
    try:
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, b"probe\n")
        finally:
            os.close(descriptor)
    except OSError as error:
        return error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(probe)
    return None
