"""Find scheduler jobs of this workflow that no attempt needs. Blocks.

Such jobs come from submissions that arrived late or twice, and from jobs that the scheduler lost
and found again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from motoko.launcher.attempt_paths import marked_token, run_directory_of, token_of
from motoko.launcher.attempt_records import RECLAIMED, read_start
from motoko.launcher.executors.batch.submission_files import owner_of

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
        tasks = os.scandir(directory / "tasks")
        links = [os.readlink(entry.path) for entry in tasks if entry.is_symlink()]
    except OSError:
        return False
    return all(map(_is_reclaimed, links))


def _is_reclaimed(attempt: str) -> bool:
    start = read_start(attempt)
    if start.data is not None or os.path.lexists(attempt):
        return start.text.startswith(RECLAIMED)
    # A later attempt moved it aside, unless this machine cannot see it.
    return marked_token(run_directory_of(attempt)) not in (None, token_of(attempt))
