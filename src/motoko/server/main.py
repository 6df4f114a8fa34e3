"""The server process: ``python -m motoko.server.main STATE_DIRECTORY``."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zc.lockfile import LockError  # type: ignore[import-untyped]
from ZEO.StorageServer import StorageServer
from ZODB.POSException import POSError

from motoko.errors import MotokoError
from motoko.runtime.daemons import PidFile, announce_failure, announce_ready
from motoko.runtime.logs import log_to_stderr
from motoko.runtime.ports import SYSTEM
from motoko.runtime.signals import reset_all
from motoko.server.file_integrity import translate_errors
from motoko.server.file_storage import AtomicFileStorage
from motoko.server.packing import Packer, PackPolicy
from motoko.server.recent_commits import COMMITS, RecentCommits
from motoko.server.state_dir import StateDir
from motoko.server.state_dir_guard import PathGuard, StateDirGuard
from motoko.server.temp_files import remove_stale_files
from motoko.version import __version__

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle
    from collections.abc import Sequence

    from motoko.runtime.ports import Runtime

NAME: Final = "1"  # of the storage, for ZEO
CHECK_SECONDS: Final = 1.0  # between two checks that clients can reach the server
COMMIT_SECONDS: Final = 10.0

log = logging.getLogger("motoko.server.main")  # __name__ is __main__


def serve(state: StateDir, policy: PackPolicy, runtime: Runtime = SYSTEM) -> None:
    """Serve the database in ``state`` until TERM or INT. Also stop if clients cannot reach it.

    Processes of other containers cannot send signals: they touch the stop marker instead.
    """
    os.umask(0o077)
    directory = StateDirGuard.of(state)
    clock = runtime.clock
    packer = Packer(state.packed_size_file, policy, clock=clock)
    storage = packer.storage = AtomicFileStorage(
        state.database, committed=packer.pack_if_grown, clock=clock
    )
    path = state.new_socket()
    _clear(path, runtime)
    remove_stale_files(state, clock=clock)
    record = PidFile(state.server_record)
    socket: PathGuard | None = None
    try:
        with translate_errors(state.database, opening=True):
            server = StorageServer(str(path), {NAME: storage}, invalidation_queue_size=COMMITS)
            server.invq[NAME] = RecentCommits(server.invq[NAME])
        loop = server.acceptor.event_loop
        server.lock_managers[NAME].timeout = CommitLimit(loop)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, loop.stop)
        path.chmod(0o600)
        socket = PathGuard.at(path, follow=False)
        record.write(socket=str(path), version=__version__)
        announce_ready()
        packer.pack_if_grown(storage.getSize())
        _watch_directory(loop, directory, storage, socket, state)
        loop.run_forever()
    finally:
        moved = directory.missing_error() is not None
        storage.in_place()
        storage.close()
        record.remove()
        # A replaced socket is another server's.
        if not moved and socket is not None and not socket.is_replaced():
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def _clear(path: Path, runtime: Runtime) -> None:
    """Remove an old socket; a directory in its place is moved aside."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        if path.is_symlink() or not path.is_dir():
            raise
        aside = path.with_name(f"{path.name}.{runtime.rng.token(6)}")
        path.rename(aside)
        log.warning("%s was a directory; it was moved to %s", path, aside)


def _watch_directory(
    loop: AbstractEventLoop,
    directory: StateDirGuard,
    storage: AtomicFileStorage,
    socket: PathGuard,
    state: StateDir,
) -> None:
    """Stop the loop when clients cannot reach the server, or the stop marker is touched."""
    before = _modification_time(state.stop_marker)
    record = PidFile(state.server_record)

    def check() -> None:
        touched = _modification_time(state.stop_marker) not in (None, before)
        if directory.missing_error() is None and touched:
            loop.stop()
            return
        problem = _unreachable(directory, storage, socket)
        if problem is not None:
            log.error("%s", problem)
            loop.stop()
            return
        if record.read() is None:  # only the process that locked the file gets here
            record.write(socket=str(socket.path), version=__version__)
        loop.call_later(CHECK_SECONDS, check)

    loop.call_later(CHECK_SECONDS, check)


def _unreachable(
    directory: StateDirGuard, storage: AtomicFileStorage, socket: PathGuard
) -> str | None:
    """Return why clients can no longer reach the server or its file, None if they can."""
    error = directory.missing_error()
    if error is not None:
        return error.message
    if not storage.in_place():
        return f"{storage.getName()} was removed or replaced while it was served"
    replaced = f"its socket {socket.path} was removed or replaced"
    return replaced if socket.is_replaced() else None


def _modification_time(path: Path) -> int | None:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime_ns
    return None


class CommitLimit:
    """Disconnects a client that does not finish its commit, such as a suspended one.

    It holds up all other commits. The server aborts the commit; the client repeats it when it
    resumes. ZEO's own limit (``transaction_timeout``) closes the connection but keeps the lock. ZEO
    calls ``begin`` and ``end``, in the server's loop, while a client holds the commit lock.
    """

    def __init__(self, loop: AbstractEventLoop, seconds: float = COMMIT_SECONDS) -> None:
        self._loop = loop
        self._seconds = seconds
        self._timer: TimerHandle | None = None

    def begin(self, client: Any) -> None:
        """Start the timer for a client's commit."""
        self._timer = self._loop.call_later(self._seconds, self._disconnect, client)

    def end(self, client: Any) -> None:
        """Stop the timer: the client's commit is finished or aborted."""
        assert client is not None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def is_alive(self) -> bool:
        """Return whether the timer works; ZEO reports it as the server's state."""
        return self._loop.is_running()

    def _disconnect(self, client: Any) -> None:
        self._timer = None
        log.warning("a client did not finish its commit within %g s: disconnected", self._seconds)
        client.connection.sm_protocol.transport.abort()


class _DisconnectFilter(logging.Filter):
    """Drops ZEO's errors about clients that exited before an answer."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log it."""
        return record.msg != "Disconnected %s:%s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server that the command line describes; return its exit status."""
    options = _parser().parse_args(arguments)
    reset_all()
    log_to_stderr()
    logging.getLogger("ZEO.asyncio.server").addFilter(_DisconnectFilter())
    policy = PackPolicy(minimum=options.pack_minimum, keep=options.pack_keep)
    try:
        serve(StateDir(options.state), policy)
    except (OSError, POSError, MotokoError, LockError) as error:
        log.error("%s: %s", type(error).__name__, error)
        announce_failure(_reason(error, StateDir(options.state)))
        return 1
    return 0


def _reason(error: Exception, state: StateDir) -> str:
    """Return the problem, and a hint on a line of its own if there is one."""
    if isinstance(error, MotokoError):
        return str(error)
    if isinstance(error, LockError):
        return f"{state.database} is already served by another process"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or state.database} cannot be used: {error.strerror}"
    return f"{state.database} cannot be served: {type(error).__name__}: {error}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="motoko.server.main")
    defaults = PackPolicy()
    parser.add_argument("state", type=Path)
    parser.add_argument("--pack-minimum", type=int, default=defaults.minimum, metavar="BYTES")
    parser.add_argument("--pack-keep", type=float, default=defaults.keep, metavar="SECONDS")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
