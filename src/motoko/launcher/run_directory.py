"""Run directories: a clean one for each attempt, published complete; earlier ones are moved aside.

``run-<id>/`` is the script's directory. ``run-<id>/.motoko/<token>/`` holds the files between the
attempt and launchers: inputs, outbox, start file, exit record. ``run-<id>/.motoko/attempt`` is a
marker: it names the attempt that owns the directory. Two launchers may work on one run, if one was
suspended for long. Each step is visible to the other one, so neither damages a directory in use.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import shutil
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from motoko.errors import LauncherError
from motoko.runtime.files import PRIVATE_DIRECTORY, PRIVATE_FILE, exclusive_create
from motoko.runtime.untrusted_files import read_file
from motoko.worker import HEADER, OUTBOX
from motoko.worker.regular_files import open_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from motoko.core.records import RunRecord

ATTEMPTS_DIRECTORY: Final = ".motoko"
MARKER: Final = "attempt"
EXECUTABLE: Final = 0o100
CHUNK_BYTES: Final = 1 << 20  # of a file in memory
KERNEL_COPY_BYTES: Final = 1 << 26  # per call of copy_file_range
# Errors of copy_file_range for files between which it cannot copy.
COPY_UNSUPPORTED: Final = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)
MAX_TRIES: Final = 20
EXISTS_ERRORS: Final = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR)
# The length of numbers is bounded: Python refuses to convert thousands of digits.
_MARKER: Final = re.compile(r"([0-9]{1,9}) ([0-9.]{1,40})\n?")
# A restored backup may know slightly fewer attempts than the directories show.
MAX_AHEAD: Final = 1000


class AttemptSuperseded(LauncherError):
    """Another launcher reclaimed the attempt, or a later attempt has started."""


@dataclass(frozen=True, slots=True)
class AttemptPaths:
    """The paths of one attempt; ``stamp`` distinguishes runs of the same id."""

    runs_root: str
    run_id: int
    number: int
    token: str
    stamp: str

    @classmethod
    def for_record(cls, root: Path, record: RunRecord) -> AttemptPaths:
        """Return the paths of a run's current attempt."""
        created = record.history[0].time if record.history else 0.0
        return cls(str(root), record.id, record.attempt, record.token or "", f"{created:.6f}")

    @property
    def run_directory(self) -> str:
        """The run directory, in which the script runs."""
        return f"{self.runs_root}/run-{self.run_id}"

    @property
    def attempt_directory(self) -> str:
        """The attempt's own directory."""
        return f"{self.run_directory}/{ATTEMPTS_DIRECTORY}/{self.token}"

    def file(self, name: str) -> Path:
        """Return the path of a file in the attempt's own directory."""
        return Path(self.attempt_directory, name)

    @property
    def draft_directory(self) -> str:
        """The directory under which the run directory is filled before it is published."""
        return f"{self.runs_root}/.run-{self.run_id}.new-{self.token}"


class SourceError(LauncherError):
    """A file of the study cannot be copied."""


@dataclass(frozen=True, slots=True)
class ScriptFile:
    """A file to copy into run directories.

    ``original`` is set for a file larger than CHUNK_BYTES, whose ``content`` is its beginning.
    """

    name: str
    content: bytes
    executable: bool
    original: Path | None = None


def read_sources(study: Path, names: Iterable[str]) -> list[ScriptFile]:
    """Read a study's files; OSError if one cannot be read."""
    return [_read_source(study, name) for name in names]


def _read_source(study: Path, name: str) -> ScriptFile:
    path = study / name
    try:
        with open_regular(path) as file:
            found = os.fstat(file.fileno())
            content = file.read(CHUNK_BYTES) or b""  # None if no data is ready, as in /proc/kmsg
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    original = path if found.st_size > CHUNK_BYTES else None
    return ScriptFile(name, content, bool(found.st_mode & EXECUTABLE), original)


def create_run_directory(
    paths: AttemptPaths,
    inputs: tuple[str, bytes],
    sources: Iterable[ScriptFile],
    check: Callable[[], object] = lambda: None,
) -> None:
    """Create the clean run directory of an attempt; AttemptSuperseded if it may not start.

    ``check`` is called before an earlier directory is moved aside, and raises if this launcher was
    replaced.
    """
    draft = paths.draft_directory
    try:
        _begin_draft(paths, draft)
        name, content = inputs
        _write(f"{draft}/{ATTEMPTS_DIRECTORY}/{paths.token}/{name}", content, PRIVATE_FILE)
        _write(f"{draft}/{ATTEMPTS_DIRECTORY}/{paths.token}/{OUTBOX}", HEADER, PRIVATE_FILE)
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


def reclaim_start_file(paths: AttemptPaths, start: str, content: bytes) -> bool:
    """Create an attempt's start file before its wrapper does; return whether that succeeded.

    Create the attempt's directory as well if it is missing. In the directory of a later attempt
    this one cannot start.
    """
    draft = f"{paths.draft_directory}.back"
    for _ in range(MAX_TRIES):
        found = read_marker(paths.run_directory)
        if found is not None and found[1] == paths.stamp and found[0] >= paths.number:
            shutil.rmtree(paths.draft_directory, ignore_errors=True)
            if found[0] > paths.number:
                return True
            os.makedirs(paths.attempt_directory, PRIVATE_DIRECTORY, exist_ok=True)
            return exclusive_create(paths.file(start), content)
        try:
            _begin_draft(paths, draft)
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


def is_intact(paths: AttemptPaths) -> bool:
    """Return whether the run directory belongs to this attempt and contains its own directory."""
    return read_marker(paths.run_directory) == (paths.number, paths.stamp) and os.path.isdir(
        paths.attempt_directory
    )


def read_marker(run: str) -> tuple[int, str] | None:
    """Return attempt number and stamp of a run directory, None if they are unreadable."""
    found = _MARKER.fullmatch(read_file(f"{run}/{ATTEMPTS_DIRECTORY}/{MARKER}").text)
    return None if found is None else (int(found[1]), found[2])


def attempt_directory(root: Path, record: RunRecord, number: int) -> Path | None:
    """Return the directory of an attempt of a run, None if it does not exist.

    The last attempt to start has ``run-ID``. A later one moves it to ``run-ID.attempt-N``.
    """
    created = record.history[0].time if record.history else 0.0
    wanted, run = (number, f"{created:.6f}"), root / f"run-{record.id}"
    if read_marker(str(run)) == wanted:
        return run
    aside = root / f"{run.name}.attempt-{number}"
    for suffix in itertools.count(1):
        path = aside if suffix == 1 else root / f"{aside.name}-{suffix}"
        if read_marker(str(path)) == wanted:
            return path
        if not path.is_dir():
            break
    # A script may have removed the marker.
    return run if number == record.attempt and run.is_dir() and not aside.is_dir() else None


def _begin_draft(paths: AttemptPaths, draft: str) -> None:
    os.makedirs(paths.runs_root, PRIVATE_DIRECTORY, exist_ok=True)
    try:
        os.mkdir(draft, PRIVATE_DIRECTORY)
    except FileExistsError as error:
        raise AttemptSuperseded(f"another launcher prepares {paths.run_directory}") from error
    os.mkdir(f"{draft}/{ATTEMPTS_DIRECTORY}", PRIVATE_DIRECTORY)
    os.mkdir(f"{draft}/{ATTEMPTS_DIRECTORY}/{paths.token}", PRIVATE_DIRECTORY)
    marker = f"{paths.number} {paths.stamp}\n".encode()
    _write(f"{draft}/{ATTEMPTS_DIRECTORY}/{MARKER}", marker, PRIVATE_FILE)


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
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return FileIO(os.open(path, flags, mode), "wb")


def _write(path: str, content: bytes, mode: int) -> None:
    with _new(path, mode) as file:
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) or 0 :]
