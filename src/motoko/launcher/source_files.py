"""The files of studies that go into run directories, read again only after they have changed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from motoko.runtime.ports import SYSTEM
from motoko.worker.regular_files import FLAGS, open_regular

if TYPE_CHECKING:
    from collections.abc import Iterable

    from motoko.runtime.ports import Clock

CHUNK_BYTES: Final = 1 << 20  # of a file in memory
EXECUTABLE: Final = 0o100
SETTLE_SECONDS: Final = 2.0  # a younger file may change again without a new modification time
KEPT_BYTES: Final = 1 << 16  # larger files are read each time


@dataclass(frozen=True, slots=True)
class ScriptFile:
    """A file to copy into run directories.

    ``original`` is set for a file larger than CHUNK_BYTES, whose ``content`` is its beginning.
    """

    name: str
    content: bytes
    executable: bool
    original: Path | None = None


class SourceFiles:
    """The files of studies, as they were when they were last read. All methods block."""

    def __init__(self, clock: Clock = SYSTEM.clock) -> None:
        self._clock = clock
        self._known: dict[str, tuple[tuple[int, ...], ScriptFile]] = {}

    def read(self, study: Path, names: Iterable[str]) -> list[ScriptFile]:
        """Read a study's files; OSError if one cannot be read."""
        return [self._read(study, name) for name in names]

    def _read(self, study: Path, name: str) -> ScriptFile:
        path = f"{study}/{name}"
        known = self._known.get(path)
        if known is not None and known[0] == _stamp_of(path):
            return known[1]
        self._known.pop(path, None)
        source, found = _read_source(Path(path), name)
        changed = max(found.st_mtime, found.st_ctime)
        if found.st_size <= KEPT_BYTES and self._clock.now() - changed > SETTLE_SECONDS:
            self._known[path] = _stamp(found), source
        return source


def read_sources(study: Path, names: Iterable[str]) -> list[ScriptFile]:
    """Read a study's files; OSError if one cannot be read."""
    return SourceFiles().read(study, names)


def _read_source(path: Path, name: str) -> tuple[ScriptFile, os.stat_result]:
    try:
        with open_regular(path) as file:
            found = os.fstat(file.fileno())
            content = file.read(CHUNK_BYTES) or b""  # None if no data is ready, as in /proc/kmsg
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    original = path if found.st_size > CHUNK_BYTES else None
    return ScriptFile(name, content, bool(found.st_mode & EXECUTABLE), original), found


def _stamp_of(path: str) -> tuple[int, ...]:
    """Return values that change with a file; an empty tuple if it cannot be opened.

    Opening it makes a network file system ask for its present state.
    """
    try:
        descriptor = os.open(path, FLAGS)
    except OSError:
        return ()
    try:
        return _stamp(os.fstat(descriptor))
    finally:
        os.close(descriptor)


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    return (
        found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev,
        found.st_mode,
    )  # fmt: skip
