"""The server and the launcher while somebody needs them.

Whoever works with a workflow registers in ``.wf/users``. What was started only for the time of a
``motoko run`` is marked so in ``.wf``, and the last user stops it, whoever started it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from motoko.errors import StorageError
from motoko.launcher.daemon import (
    recall_runs,
    resume_runs,
    running_launchers,
    start_launcher,
    stop_launcher,
)
from motoko.runtime.daemons import PidFile
from motoko.runtime.files import private_directory
from motoko.runtime.lock import FileLock
from motoko.runtime.processes import is_alive
from motoko.storage.server import add_studies, ensure_server, stop_server

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from motoko.runtime.processes import ProcessId
    from motoko.storage.address import StateDirectory
    from motoko.workflow import Workflow

LOCK_SECONDS: Final = 120.0
SERVER: Final = "server"
LAUNCHER: Final = "launcher"


class Services:
    """Has a workflow's server run within a ``with`` block, and a launcher if asked for.

    ``temporary``: what this starts ends with its last user.
    """

    def __init__(self, workflow: Workflow, *, temporary: bool, create: bool = False) -> None:
        self._workflow = workflow
        self._state = workflow.store.state
        self._temporary = temporary
        self._create = create
        self._user = PidFile(self._state.path / "users" / f"{os.getpid()}.json")
        self.created = False

    def __enter__(self) -> Self:
        """Start the server unless it runs; NoDatabaseError if there is nothing to serve."""
        if not self._create and not self._state.database.exists():
            ensure_server(self._state)  # says what to do
        private_directory(self._state.path)
        try:
            with self._lock():
                self._start_server()
        except BaseException:
            self._leave()
            raise
        return self

    def _start_server(self) -> None:
        if self._create and not self._state.database.exists():
            self._workflow.create()
            self.created = True
            self._mark(SERVER)
        elif ensure_server(self._state):
            self._mark(SERVER)
        private_directory(self._user.path.parent)
        self._user.write()
        self._add_studies()

    def _add_studies(self) -> None:
        with self._workflow.store.script.view() as session:
            known = session.tables.study_names()
        new = [name for name in self._workflow.task_managers if name not in known]
        if new:
            add_studies(self._state, new)

    def start_launcher(self, run_name: str) -> ProcessId:
        """Have a launcher serve the runs of a run name: start one, unless one runs.

        Returns its process. LauncherError says why it does not start.
        """
        with self._lock():
            running = start_launcher(self._state)
            if running.here:
                self._mark(LAUNCHER)
                return running.process
        resume_runs(self._state, run_name)
        return running.process

    def resume(self, run_name: str) -> None:
        """Have the runs of a run name executed that were recalled, if a launcher runs."""
        resume_runs(self._state, run_name)

    def recall(self, run_name: str) -> None:
        """Have the runs of a run name ended and made CREATED, which counts as no attempt."""
        recall_runs(self._state, run_name)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop what was started for the time being only, if nobody else uses it."""
        self._leave()

    def _leave(self) -> None:
        self._workflow.close()
        with self._lock():
            self._user.remove()
            if others(self._state):
                return
            if self._marked(LAUNCHER):
                stop_launcher(self._state)
            if not running_launchers(self._state) and self._marked(SERVER):
                stop_server(self._state)

    def _lock(self) -> FileLock:
        return FileLock(
            self._state.path / "services.lock",
            timeout=LOCK_SECONDS,
            purpose="starting or stopping the server and the launcher",
            error=StorageError,
        )

    def _mark(self, what: str) -> None:
        if self._temporary:
            _mark_file(self._state, what).touch(mode=0o600)

    def _marked(self, what: str) -> bool:
        there = _mark_file(self._state, what).exists()
        _mark_file(self._state, what).unlink(missing_ok=True)
        return there


def _mark_file(state: StateDirectory, what: str) -> Path:
    return state.path / f"temporary-{what}"


def keep(state: StateDirectory) -> None:
    """Have server and launcher outlive those that use them now."""
    for what in (SERVER, LAUNCHER):
        _mark_file(state, what).unlink(missing_ok=True)


def others(state: StateDirectory) -> list[int]:
    """Return the pids of the other living processes that work with a workflow."""
    found = []
    for path in sorted((state.path / "users").glob("*.json")):
        record = PidFile(path).read()
        if record is None or not is_alive(record.process):
            path.unlink(missing_ok=True)
        elif record.process.pid != os.getpid():
            found.append(record.process.pid)
    return found
