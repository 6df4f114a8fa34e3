"""The server and the launcher while somebody needs them.

Whoever works with a workflow registers in ``.wf/users``. What was started only for the time of a
``motoko run`` is marked so in ``.wf``, and the last user stops it, whoever started it.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

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
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from motoko.api.workflow import Workflow
    from motoko.launcher.control import LauncherProcess
    from motoko.runtime.file_lock import FileLock
    from motoko.runtime.processes import ProcessIdentity
    from motoko.server.state_dir import StateDir

log = logging.getLogger(__name__)


class Services:
    """Has a workflow's server run within a ``with`` block, and a launcher if asked for.

    ``temporary``: what this starts ends with its last user. Where that one sets ``left``, it ends
    by itself when no run is left to be executed.
    """

    def __init__(self, workflow: Workflow, *, temporary: bool, create: bool = False) -> None:
        self._workflow = workflow
        self._state = workflow.store.state
        self._temporary = temporary
        self._create = create
        self._user = PidFile(self._state.path / "users" / f"{current().label}.json")
        self.created = False
        self.left = False

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
        if not is_responding(self._state):
            self._mark(SERVER)  # before it starts: who is interrupted meanwhile stops it, too
        if self._create and not self._state.database.exists():
            self._workflow.create()
            self.created = True
        else:
            ensure_server(self._state)
        private_directory(self._user.path.parent)
        self._user.write()
        self._add_studies()

    def _add_studies(self) -> None:
        with self._workflow.store.autocommit_scope.read() as session:
            known = session.tables.study_names()
        new = [name for name in self._workflow.task_managers if name not in known]
        if new:
            add_studies(self._state, new, runtime=self._workflow.store.runtime)

    def start_launcher(self, run_name: str) -> ProcessIdentity:
        """Have a launcher serve the runs of a run name: start one, unless one runs.

        Returns its process. LauncherError says why it does not start.
        """
        with self._lock():
            # Marked before it starts, and with those that are to outlive it.
            lasting = [found.process.label for found in running_launchers(self._state)]
            marked = self._mark(LAUNCHER, " ".join(lasting))
            running = start_launcher(self._state)
            if running.started_here:
                return running.process
            if marked:
                self._marked(LAUNCHER)
        resume_runs(self._state, run_name)
        return running.process

    def resume(self, run_name: str) -> None:
        """Have the runs of a run name executed that were recalled, if a launcher runs."""
        resume_runs(self._state, run_name)

    def recall(self, run_name: str) -> None:
        """Have the runs of a run name ended and made CREATED, which counts as no attempt.

        Runs that another orchestrator has taken up meanwhile are its own.
        """
        suspend_runs(self._state, run_name, unless_orchestrated=True)

    def stop_launcher(self) -> bool:
        """Stop the launcher that was started for the time being, if nobody else uses it.

        Returns whether it was so.
        """
        with self._lock():
            return not other_users(self._state) and self._stop_launcher()

    def _stop_launcher(self) -> bool:
        lasting = self._marked(LAUNCHER)
        if lasting is None:
            return False
        return stop_launcher(self._state, spared=lasting.split())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop what was started for the time being only, if nobody else uses it.

        Where that fails, an error that ended the block is still the one that is raised.
        """
        try:
            self._leave()
        except (MotokoError, OSError) as problem:
            if error is None:
                raise
            log.warning("what was started could not be stopped: %s", problem)

    def _leave(self) -> None:
        self._workflow.close()
        with self._lock():
            self._user.remove()
            if other_users(self._state):
                return
            if not self.left:
                self._stop_launcher()
            if not running_launchers(self._state) and self._marked(SERVER) is not None:
                stop_server(self._state)

    def _lock(self) -> FileLock:
        return services_lock(self._state)

    def _mark(self, what: str, note: str = "") -> bool:
        """Mark what is about to be started as temporary; returns whether it was not yet so."""
        if not self._temporary or temporary_marker(self._state, what).exists():
            return False
        write_atomic(temporary_marker(self._state, what), note.encode())
        return True

    def _marked(self, what: str) -> str | None:
        """Take a mark away; returns its note, None if there was none."""
        try:
            note = temporary_marker(self._state, what).read_text()
        except FileNotFoundError:
            return None
        temporary_marker(self._state, what).unlink(missing_ok=True)
        return note


def start_persistent_launcher(
    state: StateDir,
    *,
    generator: str | None = None,
    studies: Sequence[str] | None = None,
    machine_name: str | None = None,
    stop_runs: bool = False,
) -> LauncherProcess:
    """Have a launcher, and its server, run until they are stopped; or find those that run.

    LauncherError says why it does not start.
    """
    with _server_for_a_launcher(state):
        running = start_launcher(
            state,
            generator=generator,
            studies=studies,
            machine_name=machine_name,
            stop_runs=stop_runs,
        )
        detach_services(state)
    return running


@contextlib.contextmanager
def persistent_launcher(state: StateDir) -> Iterator[Callable[[], None]]:
    """Let this process be a launcher in the block; yields what it calls when it can be found.

    Until then nobody else starts one, so that whoever comes meanwhile uses this one.
    """
    with contextlib.ExitStack() as locks:
        locks.enter_context(_server_for_a_launcher(state))
        locks.enter_context(start_lock(state))

        def ready() -> None:
            detach_services(state)
            locks.close()

        yield ready


@contextlib.contextmanager
def _server_for_a_launcher(state: StateDir) -> Iterator[None]:
    """Have the server run, and nobody else start or stop it; it is stopped if the block fails.

    That is, if it was started here and nobody else uses it.
    """
    started = ensure_server(state)  # there may be no directory for a lock to be in
    with services_lock(state):
        started = ensure_server(state) or started
        try:
            yield
        except BaseException:
            if started and not other_users(state) and not running_launchers(state):
                stop_server(state)
            raise
