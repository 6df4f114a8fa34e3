"""Start and stop the notifier."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Final

import anyio

from motoko.errors import MotokoError
from motoko.notifier.watched import WatchedExecution, add_watched
from motoko.orchestrator.run_ends import end_file, read_execution
from motoko.runtime.daemons import PidFile, module_command, spawn_detached
from motoko.runtime.file_lock import is_locked
from motoko.runtime.files import private_directory
from motoko.runtime.processes import is_visible, terminate

if TYPE_CHECKING:
    from motoko.runtime.ports import Clock
    from motoko.runtime.processes import ProcessIdentity
    from motoko.server.state_dir import StateDir

STOP_GRACE: Final = 10.0
CHECK_SECONDS: Final = 15.0  # longer than a notifier takes to start

log = logging.getLogger(__name__)


class ExecutionWatch:
    """Lets the notifier watch the execution of a run name, and keeps a notifier running.

    A call waits for no process. A problem is logged: notifications never stop a workflow.
    """

    def __init__(self, state: StateDir, run_name: str, clock: Clock) -> None:
        self._state = state
        self._run_name = run_name
        self._clock = clock
        self._next = -math.inf

    def __call__(self) -> None:
        """Start a notifier unless one is running. Do nothing for CHECK_SECONDS after that."""
        if self._clock.monotonic() < self._next:
            return
        self._next = self._clock.monotonic() + CHECK_SECONDS
        try:
            started = read_execution(end_file(self._state, self._run_name))
            if started is None:
                log.warning("no notification will be sent: the start is not recorded")
                return
            add_watched(
                self._state, WatchedExecution(self._run_name, started.token, started.started)
            )
            start_notifier(self._state)
        except (MotokoError, OSError) as error:
            log.warning("no notification will be sent: %s", error)


def start_notifier(state: StateDir) -> None:
    """Start the notifier in the background unless one is running."""
    # One that is about to exit looks for new executions after it has released the lock.
    if is_locked(state.notifier_lock):
        return
    private_directory(state.logs)
    spawn_detached(
        module_command("motoko.notifier.daemon", str(state.path.parent)),
        log=state.logs / "notifier.log",
        ready_fd=False,
    )


def running_notifier(state: StateDir) -> ProcessIdentity | None:
    """Return the notifier's process, None if none is running."""
    file = PidFile(state.notifier_record)
    record = file.read()
    return record.process if record is not None and file.owner_alive() else None


def stop_notifier(state: StateDir) -> bool:
    """Stop the notifier; return whether one was running. Waiting notifications stay recorded."""
    process = running_notifier(state)
    if process is None or not is_visible(process):
        return False
    anyio.run(terminate, process, STOP_GRACE)
    return True
