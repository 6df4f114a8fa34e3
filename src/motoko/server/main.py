"""The server process: ``python -m motoko.server.main STATE_DIRECTORY``."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from zc.lockfile import LockError  # type: ignore[import-untyped]
from ZEO.StorageServer import StorageServer
from ZODB.POSException import POSError

from motoko.errors import MotokoError
from motoko.runtime.daemons import PidFile, announce_failure, announce_ready
from motoko.runtime.files import file_identity
from motoko.runtime.logs import log_to_stderr
from motoko.runtime.ports import SYSTEM
from motoko.runtime.signals import reset_all
from motoko.server.commit_limit import CommitLimit
from motoko.server.file_storage import AtomicFileStorage
from motoko.server.integrity import translate_errors
from motoko.server.packing import Packer, PackPolicy
from motoko.server.state_dir import StateDir
from motoko.server.state_dir_guard import StateDirGuard
from motoko.server.temp_files import remove_stale_files

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Sequence

    from motoko.runtime.ports import Runtime

# Clients that missed more commits than this are told that anything may have changed.
INVALIDATION_QUEUE: Final = 5000
LOOK_SECONDS: Final = 1.0  # between two looks whether it can be reached

log = logging.getLogger("motoko.server.main")  # __name__ is __main__


def serve(state: StateDir, policy: PackPolicy, runtime: Runtime = SYSTEM) -> None:
    """Serve the database in ``state`` until TERM or INT, or until it is moved or removed.

    Also until somebody touches the mark that it is to stop: the way of another container's
    processes, whose signals do not get here.
    """
    os.umask(0o077)
    home = StateDirGuard.of(state)
    clock = runtime.clock
    packer = Packer(state.packed_size_file, policy, clock=clock)
    storage = packer.storage = AtomicFileStorage(
        state.database, committed=packer.pack_if_grown, clock=clock
    )
    socket = state.new_socket()
    _clear(socket, runtime)
    remove_stale_files(state, clock=clock)
    record = PidFile(state.server_record)
    listening: Listening | None = None
    try:
        with translate_errors(state.database, opening=True):
            server = StorageServer(
                str(socket), {"1": storage}, invalidation_queue_size=INVALIDATION_QUEUE
            )
        loop = server.acceptor.event_loop
        server.lock_managers["1"].timeout = CommitLimit(loop)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, loop.stop)
        socket.chmod(0o600)
        listening = Listening.at(socket)
        record.write(socket=str(socket))
        announce_ready()
        packer.pack_if_grown(storage.getSize())
        _watch_directory(loop, home, storage, listening, state)
        loop.run_forever()
    finally:
        moved = home.missing_error() is not None
        storage.in_place()
        storage.close()
        record.remove()
        # Where it was replaced, it is another server's.
        if not moved and listening is not None and listening.problem() is None:
            with contextlib.suppress(FileNotFoundError):
                socket.unlink()


def _clear(socket: Path, runtime: Runtime) -> None:
    """Make room for a socket; a directory is moved aside, whatever is in it."""
    try:
        socket.unlink(missing_ok=True)
    except OSError:
        if socket.is_symlink() or not socket.is_dir():
            raise
        aside = socket.with_name(f"{socket.name}.{runtime.random.token(6)}")
        socket.rename(aside)
        log.warning("%s was a directory; it was moved to %s", socket, aside)


@dataclass(frozen=True, slots=True)
class Listening:
    """A socket that a server listens on, as it made it."""

    path: Path
    inode: int | None

    @classmethod
    def at(cls, path: Path) -> Listening:
        """Return the socket at ``path`` as it is now."""
        return cls(path, file_identity(path, follow=False))

    def problem(self) -> str | None:
        """Return what became of a socket that nobody can reach any more, None if it is in place."""
        with contextlib.suppress(OSError):
            if file_identity(self.path, follow=False) != self.inode:
                return f"its socket {self.path} was removed or replaced"
        return None


def _watch_directory(
    loop: AbstractEventLoop,
    home: StateDirGuard,
    storage: AtomicFileStorage,
    listening: Listening,
    state: StateDir,
) -> None:
    """End the loop when the server cannot be reached or is not wanted any more.

    That is: directory, file or socket is not there any more, or is another one, or the mark that
    it is to stop was made or touched. Whoever needs the server then starts another one.
    """
    before = _touched(state.stop_marker)
    record = PidFile(state.server_record)

    def look() -> None:
        if home.missing_error() is None and _touched(state.stop_marker) not in (None, before):
            loop.stop()
            return
        why = _unreachable(home, storage, listening)
        if why is not None:
            log.error("%s", why)
            loop.stop()
            return
        if record.read() is None:  # only who has locked the file gets here
            record.write(socket=str(listening.path))
        loop.call_later(LOOK_SECONDS, look)

    loop.call_later(LOOK_SECONDS, look)


def _unreachable(
    home: StateDirGuard, storage: AtomicFileStorage, listening: Listening
) -> str | None:
    """Return why nobody can reach the server or its file any more, None if that is not so."""
    lost = home.missing_error()
    if lost is not None:
        return lost.message
    if not storage.in_place():
        return f"{storage.getName()} was removed or replaced while it was served"
    return listening.problem()


def _touched(path: Path) -> int | None:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime_ns
    return None


class _DisconnectFilter(logging.Filter):
    """Holds back what ZEO takes for an error: that a client has gone before it was answered.

    A client that ends does not wait for news of others' commits, and one that was killed cannot.
    """

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
    """Return what is wrong, then what to do about it, on lines of their own."""
    if isinstance(error, MotokoError):
        return str(error)
    if isinstance(error, LockError):
        return f"{state.database} is served by another process already"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or state.database} cannot be used: {error.strerror}"
    return f"{state.database} cannot be served: {type(error).__name__}: {error}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="motoko.server.main")
    usual = PackPolicy()
    parser.add_argument("state", type=Path)
    parser.add_argument("--pack-minimum", type=int, default=usual.minimum, metavar="BYTES")
    parser.add_argument("--pack-keep", type=float, default=usual.keep, metavar="SECONDS")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
