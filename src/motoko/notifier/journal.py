"""Record notifications in the database, with or without other users of its server."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from motoko.errors import MotokoError, NoDatabaseError
from motoko.launcher.services import Services
from motoko.storage.commit import run_transaction
from motoko.storage.notifications import swap
from motoko.storage.store import WorkflowStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from motoko.runtime.ports import Runtime
    from motoko.server.state_dir import StateDir
    from motoko.storage.notifications import StoredNotification
    from motoko.storage.tables import Tables

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """The change of a notification: the entry that must be recorded (None: none), and the next."""

    former: StoredNotification | None
    new: StoredNotification


@dataclass(frozen=True, slots=True)
class _Use:
    """The use of a workflow's database for one commit."""

    store: WorkflowStore
    task_managers: tuple[str, ...] = ()

    def create(self) -> None:
        raise NoDatabaseError("a notifier creates no database")

    def close(self) -> None:
        self.store.close()


def record(
    state: StateDir, changes: Sequence[Change], runtime: Runtime
) -> list[StoredNotification | None]:
    """Make changes in one commit, and return the entries that are recorded then.

    An entry is the new one only if this call made the change. A server is started if necessary, and
    stopped again if no other process needs it. Raise MotokoError or OSError if nothing is recorded.
    """
    recorded: list[StoredNotification | None] = []

    def work(tables: Tables) -> list[StoredNotification | None]:
        return [swap(tables, change.former, change.new) for change in changes]

    store = WorkflowStore(state, {}, runtime=runtime)
    try:
        with Services(_Use(store), temporary=True) as services:
            services.leave_launcher = True  # it is not for the notifier to stop it
            database = store.database
            recorded = database.submit(partial(run_transaction, database, work)).result()
    except (MotokoError, OSError) as error:
        if not recorded:
            raise
        log.warning("cannot stop the server: %s", error)
    return recorded
