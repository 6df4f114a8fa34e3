"""Create a database file under a temporary name, publish it, and start its server."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from motoko.errors import DatabaseExistsError
from motoko.runtime import fault_points
from motoko.runtime.files import private_directory, rename_durably, sync_directory
from motoko.runtime.ports import SYSTEM
from motoko.runtime.processes import defer_signals
from motoko.server.lifecycle import (
    ensure_server,
    explain_error,
    server_lock,
    stop_locked_server,
    stop_server,
)
from motoko.server.temp_files import DRAFT_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from motoko.runtime.ports import Runtime
    from motoko.server.state_dir import StateDir

REPLACE_HINT: Final = "Add --yes to replace them; `motoko backup` keeps a copy."


def check_no_results(state: StateDir, *, hint: str = REPLACE_HINT) -> None:
    """Raise DatabaseExistsError if the workflow has results."""
    if state.database.exists():
        raise DatabaseExistsError(f"{state.path.parent} already has results", hint=hint)


def create_and_serve(
    state: StateDir,
    fill: Callable[[Path], None],
    *,
    replace: bool = False,
    runtime: Runtime = SYSTEM,
) -> None:
    """Create a database that ``fill`` writes, and serve it; refuse to overwrite one by default."""
    if not replace:
        check_no_results(state, hint="To delete them and start over use --validated.")
    with explain_error(state.path, "created"):
        if state.database.exists():
            _discard(state, runtime)
        stop_server(state, clock=runtime.clock)  # it may serve a file that was deleted
        private_directory(state.path)
        private_directory(state.logs)
        create_database_file(state, fill, runtime)
    ensure_server(state, clock=runtime.clock)


def create_database_file(
    state: StateDir, fill: Callable[[Path], None], runtime: Runtime = SYSTEM
) -> None:
    """Create the file that ``fill`` writes to a path, completely or not at all."""
    drafts = private_directory(state.path / f"{DRAFT_PREFIX}{runtime.rng.token(6)}")
    try:
        draft = drafts / state.database.name
        with defer_signals():  # ZODB would report them as errors
            fill(draft)
        for path in state.database_sidecars:
            path.unlink(missing_ok=True)  # of a file that was deleted
        sync_directory(state.path)
        fault_points.point("creation.before_named")
        rename_durably(draft, state.database)
    except FileExistsError as error:
        raise DatabaseExistsError(
            f"another process created a database in {state.path.parent} meanwhile",
            hint="Repeat the command to use that one.",
        ) from error
    finally:
        shutil.rmtree(drafts, ignore_errors=True)


def _discard(state: StateDir, runtime: Runtime) -> None:
    """Stop the server and delete its directory, except the locks, for which processes may wait."""
    name = f"{state.path.name}.{runtime.rng.token(6)}"
    discarded = private_directory(state.path.with_name(name))
    with server_lock(state):
        stop_locked_server(state, runtime.clock)
        # First, so that no process opens a database that is half removed.
        state.database.rename(discarded / state.database.name)
        for path in state.path.iterdir():
            if path.suffix != ".lock":
                path.rename(discarded / path.name)
    shutil.rmtree(discarded)
