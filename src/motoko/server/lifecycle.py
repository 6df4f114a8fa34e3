"""Starting, finding and stopping the one server of a workflow's database."""

from __future__ import annotations

import contextlib
import errno
import logging
import signal
import socket
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import anyio

from motoko.errors import NoDatabaseError, ServerError
from motoko.runtime.daemons import PidFile, module_command, spawn_detached
from motoko.runtime.file_lock import FileLock, is_locked
from motoko.runtime.files import private_directory
from motoko.runtime.ports import SYSTEM
from motoko.runtime.processes import is_stopped, is_visible, signal_process, terminate
from motoko.server.integrity import last_torn_tail
from motoko.server.state_dir_guard import wait_for_old_path_users

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from motoko.runtime.ports import Clock
    from motoko.runtime.processes import ProcessIdentity
    from motoko.server.state_dir import StateDir

log = logging.getLogger(__name__)

GREETING_SECONDS = 0.2
HANG_SECONDS = 3.0  # a server that greets nobody for so long hangs
STOP_GRACE = 5.0  # seconds between asking a server to end and making it end
UNSEEN_SECONDS = 20.0  # for a server to see the mark that it is to end
UNREACHABLE_SECONDS = 4.0  # for a server to notice that nobody can reach it
PAUSE = 0.05
LOCK_PATIENCE = 40.0  # seconds: longer than a server may take to start
_ROOM: Final = "Make room on the disk, and do it again: nothing is lost."
_WRITABLE: Final = "It needs a directory it can write to; `motoko info` only reads."
_ADVICE: Final = MappingProxyType(
    {
        errno.ENOSPC: _ROOM,
        errno.EDQUOT: _ROOM,
        errno.EROFS: _WRITABLE,
        errno.EACCES: _WRITABLE,
        errno.EPERM: _WRITABLE,
    }
)


def is_responding(state: StateDir) -> bool:
    """Return whether the server of this workflow's database listens."""
    return _greeting(state) is not None and _is_served(state)


def _reachable(state: StateDir) -> bool:
    """Return whether a server listens, be it slow; one that was stopped (SIGSTOP) is not slow."""
    greeting = _greeting(state)
    if greeting is None or not _is_served(state):
        return False
    return bool(greeting) or _stopped_server(state) is None


def _greeting(state: StateDir) -> bytes | None:
    """Return the first bytes of the listening process, perhaps none; None without a listener."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(str(state.socket()))
        except OSError:
            return None
        # Hearing it out spares its log the complaint that nobody listened.
        probe.settimeout(GREETING_SECONDS)
        with contextlib.suppress(OSError):
            return probe.recv(64)
    return b""


def _is_served(state: StateDir) -> bool:
    """Return whether a server holds the lock on the database; no other process listens for it."""
    return is_locked(state.database_lock) or is_locked(state.database)


def _stopped_server(state: StateDir) -> ProcessIdentity | None:
    """Return the server if it is a stopped process (SIGSTOP) of this machine."""
    found = PidFile(state.server_record).read()
    return found.process if found is not None and is_stopped(found.process) else None


def is_hung(state: StateDir) -> bool:
    """Return whether a server has the socket and greets nobody; blocks for HANG_SECONDS if so."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(HANG_SECONDS)
        try:
            probe.connect(str(state.socket()))  # the system does this for a server that hangs
            probe.recv(64)
        except (TimeoutError, BlockingIOError):  # the latter: nobody takes connections any more
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
    """Start the server unless it runs; returns whether this call started it.

    ``needed`` is asked once more when nobody else can start or stop it. Whoever knows the directory
    under a former name is waited for. Raises NoDatabaseError
    where there is nothing to serve, ServerError where it does not start.
    """
    wait_for_old_path_users(state, clock=clock)
    if _reachable(state):
        return False
    _check_database(state)
    with explain_error(state.path, "used"), server_lock(state) as lock:
        if _reachable(state) or not (needed is None or needed()):
            return False
        if _served_again(state, clock):
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
        cut = last_torn_tail(state.database)
        if cut is not None and cut != before:
            log.warning("cut off the end of %s: %s", state.database, cut)
    return True


def _served_again(state: StateDir, clock: Clock) -> bool:
    """Wait for a server that has the file and cannot be reached; returns whether it can be again.

    Without a socket it ends by itself; one that was stopped is killed. ServerError where it stays.
    """
    deadline = clock.monotonic() + UNREACHABLE_SECONDS
    while _is_served(state):
        if _reachable(state):
            return True
        stopped = _stopped_server(state)
        if stopped is not None and signal_process(stopped, signal.SIGKILL):
            log.warning("killed the database server: process %d had been stopped", stopped.pid)
        if clock.monotonic() > deadline:
            found = PidFile(state.server_record).read()
            which = "another process" if found is None else f"process {found.process.pid}"
            raise ServerError(
                f"{state.database} is served by {which}, which cannot be reached",
                hint="Stop it with `motoko kill`; what needs it starts another one.",
            )
        clock.sleep(PAUSE)
    return False


def _check_database(state: StateDir) -> None:
    if not state.database.exists():
        raise NoDatabaseError(
            f"{state.path.parent} has no database yet",
            hint="Create it with `motoko create`, or create and run with `motoko run`.",
        )


def server_lock(state: StateDir) -> FileLock:
    """Return the lock under which the server is started and stopped, and its file replaced."""
    return FileLock(state.server_lock, timeout=LOCK_PATIENCE, error=ServerError)


@contextlib.contextmanager
def explain_error(where: Path, what: str) -> Iterator[None]:
    """Have what the system refuses (no room, read-only) raised as a ServerError that says so."""
    try:
        yield
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        raise ServerError(
            f"{where} cannot be {what}: {error.strerror}{place}",
            hint=_ADVICE.get(error.errno or 0),
        ) from error


def stop_server(state: StateDir, *, clock: Clock = SYSTEM.clock) -> bool:
    """Stop the server if it runs; returns whether it did.

    It stays stopped until somebody needs it.
    """
    if not state.path.exists():
        return False
    with explain_error(state.path, "used"), server_lock(state):
        return stop_locked_server(state, clock)


def stop_locked_server(state: StateDir, clock: Clock) -> bool:
    """Stop the server, under ``server_lock``; return whether one was running."""
    state.stop_marker.touch(mode=0o600)  # first, or who loses the server would start another
    record = PidFile(state.server_record)
    found = record.read()
    if found is None or not record.owner_alive():
        if is_responding(state):
            raise ServerError(
                f"a server answers at {state.socket()}, but {state.server_record} does not "
                "say which process it is",
                hint="Find it with `ps` and stop it by hand.",
            )
        return False
    if is_visible(found.process):
        anyio.run(terminate, found.process, STOP_GRACE)
    else:
        _await_end(record, found.process.pid, clock)
    record.remove(found.process)
    return True


def _await_end(record: PidFile, pid: int, clock: Clock) -> None:
    """Wait until a server that cannot be signalled from here has seen the mark and ended."""
    deadline = clock.monotonic() + UNSEEN_SECONDS
    while record.owner_alive():
        if clock.monotonic() > deadline:
            raise ServerError(
                f"the server (process {pid} of another container) did not end",
                hint="Stop it there, with `motoko kill`.",
            )
        clock.sleep(PAUSE)
