"""Temporary files that killed processes left behind."""

from __future__ import annotations

import logging
import re
import shutil
from typing import TYPE_CHECKING, Final

from motoko.runtime.ports import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from motoko.runtime.ports import Clock
    from motoko.server.state_dir import StateDir

log = logging.getLogger(__name__)

TEMPORARY: Final = re.compile(r"\.(.+)\.[0-9a-f]{12}")  # the final name is between the dots
MIN_AGE: Final = 60.0  # seconds; the writer of a younger file may be alive
DRAFT_PREFIX: Final = "creating-"  # of the directories in which databases are created
SERVER_FILES: Final = ("wf.db.pack", "wf.db.pack.index", "wf.db.index.index_tmp", "wf.db.tr*")


def remove_stale_files(state: StateDir, *, clock: Clock = SYSTEM.clock) -> None:
    """Remove stale files from a state directory. The caller must hold the database."""
    _remove(path for pattern in SERVER_FILES for path in state.path.glob(pattern))
    remove_temp_files(state.path, clock=clock)
    for draft in state.path.glob(f"{DRAFT_PREFIX}*"):
        if draft.stat().st_mtime < clock.now() - MIN_AGE:
            shutil.rmtree(draft, ignore_errors=True)
    for directory in state.path.iterdir():
        if directory.is_dir():
            remove_temp_files(directory, clock=clock)


def remove_temp_files(
    directory: Path, name: str | None = None, *, clock: Clock = SYSTEM.clock
) -> None:
    """Remove stale temporary files of the file ``name`` (None: of any) in a directory."""
    latest = clock.now() - MIN_AGE
    found = [
        path
        for path in directory.iterdir()
        if (match := TEMPORARY.fullmatch(path.name)) and name in (None, match[1])
    ]
    _remove(path for path in found if path.exists() and path.stat().st_mtime < latest)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
        log.info("removed %s, which a killed process left", path)
