"""Start and stop the server and the launcher that commands and scripts need.

A user of a workflow, which is a part of a process, registers in ``.wf/users``. Services that such
users started are marked as temporary in ``.wf``; the last user stops them.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Protocol

from motoko.errors import MotokoError
from motoko.launcher.control import (
    resume_runs,
    running_launchers,
    start_launcher,
    start_lock,
    stop_launcher,
    suspend_runs,
)
from motoko.launcher.workflow_users import (
    LAUNCHER,
    SERVER,
    detach_services,
    other_users,
    services_lock,
    temporary_marker,
)
from motoko.runtime.daemons import PidFile
from motoko.runtime.files import private_directory, write_atomic
from motoko.runtime.processes import current
from motoko.server.lifecycle import ensure_server, is_responding, stop_server
from motoko.storage.schema import add_studies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Self

    from motoko.launcher.control import LauncherProcess
    from motoko.runtime.processes import ProcessIdentity
    from motoko.server.state_dir import StateDir
    from motoko.storage.store import WorkflowStore

log = logging.getLogger(__name__)


class UsedWorkflow(Protocol):
    """The part of a workflow that its services use."""

    @property
    def store(self) -> WorkflowStore:
        """Return the workflow's store."""

    @property
    def task_managers(self) -> Iterable[str]:
        """Return the names of the studies."""

    def create(self) -> None:
        """Create an empty database."""

    def close(self) -> None:
        """Disconnect from the database."""


class Services:
    """Runs a workflow's server within a ``with`` block, and on request a launcher.

    With ``temporary``, the last user stops what this starts. If that user sets ``leave_launcher``,
    the launcher stops itself when no run is left to execute.
    """

    def __init__(self, workflow: UsedWorkflow, *, temporary: bool, create: bool = False) -> None:
        self._workflow = workflow
        self._state = workflow.store.state
        self._temporary = temporary
        self._create = create
        label = f"{current().label}-{workflow.store.runtime.rng.token(4)}"
        self._user = PidFile(self._state.path / "users" / f"{label}.json")
        self.leave_launcher = False

    def __enter__(self) -> Self:
        """Start the server unless it is running; raise NoDatabaseError without a database."""
        if not self._create and not self._state.database.exists():
            ensure_server(self._state)  # raises the error
        private_directory(self._state.path)
        try:
            with services_lock(self._state):
                self._start_server()
        except BaseException:
            self._release()
            raise
        return self

    def _start_server(self) -> None:
        if not is_responding(self._state):
            self._mark(SERVER)  # first, because an interrupted start must stop it, too
        if self._create and not self._state.database.exists():
            self._workflow.create()
        else:
            ensure_server(self._state)
        private_directory(self._user.path.parent)
        self._user.write()
        with self._workflow.store.autocommit_scope.read() as session:
            known = session.tables.study_names()
        new = [name for name in self._workflow.task_managers if name not in known]
        if new:
            add_studies(self._state, new, runtime=self._workflow.store.runtime)

    def start_launcher(self, run_name: str | None, **options: Any) -> ProcessIdentity:
        """Return the launcher; start it if necessary. It serves a suspended run name again.

        ``options`` are those of ``start_launcher``. Raise LauncherError if it does not start.
        """
        with services_lock(self._state):
            # The mark comes first, and names the launchers that must outlive it.
            persistent = [found.process.label for found in running_launchers(self._state)]
            marked = self._mark(LAUNCHER, " ".join(persistent))
            launcher = start_launcher(self._state, **options)
            if launcher.started_here:
                return launcher.process
            if marked:
                self._unmark(LAUNCHER)
        if run_name is not None:
            resume_runs(self._state, run_name)
        return launcher.process

    def resume(self, run_name: str) -> None:
        """Let a running launcher claim the runs of a suspended run name again."""
        resume_runs(self._state, run_name)

    def suspend(self, run_name: str) -> None:
        """Stop the runs of a run name and send them back to CREATED, not counted as an attempt.

        Do nothing if another orchestrator has taken over the run name.
        """
        suspend_runs(self._state, run_name, unless_orchestrated=True)

    def stop_launcher(self) -> bool:
        """Stop the temporary launcher if no other process uses it; return whether it did."""
        with services_lock(self._state):
            return not self._other_users() and self._stop_launcher()

    def _other_users(self) -> list[int]:
        return other_users(self._state, own=self._user.path)

    def _stop_launcher(self) -> bool:
        persistent = self._unmark(LAUNCHER)
        return persistent is not None and stop_launcher(self._state, excluded=persistent.split())

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        """Stop temporary services that no other process uses; only log a second error."""
        try:
            self._release()
        except (MotokoError, OSError) as problem:
            if error is None:
                raise
            log.warning("cannot stop the services that this command started: %s", problem)

    def _release(self) -> None:
        self._workflow.store.close()
        with services_lock(self._state):
            self._user.remove()
            if self._other_users():
                return
            if not self.leave_launcher:
                self._stop_launcher()
            if not running_launchers(self._state) and self._unmark(SERVER) is not None:
                stop_server(self._state)

    def _mark(self, service: str, note: str = "") -> bool:
        """Mark a service as temporary before its start; return whether the mark is new."""
        if not self._temporary or temporary_marker(self._state, service).exists():
            return False
        write_atomic(temporary_marker(self._state, service), note.encode())
        return True

    def _unmark(self, service: str) -> str | None:
        """Remove a mark; return its note, None if it did not exist."""
        try:
            note = temporary_marker(self._state, service).read_text()
        except FileNotFoundError:
            return None
        temporary_marker(self._state, service).unlink(missing_ok=True)
        return note


def start_persistent_launcher(state: StateDir, **options: Any) -> LauncherProcess:
    """Start or find a launcher and its server, which run until they are stopped.

    ``options`` are those of ``start_launcher``. Raise LauncherError if it does not start.
    """
    with _server_for_launcher(state):
        launcher = start_launcher(state, **options)
        detach_services(state)
    return launcher


@contextlib.contextmanager
def persistent_launcher(state: StateDir) -> Iterator[Callable[[], None]]:
    """Let this process be a launcher within the block; yield a function to call when it is ready.

    Until then no other process starts one, so that other commands use this one.
    """
    with contextlib.ExitStack() as locks:
        locks.enter_context(_server_for_launcher(state))
        locks.enter_context(start_lock(state))

        def ready() -> None:
            detach_services(state)
            locks.close()

        yield ready


@contextlib.contextmanager
def _server_for_launcher(state: StateDir) -> Iterator[None]:
    """Run the server and hold the services lock; if the block fails, stop an unused server."""
    started = ensure_server(state)  # also makes the directory of the lock
    with services_lock(state):
        started = ensure_server(state) or started
        try:
            yield
        except BaseException:
            if started and not other_users(state) and not running_launchers(state):
                stop_server(state)
            raise
