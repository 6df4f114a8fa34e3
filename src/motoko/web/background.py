"""The server of the page as a background process."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

from motoko.errors import ServerError
from motoko.runtime.daemons import module_command, spawn_detached
from motoko.runtime.files import private_directory
from motoko.runtime.processes import is_alive, is_visible, signal_process, wait_until_dead
from motoko.web.listening import require_private, served

if TYPE_CHECKING:
    from collections.abc import Sequence

    from motoko.runtime.daemons import Daemon
    from motoko.runtime.ports import Clock
    from motoko.server.state_dir import StateDir

LOG: Final = "web.log"
STOP_SECONDS: Final = 20.0


def start_detached(state: StateDir, arguments: Sequence[str]) -> Daemon:
    """Start ``motoko`` with these arguments in the background; wait until the page is served.

    Raise ServerError, with the reason, if it is not.
    """
    if not state.path.exists():
        private_directory(state.path)
    require_private(state.path)
    private_directory(state.logs)
    return spawn_detached(
        module_command("motoko", *arguments), log=state.logs / LOG, error=ServerError
    )


def stop(state: StateDir, clock: Clock) -> int | None:
    """Stop the process that serves the page and return its pid; None if there is none."""
    record = served(state)
    if record is None:
        return None
    process = record.process
    if not is_visible(process):
        raise ServerError(
            f"process {process.pid} on {record.host} serves the page",
            hint="Run this command there.",
        )
    signal_process(process, signal.SIGTERM)
    if not wait_until_dead(lambda: is_alive(process), STOP_SECONDS, clock):
        raise ServerError(
            f"process {process.pid} does not stop", hint=f"Run `kill -9 {process.pid}`."
        )
    return process.pid
