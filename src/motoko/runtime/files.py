"""Write files atomically and create private directories."""

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
    mode: int | None = PRIVATE_FILE,
    durable: bool = False,
    prepare: Callable[[int], object] = lambda _: None,
) -> None:
    """Replace the content of ``path`` atomically by ``data``.

    ``mode`` None stands for that of the user's other new files. With ``durable``, wait until the
    content survives a power cut. ``prepare`` gets the descriptor of the new file before the file is
    visible. On OSError the previous content stays.
    """
    temporary = path.parent / f".{path.name}.{os.urandom(6).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o666 if mode is None else mode)
    try:
        try:
            if mode is not None:
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
    """Yield a temporary path with the same suffix; rename it to ``path`` at the end.

    If the block raises, the previous content stays.
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
    """Create ``path`` with ``data`` and return True, or return False if it exists.

    Exactly one of several callers gets True. Others may see the file before its content.
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
    """Rename ``temporary`` to ``target``; raise FileExistsError if that exists."""
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
    """Create the directory ``path`` with mode 0700, or restrict an existing one; return it.

    Raise StorageError if it is not a directory, or if it or a link to it belongs to another user.
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
    """Return the inode number of a file or directory, or None if it does not exist.

    ``follow=False`` returns the inode of a link itself. Raise OSError if ``stat`` fails.
    """
    try:
        return path.stat(follow_symlinks=follow).st_ino
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:  # a loop of links
            return None
        raise


def sync_directory(path: Path) -> None:
    """Make renames and removals in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_owner(path: Path, found: os.stat_result, allowed: set[int]) -> None:
    if found.st_uid not in allowed:
        raise StorageError(
            f"{path} belongs to another user (uid {found.st_uid})",
            hint="That user could read or replace its content. Use another place.",
        )


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
