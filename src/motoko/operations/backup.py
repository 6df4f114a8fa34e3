"""Back up a workflow's database, restore it, and salvage a damaged one."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from motoko.errors import NoDatabaseError, StorageError
from motoko.operations.usage import check_not_in_use
from motoko.runtime.files import private_directory, write_atomic
from motoko.runtime.ports import SYSTEM
from motoko.runtime.untrusted_files import read_file
from motoko.server.create import check_no_results
from motoko.server.file_integrity import check_complete
from motoko.server.lifecycle import explain_error
from motoko.server.temp_files import DRAFT_PREFIX
from motoko.storage import salvage as salvaging
from motoko.storage.backup import DatabaseSummary, copy_database, install_database, summarise

if TYPE_CHECKING:
    from motoko.runtime.ports import Random, Runtime
    from motoko.server.state_dir import StateDir
    from motoko.storage.salvage import SalvageReport


@dataclass(frozen=True, slots=True)
class BackupRecord:
    """The path of a backup, and its time in seconds since the epoch."""

    path: str
    at: float


def back_up(
    state: StateDir, target: Path, *, replace: bool = False, runtime: Runtime = SYSTEM
) -> DatabaseSummary:
    """Copy everything committed to ``target``, atomically, and record the copy.

    The workflow may be running. Raise DatabaseExistsError if ``target`` exists, unless
    ``replace``; NoDatabaseError without a database.
    """
    if not state.database.exists():
        raise NoDatabaseError(f"{state.path.parent} has no database yet: there is nothing to copy")
    with explain_error(target, "written"):
        found = copy_database(state.database, target, replace=replace)
    record = BackupRecord(str(target.resolve()), runtime.clock.now())
    with contextlib.suppress(OSError):  # a workflow of another user
        write_atomic(state.backup_record, json.dumps(asdict(record)).encode())
    return found


def last_backup(state: StateDir) -> BackupRecord | None:
    """Return the last backup of the database, None if none is recorded."""
    try:
        found = json.loads(read_file(state.backup_record).data or b"")
        return BackupRecord(str(found["path"]), float(found["at"]))
    except (ValueError, TypeError, LookupError):
        return None


@dataclass(frozen=True, slots=True)
class RestorePreview:
    """The database that a restore would install, and the one that it would replace.

    ``replaced`` is None if none exists; ``problem`` is why that one cannot be read.
    """

    restored: DatabaseSummary
    replaced: DatabaseSummary | None = None
    problem: str | None = None


def preview_restore(state: StateDir, source: Path) -> RestorePreview:
    """Return what ``restore`` would change; raise as it does, except for existing results."""
    _check_is_file(source)
    with explain_error(state.path.parent, "restored"):
        found = summarise(source)
        check_complete(source)
        check_not_in_use(state, replacing=True)
    if not state.database.exists():
        return RestorePreview(found)
    try:
        return RestorePreview(found, summarise(state.database))
    except StorageError as error:
        replaced = DatabaseSummary(state.database.stat().st_size, {})
        return RestorePreview(found, replaced, error.message)


def restore(state: StateDir, source: Path, *, replace: bool = False) -> DatabaseSummary:
    """Make the copy ``source`` the workflow's database; leave run directories unchanged.

    Raise StorageError if a process uses the workflow or ``source`` is not Motoko's,
    DatabaseDamagedError if it is damaged or truncated, DatabaseVersionError if a newer Motoko
    wrote it, and DatabaseExistsError if results exist, unless ``replace``.
    """
    _check_is_file(source)
    with explain_error(state.path.parent, "restored"):
        summarise(source)
        check_complete(source)
        check_not_in_use(state, replacing=True)
        if not replace:
            check_no_results(state)
        return install_database(state, source, replace=replace)


def preview_salvage(state: StateDir, source: Path | None) -> SalvageReport:
    """Return what ``salvage`` would recover, without a change."""
    file = state.database if source is None else source
    _check_is_file(file)
    check_not_in_use(state, replacing=True)
    with tempfile.TemporaryDirectory(prefix=DRAFT_PREFIX) as directory:
        return salvaging.salvage(file, Path(directory, state.database.name))


def salvage(
    state: StateDir, source: Path | None, *, replace: bool = False, rng: Random = SYSTEM.rng
) -> SalvageReport:
    """Make the intact part of a damaged file the workflow's database; return a report.

    With None, salvage the workflow's own file and keep it beside the new one. Raise as ``restore``
    does.
    """
    file = state.database if source is None else source
    _check_is_file(file)
    own = state.database.exists() and file.samefile(state.database)
    with explain_error(state.path.parent, "restored"):
        check_not_in_use(state, replacing=True)
        if not own and not replace:
            check_no_results(state)
        private_directory(state.path)
        draft_directory = private_directory(state.path / f"{DRAFT_PREFIX}{rng.token(6)}")
        try:
            salvaged = draft_directory / state.database.name
            found = salvaging.salvage(file, salvaged)
            if own:
                _keep_damaged(state.database)
            install_database(state, salvaged, replace=True)
        finally:
            shutil.rmtree(draft_directory, ignore_errors=True)
    return found


def _check_is_file(source: Path) -> None:
    if not source.is_file():
        raise StorageError(
            f"{source} is not a file", hint="Name a file that `motoko backup` wrote."
        )


def _keep_damaged(file: Path) -> None:
    """Keep a file under the next free name ``NAME.damaged-N``, too."""
    names = (file.with_name(f"{file.name}.damaged-{number}") for number in itertools.count(1))
    target = next(name for name in names if not name.exists())
    try:
        target.hardlink_to(file)
    except OSError:  # a file system without hard links
        shutil.copy2(file, target)
