"""Notes of the attempts that each launcher starts, outside of all run directories.

A launcher notes an attempt in ``.wf/starts/<launcher>`` before it starts the attempt. So a later
launcher knows of a run whose script removed its own directory. A launcher notes attempts only
while its directory exists. A successor renames the directory, then reads the notes. A suspended
launcher that resumes checks for its directory after each note, and stops if it is missing. So every
start is known to the successor or prevented. A line ``-TOKEN`` revokes the note of an attempt whose
directory is removed before it starts.

The notes may be lost when the machine restarts: then every claimed attempt counts as started.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from typing import TYPE_CHECKING, Final

from motoko.errors import Fenced, LauncherError
from motoko.runtime import fault_points
from motoko.runtime.files import PRIVATE_FILE, private_directory, write_atomic
from motoko.runtime.untrusted_files import read_file
from motoko.server.state_dir_guard import StateDirGuard

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

DIRECTORY_NAME: Final = "starts"
FILE_NAME: Final = "notes"
FENCED_SUFFIX: Final = ".taken"  # of the directories of replaced launchers
TRIM_BYTES: Final = 2**16  # larger notes are trimmed
READ_LIMIT: Final = 16 * TRIM_BYTES
HINT: Final = "Correct this, then start the launcher again."


class StartNotes:
    """The notes of all launchers of a workflow; ``owner`` writes its own. All methods block."""

    def __init__(self, state: Path, owner: str) -> None:
        self._state = StateDirGuard.at(state)
        self._directory = state / DIRECTORY_NAME
        self._owner = owner
        self._own = self._directory / owner
        self._size = 0
        self._noted: set[str] = set()
        self._lock = threading.Lock()

    def open(self) -> None:
        """Make the owner's directory, once the database knows the owner."""
        try:
            private_directory(self._directory)
            private_directory(self._own)
        except OSError as error:
            reason = error.strerror or error
            raise LauncherError(f"{self._own} cannot be created: {reason}", hint=HINT) from error

    def check(self) -> None:
        """Raise Fenced if another launcher has replaced the owner, ServerError after a move."""
        if not self._own.is_dir():
            self._state.check()
            raise Fenced(
                f"launcher {self._owner} was replaced while it was suspended",
                hint="The other launcher serves its runs. If there is none, start one: "
                f"{self._own} was removed, and a launcher starts nothing without it.",
            )

    def trim(self, kept: Callable[[], Iterable[str]]) -> None:
        """Drop other notes than those of ``kept()`` if the file is large; raise as ``record``."""
        with self._lock:
            if self._size <= TRIM_BYTES:
                return
            self._noted.intersection_update(kept())
            content = "".join(f"{token}\n" for token in self._noted).encode()
            with self._checked():
                write_atomic(self._own / FILE_NAME, content)
            self._size = len(content)

    def record(self, token: str) -> None:
        """Note an attempt that is about to start; raise OSError or as ``check``."""
        with self._lock:
            self._append(f"{token}\n")
            self._noted.add(token)
        self.check()  # a launcher that replaced the owner before has not read this note

    def revoke(self, token: str) -> None:
        """Revoke a note, if any, before the directory is removed; raise as ``record``."""
        with self._lock:
            if token in self._noted:
                self._append(f"-{token}\n")
                self._noted.discard(token)

    def _append(self, line: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        with self._checked():
            descriptor = os.open(self._own / FILE_NAME, flags, PRIVATE_FILE)
            try:
                self._size += os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)

    @contextlib.contextmanager
    def _checked(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            self.check()
            raise

    def fence(self, launchers: Collection[str]) -> None:
        """Prevent earlier launchers from starting attempts."""
        fault_points.point("launcher.adopting")
        try:
            for name in set(os.listdir(self._directory)).intersection(launchers):
                with contextlib.suppress(FileNotFoundError):
                    os.rename(self._directory / name, self._directory / f"{name}{FENCED_SUFFIX}")
        except OSError as error:
            message = f"attempts of earlier launchers cannot be adopted: {error}"
            raise LauncherError(message, hint=HINT) from error

    def contains(self, launcher: str, token: str) -> bool:
        """Return whether the launcher noted the attempt, and did not revoke that."""
        names = (launcher, f"{launcher}{FENCED_SUFFIX}")
        files = [self._directory / name / FILE_NAME for name in names]
        lines = [line for f in files for line in read_file(f, limit=READ_LIMIT).text.split("\n")]
        own = [line for line in lines if line.removeprefix("-") == token]
        return own[-1:] == [token]

    def other_launchers(self) -> set[str]:
        """Return the other launchers with notes."""
        try:
            found = os.listdir(self._directory)
        except OSError:
            return set()
        return {name.removesuffix(FENCED_SUFFIX) for name in found} - {self._owner}

    def remove(self, launchers: Collection[str]) -> None:
        """Remove the notes of launchers without active attempts."""
        for name in launchers:
            for directory in (name, f"{name}{FENCED_SUFFIX}"):
                shutil.rmtree(self._directory / directory, ignore_errors=True)
