"""Start, find and stop the only server of a workflow's database."""

from __future__ import annotations

import contextlib
import errno
import logging
import signal
import socket
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import anyio

from motoko.errors import WRITE_HINTS, NoDatabaseError, ServerError
from motoko.runtime.daemons import PidFile, module_command, spawn_detached
from motoko.runtime.file_lock import FileLock, is_locked
from motoko.runtime.files import private_directory
from motoko.runtime.ports import SYSTEM
from motoko.runtime.processes import (
    is_stopped,
    is_visible,
    signal_process,
    terminate,
    wait_until_dead,
)
from motoko.server.file_integrity import last_torn_tail
from motoko.server.state_dir_guard import wait_for_old_path_users

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from motoko.runtime.ports import Clock
    from motoko.runtime.processes import ProcessIdentity
    from motoko.server.state_dir import StateDir

log = logging.getLogger(__name__)

GREETING_SECONDS: Final = 0.2
HANG_SECONDS: Final = 3.0  # a server that sends no greeting for so long hangs
STOP_GRACE: Final = 5.0  # seconds between TERM and KILL
STOP_MARKER_SECONDS: Final = 20.0  # for a server to see the stop marker
UNREACHABLE_SECONDS: Final = 4.0  # for a server to notice that it is unreachable
PAUSE: Final = 0.05
LOCK_TIMEOUT: Final = 40.0  # seconds: longer than a server may take to start
_HINTS: Final = MappingProxyType({**WRITE_HINTS, errno.EPERM: WRITE_HINTS[errno.EACCES]})


def is_responding(state: StateDir) -> bool:
    """Return whether the server of this workflow's database listens."""
    return _greeting(state) is not None and is_served(state)


def _is_reachable(state: StateDir) -> bool:
    """Return whether a server listens. It may be slow, but not suspended (SIGSTOP)."""
    greeting = _greeting(state)
    if greeting is None or not is_served(state):
        return False
    return bool(greeting) or _suspended_server(state) is None


def _greeting(state: StateDir) -> bytes | None:
    """Return the first bytes from the listening process, perhaps none; None without a listener."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(str(state.socket()))
        except OSError:
            return None
        # Receiving it keeps the server from logging an error.
        probe.settimeout(GREETING_SECONDS)
        with contextlib.suppress(OSError):
            return probe.recv(64)
    return b""


def is_served(state: StateDir) -> bool:
    """Return whether a server holds the lock on the database. Only servers wait for it."""
    return is_locked(state.database_lock) or is_locked(state.database)


def _suspended_server(state: StateDir) -> ProcessIdentity | None:
    """Return the server if it is a suspended process (SIGSTOP) of this machine."""
    found = PidFile(state.server_record).read()
    return found.process if found is not None and is_stopped(found.process) else None


def is_hung(state: StateDir) -> bool:
    """Return whether a server has the socket but sends no greeting; then block HANG_SECONDS."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(HANG_SECONDS)
        try:
            probe.connect(str(state.socket()))  # the system accepts for a server that hangs
            probe.recv(64)
        except (TimeoutError, BlockingIOError):  # the latter: the queue of connections is full
            return True
        except OSError:
            return False
    return False


def ensure_server(
    state: StateDir,
    *,
    needed: Callable[[], bool] | None = None,
    clock: Clock = SYSTEM.clock,
) -> bool:
    """Start the server unless it is running; return whether this call started it.

    First wait for processes that know the directory by an old path. ``needed`` is checked again
    under the lock. NoDatabaseError without a database, ServerError if the start fails.
    """
    wait_for_old_path_users(state, clock=clock)
    if _is_reachable(state):
        return False
    _check_database(state)
    with explain_error(state.path, "used"), server_lock(state) as lock:
        if _is_reachable(state) or not (needed is None or needed()):
            return False
        if _recovers(state, clock):
            return False
        _check_database(state)  # it may have been replaced meanwhile
        state.stop_marker.unlink(missing_ok=True)
        private_directory(state.logs)
        before = last_torn_tail(state.database)
        spawn_detached(
            module_command("motoko.server.main", str(state.path)),
            log=state.logs / "server.log",
            holding=lock,
            error=ServerError,
        )
        tail = last_torn_tail(state.database)
        if tail is not None and tail != before:
            log.warning("cut off the end of %s: %s", state.database, tail)
    return True


def _recovers(state: StateDir, clock: Clock) -> bool:
    """Wait while an unreachable server holds the file; return whether it is reachable again."""
    deadline = clock.monotonic() + UNREACHABLE_SECONDS
    while is_served(state):
        if _is_reachable(state):
            return True
        suspended = _suspended_server(state)
        if suspended is not None and signal_process(suspended, signal.SIGKILL):
            log.warning("killed the database server: process %d was suspended", suspended.pid)
        if clock.monotonic() > deadline:
            found = PidFile(state.server_record).read()
            server = "another process" if found is None else f"process {found.process.pid}"
            raise ServerError(
                f"{state.database} is served by {server}, which cannot be reached",
                hint="Stop it with `motoko kill`; the next command starts another one.",
            )
        clock.sleep(PAUSE)
    return False


def _check_database(state: StateDir) -> None:
    if not state.database.exists():
        raise NoDatabaseError(f"{state.path.parent} has no database yet")


def server_lock(state: StateDir) -> FileLock:
    """Return the lock for starting and stopping the server, and for replacing its file."""
    return FileLock(state.server_lock, timeout=LOCK_TIMEOUT, error=ServerError)


@contextlib.contextmanager
def explain_error(path: Path, action: str) -> Iterator[None]:
    """Raise a refusal of the system (full disk, read-only) as ServerError with a hint."""
    try:
        yield
    except OSError as error:
        location = f": {error.filename}" if error.filename else ""
        raise ServerError(
            f"{path} cannot be {action}: {error.strerror}{location}",
            hint=_HINTS.get(error.errno or 0),
        ) from error


def stop_server(state: StateDir, *, clock: Clock = SYSTEM.clock) -> bool:
    """Stop the server until the next use; return whether it was running."""
    if not state.path.exists():
        return False
    with explain_error(state.path, "used"), server_lock(state):
        return stop_locked_server(state, clock)


def stop_locked_server(state: StateDir, clock: Clock) -> bool:
    """Stop the server, under ``server_lock``; return whether it was running."""
    state.stop_marker.touch(mode=0o600)  # first, or its clients would start another
    record = PidFile(state.server_record)
    found = record.read()
    if found is None or not record.owner_alive():
        if is_responding(state):
            raise ServerError(
                f"a server responds at {state.socket()}, but {state.server_record} does not name "
                "its process",
                hint="Find it with `ps` and stop it by hand.",
            )
        return False
    if is_visible(found.process):
        anyio.run(terminate, found.process, STOP_GRACE)
    # It cannot be signalled from here, but sees the stop marker.
    elif not wait_until_dead(record.owner_alive, STOP_MARKER_SECONDS, clock):
        raise ServerError(
            f"the server (process {found.process.pid} of another container) did not exit",
            hint="Stop it there, with `motoko kill`.",
        )
    record.remove(found.process)
    return True
