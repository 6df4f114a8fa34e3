"""Scheduler jobs of this workflow that nobody waits for any more.

They come from submissions that arrived after they were given up, or twice, and from jobs that the
scheduler had lost and found again. Blocks.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from motoko.launcher.attempt_files import RECLAIMED_PREFIX, START
from motoko.launcher.executors.batch.submission_files import owner_of
from motoko.launcher.run_directory import PRIVATE, read_marker
from motoko.runtime.untrusted_files import read_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def find_orphans(root: Path, tokens: Iterable[str], owner: str) -> list[str]:
    """Return those of ``tokens``, none of them known to the launcher ``owner``, that are useless.

    Those that it submitted itself are, and those of others of which no task would run a script.
    """
    return [token for token in tokens if owner_of(root, token) == owner or _idle(root / token)]


def _idle(directory: Path) -> bool:
    try:
        links = [os.readlink(entry.path) for entry in os.scandir(directory / "tasks")]
    except OSError:
        return False
    return all(map(_taken_back, links))


def _taken_back(attempt: str) -> bool:
    if not os.path.isdir(attempt):
        # Moved aside by a later attempt, unless it cannot be seen from here.
        return read_marker(attempt.rpartition(f"/{PRIVATE}/")[0]) is not None
    return read_file(f"{attempt}/{START}").text.startswith(RECLAIMED_PREFIX)
