"""Copies of a workflow's database, and going back to one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from motoko.errors import DatabaseExistsError, NoDatabaseError, StorageError
from motoko.launcher.daemon import running_launchers
from motoko.operations.overview import server_process
from motoko.operations.services import others
from motoko.operations.stopping import running_orchestrators
from motoko.storage.copying import Contents, contents, copy_database, install_database
from motoko.storage.damage import check_whole
from motoko.storage.server import explained
from motoko.storage.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from motoko.storage.address import StateDirectory


def back_up(state: StateDirectory, target: Path, *, replace: bool = False) -> Contents:
    """Copy all that is committed to ``target``; the workflow may go on meanwhile.

    ``target`` appears whole or not at all. DatabaseExistsError where it exists, unless
    ``replace``; NoDatabaseError where there is nothing to copy.
    """
    if not state.database.exists():
        raise NoDatabaseError(
            f"{state.path.parent} has no database yet", hint="There is nothing to copy."
        )
    with explained(target, "written"):
        return copy_database(state.database, target, replace=replace)


def restore(state: StateDirectory, source: Path, *, replace: bool = False) -> Contents:
    """Make the copy ``source`` the workflow's database; run directories stay as they are.

    Raises StorageError where anything works with the workflow or ``source`` is no database of
    Motoko's, DatabaseDamagedError where it is damaged or cut off, DatabaseVersionError where a
    newer Motoko wrote it, DatabaseExistsError where there are results, unless ``replace``.
    """
    if not source.is_file():
        raise StorageError(f"{source} is not a file", hint="Name one that `motoko backup` wrote.")
    with explained(state.path.parent, "restored"):
        contents(source)
        check_whole(source)
        _check_unused(state)
        if state.database.exists() and not replace:
            raise DatabaseExistsError(
                f"{state.path.parent} has results already",
                hint="To replace them say --validated; `motoko backup` keeps a copy of them.",
            )
        return install_database(state, source, replace=replace)


def _check_unused(state: StateDirectory) -> None:
    busy = [f"the orchestrator of run name {name!r}" for name in _orchestrators(state)]
    busy += [
        f"a launcher (process {launcher.process.pid})" for launcher in running_launchers(state)
    ]
    busy += [f"process {pid}" for pid in others(state)]
    server = server_process(state)
    if server is not None:
        busy.append(f"its database server (process {server})")
    if busy:
        raise StorageError(
            f"{state.path.parent} is in use by {', '.join(busy)}",
            hint="Stop what runs first: `motoko kill --stop-runs`.",
        )


def _orchestrators(state: StateDirectory) -> list[str]:
    store = Store(state, {}, look=True)
    try:
        return sorted(running_orchestrators(store))
    except StorageError:  # a damaged database is what one restores
        return []
    finally:
        store.close()
