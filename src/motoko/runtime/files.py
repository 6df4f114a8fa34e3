"""Files that are there whole or not at all, and directories that are nobody else's."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from motoko.errors import StorageError
from motoko.runtime import fault_points

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700


def write_atomic(
    path: Path,
    data: bytes,
    *,
    mode: int = PRIVATE_FILE,
    durable: bool = False,
    prepare: Callable[[int], object] = lambda _: None,
) -> None:
    """Make ``path`` hold ``data``: whoever reads sees the former content or all of this.

    ``durable`` waits until it would survive a power cut. OSError if it cannot be written; then
    the former content stays. ``prepare`` gets the descriptor of the new file before it is visible.
    """
    temporary = path.parent / f".{path.name}.{os.urandom(6).hex()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            os.fchmod(descriptor, mode)
            _write_all(descriptor, data)
            prepare(descriptor)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        fault_points.point("files.before_rename")
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


@contextlib.contextmanager
def replace_atomically(path: Path, *, mode: int = PRIVATE_FILE) -> Iterator[Path]:
    """Give a path to write to, of the same suffix; what is there at the end becomes ``path``.

    Whoever reads ``path`` sees its former content or all of the new one. If the block raises,
    the former content stays.
    """
    temporary = path.parent / f".{path.stem}.{os.urandom(6).hex()}{path.suffix}"
    try:
        yield temporary
        temporary.chmod(mode)
        fault_points.point("files.before_rename")
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def exclusive_create(path: Path, data: bytes = b"", *, mode: int = PRIVATE_FILE) -> bool:
    """Create ``path`` with ``data`` and return True, or return False if it exists already.

    Of several callers one gets True. The others may see the file before its content.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, mode)
    except FileExistsError:
        return False
    try:
        _write_all(descriptor, data)
    finally:
        os.close(descriptor)
    return True


def rename_durably(temporary: Path, target: Path) -> None:
    """Make ``temporary`` the file ``target``; FileExistsError where there is one already."""
    try:
        target.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        os.rename(temporary, target)
    else:
        temporary.unlink()


def private_directory(path: Path) -> Path:
    """Make ``path`` a directory that only this user can enter, and return it.

    One that is too open is closed. StorageError if it is another user's, if another user's
    link leads there, or if it is no directory.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=PRIVATE_DIRECTORY)
    # In a directory that others can write to (/tmp), a link may lead anywhere.
    _check_owner(path, path.lstat(), {os.getuid(), 0} if path.is_symlink() else {os.getuid()})
    found = path.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise StorageError(f"{path} is not a directory", hint="Move it out of the way.")
    _check_owner(path, found, {os.getuid()})
    if stat.S_IMODE(found.st_mode) != PRIVATE_DIRECTORY:
        path.chmod(PRIVATE_DIRECTORY)
    return path


def file_identity(path: Path, *, follow: bool = True) -> int | None:
    """Return a file's or a directory's inode number, None if it does not exist.

    That of what a link leads to, or with ``follow=False`` of the link itself. OSError where that
    cannot be told.
    """
    try:
        return path.stat(follow_symlinks=follow).st_ino
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:  # links that lead nowhere
            return None
        raise


def sync_directory(path: Path) -> None:
    """Have what was renamed or removed in a directory survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_owner(path: Path, found: os.stat_result, allowed: set[int]) -> None:
    if found.st_uid not in allowed:
        raise StorageError(
            f"{path} belongs to another user (uid {found.st_uid})",
            hint="What is in it could be read or replaced by that user; use another place.",
        )


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
