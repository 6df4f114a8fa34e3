"""Access to a workflow's database and studies, for handles and task managers."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any, Final

from motoko.core.reasons import SCRIPT_CAUSE
from motoko.errors import ServerError, StorageError
from motoko.runtime import processes
from motoko.runtime.ports import SYSTEM
from motoko.server.lifecycle import ensure_server, is_responding
from motoko.server.safe_file import unindexed_bytes
from motoko.server.watchdog import ServerWatchdog
from motoko.storage.commit import run_transaction
from motoko.storage.database import Database
from motoko.storage.schema import check_readable, record_boot_time, upgrade
from motoko.storage.scope import AutocommitScope, Scope, current_scope
from motoko.storage.session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from motoko.config import StudyConfig
    from motoko.runtime.ports import Clock, Runtime
    from motoko.server.state_dir import StateDir

DIRECT_BYTES: Final = 2 * 2**20  # of a file behind its index, that a direct reader reads first
CONNECT_TIMEOUTS: Final = (1.0, 2.0, 4.0, 8.0)  # seconds; before each, the server is ensured


class WorkflowStore:
    """Connects at the first use, starting the server if necessary.

    ``read_only``: never start a server; without one, read the file. ``direct``: read the file even
    if a server is running, unless that takes longer. One snapshot is read many times faster so.
    """

    def __init__(
        self,
        state: StateDir,
        studies: Mapping[str, StudyConfig],
        *,
        read_only: bool = False,
        database: Database | None = None,
        runtime: Runtime = SYSTEM,
    ) -> None:
        self.state = state
        self.studies = studies
        self.runtime = runtime
        self.read_only = read_only
        self.direct = False
        self._database = database
        self._is_given = database is not None
        self._boot_time: float | None = None
        self._lock = threading.Lock()
        self.autocommit_scope = AutocommitScope(lambda: self.database, cause=_author())

    @property
    def clock(self) -> Clock:
        """Return the clock of the store's runtime."""
        return self.runtime.clock

    @property
    def workflow_file(self) -> Path:
        """Return the absolute path of ``motoko.yaml``."""
        return self.state.path.parent / "motoko.yaml"

    @property
    def connected(self) -> bool:
        """Whether the store is connected."""
        return self._database is not None

    @property
    def database(self) -> Database:
        """Return the open database, connecting first if necessary."""
        if self._database is None:
            with self._lock:
                if self._database is None:
                    self._database = self._connect()
        return self._database

    def _connect(self) -> Database:
        if self._is_given:  # the file may hold other data
            raise StorageError("the database in memory was closed")
        if self.read_only:
            return self._connect_read_only()
        database = self._connect_to_server()
        try:
            run_transaction(database, self._prepare, initialising=True)
        except BaseException:
            database.close()
            raise
        return database

    def _prepare(self, root: Any) -> None:
        upgrade(root)
        record_boot_time(root, processes.boot_id(), self.clock.now() - self.clock.uptime())

    def _connect_read_only(self) -> Database:
        if self.direct and unindexed_bytes(self.state.database) <= DIRECT_BYTES:
            with contextlib.suppress(StorageError):  # it is being replaced
                return Database.read_file(self.state.database, runtime=self.runtime, served=True)
        if is_responding(self.state):
            address = str(self.state.socket())
            with contextlib.suppress(ServerError):  # it exited or hangs
                return Database.connect_read_only(
                    address, self.state.database, runtime=self.runtime
                )
        return Database.read_file(self.state.database, runtime=self.runtime)

    def _connect_to_server(self) -> Database:
        """Connect to the server. Start it again if it exits before the connection."""
        for timeout in CONNECT_TIMEOUTS:
            ensure_server(self.state, clock=self.clock)
            try:
                return Database.connect(
                    str(self.state.socket()),
                    timeout=timeout,
                    commit_lock=self.state.commit_lock,
                    file=self.state.database,
                    watchdog=ServerWatchdog(self.state, clock=self.clock),
                    runtime=self.runtime,
                )
            except ServerError:
                if timeout == CONNECT_TIMEOUTS[-1]:
                    raise
        raise AssertionError

    def scope(self) -> Scope:
        """Return the scope of the running code."""
        found = current_scope()
        if found is not None and found.database is self._database:
            return found
        return self.autocommit_scope

    def now(self) -> float:
        """Return the time of day, for people, in seconds since the epoch."""
        return self.clock.now()

    def steady(self) -> float:
        """Return the time on a clock that does not jump. The first call may block.

        It starts at the time of day at which the first process of this boot used the workflow, and
        follows the uptime. All processes of a machine share it, and reboots advance it.
        """
        if self._boot_time is None:
            with contextlib.closing(Session(self.database, check=check_readable)) as session:
                recorded = session.tables.boot_time(processes.boot_id())
            own = self.clock.now() - self.clock.uptime()
            self._boot_time = own if recorded is None else recorded
        return self._boot_time + self.clock.uptime()

    def run_directory(self, study: str, run_id: int) -> Path:
        """Return the directory in which a run's script runs."""
        return self.runs_root(study) / f"run-{run_id}"

    def runs_root(self, study: str) -> Path:
        """Return the directory of all run directories of a study."""
        return runs_directory(self.studies[study])

    def field_types(self, study: str) -> Mapping[str, str]:
        """Return the run fields that a study declares, and their types."""
        config = self.studies.get(study)
        return {} if config is None else config.run

    def drain(self) -> None:
        """Finish the commit in progress. Calls that wait for a disconnected server fail."""
        if self._database is not None:
            self._database.drain()

    def close(self) -> None:
        """Disconnect; the next use connects again, unless the database was in memory."""
        self.autocommit_scope.close()  # outside the lock: the scope's user may wait for that
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None


def runs_directory(study: StudyConfig) -> Path:
    """Return the directory of all run directories of a study."""
    return study.directory / f"BD-{study.study}-runs"


def _author() -> str:
    """Return the recorded cause of this process's writes: a user, or a run's script."""
    study, run_id = os.environ.get("MOTOKO_STUDY"), os.environ.get("MOTOKO_RUN_ID")
    return f"{SCRIPT_CAUSE}{study}.{run_id}" if study and run_id else "user"
