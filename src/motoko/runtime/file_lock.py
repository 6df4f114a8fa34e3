"""Lock files between processes; the system releases a lock when its holder dies."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from typing import TYPE_CHECKING, Final, Self

from motoko.errors import MotokoError, StorageError
from motoko.runtime.ports import utc_text

if TYPE_CHECKING:
    from pathlib import Path

FIRST_TRY: Final = 0.005
LAST_TRY: Final = 0.1
# Following a link would write the name of the holder into another file.
FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
BUSY: Final = (errno.EAGAIN, errno.EACCES)


class FileLock:
    """An exclusive lock on the file ``path``, held within a ``with`` block.

    Entering waits up to ``timeout`` seconds (0: not at all), then raises ``error`` with the name
    of the holder. Messages show ``purpose`` for this holder. The file stays; its content is
    informative. Two FileLock objects exclude each other within one process too.
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
        """Return whether this object holds the lock."""
        return self._descriptor is not None

    @property
    def descriptor(self) -> int | None:
        """Return the locked descriptor; a process that inherits it holds the lock too."""
        return self._descriptor

    def acquire(self) -> None:
        """Acquire the lock; raise ``error`` on timeout or if the directory does not exist."""
        if self._descriptor is not None:
            raise self.error(f"{self.path} is already locked by this object")
        try:
            descriptor = os.open(self.path, FLAGS, 0o600)
        except FileNotFoundError as error:
            raise self.error(
                f"{self.path.parent} no longer exists: it was moved or removed"
            ) from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise self.error(f"{self.path} is a link", hint="Remove it.") from error
            raise
        try:
            self._wait(descriptor)
            self._write_holder(descriptor, self._holder_text())
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def release(self) -> None:
        """Release the lock if it is held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._write_holder(descriptor, "")
            os.close(descriptor)

    def holder(self) -> str:
        """Describe the holder of the lock."""
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace").strip()
        except FileNotFoundError:
            text = ""
        return text or "an unknown process"

    def _write_holder(self, descriptor: int, text: str) -> None:
        with contextlib.suppress(OSError):  # locking works on a full disk too
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, text.encode(), 0)

    def _wait(self, descriptor: int) -> None:
        pause, deadline = FIRST_TRY, time.monotonic() + self.timeout
        while not self._try(descriptor):
            left = deadline - time.monotonic()
            if left <= 0:
                raise self.error(
                    f"{self.path} is held by {self.holder()}",
                    hint="Wait until that process ends, or stop it.",
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
                hint="Use a file system that supports locks, such as a local one.",
            ) from error
        return True

    def _holder_text(self) -> str:
        what = f" ({self.purpose})" if self.purpose else ""
        since = utc_text(time.time())
        return f"process {os.getpid()} on {os.uname().nodename}{what} since {since}\n"

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def lock_for_process_lifetime(descriptor: int) -> int | None:
    """Lock a file until this process exits or the returned descriptor is closed.

    Return None if the file system does not support locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return None
    return os.dup(descriptor)  # the lock ends with the last descriptor


def is_locked(path: Path) -> bool:
    """Return whether a process of any PID namespace holds ``path`` locked; True if unknown."""
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


def is_recently_locked(path: Path, *, at_most: float) -> bool:
    """Return whether ``path`` is locked since at most ``at_most`` seconds. Create no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        recent = abs(time.time() - os.fstat(descriptor).st_mtime) < at_most
        return error.errno in BUSY and recent
    else:
        return False
    finally:
        os.close(descriptor)
