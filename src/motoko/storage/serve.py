"""The server process: ``python -m motoko.storage.serve STATE_DIRECTORY``."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ZEO.StorageServer import StorageServer
from ZODB.POSException import POSError

from motoko.errors import MotokoError
from motoko.runtime.daemons import PidFile, announce_failure, announce_ready
from motoko.runtime.logs import log_to_stderr
from motoko.runtime.signals import reset_all
from motoko.storage.address import StateDirectory
from motoko.storage.damage import told
from motoko.storage.home import LOOK_SECONDS, Home
from motoko.storage.orphans import remove_orphans
from motoko.storage.packing import Packer, Policy
from motoko.storage.served_file import ServedFile

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Sequence

# Clients that missed more commits than this are told that anything may have changed.
INVALIDATION_QUEUE: Final = 5000

log = logging.getLogger("motoko.storage.serve")  # __name__ is __main__


def serve(state: StateDirectory, policy: Policy) -> None:
    """Serve the database in ``state`` until TERM or INT, or until it is moved or removed.

    Also until somebody touches the mark that it is to stop: the way of another container's
    processes, whose signals do not get here.
    """
    os.umask(0o077)
    home = Home.of(state)
    packer = Packer(state.packed_note, policy)
    storage = packer.storage = ServedFile(state.database, committed=packer.consider)
    remove_orphans(state)
    socket = state.new_socket()
    with contextlib.suppress(FileNotFoundError):
        socket.unlink()
    record = PidFile(state.server_record)
    try:
        with told(state.database, opening=True):
            server = StorageServer(
                str(socket), {"1": storage}, invalidation_queue_size=INVALIDATION_QUEUE
            )
        loop = server.acceptor.event_loop
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, loop.stop)
        socket.chmod(0o600)
        record.write(socket=str(socket))
        announce_ready()
        packer.consider(storage.getSize())
        _watch(loop, home, storage, state.stopped_mark)
        loop.run_forever()
    finally:
        moved = home.lost() is not None
        storage.in_place()
        storage.close()
        record.remove()
        if not moved:  # or it may be another server's by now
            with contextlib.suppress(FileNotFoundError):
                socket.unlink()


def _watch(loop: AbstractEventLoop, home: Home, storage: ServedFile, mark: Path) -> None:
    """End the loop when the directory or the file is not there any more, or is another one.

    Also when the mark was made or touched.
    """
    before = _touched(mark)

    def look() -> None:
        lost = home.lost()
        if lost is None and _touched(mark) not in (None, before):
            loop.stop()
            return
        if lost is None and storage.in_place():
            loop.call_later(LOOK_SECONDS, look)
            return
        if lost is None:
            log.error("%s was removed or replaced while it was served", storage.getName())
        else:
            log.error("%s", lost.message)
        loop.stop()

    loop.call_later(LOOK_SECONDS, look)


def _touched(path: Path) -> int | None:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime_ns
    return None


class _Departures(logging.Filter):
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
    logging.getLogger("ZEO.asyncio.server").addFilter(_Departures())
    policy = Policy(minimum=options.pack_minimum, keep=options.pack_keep)
    try:
        serve(StateDirectory(options.state), policy)
    except (OSError, POSError, MotokoError) as error:
        log.error("%s: %s", type(error).__name__, error)
        announce_failure(_reason(error, StateDirectory(options.state)))
        return 1
    return 0


def _reason(error: Exception, state: StateDirectory) -> str:
    """Return what is wrong, then what to do about it, on lines of their own."""
    if isinstance(error, MotokoError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or state.database} cannot be used: {error.strerror}"
    return f"{state.database} cannot be served: {type(error).__name__}: {error}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="motoko.storage.serve")
    usual = Policy()
    parser.add_argument("state", type=Path)
    parser.add_argument("--pack-minimum", type=int, default=usual.minimum, metavar="BYTES")
    parser.add_argument("--pack-keep", type=float, default=usual.keep, metavar="SECONDS")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
