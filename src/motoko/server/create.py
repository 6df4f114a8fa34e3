"""A new database file: its tables are in it before it has its name."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from motoko.errors import DatabaseExistsError
from motoko.runtime import fault_points
from motoko.runtime.files import PRIVATE_FILE, private_directory, rename_durably, sync_directory
from motoko.runtime.processes import defer_signals
from motoko.server.safe_file import SafeFileStorage
from motoko.server.temp_files import WORKSHOP
from motoko.storage.commit import run_transaction
from motoko.storage.database import Database
from motoko.storage.tables import initialise

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from motoko.server.state_dir import StateDir


def create_database_file(state: StateDir, studies: Iterable[str]) -> None:
    """Make the file with the empty tables of these studies; DatabaseExistsError if there is one.

    A process that is killed meanwhile leaves no database at all.
    """
    workshop = private_directory(state.path / f"{WORKSHOP}{os.urandom(6).hex()}")
    try:
        draft = workshop / state.database.name
        with defer_signals():  # of which ZODB would make much ado
            _fill(draft, list(studies))
        for path in state.former_notes:
            path.unlink(missing_ok=True)  # of a file that somebody has deleted
        sync_directory(state.path)
        fault_points.point("creation.before_named")
        rename_durably(draft, state.database)
    except FileExistsError as error:
        raise DatabaseExistsError(
            f"{state.path.parent} got a database from somebody else meanwhile",
            hint="Do it again to use that.",
        ) from error
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _fill(draft: Path, studies: list[str]) -> None:
    database = Database(SafeFileStorage(draft))
    try:
        database.submit(
            lambda: run_transaction(
                database, lambda root: initialise(root, studies), initialising=True
            )
        ).result()
    finally:
        database.close()
    draft.chmod(PRIVATE_FILE)
