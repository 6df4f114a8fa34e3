"""Copy a database file, even while it is served, and install copies."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final

from motoko.errors import DatabaseDamagedError, DatabaseExistsError, StorageError
from motoko.runtime.files import PRIVATE_FILE, private_directory, rename_durably, sync_directory
from motoko.runtime.ports import SYSTEM
from motoko.server.create import check_no_results
from motoko.server.file_integrity import UNREADABLE_OBJECT, check_file, damaged_error
from motoko.server.lifecycle import is_responding, server_lock
from motoko.server.temp_files import remove_temp_files
from motoko.storage.database import Database
from motoko.storage.schema import SCHEMA_VERSION, check_readable
from motoko.storage.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.runtime.ports import Runtime
    from motoko.server.state_dir import StateDir

CHUNK: Final = 2**20
ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class DatabaseSummary:
    """The size of a database in bytes, and the number of runs of each study."""

    size: int
    runs: dict[str, int]


def summarise(path: Path, runtime: Runtime = SYSTEM) -> DatabaseSummary:
    """Return the summary of a file; StorageError unless it is a readable database."""
    with (
        contextlib.closing(Database.read_file(path, runtime=runtime)) as database,
        database.snapshot() as connection,
    ):
        runs = _count_runs(path, connection.root())
    return DatabaseSummary(path.stat().st_size, runs)


def _count_runs(path: Path, root: Any) -> dict[str, int]:
    try:
        if check_readable(root) == SCHEMA_VERSION:
            tables = Tables(root)
            return {name: len(tables.study(name)) for name in tables.study_names()}
        studies = root["motoko"]["studies"].items()  # an earlier format stores no numbers
        return {name: sum(map(len, trees["lifecycles"].values())) for name, trees in studies}
    except UNREADABLE_OBJECT as error:  # for objects that Motoko did not write
        raise damaged_error(
            path, f"is damaged: it lacks its tables ({type(error).__name__})"
        ) from error


def copy_database(
    source: Path, target: Path, *, replace: bool = False, runtime: Runtime = SYSTEM
) -> DatabaseSummary:
    """Copy the committed part of ``source`` to ``target``, completely or not at all.

    The source may be served meanwhile. DatabaseExistsError if the target exists, unless
    ``replace``; StorageError unless the source is a readable database.
    """
    _check_target(source, target, replace=replace)
    remove_temp_files(target.parent, target.name, clock=runtime.clock)
    temporary = target.parent / f".{target.name}.{runtime.rng.token(6)}"
    try:
        with (
            _committed_part(source, runtime) as (file, size),
            open(temporary, "xb", opener=_open_private) as copy,
        ):
            _copy(file, copy, size)
            os.fsync(copy.fileno())
        try:
            found = summarise(temporary, runtime)
        except DatabaseDamagedError as error:
            message = error.message.replace(str(temporary), str(source))
            raise DatabaseDamagedError(message, hint=error.hint) from error
        if replace:
            temporary.replace(target)
        else:
            rename_durably(temporary, target)
    except FileExistsError as error:
        raise DatabaseExistsError(f"{target} already exists") from error
    finally:
        temporary.unlink(missing_ok=True)
    return found


def install_database(
    state: StateDir, source: Path, *, replace: bool, runtime: Runtime = SYSTEM
) -> DatabaseSummary:
    """Install a copy of ``source`` as the workflow's database, which must not be served."""
    private_directory(state.path)
    private_directory(state.logs)
    with server_lock(state):
        if is_responding(state):
            raise StorageError(
                f"{state.path.parent} is in use by its database server",
                hint="Stop the running processes first: `motoko kill --stop-runs`.",
            )
        if not replace:
            check_no_results(state)
        _check_target(source, state.database, replace=True)
        # They belong to the previous file, and are recreated.
        for path in state.database_sidecars:
            path.unlink(missing_ok=True)
        sync_directory(state.path)
        return copy_database(source, state.database, replace=True, runtime=runtime)


def _check_target(source: Path, target: Path, *, replace: bool) -> None:
    if not target.parent.is_dir():
        raise StorageError(f"{target.parent} is not a directory", hint="Create it first.")
    if target.is_dir():
        raise StorageError(f"{target} is a directory", hint="Name a file in it.")
    if not target.exists():
        return
    if source.exists() and source.samefile(target):
        raise StorageError(f"{target} is the workflow's database itself", hint="Name another file.")
    if not replace:
        raise DatabaseExistsError(
            f"{target} already exists", hint="To overwrite it use --validated."
        )


@contextlib.contextmanager
def _committed_part(path: Path, runtime: Runtime) -> Iterator[tuple[IO[bytes], int]]:
    """Open a database file; yield it, and the size of its whole transactions."""
    for _ in range(ATTEMPTS):
        with path.open("rb") as file:
            size = check_file(path, clock=runtime.clock).committed
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield file, size
                return
    raise StorageError(f"{path} was replaced repeatedly while it was copied")


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, PRIVATE_FILE)


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> None:
    left = size
    while left:
        chunk = source.read(min(CHUNK, left))
        if not chunk:
            raise StorageError(f"{source.name} was cut off while it was copied")
        target.write(chunk)
        left -= len(chunk)
    target.flush()
