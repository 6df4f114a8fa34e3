"""List the directories of runs: the files to pack, and those that may be removed afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from motoko.runtime.pack_joining import PATH_BYTES
from motoko.worker.regular_files import FLAGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_RUN_BYTES: Final = 1 * 2**30  # a larger run has few paths for its size
MAX_PATHS: Final = 100_000  # of a run
# Bytes of a run that are read when it is listed. They stay in memory until its pack is complete.
MAX_READ: Final = 2**15
_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without the time of access, which the file system would write. It fails for files of other users.
_READ: Final = FLAGS | os.O_NOFOLLOW | getattr(os, "O_NOATIME", 0)
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
        mode = found.st_mode
        if stat.S_ISDIR(mode):
            return cls(name, mode, 0, 0, found.st_ino)
        return cls(name, mode, found.st_size, found.st_mtime_ns, found.st_ino)


@dataclass(frozen=True, slots=True)
class Listing:
    """The paths of a directory: those to pack, and those that may be removed afterwards.

    ``weight``: the bytes of its files, and PATH_BYTES for each path. ``contents``: those of small
    files that were read, by the entry's name.
    """

    name: str  # below the root of the run directories
    entries: tuple[Entry, ...]
    weight: int
    contents: Mapping[str, bytes] = field(compare=False)

    @property
    def run_id(self) -> int:
        """The id of the run."""
        return run_id_of(self.name) or 0


@contextlib.contextmanager
def open_directory(path: str, *, dir_fd: int | None = None) -> Iterator[int]:
    """Open a directory, but no link to one, and yield its descriptor; OSError if that fails."""
    descriptor = os.open(path, _OPEN, dir_fd=dir_fd)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def list_directory(root: str, name: str) -> Listing:
    """List a directory and read its small files, which takes the fewest system calls together.

    Raise UnpackableError if a pack cannot hold it, OSError if the directory is unreadable.
    """
    return _list(root, name, read=True)


def list_paths(root: str, name: str) -> Listing:
    """List a directory like ``list_directory``, but read no files."""
    return _list(root, name, read=False)


def _list(root: str, name: str, *, read: bool) -> Listing:
    try:
        with open_directory(f"{root}/{name}") as descriptor:
            return list_opened(descriptor, name, read=read)
    except NotADirectoryError:
        raise UnpackableError(f"{name} is not a directory") from None


def list_opened(directory: int, name: str, *, read: bool = False) -> Listing:
    """List the open directory of this name, and ``read`` its small files."""
    top = os.fstat(directory)
    found, size, contents = [Entry.of("", top)], 0, dict[str, bytes]()
    free = MAX_READ if read else 0
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
                path = prefix + child.name
                status, data = _status(descriptor, child, free)
                kind = stat.S_IFMT(status.st_mode)
                if kind not in _KINDS or status.st_dev != top.st_dev:  # another: it is mounted
                    raise UnpackableError(f"{path} is no file, directory or link")
                if data is not None:
                    contents[path] = data
                    free -= len(data)
                elif kind == stat.S_IFDIR:
                    pending.append(f"{path}/")
                entry = Entry.of(path, status)
                size += entry.size
                found.append(entry)
        if size > MAX_RUN_BYTES or len(found) > MAX_PATHS:
            raise UnpackableError(f"{name} is too large for a pack")
    for entry in found:
        if not entry.name.isascii():
            _check_name(entry.name)
    return Listing(name, tuple(sorted(found)), size + PATH_BYTES * len(found), contents)


def _status(
    directory: int, child: os.DirEntry[str], limit: int
) -> tuple[os.stat_result, bytes | None]:
    """Return the status of a path, and the content of a file with fewer bytes than the limit."""
    if not limit or not child.is_file(follow_symlinks=False):  # a device must not even be opened
        return child.stat(follow_symlinks=False), None
    try:
        descriptor = os.open(child.name, _READ, dir_fd=directory)
    except OSError:
        return child.stat(follow_symlinks=False), None
    try:
        status = os.fstat(descriptor)
        size, mode = status.st_size, status.st_mode
        # `os.access` decides about files that only a superuser could open.
        if size >= limit or not stat.S_ISREG(mode) or not mode & stat.S_IRUSR:
            return status, None
        data = os.read(descriptor, size + 1) if size else b""
        return status, data if len(data) == size else None  # None: it is changing
    finally:
        os.close(descriptor)


def _check_name(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UnpackableError(f"the name of {path!r} is no UTF-8") from None
