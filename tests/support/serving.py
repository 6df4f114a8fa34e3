"""A workflow's server, and a counter in its database."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

from motoko.core.changes import SetVariable
from motoko.core.values import MISSING
from motoko.errors import ConflictError
from motoko.runtime import processes
from motoko.runtime.daemons import PidFile
from motoko.server.state_dir import StateDir
from motoko.storage.schema import create_database
from motoko.storage.session import Session
from motoko.testing.memory import commit, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from motoko.storage.store import WorkflowStore

STUDIES = ("mult", "add")


def make(directory: Path) -> StateDir:
    """Create a database in a directory and start its server."""
    directory.mkdir(exist_ok=True)
    state = StateDir.of(directory)
    create_database(state, STUDIES)
    return state


def process_of(state: StateDir) -> processes.ProcessIdentity:
    """Return the server's process."""
    record = PidFile(state.server_record).read()
    assert record is not None
    return record.process


def kill_server(state: StateDir) -> processes.ProcessIdentity:
    """Kill the server; return its process."""
    process = process_of(state)
    os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: not processes.is_alive(process))
    return process


def variable(store: WorkflowStore, name: str) -> Any:
    """Return a workflow variable."""
    with store.autocommit_scope.read() as session:
        return session.tables.variable(None, name)


def increment(store: WorkflowStore, name: str = "n") -> None:
    """Increment a variable like an action: retry after a conflict."""
    session = Session(store.database)
    try:
        while True:
            add_one(session, name)
            try:
                commit(store.database, session)
            except ConflictError:
                continue
            return
    finally:
        session.close()


def add_one(session: Session, name: str = "n") -> None:
    """Increment a counter with the session's next commit."""
    value = session.tables.variable(None, name)
    session.add(SetVariable(None, name, 1 if value is MISSING else value + 1))
