"""Opening of regular files only: FIFOs, devices and directories raise OSError without blocking."""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from typing import BinaryIO

# Opening a FIFO does not wait for its other end.
FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file, or a link to one, for reading; OSError for another kind of file."""
    _check(os.stat(path), path)  # a device must not even be opened
    descriptor = os.open(path, FLAGS)
    try:
        _check(os.fstat(descriptor), path)
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def kind(mode: int) -> str | None:
    """Return the kind of a file with this mode, None for a regular file."""
    if stat.S_ISREG(mode):
        return None
    return next((name for holds, name in _KINDS if holds(mode)), "not a regular file")


def _check(found: os.stat_result, path: str | os.PathLike[str]) -> None:
    other = kind(found.st_mode)
    if other is None:
        return
    import errno

    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    raise OSError(errno.EINVAL, f"it is {other}", os.fspath(path))
