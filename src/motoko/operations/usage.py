"""The processes that use a workflow: orchestrators, launchers, the server, other commands."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from motoko.errors import DatabaseDamagedError, LeaseHeld, NoDatabaseError, StorageError
from motoko.launcher.control import running_launchers
from motoko.launcher.workflow_users import other_users
from motoko.notifier.control import running_notifier
from motoko.runtime.daemons import PidFile
from motoko.runtime.processes import suspension
from motoko.server.lifecycle import is_responding
from motoko.storage.orchestrator_leases import (
    LeaseHolder,
    StallReport,
    live_orchestrators,
    stall_reports,
)
from motoko.storage.schema import check_readable
from motoko.storage.session import Session
from motoko.storage.store import WorkflowStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from motoko.server.state_dir import StateDir

log = logging.getLogger(__name__)


def running_orchestrators(store: WorkflowStore) -> dict[str, LeaseHolder]:
    """Return the running orchestrators by run name; none without a database.

    They may be of an earlier version: the form of leases is the same in all formats.
    """
    try:
        with contextlib.closing(Session(store.database, check=check_readable)) as session:
            return live_orchestrators(session.tables, store.steady())
    except NoDatabaseError:
        return {}


def stalled_orchestrators(store: WorkflowStore) -> dict[str, StallReport]:
    """Return by run name what the stalled orchestrators wait for."""
    try:
        with store.autocommit_scope.read() as session:
            return stall_reports(session.tables, store.steady())
    except NoDatabaseError:
        return {}


def known_orchestrators(state: StateDir, *, level: int = logging.WARNING) -> dict[str, LeaseHolder]:
    """Return the running orchestrators; log at ``level`` that the database is damaged."""
    with contextlib.closing(WorkflowStore(state, {}, read_only=True)) as store:
        try:
            return running_orchestrators(store)
        except DatabaseDamagedError as error:
            log.log(level, "cannot list the running orchestrators: %s", error.message)
            return {}


def server_process(state: StateDir) -> int | None:
    """Return the server's pid; None if none is running, 0 if it responds but left no record."""
    file = PidFile(state.server_record)
    record = file.read()
    if record is not None and file.owner_alive():
        return record.process.pid
    return 0 if state.path.exists() and is_responding(state) else None


def server_suspension(state: StateDir) -> str:
    """Return a remark with the remedy if the server is stopped (SIGSTOP), else an empty text."""
    record = PidFile(state.server_record).read()
    return "" if record is None else suspension(record.process)


def check_leases_free(
    store: WorkflowStore,
    run_names: Iterable[str],
    *,
    hint: str = "Stop it with `motoko orchestrator stop`, or choose another --run_name.",
) -> None:
    """Raise LeaseHeld if one of these run names has an orchestrator."""
    orchestrators = running_orchestrators(store)
    for run_name in sorted(orchestrators.keys() & set(run_names)):
        raise LeaseHeld(
            f"run name {run_name!r} already has an orchestrator: {orchestrators[run_name]}",
            hint=hint,
        )


def check_not_in_use(state: StateDir, *, replacing: bool = False) -> None:
    """Raise StorageError if an orchestrator or a launcher uses the workflow.

    With ``replacing`` no other process may use it either, not even its server; the database itself
    may be damaged.
    """
    try:
        level = logging.DEBUG if replacing else logging.WARNING
        orchestrators = known_orchestrators(state, level=level)
    except StorageError:
        if not replacing:
            raise
        orchestrators = {}
    users = _describe(state, orchestrators)
    if replacing:
        users += [f"process {pid}" for pid in other_users(state)]
        users += _describe_server(state)
    if users:
        raise StorageError(
            f"{state.path.parent} is in use by {', '.join(users)}",
            hint="Stop these processes first: `motoko kill --stop-runs`.",
        )


def running_processes(state: StateDir) -> list[str]:
    """Return the orchestrators, launchers, notifier and server of a workflow."""
    found = known_orchestrators(state, level=logging.DEBUG)
    return _describe(state, found) + _describe_notifier(state) + _describe_server(state)


def _describe(state: StateDir, orchestrators: Mapping[str, LeaseHolder]) -> list[str]:
    found = [f"the orchestrator of run name {n!r} ({h})" for n, h in sorted(orchestrators.items())]
    launchers = running_launchers(state)
    return found + [f"a launcher (process {launcher.process.pid})" for launcher in launchers]


def _describe_notifier(state: StateDir) -> list[str]:
    notifier = running_notifier(state)
    return [] if notifier is None else [f"the notifier (process {notifier.pid})"]


def _describe_server(state: StateDir) -> list[str]:
    server = server_process(state)
    return [] if server is None else [f"its database server (process {server})"]
