"""Read files that anybody may have made: whatever is at a path, reading it ends, and is bounded.

A run's directory is its script's to write to. A path in it may lead to a FIFO, a device, a
directory or a link to elsewhere, and the disk may answer with any error. None of that raises here:
what is wrong is a text that names the file.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from motoko.worker.regular import FLAGS, kind

if TYPE_CHECKING:
    from pathlib import Path

SMALL: Final = 64 * 2**10  # bytes; more than any file that Motoko writes into a run's directory
_PIECE: Final = 4 * 2**20  # bytes that are asked for at once
_LATEST: Final = 4e9  # seconds since the epoch; a time far beyond has no year


@dataclass(frozen=True, slots=True)
class Found:
    """What was found at a path.

    ``data`` None: there is nothing, or nothing that could be read; in that case ``fault`` says why
    not. ``size`` in bytes and ``modified`` in seconds since the epoch are those of the file.
    """

    data: bytes | None = None
    fault: str | None = None
    size: int = 0
    modified: float = 0.0

    @property
    def missing(self) -> bool:
        """Whether there is nothing at the path."""
        return self.data is None and self.fault is None

    @property
    def text(self) -> str:
        """The data as text; bytes that are no UTF-8 are replaced."""
        return (self.data or b"").decode("utf-8", "replace")


_MISSING: Final = Found()


def read_file(path: str | Path, *, offset: int = 0, limit: int = SMALL) -> Found:
    """Read up to ``limit`` bytes of the regular file ``path`` from ``offset`` on."""
    seen = stat_file(path)
    if seen.missing or seen.fault is not None:
        return seen  # a device must not even be opened
    try:
        descriptor = os.open(path, FLAGS | os.O_NOFOLLOW)
    except FileNotFoundError:
        return _MISSING
    except OSError as error:
        return _unreadable(path, error)
    try:
        found = os.fstat(descriptor)
        if (other := kind(found.st_mode)) is not None:
            return _wrong_kind(path, other, found)
        data = _read(descriptor, offset, limit)
        return Found(data, None, found.st_size, _moment(found))
    except OSError as error:
        return _unreadable(path, error)
    finally:
        with contextlib.suppress(OSError):  # what was to be told by an error is told already
            os.close(descriptor)


def read_end(path: str | Path, limit: int) -> Found:
    """Read the last ``limit`` bytes of the regular file ``path``."""
    seen = stat_file(path)
    return read_file(path, offset=max(0, seen.size - limit), limit=limit)


def stat_file(path: str | Path) -> Found:
    """Return size and time of the regular file ``path``, and empty data."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return _MISSING
    except OSError as error:
        return _unreadable(path, error)
    if (other := kind(found.st_mode)) is not None:
        return _wrong_kind(path, other, found)
    return Found(b"", None, found.st_size, _moment(found))


def _read(descriptor: int, offset: int, limit: int) -> bytes:
    pieces: list[bytes] = []
    while limit > 0 and (piece := os.pread(descriptor, min(limit, _PIECE), offset)):
        pieces.append(piece)
        offset += len(piece)
        limit -= len(piece)
    return b"".join(pieces)


def _wrong_kind(path: str | Path, other: str, found: os.stat_result) -> Found:
    return Found(None, f"{path} is {other}", 0, _moment(found))


def _unreadable(path: str | Path, error: OSError) -> Found:
    return Found(None, f"{path} cannot be read: {error.strerror or error}")


def _moment(found: os.stat_result) -> float:
    return min(max(0.0, found.st_mtime), _LATEST)


def trouble_writing(directory: str | Path) -> OSError | None:
    """Return why nothing can be written into ``directory``, None where it can.

    So that a fault of one file is told from one of the disk.
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
