"""List the directories of runs: the files to pack, and those that may be removed afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from motoko.runtime.pack_joining import PATH_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_RUN_BYTES: Final = 1 * 2**30  # a larger run has few paths for its size
MAX_PATHS: Final = 100_000  # of a run
_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS: Final = frozenset({stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK})
_DIRECTORY: Final = re.compile(r"run-([0-9]{1,10})(?:\..*)?", re.DOTALL)


def run_id_of(name: str) -> int | None:
    """Return the id of the run whose directory has this name, None for another name."""
    found = _DIRECTORY.fullmatch(name)
    return None if found is None else int(found[1])


class UnpackableError(Exception):
    """A directory contains something that a pack cannot hold."""


class Entry(NamedTuple):
    """A path of a directory, relative to it (empty: itself), as it was when it was listed."""

    name: str
    mode: int
    size: int
    modified: int  # nanoseconds since the epoch
    inode: int

    @classmethod
    def of(cls, name: str, found: os.stat_result) -> Entry:
        """Return the entry of a path with this status; the size of directories is ignored."""
        is_directory = stat.S_ISDIR(found.st_mode)
        size, modified = (0, 0) if is_directory else (found.st_size, found.st_mtime_ns)
        return cls(name, found.st_mode, size, modified, found.st_ino)


@dataclass(frozen=True, slots=True)
class Listing:
    """The paths of a directory: those to pack, and those that may be removed afterwards."""

    name: str  # below the root of the run directories
    entries: tuple[Entry, ...]

    @property
    def run_id(self) -> int:
        """The id of the run."""
        return run_id_of(self.name) or 0

    @property
    def weight(self) -> int:
        """The bytes of its files, and PATH_BYTES for each path."""
        return sum(entry.size + PATH_BYTES for entry in self.entries)


@contextlib.contextmanager
def open_directory(path: str, *, dir_fd: int | None = None) -> Iterator[int]:
    """Open a directory, but no link to one, and yield its descriptor; OSError if that fails."""
    descriptor = os.open(path, _OPEN, dir_fd=dir_fd)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def list_directory(root: str, name: str) -> Listing:
    """List a directory; raise UnpackableError if a pack cannot hold it, OSError if unreadable."""
    try:
        with open_directory(f"{root}/{name}") as descriptor:
            return list_opened(descriptor, name)
    except NotADirectoryError:
        raise UnpackableError(f"{name} is not a directory") from None


def list_opened(directory: int, name: str) -> Listing:
    """List the open directory of this name, like ``list_directory``."""
    top = os.fstat(directory)
    found, size = [Entry.of("", top)], 0
    pending = [""]
    while pending:
        prefix = pending.pop()
        opened = (
            open_directory(prefix, dir_fd=directory)
            if prefix
            else contextlib.nullcontext(directory)
        )
        with opened as descriptor, os.scandir(descriptor) as children:
            for child in children:
                status = child.stat(follow_symlinks=False)
                entry = Entry.of(f"{prefix}{child.name}", status)
                _check(entry, is_mounted=status.st_dev != top.st_dev)
                size += entry.size
                found.append(entry)
                if stat.S_ISDIR(entry.mode):
                    pending.append(f"{entry.name}/")
        if size > MAX_RUN_BYTES or len(found) > MAX_PATHS:
            raise UnpackableError(f"{name} is too large for a pack")
    return Listing(name, tuple(sorted(found)))


def _check(entry: Entry, *, is_mounted: bool) -> None:
    if stat.S_IFMT(entry.mode) not in _KINDS or is_mounted:
        raise UnpackableError(f"{entry.name} is no file, directory or link")
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        raise UnpackableError(f"the name of {entry.name!r} is no UTF-8") from None
