"""Run directories: a clean one for each attempt, published whole, former ones moved aside.

``run-<id>/`` holds what the script sees; ``run-<id>/.motoko/<token>/`` what passes between the
attempt and launchers: inputs, outbox, start file, exit record. ``run-<id>/.motoko/attempt`` says
whose contents these are. Two launchers may work on one run at a time, one of them woken from a long
sleep: every step is one that the other notices, so that neither spoils a directory in use.
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
from motoko.runtime.files import PRIVATE_DIRECTORY, PRIVATE_FILE
from motoko.runtime.untrusted_files import read_file
from motoko.worker import HEADER, OUTBOX
from motoko.worker.regular import open_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from motoko.core.records import RunRecord

PRIVATE: Final = ".motoko"
MARKER: Final = "attempt"
EXECUTABLE: Final = 0o100
CHUNK_BYTES: Final = 1 << 20  # bytes of a study's file that are in memory at once
KERNEL_COPY_BYTES: Final = 1 << 26  # bytes that the system copies at once
# What copy_file_range says where it cannot copy between these files.
COPY_UNSUPPORTED: Final = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)
MAX_TRIES: Final = 20
EXISTS_ERRORS: Final = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR)
# Numbers have a bounded length: Python refuses to read those of thousands of digits.
_MARKER: Final = re.compile(r"([0-9]{1,9}) ([0-9.]{1,40})\n?")
# A backup that was restored may know fewer attempts than the directories show, but not by far.
MAX_AHEAD: Final = 1000


class AttemptSuperseded(LauncherError):
    """The attempt was taken back by another launcher, or a later one has begun."""


@dataclass(frozen=True, slots=True)
class AttemptPaths:
    """Where one attempt of a run is: ``stamp`` tells apart runs of the same id."""

    runs_root: str
    run_id: int
    number: int
    token: str
    stamp: str

    @classmethod
    def for_record(cls, root: Path, record: RunRecord, token: str | None = None) -> AttemptPaths:
        """Return the place of a run's attempt; with ``token``, of the next one under it."""
        number = record.attempt if token is None else record.attempt + 1
        created = record.history[0].time if record.history else 0.0
        stamp = f"{created:.6f}"
        return cls(str(root), record.id, number, token or record.token or "", stamp)

    @property
    def run_directory(self) -> str:
        """Return the run directory."""
        return f"{self.runs_root}/run-{self.run_id}"

    @property
    def attempt_directory(self) -> str:
        """Return the attempt's own directory."""
        return f"{self.run_directory}/{PRIVATE}/{self.token}"

    def file(self, name: str) -> Path:
        """Return a file of the attempt's own directory."""
        return Path(self.attempt_directory, name)

    @property
    def draft_directory(self) -> str:
        """Return where the directory is filled before it is published."""
        return f"{self.runs_root}/.run-{self.run_id}.new-{self.token}"


class SourceError(LauncherError):
    """A file of the study cannot be copied any more."""


@dataclass(frozen=True, slots=True)
class ScriptFile:
    """A file to be put into run directories: its name there, and its content.

    Of a file larger than one PIECE ``content`` is the first one, and ``source`` the file itself.
    """

    name: str
    content: bytes
    executable: bool
    source: Path | None = None


def read_sources(study: Path, names: Iterable[str]) -> list[ScriptFile]:
    """Read a study's files; OSError if one cannot be read."""
    return [_read_source(study, name) for name in names]


def _read_source(study: Path, name: str) -> ScriptFile:
    path = study / name
    try:
        with open_regular(path) as file:
            found = os.fstat(file.fileno())
            content = (
                file.read(CHUNK_BYTES) or b""
            )  # None where there is nothing yet, as in /proc/kmsg
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    large = path if found.st_size > CHUNK_BYTES else None
    return ScriptFile(name, content, bool(found.st_mode & EXECUTABLE), large)


def create(
    paths: AttemptPaths,
    inputs: tuple[str, bytes],
    sources: Iterable[ScriptFile],
    check: Callable[[], object] = lambda: None,
) -> None:
    """Make the clean run directory of an attempt. Superseded if it is not this one's turn.

    ``check`` is called before a former directory is moved aside, and raises where that is another
    launcher's by now.
    """
    draft = paths.draft_directory
    try:
        _create_draft(paths, draft)
        name, content = inputs
        _write(f"{draft}/{PRIVATE}/{paths.token}/{name}", content, PRIVATE_FILE)
        _write(f"{draft}/{PRIVATE}/{paths.token}/{OUTBOX}", HEADER, PRIVATE_FILE)
        for source in sources:
            path = f"{draft}/{source.name}"
            if "/" in source.name:
                os.makedirs(os.path.dirname(path), PRIVATE_DIRECTORY, exist_ok=True)
            mode = PRIVATE_FILE | EXECUTABLE if source.executable else PRIVATE_FILE
            if source.source is None:
                _write(path, source.content, mode)
            else:
                _copy(source.source, path, mode)
        check()
        _move_aside(paths)
        _publish(paths, draft)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(error, FileNotFoundError):
            raise AttemptSuperseded(f"another launcher removed {draft}") from error
        raise


def reclaim_start_file(paths: AttemptPaths, start: str, content: bytes) -> bool:
    """Take an attempt's start file before its wrapper does; returns whether that succeeded.

    The attempt's directory is made where the launcher that claimed it never came to do so. Where
    there is that of a later attempt, this one cannot start any more.
    """
    draft = f"{paths.draft_directory}.back"
    for _ in range(MAX_TRIES):
        found = read_marker(paths.run_directory)
        if found is not None and found[1] == paths.stamp and found[0] >= paths.number:
            shutil.rmtree(paths.draft_directory, ignore_errors=True)
            return found[0] > paths.number or _create_start_file(paths, start, content)
        try:
            _create_draft(paths, draft)
            _move_aside(paths)
            _publish(paths, draft)
        except AttemptSuperseded:  # the other launcher did the same step at the same time
            continue
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    raise LauncherError(
        f"{paths.run_directory} belongs to another attempt",
        hint="Move the directory out of the way.",
    )


def _create_start_file(paths: AttemptPaths, start: str, content: bytes) -> bool:
    os.makedirs(paths.attempt_directory, PRIVATE_DIRECTORY, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(f"{paths.attempt_directory}/{start}", flags, PRIVATE_FILE)
    except FileExistsError:
        return False
    with open(descriptor, "wb", buffering=0) as file:
        file.write(content)
    return True


def is_intact(paths: AttemptPaths) -> bool:
    """Return whether the run directory is this attempt's, and holds the attempt's own."""
    return read_marker(paths.run_directory) == (paths.number, paths.stamp) and os.path.isdir(
        paths.attempt_directory
    )


def read_marker(run: str) -> tuple[int, str] | None:
    """Return attempt number and stamp of what a run directory holds, None if it does not say."""
    found = _MARKER.fullmatch(read_file(f"{run}/{PRIVATE}/{MARKER}").text)
    return None if found is None else (int(found[1]), found[2])


def _create_draft(paths: AttemptPaths, draft: str) -> None:
    os.makedirs(paths.runs_root, PRIVATE_DIRECTORY, exist_ok=True)
    try:
        os.mkdir(draft, PRIVATE_DIRECTORY)
    except FileExistsError as error:
        raise AttemptSuperseded(f"another launcher prepares {paths.run_directory}") from error
    os.mkdir(f"{draft}/{PRIVATE}", PRIVATE_DIRECTORY)
    os.mkdir(f"{draft}/{PRIVATE}/{paths.token}", PRIVATE_DIRECTORY)
    marker = f"{paths.number} {paths.stamp}\n".encode()
    _write(f"{draft}/{PRIVATE}/{MARKER}", marker, PRIVATE_FILE)


def _move_aside(paths: AttemptPaths) -> None:
    """Move what is in the way aside, to a name that only contents of that attempt get."""
    if not os.path.lexists(paths.run_directory):
        return
    found = read_marker(paths.run_directory)
    if found is None or found[1] != paths.stamp or found[0] > paths.number + MAX_AHEAD:
        aside = f"{paths.run_directory}.before-{paths.token}"
    elif found[0] >= paths.number:
        raise AttemptSuperseded(
            f"{paths.run_directory} holds attempt {found[0]}, not older than {paths.number}"
        )
    else:
        aside = f"{paths.run_directory}.attempt-{found[0]}"
    for number in itertools.count(1):
        try:
            os.rename(paths.run_directory, aside if number == 1 else f"{aside}-{number}")
            return
        except FileNotFoundError as error:
            raise AttemptSuperseded(
                f"another launcher moved {paths.run_directory} aside"
            ) from error
        except OSError as error:
            if error.errno not in EXISTS_ERRORS:
                raise
            # What has that name is of former times, unless another launcher moved this there.
            if read_marker(paths.run_directory) != found:
                raise AttemptSuperseded(
                    f"another launcher moved {paths.run_directory} aside"
                ) from error


def _publish(paths: AttemptPaths, draft: str) -> None:
    try:
        os.rename(draft, paths.run_directory)
    except OSError as error:
        if error.errno in EXISTS_ERRORS:
            raise AttemptSuperseded(f"another launcher prepared {paths.run_directory}") from error
        raise


def _copy(source: Path, path: str, mode: int) -> None:
    """Copy a large file in pieces; the file system may share its blocks with the copy."""
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
