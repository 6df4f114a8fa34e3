"""Remove the directories of deleted runs; interrupted removals are completed later.

The commit that deletes a run records the removal of its directories as pending. A later commit
deletes that record after they are removed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import shutil
import stat
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final
from zipfile import BadZipFile

from motoko.core.records import RunKey
from motoko.errors import MotokoError
from motoko.runtime import fault_points
from motoko.runtime.packs import PACKED, discard, find_packs, packs_lock
from motoko.storage.session import run_transaction

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterator
    from pathlib import Path

    from motoko.storage.store import WorkflowStore

OWNER_RIGHTS: Final = 0o700
RUN_DIRECTORY: Final = re.compile(r"run-([0-9]{1,10})(?:\.(?:attempt|before)-.*)?", re.DOTALL)
BATCH: Final = 500  # removed runs to record in one commit

log = logging.getLogger(__name__)


def run_directories(root: Path, run_ids: Collection[int]) -> dict[int, list[Path]]:
    """Return the directories of runs: of the current attempt and of earlier ones."""
    found: dict[int, list[Path]] = {run_id: [] for run_id in run_ids}
    if root.is_dir():
        for name in os.listdir(root):
            match = RUN_DIRECTORY.fullmatch(name)
            if match is not None and int(match[1]) in found:
                found[int(match[1])].append(root / name)
    return {run_id: sorted(paths) for run_id, paths in found.items()}


def measure(root: Path, run_ids: Container[int]) -> tuple[int, int]:
    """Return the number of directories of these runs, and the bytes of the files in them.

    Follow no links, enter no mount points, and count what is readable.
    """
    number = size = 0
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        for entry in entries:
            found = RUN_DIRECTORY.fullmatch(entry.name)
            if found is not None and int(found[1]) in run_ids:
                number += 1
                size += _size(entry)
    return number, size


def _size(top: os.DirEntry[str]) -> int:
    size, device = 0, None
    pending = [top]
    while pending:
        entry = pending.pop()
        with contextlib.suppress(OSError):
            found = entry.stat(follow_symlinks=False)
            device = found.st_dev if device is None else device
            if stat.S_ISDIR(found.st_mode) and found.st_dev == device:
                with os.scandir(entry.path) as children:
                    pending += children
            elif stat.S_ISREG(found.st_mode):
                size += found.st_size
    return size


def find_obstacles(root: Path, run_ids: Collection[int]) -> dict[int, list[str]]:
    """Return the obstacles to the removal of runs' directories, at most one of each, by run.

    This gives the owner write access to write-protected directories, so they are no obstacle.
    """
    directories = run_directories(root, run_ids)
    if any(directories.values()) and not os.access(root, os.W_OK | os.X_OK):
        fault = f"{root}: {_reason(str(root))}"
        return {run_id: [fault] for run_id, paths in directories.items() if paths}
    found = {
        run_id: [fault for path in paths for fault in islice(_obstacles(path), 1)]
        for run_id, paths in directories.items()
    }
    return {run_id: faults for run_id, faults in found.items() if faults}


def remove_pending(store: WorkflowStore) -> list[str]:
    """Remove the directories of all deleted runs; return the obstacles. Blocks.

    Runs with obstacles stay pending.
    """
    with store.autocommit_scope.read() as session:
        pending = [k for k in session.tables.pending_removals() if k.study in store.studies]
    found: list[str] = []
    for start in range(0, len(pending), BATCH):
        batch = pending[start : start + BATCH]
        removed: list[RunKey] = []
        for study in sorted({key.study for key in batch}):
            root, ids = store.runs_root(study), {key.id for key in batch if key.study == study}
            directories = run_directories(root, ids)
            faults = {run_id: list(_remove(directories[run_id])) for run_id in sorted(ids)}
            found += [fault for problems in faults.values() for fault in problems]
            gone = {run_id for run_id, problems in faults.items() if not problems}
            try:
                _remove_from_packs(root, gone)
            except (MotokoError, OSError, BadZipFile) as problem:
                found.append(f"the packs in {root / PACKED}: {problem}")
                continue
            removed += [RunKey(study, run_id) for run_id in sorted(gone)]
        if removed:
            store.database.submit(partial(_record_removed, store, removed)).result()
    return found


def _remove_from_packs(root: Path, run_ids: Collection[int]) -> None:
    if any(find_packs(root, run_id) for run_id in run_ids):
        with packs_lock(root):
            discard(str(root), run_ids)


def remove_pending_and_log(store: WorkflowStore) -> None:
    """Remove the directories of all deleted runs, and log the obstacles."""
    for fault in remove_pending(store):
        log.warning("the directory of a deleted run cannot be removed: %s", fault)


def _record_removed(store: WorkflowStore, keys: list[RunKey]) -> None:
    run_transaction(store.database, lambda tables: tables.complete_removals(keys))


def _remove(paths: list[Path]) -> Iterator[str]:
    for path in paths:
        fault_points.point("removal.before_directory")
        try:
            problems = list(_obstacles(path))
            if problems:
                yield from problems
            elif path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except FileNotFoundError:
            if os.path.lexists(path):  # another sweep removes it at the same time
                shutil.rmtree(path, ignore_errors=True)
        except OSError as error:
            yield f"{error.filename or path}: {error.strerror or error}"
        except RecursionError:
            yield f"{path}: is nested too deeply"


def _obstacles(path: Path) -> Iterator[str]:
    """Yield the obstacles below a path; make directories of this user writable.

    Neither this nor the removal follows links or enters mount points.
    """
    device = os.stat(path.parent).st_dev
    pending = [str(path)]
    while pending:
        name = pending.pop()
        try:
            found = os.lstat(name)
            if not stat.S_ISDIR(found.st_mode):
                # Root may remove all but immutable files; for others the directory decides.
                if os.geteuid() == 0 and not os.access(name, os.W_OK, follow_symlinks=False):
                    yield f"{name}: {_reason(name)}"
            elif found.st_dev != device:
                yield f"{name}: is a mount point"
            else:
                _open(name, found)
                if os.access(name, os.R_OK | os.W_OK | os.X_OK):
                    pending += (f"{name}/{child}" for child in os.listdir(name))
                else:
                    yield f"{name}: {_reason(name)}"
        except FileNotFoundError:
            continue  # another process removed it
        except OSError as error:
            yield f"{name}: {error.strerror or error}"


def _open(directory: str, found: os.stat_result) -> None:
    """Give the owner all rights on a directory of this user."""
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid == os.geteuid() and mode & OWNER_RIGHTS != OWNER_RIGHTS:
        with contextlib.suppress(OSError):  # the check of the rights reports it
            os.chmod(directory, mode | OWNER_RIGHTS)


def _reason(path: str) -> str:
    """Return why this user cannot write to a path."""
    found = os.lstat(path)
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return os.strerror(errno.EROFS)
    if os.geteuid() in (0, found.st_uid):
        return os.strerror(errno.EPERM)
    return f"{os.strerror(errno.EACCES)} (it belongs to uid {found.st_uid})"
