"""Copying a database file, also while it is served, and putting a copy in its place."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final

import transaction

from motoko.errors import DatabaseDamagedError, DatabaseExistsError, StorageError
from motoko.runtime.files import PRIVATE_FILE, private_directory, rename_durably, sync_directory
from motoko.server.integrity import UNREADABLE_OBJECT, check_file, damaged_error
from motoko.server.lifecycle import is_responding, server_lock
from motoko.server.temp_files import remove_temp_files
from motoko.storage.commit import abort
from motoko.storage.database import Database
from motoko.storage.schema import SCHEMA_VERSION, check_readable
from motoko.storage.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.server.state_dir import StateDir

CHUNK: Final = 2**20
TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class DatabaseSummary:
    """What is in a database file: its size in bytes, and how many runs each study has.

    Of an older version only the size is known.
    """

    size: int
    runs: dict[str, int]


def summarise(path: Path) -> DatabaseSummary:
    """Return what is in a file; raises StorageError unless it is a database that can be read."""
    database = Database.read_file(path)
    manager = transaction.TransactionManager(explicit=True)
    try:
        connection = database.open(manager)
        manager.begin()
        try:
            runs = _runs(path, connection.root())
        finally:
            abort(manager)
            connection.close()
    finally:
        database.close()
    return DatabaseSummary(path.stat().st_size, runs)


def _runs(path: Path, root: Any) -> dict[str, int]:
    try:
        if check_readable(root) != SCHEMA_VERSION:
            return {}
        tables = Tables(root)
        return {name: len(tables.study(name)) for name in tables.study_names()}
    except UNREADABLE_OBJECT as error:  # of the objects that somebody else put there
        raise damaged_error(
            path, f"is damaged: it lacks its tables ({type(error).__name__})"
        ) from error


def copy_database(source: Path, target: Path, *, replace: bool = False) -> DatabaseSummary:
    """Copy all that is committed in ``source`` to ``target``, which is there whole or not at all.

    Whoever serves the source may go on. DatabaseExistsError where there is a file already, unless
    ``replace``; StorageError where the source is no database that can be read.
    """
    _check_target(source, target, replace=replace)
    remove_temp_files(target.parent, target.name)
    temporary = target.parent / f".{target.name}.{os.urandom(6).hex()}"
    try:
        with _committed_part(source) as (file, size), _private_file(temporary) as copy:
            _copy(file, copy, size)
            os.fsync(copy.fileno())
        try:
            found = summarise(temporary)
        except DatabaseDamagedError as error:
            message = error.message.replace(str(temporary), str(source))
            raise DatabaseDamagedError(message, hint=error.hint) from error
        if replace:
            temporary.replace(target)
        else:
            _publish(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return found


def install_database(state: StateDir, source: Path, *, replace: bool) -> DatabaseSummary:
    """Make a copy of ``source`` the workflow's database; nobody may serve the former one.

    DatabaseExistsError where there is one, unless ``replace``.
    """
    private_directory(state.path)
    private_directory(state.logs)
    with server_lock(state):
        if is_responding(state):
            raise StorageError(
                f"{state.path.parent} is in use by its database server",
                hint="Stop what runs first: `motoko kill --stop-runs`.",
            )
        if state.database.exists() and not replace:
            raise DatabaseExistsError(
                f"{state.path.parent} has results already",
                hint="To replace them say --validated; `motoko backup` keeps a copy of them.",
            )
        _check_target(source, state.database, replace=True)
        # These belong to the former file; without them they are made anew.
        for path in state.database_sidecars:
            path.unlink(missing_ok=True)
        sync_directory(state.path)
        return copy_database(source, state.database, replace=True)


def _check_target(source: Path, target: Path, *, replace: bool) -> None:
    if not target.parent.is_dir():
        raise StorageError(f"{target.parent} is not a directory", hint="Make it first.")
    if target.is_dir():
        raise StorageError(f"{target} is a directory", hint="Name a file in it.")
    if not target.exists():
        return
    if source.exists() and source.samefile(target):
        raise StorageError(f"{target} is the workflow's database itself", hint="Name another file.")
    if not replace:
        raise DatabaseExistsError(
            f"{target} exists already", hint="To overwrite it say --validated."
        )


@contextlib.contextmanager
def _committed_part(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """Open a database file; yields it, and how many of its bytes are whole transactions.

    These never change, neither when others follow nor when a packed file takes its place.
    """
    for _ in range(TRIES):
        with path.open("rb") as file:
            size = check_file(path).committed
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield file, size
                return
    raise StorageError(f"{path} was replaced again and again while it was copied")


@contextlib.contextmanager
def _private_file(path: Path) -> Iterator[IO[bytes]]:
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, PRIVATE_FILE)) as file:
        yield file


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> None:
    left = size
    while left:
        chunk = source.read(min(CHUNK, left))
        if not chunk:
            raise StorageError(f"{source.name} was cut off while it was copied")
        target.write(chunk)
        left -= len(chunk)
    target.flush()


def _publish(temporary: Path, target: Path) -> None:
    try:
        rename_durably(temporary, target)
    except FileExistsError as error:
        raise DatabaseExistsError(f"{target} exists already") from error
