"""What a launcher began to start, for a later one: evidence that no script's directory takes along.

A run's script may remove or move its directory before the database knows that it started. So the
launcher notes each attempt in ``.wf/starts/<launcher>`` before it starts its wrapper. The notes
need not survive a restart of the machine, after which every claimed attempt counts as started.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from motoko.runtime.files import PRIVATE_FILE, private_directory, write_atomic
from motoko.runtime.untrusted import read_file

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

STARTS: Final = "starts"
MOST: Final = 2**16  # bytes, after which only what is still wanted is kept
READ: Final = 16 * MOST


class Starts:
    """The notes of all launchers of a workflow; ``owner`` writes its own. Blocks."""

    def __init__(self, state: Path, owner: str) -> None:
        self._directory = state / STARTS
        self._path = self._directory / owner
        self._size = 0

    def trim(self, wanted: Collection[str]) -> None:
        """Keep the notes of ``wanted`` only, where there are too many; OSError if it cannot."""
        if self._size > MOST:
            content = "".join(f"{token}\n" for token in wanted).encode()
            write_atomic(self._path, content)
            self._size = len(content)

    def note(self, token: str) -> None:
        """Note an attempt that is about to start; OSError if that cannot be done."""
        if not self._size:
            private_directory(self._directory)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, PRIVATE_FILE)
        try:
            self._size += os.write(descriptor, f"{token}\n".encode())
        finally:
            os.close(descriptor)

    def has(self, launcher: str, token: str) -> bool:
        """Return whether a launcher noted an attempt."""
        return token in read_file(self._directory / launcher, limit=READ).text.split("\n")

    def others(self) -> set[str]:
        """Return the other launchers of which there are notes."""
        try:
            return set(os.listdir(self._directory)) - {self._path.name}
        except OSError:
            return set()

    def forget(self, launchers: Collection[str]) -> None:
        """Remove the notes of launchers whose attempts have all ended."""
        for name in launchers:
            (self._directory / name).unlink(missing_ok=True)
