"""The processes that use a workflow, and its temporary services.

Each use registers in ``.wf/users``. Files in ``.wf`` mark a server or a launcher that ``motoko
run`` or a ``with`` block started as temporary: it stops when no process uses the workflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from motoko.errors import StorageError
from motoko.runtime.daemons import PidFile
from motoko.runtime.file_lock import FileLock
from motoko.runtime.processes import Liveness, current, liveness

if TYPE_CHECKING:
    from pathlib import Path

    from motoko.server.state_dir import StateDir

LOCK_SECONDS: Final = 120.0
SERVER: Final = "server"
LAUNCHER: Final = "launcher"


def services_lock(state: StateDir, *, timeout: float = LOCK_SECONDS) -> FileLock:
    """Return the lock that is held while the server or a launcher is started or stopped."""
    return FileLock(
        state.path / "services.lock",
        timeout=timeout,
        purpose="starting or stopping the server and the launcher",
        error=StorageError,
    )


def temporary_marker(state: StateDir, service: str) -> Path:
    """Return the file that marks a service as temporary."""
    return state.path / f"temporary-{service}"


def detach_services(state: StateDir) -> None:
    """Make the server and the launcher outlive their current users."""
    for service in (SERVER, LAUNCHER):
        temporary_marker(state, service).unlink(missing_ok=True)


def other_users(state: StateDir, *, own: Path | None = None) -> list[int]:
    """Return the pids of the other processes of this machine that use the workflow.

    With ``own``: of all uses but this one, those in this process included.
    """
    found = []
    for path in sorted((state.path / "users").glob("*.json")):
        file = PidFile(path)
        record = file.read()
        if record is not None and file.owner_alive():
            is_own = record.process.is_same(current()) if own is None else path == own
            if not is_own:
                found.append(record.process.pid)
        elif record is None or liveness(record.process) is Liveness.DEAD:
            path.unlink(missing_ok=True)
    return found


def is_unused(state: StateDir) -> bool:
    """Return whether this launcher is temporary and no process uses the workflow."""
    try:
        persistent = temporary_marker(state, LAUNCHER).read_text()
    except FileNotFoundError:
        return False
    return current().label not in persistent.split() and not other_users(state)
