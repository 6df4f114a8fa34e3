"""The recent commits that a server remembers.

A client that reconnects asks which objects changed while it was away. If it missed more than the
server remembers, it only learns that anything may have changed. ZEO limits the number of commits,
but one commit may write thousands of objects.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Final, SupportsIndex, TypeAlias

from motoko.server.transaction_file import LENGTH, MAGIC, closing_length

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COMMITS: Final = 5000
OBJECTS: Final = 100_000  # in all of them
BYTES: Final = 16 * 2**20  # of the file that a starting server reads for them

Commit: TypeAlias = "tuple[bytes, Sequence[bytes]]"  # its id, and the objects that it wrote


class RecentCommits(list[Commit]):
    """The commits, newest first, in the form of ZEO's queue: it inserts, and drops the oldest."""

    def __init__(self, commits: Iterable[Commit]) -> None:
        super().__init__(commits)
        self._objects = sum(len(objects) for _, objects in self)
        self._trim()

    def insert(self, index: SupportsIndex, commit: Commit) -> None:
        """Insert a commit, and drop the oldest ones beyond OBJECTS."""
        super().insert(index, commit)
        self._objects += len(commit[1])
        self._trim()

    def pop(self, index: SupportsIndex = -1) -> Commit:
        """Drop a commit."""
        commit = super().pop(index)
        self._objects -= len(commit[1])
        return commit

    def _trim(self) -> None:
        while self._objects > OBJECTS and len(self) > 1:
            self.pop()


def count_commits(file: IO[bytes], end: int, most: int) -> int:
    """Return the number of the commits in the last BYTES before ``end``, from 1 to ``most``."""
    position, count = end, 0
    while count < most and position > len(MAGIC) and end - position < BYTES:
        length = closing_length(file, position)
        if length is None:
            break
        position -= length + LENGTH.size
        count += 1
    return max(1, count)
