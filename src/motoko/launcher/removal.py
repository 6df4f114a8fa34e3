"""Remove the directories of deleted runs, however often that is interrupted.

The commit that deletes a run notes its directories as pending. They are removed after it, and
forgotten in a later commit: whoever is killed in between leaves the rest to the next sweep.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from motoko.runtime import faults
from motoko.storage.session import transact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from motoko.core.records import RunKey
    from motoko.storage.store import Store

OWNER_MAY_ALL: Final = 0o700
BATCH: Final = 500  # runs whose removal is noted in one commit

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A path that cannot be removed, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def directories(root: Path, run_id: int) -> list[Path]:
    """Return the directories of a run: the present one, and those of former attempts."""
    ours = re.compile(rf"run-{run_id}(\.(attempt|before)-.*)?")
    if not root.is_dir():
        return []
    return sorted(path for path in root.glob(f"run-{run_id}*") if ours.fullmatch(path.name))


def obstacle(root: Path, run_id: int) -> Obstacle | None:
    """Return what would keep the directories of a run from being removed.

    Directories of this user that are write-protected are opened, so they are no obstacle.
    """
    found = directories(root, run_id)
    if found and not os.access(root, os.W_OK | os.X_OK):
        return Obstacle(str(root), _reason(str(root)))
    return next((fault for path in found for fault in _obstacles(path)), None)


def sweep(store: Store) -> list[Obstacle]:
    """Remove the directories of all deleted runs; returns what could not be removed.

    Blocks. The runs concerned stay pending, and the next sweep tries again.
    """
    with store.script.view() as session:
        pending = [k for k in session.tables.pending_removals() if k.study in store.studies]
    left: list[Obstacle] = []
    for start in range(0, len(pending), BATCH):
        gone: list[RunKey] = []
        for key in pending[start : start + BATCH]:
            problems = list(_remove(store.runs_root(key.study), key.id))
            left += problems
            if not problems:
                gone.append(key)
        if gone:
            store.database.submit(_forgetting(store, gone)).result()
    return left


def sweep_quietly(store: Store) -> None:
    """Sweep, and log what could not be removed."""
    for fault in sweep(store):
        log.warning("the directory of a deleted run cannot be removed: %s", fault)


def _forgetting(store: Store, gone: list[RunKey]) -> Callable[[], None]:
    def forget() -> None:
        transact(store.database, lambda tables: tables.forget_removals(gone))

    return forget


def _remove(root: Path, run_id: int) -> Iterator[Obstacle]:
    for path in directories(root, run_id):
        faults.point("removal.before_directory")
        try:
            if path.is_dir() and not path.is_symlink():
                list(_obstacles(path))  # opens what is write-protected
                shutil.rmtree(path)
            else:
                path.unlink()
        except FileNotFoundError:
            if os.path.lexists(path):  # another sweep removes it at the same time
                shutil.rmtree(path, ignore_errors=True)
        except OSError as error:
            yield Obstacle(str(error.filename or path), error.strerror or str(error))


def _obstacles(path: Path) -> Iterator[Obstacle]:
    """Yield what in a directory cannot be removed; open what only its mode protects."""
    device = os.lstat(path).st_dev
    problems: list[OSError] = []
    for name, inner, files in os.walk(_opened(str(path)), onerror=problems.append):
        for child in inner:
            found = os.lstat(_opened(f"{name}/{child}"))
            if stat.S_ISDIR(found.st_mode) and found.st_dev != device:
                yield Obstacle(f"{name}/{child}", "is a mount point")
        if not os.access(name, os.R_OK | os.W_OK | os.X_OK):
            yield Obstacle(name, _reason(name))
        if os.geteuid() == 0:  # to whom only what is immutable says no
            for file in files:
                if not os.access(f"{name}/{file}", os.W_OK, follow_symlinks=False):
                    yield Obstacle(f"{name}/{file}", _reason(f"{name}/{file}"))
    for problem in problems:
        if not isinstance(problem, FileNotFoundError):
            yield Obstacle(str(problem.filename), problem.strerror or str(problem))


def _opened(path: str) -> str:
    """Give the owner all rights on a directory of this user that lacks them."""
    found = os.lstat(path)
    mode = stat.S_IMODE(found.st_mode)
    mine = found.st_uid == os.geteuid()
    if stat.S_ISDIR(found.st_mode) and mine and mode & OWNER_MAY_ALL != OWNER_MAY_ALL:
        try:
            os.chmod(path, mode | OWNER_MAY_ALL)
        except OSError:
            return path  # reported by whoever looks at the rights
    return path


def _reason(path: str) -> str:
    """Say why this user cannot write to a path."""
    found = os.lstat(path)
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return os.strerror(errno.EROFS)
    if os.geteuid() in (0, found.st_uid):
        return os.strerror(errno.EPERM)
    return f"{os.strerror(errno.EACCES)} (it belongs to uid {found.st_uid})"
