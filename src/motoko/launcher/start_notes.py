"""What a launcher is about to start, noted where no script's directory takes it along.

Each launcher has a directory ``.wf/starts/<launcher>``. It notes an attempt there before it starts
the attempt, so that a later launcher knows of a run whose script removed its own directory.

The directory is also the launcher's permission to start anything. A launcher that takes over its
attempts renames it first, and reads the notes afterwards. The former launcher may only sleep; when
it wakes it finds its directory gone, whatever has become of the run directories. It looks for it
after each note, so that of a start at the same moment at least one launcher knows.

The notes need not survive a restart of the machine, after which every claimed attempt counts as
started.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, Final

from motoko.errors import Fenced, LauncherError
from motoko.runtime import fault_points
from motoko.runtime.files import PRIVATE_FILE, private_directory, write_atomic
from motoko.runtime.untrusted_files import read_file

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

DIRECTORY_NAME: Final = "starts"
FILE_NAME: Final = "notes"
FENCED_SUFFIX: Final = (
    ".taken"  # ends the name of the directory of a launcher whose attempts were taken
)
TRIM_BYTES: Final = 2**16  # bytes, after which only what is still wanted is kept
READ_LIMIT: Final = 16 * TRIM_BYTES


class StartNotes:
    """The notes of all launchers of a workflow; ``owner`` writes its own. Blocks."""

    def __init__(self, state: Path, owner: str) -> None:
        self._directory = state / DIRECTORY_NAME
        self._owner = owner
        self._own = self._directory / owner
        self._size = 0

    def open(self) -> None:
        """Make the owner's directory, once the database knows the owner.

        LauncherError if that cannot be done.
        """
        try:
            private_directory(self._directory)
            private_directory(self._own)
        except OSError as error:
            raise LauncherError(
                f"{self._own} cannot be made: {error.strerror or error}",
                hint="Start the launcher again when this is put right.",
            ) from error

    def check(self) -> None:
        """Raise Fenced if another launcher has taken over the owner's attempts."""
        if not self._own.is_dir():
            raise Fenced(
                f"launcher {self._owner} was replaced while it slept",
                hint="The other launcher serves its runs. If there is none, start one: "
                f"{self._own} was removed, and a launcher starts nothing without it.",
            )

    def trim(self, wanted: Collection[str]) -> None:
        """Keep the notes of ``wanted`` only, where there are too many; OSError if it cannot.

        Fenced as in ``check``.
        """
        if self._size > TRIM_BYTES:
            content = "".join(f"{token}\n" for token in wanted).encode()
            with self._checked():
                write_atomic(self._own / FILE_NAME, content)
            self._size = len(content)

    def note(self, token: str) -> None:
        """Note an attempt that is about to start; OSError if that cannot be done.

        Fenced as in ``check``.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        with self._checked():
            descriptor = os.open(self._own / FILE_NAME, flags, PRIVATE_FILE)
            try:
                self._size += os.write(descriptor, f"{token}\n".encode())
            finally:
                os.close(descriptor)
        self.check()  # who took over before this note was written did not read it

    @contextlib.contextmanager
    def _checked(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            self.check()
            raise

    def take(self, launchers: Collection[str]) -> None:
        """Keep former launchers from starting anything; LauncherError if that cannot be done."""
        fault_points.point("launcher.takes_over")
        try:
            for name in set(os.listdir(self._directory)).intersection(launchers):
                with contextlib.suppress(FileNotFoundError):
                    os.rename(self._directory / name, self._directory / f"{name}{FENCED_SUFFIX}")
        except OSError as error:
            raise LauncherError(
                f"attempts of former launchers cannot be taken over: {error}",
                hint="Start the launcher again when this is put right.",
            ) from error

    def has(self, launcher: str, token: str) -> bool:
        """Return whether a launcher noted an attempt."""
        return any(
            token
            in read_file(self._directory / name / FILE_NAME, limit=READ_LIMIT).text.split("\n")
            for name in (launcher, f"{launcher}{FENCED_SUFFIX}")
        )

    def others(self) -> set[str]:
        """Return the other launchers of which there are notes."""
        try:
            found = os.listdir(self._directory)
        except OSError:
            return set()
        return {name.removesuffix(FENCED_SUFFIX) for name in found} - {self._owner}

    def forget(self, launchers: Collection[str]) -> None:
        """Remove the notes of launchers without active attempts; these start no more."""
        for name in launchers:
            for directory in (name, f"{name}{FENCED_SUFFIX}"):
                shutil.rmtree(self._directory / directory, ignore_errors=True)
