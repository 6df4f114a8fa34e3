"""Facts about a file system: space, type, and whether locks and fsync work in a directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROBE: Final = ".probe."  # with 12 digits, the name of a temporary file
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")
MOUNTS: Final = Path("/proc/self/mountinfo")
# Types whose locks, times or caches depend on another machine.
NETWORK_TYPES: Final = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "glusterfs",
    "gpfs", "lustre", "nfs", "nfs4", "orangefs", "panfs", "smb3", "smbfs", "virtiofs",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Space:
    """The space on a file system that this user may still use; ``inodes`` None: no limit."""

    free: int
    total: int
    inodes: int | None


@dataclass(frozen=True, slots=True)
class WriteProbe:
    """The results of writing a file into a directory, and removing it.

    ``error``: why it cannot be written, "" if it can. ``locks``: whether a lock excludes a second
    one; None if locking failed with ``lock_error``. ``sync_seconds``: the duration of an fsync,
    None if it failed. ``skew``: the time of the new file minus the time of day, in seconds; 0 if it
    fits.
    """

    error: str = ""
    locks: bool | None = True
    lock_error: str = ""
    sync_seconds: float | None = 0.0
    skew: float = 0.0


def space(path: Path) -> Space:
    """Return the space left on the file system of ``path``; OSError if it is unavailable."""
    found = os.statvfs(path)
    # File systems without a table of inodes report 0 of 0.
    inodes = found.f_favail if found.f_files else None
    return Space(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, inodes)


def file_system_type(path: Path) -> str:
    """Return the type of the file system of ``path``, such as ``ext4``; "" if unknown."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        device = os.stat(path).st_dev
    except OSError:
        return ""
    number = f"{os.major(device)}:{os.minor(device)}"
    real, found, longest = os.path.realpath(path), "", -1
    for line in lines:
        mount, _, rest = line.partition(" - ")
        fields = mount.split()
        point = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        # Some file systems report other numbers in stat than in the list of mounts.
        rank = len(point) + (100_000 if fields[2] == number else 0)
        if inside and rank > longest:
            found, longest = rest.split()[0], rank
    return found


def probe_directory(directory: Path) -> WriteProbe:
    """Write, lock and fsync a new file in ``directory``, and remove it."""
    path = directory / f"{PROBE}{os.urandom(6).hex()}"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        return WriteProbe(error=error.strerror or str(error))
    try:
        before = time.time()
        try:
            os.write(descriptor, b"probe\n")
        except OSError as error:
            return WriteProbe(error=error.strerror or str(error))
        modified = os.fstat(descriptor).st_mtime
        skew = modified - min(max(modified, before), time.time())
        seconds = _sync(descriptor)
        locks, lock_error = _lock_twice(path, descriptor)
        return WriteProbe("", locks, lock_error, seconds, skew)
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            path.unlink()


def _sync(descriptor: int) -> float | None:
    begin = time.monotonic()
    try:
        os.fsync(descriptor)
    except OSError:
        return None
    return time.monotonic() - begin


def _lock_twice(path: Path, descriptor: int) -> tuple[bool | None, str]:
    """Return whether a lock keeps another descriptor from locking the same file."""
    exclusive = fcntl.LOCK_EX | fcntl.LOCK_NB
    try:
        fcntl.flock(descriptor, exclusive)
        other = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return None, error.strerror or str(error)
    try:
        fcntl.flock(other, exclusive)
    except OSError:
        return True, ""
    finally:
        os.close(other)
    return False, ""
