"""A lock between processes that the system releases when its holder dies."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from typing import TYPE_CHECKING, Final, Self

from motoko.errors import MotokoError, StorageError
from motoko.runtime import clock

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

FIRST_TRY: Final = 0.005
LAST_TRY: Final = 0.1
# Through a link the text of the holder would be written into whatever file it leads to.
FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
BUSY: Final = (errno.EAGAIN, errno.EACCES)


class FileLock:
    """An exclusive lock on the file ``path``, held within a ``with`` block.

    Entering waits up to ``timeout`` seconds (0: not at all), then raises ``error`` with the name
    of the holder. ``purpose`` is what others are told about this holder. The file stays; what is
    in it is for people only. Two FileLock objects exclude each other in one process too.
    """

    def __init__(
        self,
        path: Path,
        *,
        timeout: float = 10.0,
        purpose: str = "",
        error: type[MotokoError] = StorageError,
    ) -> None:
        self.path = path
        self.timeout = timeout
        self.purpose = purpose
        self.error = error
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    @property
    def descriptor(self) -> int | None:
        """The descriptor that is locked; a process that inherits it holds the lock too."""
        return self._descriptor

    def acquire(self) -> None:
        """Take the lock; raise ``error`` when the time is over, or where there is no directory."""
        if self._descriptor is not None:
            raise self.error(f"{self.path} is locked by this very lock already")
        try:
            descriptor = os.open(self.path, FLAGS, 0o600)
        except FileNotFoundError as error:
            raise self.error(
                f"{self.path.parent} is not there any more: it was moved or removed"
            ) from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise self.error(f"{self.path} is a link", hint="Remove it.") from error
            raise
        try:
            self._wait(descriptor)
            self._say(descriptor, self._holder_text())
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; nothing happens if it is not held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._say(descriptor, "")
            os.close(descriptor)

    def holder(self) -> str:
        """Return what is known of who holds the lock, for people."""
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace").strip()
        except FileNotFoundError:
            text = ""
        return text or "an unknown process"

    def _say(self, descriptor: int, text: str) -> None:
        with contextlib.suppress(OSError):  # a full disk does not keep from locking
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, text.encode(), 0)

    def _wait(self, descriptor: int) -> None:
        pause, deadline = FIRST_TRY, time.monotonic() + self.timeout
        while not self._try(descriptor):
            left = deadline - time.monotonic()
            if left <= 0:
                raise self.error(
                    f"{self.path} is held by {self.holder()}",
                    hint="Wait until it has ended, or end it.",
                )
            time.sleep(min(pause, left))
            pause = min(2 * pause, LAST_TRY)

    def _try(self, descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in BUSY:
                return False
            raise self.error(
                f"{self.path} cannot be locked: {error.strerror}",
                hint="The file system must support locks; a local one does.",
            ) from error
        return True

    def _holder_text(self) -> str:
        what = f" ({self.purpose})" if self.purpose else ""
        since = clock.utc(clock.now()).isoformat(timespec="seconds")
        return f"process {os.getpid()} on {os.uname().nodename}{what} since {since}\n"

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def keep_locked(descriptor: int) -> int | None:
    """Lock a file for as long as this process lives, or until the result is closed.

    None where the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return None
    return os.dup(descriptor)  # the lock ends with the last descriptor


def is_locked(path: Path) -> bool:
    """Return whether a living process holds ``path`` locked, in whatever PID namespace it is.

    True where that cannot be told.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def is_held(path: Path, *, at_most: float) -> bool:
    """Return whether somebody took the lock ``path`` in the last ``at_most`` seconds and has it.

    No file is made. One that cannot be locked is nobody's.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        recent = abs(clock.now() - os.fstat(descriptor).st_mtime) < at_most
        return error.errno in BUSY and recent
    else:
        return False
    finally:
        os.close(descriptor)
