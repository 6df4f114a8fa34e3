"""Copies of a workflow's database, and going back to one."""

from __future__ import annotations

import itertools
import os
import shutil
from typing import TYPE_CHECKING

from motoko.errors import DatabaseExistsError, NoDatabaseError, StorageError
from motoko.launcher.control import running_launchers
from motoko.launcher.workflow_users import other_users
from motoko.operations.overview import server_process
from motoko.operations.shutdown import running_orchestrators
from motoko.runtime.files import private_directory
from motoko.server.integrity import check_whole
from motoko.server.lifecycle import explain_error
from motoko.server.temp_files import DRAFT_PREFIX
from motoko.storage import salvage as salvaging
from motoko.storage.backup import DatabaseSummary, copy_database, install_database, summarise
from motoko.storage.store import WorkflowStore

if TYPE_CHECKING:
    from pathlib import Path

    from motoko.server.state_dir import StateDir
    from motoko.storage.salvage import Salvaged


def back_up(state: StateDir, target: Path, *, replace: bool = False) -> DatabaseSummary:
    """Copy all that is committed to ``target``; the workflow may go on meanwhile.

    ``target`` appears whole or not at all. DatabaseExistsError where it exists, unless
    ``replace``; NoDatabaseError where there is nothing to copy.
    """
    if not state.database.exists():
        raise NoDatabaseError(
            f"{state.path.parent} has no database yet", hint="There is nothing to copy."
        )
    with explain_error(target, "written"):
        return copy_database(state.database, target, replace=replace)


def restore(state: StateDir, source: Path, *, replace: bool = False) -> DatabaseSummary:
    """Make the copy ``source`` the workflow's database; run directories stay as they are.

    Raises StorageError where anything works with the workflow or ``source`` is no database of
    Motoko's, DatabaseDamagedError where it is damaged or cut off, DatabaseVersionError where a
    newer Motoko wrote it, DatabaseExistsError where there are results, unless ``replace``.
    """
    _check_is_file(source)
    with explain_error(state.path.parent, "restored"):
        summarise(source)
        check_whole(source)
        _check_unused(state)
        _check_replaceable(state, replace=replace)
        return install_database(state, source, replace=replace)


def salvage(state: StateDir, source: Path | None, *, replace: bool = False) -> Salvaged:
    """Make what is whole of a damaged file the workflow's database; returns what that is.

    None: of its own file, which is kept beside it. Otherwise existing results go only with
    ``replace``. Raises as ``restore`` does.
    """
    file = state.database if source is None else source
    _check_is_file(file)
    own = state.database.exists() and file.samefile(state.database)
    with explain_error(state.path.parent, "restored"):
        _check_unused(state)
        if not own:
            _check_replaceable(state, replace=replace)
        private_directory(state.path)
        workshop = private_directory(state.path / f"{DRAFT_PREFIX}{os.urandom(6).hex()}")
        try:
            made = workshop / state.database.name
            found = salvaging.salvage(file, made)
            if own:
                _keep_aside(state.database)
            install_database(state, made, replace=True)
        finally:
            shutil.rmtree(workshop, ignore_errors=True)
    return found


def _check_is_file(source: Path) -> None:
    if not source.is_file():
        raise StorageError(f"{source} is not a file", hint="Name one that `motoko backup` wrote.")


def _check_replaceable(state: StateDir, *, replace: bool) -> None:
    if state.database.exists() and not replace:
        raise DatabaseExistsError(
            f"{state.path.parent} has results already",
            hint="To replace them say --validated; `motoko backup` keeps a copy of them.",
        )


def _keep_aside(file: Path) -> Path:
    """Give a file a second name, under which it stays: the next free ``NAME.damaged-N``."""
    for number in itertools.count(1):
        aside = file.with_name(f"{file.name}.damaged-{number}")
        if not aside.exists():
            try:
                aside.hardlink_to(file)
            except OSError:  # a file system without hard links
                shutil.copy2(file, aside)
            return aside
    raise AssertionError


def _check_unused(state: StateDir) -> None:
    busy = [f"the orchestrator of run name {name!r}" for name in _orchestrators(state)]
    busy += [
        f"a launcher (process {launcher.process.pid})" for launcher in running_launchers(state)
    ]
    busy += [f"process {pid}" for pid in other_users(state)]
    server = server_process(state)
    if server is not None:
        busy.append(f"its database server (process {server})")
    if busy:
        raise StorageError(
            f"{state.path.parent} is in use by {', '.join(busy)}",
            hint="Stop what runs first: `motoko kill --stop-runs`.",
        )


def _orchestrators(state: StateDir) -> list[str]:
    store = WorkflowStore(state, {}, look=True)
    try:
        return sorted(running_orchestrators(store))
    except StorageError:  # a damaged database is what one restores
        return []
    finally:
        store.close()
