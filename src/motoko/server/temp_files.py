"""Temporary files of processes that were killed while they wrote them."""

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

# How a file is called until it takes its place: its name is between the dots.
TEMPORARY: Final = re.compile(r"\.(.+)\.[0-9a-f]{12}")
SECONDS: Final = 60.0  # whoever writes a younger one may still be at it
DRAFT_PREFIX: Final = "creating-"  # how the directories begin in which a database is made
LEFT_BY_A_KILLED_SERVER: Final = ("wf.db.pack", "wf.db.index.index_tmp", "wf.db.tr*")


def remove_stale_files(state: StateDir, *, clock: Clock = SYSTEM.clock) -> None:
    """Remove what was left in a state directory. Only who holds the database may do that."""
    _remove(path for pattern in LEFT_BY_A_KILLED_SERVER for path in state.path.glob(pattern))
    remove_temp_files(state.path, clock=clock)
    for workshop in state.path.glob(f"{DRAFT_PREFIX}*"):
        if workshop.stat().st_mtime < clock.now() - SECONDS:
            shutil.rmtree(workshop, ignore_errors=True)
    for directory in state.path.iterdir():
        if directory.is_dir():
            remove_temp_files(directory, clock=clock)


def remove_temp_files(
    directory: Path, name: str | None = None, *, clock: Clock = SYSTEM.clock
) -> None:
    """Remove temporary files that were to become the file ``name`` (None: any) of a directory."""
    latest = clock.now() - SECONDS
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
