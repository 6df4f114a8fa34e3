"""Find scheduler jobs of this workflow that no attempt needs. Blocks.

Such jobs come from submissions that arrived late or twice, and from jobs that the scheduler lost
and found again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from motoko.launcher.attempt_files import RECLAIMED_PREFIX, START
from motoko.launcher.executors.batch.submission_files import owner_of
from motoko.launcher.run_directory import ATTEMPTS_DIRECTORY, read_marker
from motoko.runtime.untrusted_files import read_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def find_orphans(root: Path, tokens: Iterable[str], owner: str) -> list[str]:
    """Return the orphans among ``tokens``, submissions without attempts in this launcher.

    A submission is an orphan if ``owner`` wrote it, or all its attempts were reclaimed or replaced.
    """
    return [token for token in tokens if owner_of(root, token) == owner or _is_idle(root / token)]


def _is_idle(directory: Path) -> bool:
    try:
        links = [os.readlink(entry.path) for entry in os.scandir(directory / "tasks")]
    except OSError:
        return False
    return all(map(_is_reclaimed, links))


def _is_reclaimed(attempt: str) -> bool:
    if not os.path.isdir(attempt):
        # A later attempt moved it aside, unless this machine cannot see it.
        return read_marker(attempt.rpartition(f"/{ATTEMPTS_DIRECTORY}/")[0]) is not None
    return read_file(f"{attempt}/{START}").text.startswith(RECLAIMED_PREFIX)
