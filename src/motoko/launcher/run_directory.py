"""Run directories: a clean one for each attempt, published complete; earlier ones are moved aside.

Two launchers may work on one run, if one was suspended for long. Each step is visible to the other
one, so neither damages a directory in use.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from io import FileIO
from typing import TYPE_CHECKING, Final

from motoko.errors import LauncherError
from motoko.launcher.attempt_paths import START, marked_token, read_marker
from motoko.launcher.source_files import CHUNK_BYTES, EXECUTABLE
from motoko.runtime.files import PRIVATE_DIRECTORY, PRIVATE_FILE, exclusive_create
from motoko.worker import INPUTS
from motoko.worker.regular_files import open_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from motoko.launcher.attempt_paths import AttemptPaths
    from motoko.launcher.source_files import ScriptFile

KERNEL_COPY_BYTES: Final = 1 << 26  # per call of copy_file_range
# Errors of copy_file_range for files between which it cannot copy.
COPY_UNSUPPORTED: Final = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)
NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
MAX_TRIES: Final = 20
EXISTS_ERRORS: Final = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR)
# A restored backup may know slightly fewer attempts than the directories show.
MAX_AHEAD: Final = 1000


class AttemptSuperseded(LauncherError):
    """Another launcher reclaimed the attempt, or a later attempt has started."""


class SourceError(LauncherError):
    """A file of the study cannot be copied."""


def create_run_directory(
    paths: AttemptPaths,
    inputs: bytes,
    sources: Iterable[ScriptFile],
    check: Callable[[], object] = lambda: None,
) -> None:
    """Create the clean run directory of an attempt; AttemptSuperseded if it may not start.

    ``inputs``: the content of the inputs file after its marker. ``check`` is called before an
    earlier directory is moved aside, and raises if this launcher was replaced.
    """
    draft = paths.draft_directory
    try:
        _begin_draft(paths, draft, inputs)
        for source in sources:
            path = f"{draft}/{source.name}"
            if "/" in source.name:
                os.makedirs(os.path.dirname(path), PRIVATE_DIRECTORY, exist_ok=True)
            mode = PRIVATE_FILE | EXECUTABLE if source.executable else PRIVATE_FILE
            if source.original is None:
                _write(path, source.content, mode)
            else:
                _copy(source.original, path, mode)
        check()
        _move_aside(paths)
        _publish(paths, draft)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(error, FileNotFoundError):
            raise AttemptSuperseded(f"another launcher removed {draft}") from error
        raise


def reclaim(paths: AttemptPaths, content: bytes) -> bool:
    """Create an attempt's start record before its wrapper does; return whether that succeeded.

    Create the run directory as well if it is missing. In the directory of a later attempt this one
    cannot start.
    """
    draft = f"{paths.draft_directory}.back"
    for _ in range(MAX_TRIES):
        found = read_marker(paths.run_directory)
        if found is not None and found[1] == paths.stamp and found[0] >= paths.number:
            shutil.rmtree(paths.draft_directory, ignore_errors=True)
            if found[0] > paths.number:
                return True
            if paths.is_earlier:
                os.makedirs(paths.attempt_path, PRIVATE_DIRECTORY, exist_ok=True)
            return exclusive_create(paths.file(START), content)
        try:
            _begin_draft(paths, draft, b"")
            _move_aside(paths)
            _publish(paths, draft)
        except AttemptSuperseded:  # another launcher does the same
            continue
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    raise LauncherError(
        f"{paths.run_directory} belongs to another attempt",
        hint="Move the directory out of the way.",
    )


def withdraw(paths: AttemptPaths, check: Callable[[], object] = lambda: None) -> None:
    """Remove the run directory of an attempt that has not started.

    ``check`` raises if this launcher was replaced: then another attempt may have the directory.
    """
    directory, aside = paths.run_directory, paths.draft_directory
    check()
    if marked_token(directory) != paths.token:
        return
    os.rename(directory, aside)
    if marked_token(aside) == paths.token:
        shutil.rmtree(aside)
    else:  # another launcher has replaced this one since the check
        os.rename(aside, directory)


def is_intact(paths: AttemptPaths) -> bool:
    """Return whether the run directory belongs to this attempt."""
    if read_marker(paths.run_directory) != (paths.number, paths.stamp):
        return False
    return not paths.is_earlier or os.path.isdir(paths.attempt_path)


def _begin_draft(paths: AttemptPaths, draft: str, inputs: bytes) -> None:
    try:
        try:
            os.mkdir(draft, PRIVATE_DIRECTORY)
        except FileNotFoundError:
            os.makedirs(paths.runs_root, PRIVATE_DIRECTORY, exist_ok=True)
            os.mkdir(draft, PRIVATE_DIRECTORY)
    except FileExistsError as error:
        raise AttemptSuperseded(f"another launcher prepares {paths.run_directory}") from error
    _write(f"{draft}/{INPUTS}", paths.marker + inputs, PRIVATE_FILE)


def _move_aside(paths: AttemptPaths) -> None:
    """Rename an earlier run directory, to a name that only that attempt's directory gets."""
    directory, number = paths.run_directory, paths.number
    if not os.path.lexists(directory):
        return
    found = read_marker(directory)
    if found is None or found[1] != paths.stamp or found[0] > number + MAX_AHEAD:
        aside = f"{directory}.before-{paths.token}"
    elif found[0] >= number:
        raise AttemptSuperseded(f"{directory} holds attempt {found[0]}, not older than {number}")
    else:
        aside = f"{directory}.attempt-{found[0]}"
    moved = f"another launcher moved {directory} aside"
    for suffix in itertools.count(1):
        try:
            os.rename(directory, aside if suffix == 1 else f"{aside}-{suffix}")
            return
        except FileNotFoundError as error:
            raise AttemptSuperseded(moved) from error
        except OSError as error:
            if error.errno not in EXISTS_ERRORS:
                raise
            # That name exists from earlier, unless another launcher has just moved this one.
            if read_marker(directory) != found:
                raise AttemptSuperseded(moved) from error


def _publish(paths: AttemptPaths, draft: str) -> None:
    try:
        os.rename(draft, paths.run_directory)
    except OSError as error:
        if error.errno in EXISTS_ERRORS:
            raise AttemptSuperseded(f"another launcher prepared {paths.run_directory}") from error
        raise


def _copy(source: Path, path: str, mode: int) -> None:
    """Copy a large file in chunks; the file system may share its blocks with the copy."""
    try:
        origin = open_regular(source)
    except OSError as error:
        raise SourceError(f"{source} cannot be read: {error.strerror}") from error
    with origin, _new(path, mode) as copy:
        try:
            while os.copy_file_range(origin.fileno(), copy.fileno(), KERNEL_COPY_BYTES):
                pass
        except OSError as error:
            if error.errno not in COPY_UNSUPPORTED:
                raise
            shutil.copyfileobj(origin, copy, CHUNK_BYTES)


def _new(path: str, mode: int) -> FileIO:
    return FileIO(os.open(path, NEW, mode), "wb")


def _write(path: str, content: bytes, mode: int) -> None:
    descriptor = os.open(path, NEW, mode)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)
