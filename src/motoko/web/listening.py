"""The socket or port of the web page, one server for each workflow."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from motoko.errors import ServerError
from motoko.runtime.daemons import PidFile
from motoko.runtime.file_lock import FileLock, is_locked
from motoko.runtime.files import file_identity, private_directory
from motoko.runtime.processes import host, suspension
from motoko.server.state_dir import is_private

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.runtime.daemons import PidRecord
    from motoko.server.state_dir import StateDir

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound socket: at ``path``, or at ``port`` of the loopback interface."""

    socket: socket.socket
    path: Path | None
    port: int | None


@contextlib.contextmanager
def listener(state: StateDir, port: int | None, instance: str) -> Iterator[Listener]:
    """Bind the socket, or the port (0: any free one), and record it for other commands.

    Raise ServerError if the page is already served, or if others could connect to the socket.
    """
    if not state.path.exists():
        private_directory(state.path)
    require_private(state.path)
    record = PidFile(state.web_record)
    with contextlib.ExitStack() as cleanup:
        cleanup.enter_context(_lock(state))
        bound = cleanup.enter_context(_bind_port(port) if port is not None else _bind(state))
        path = None if bound.path is None else str(bound.path)
        record.write(port=bound.port, socket=path, instance=instance)
        cleanup.callback(record.remove)
        yield bound


def served(state: StateDir) -> PidRecord | None:
    """Return the record of the process that serves the page, None if there is none."""
    file = PidFile(state.web_record)
    record = file.read()
    if record is None:
        return None
    elsewhere = record.host != host()  # only its lock shows whether it is alive
    alive = is_locked(state.web_lock) if elsewhere else file.owner_alive()
    return record if alive else None


def require_private(directory: Path) -> None:
    """Raise ServerError if other users can enter a directory: its mode alone protects a socket."""
    directory = directory.resolve()
    if is_private(directory):
        return
    found = directory.stat()
    if found.st_uid != os.getuid():
        raise ServerError(
            f"{directory} belongs to another user (uid {found.st_uid})",
            hint="Only the owner of a workflow can serve its page.",
        )
    raise ServerError(
        f"other users can enter {directory} (mode {found.st_mode & 0o777:03o})",
        hint=f"The page can act as you. Restrict the directory: chmod 700 {directory}",
    )


@contextlib.contextmanager
def _lock(state: StateDir) -> Iterator[None]:
    lock = FileLock(state.web_lock, timeout=0, purpose="motoko serve", error=ServerError)
    try:
        lock.acquire()
    except ServerError as error:
        raise _already_served(state, lock) from error
    try:
        yield
    finally:
        lock.release()


def _already_served(state: StateDir, lock: FileLock) -> ServerError:
    record = PidFile(state.web_record).read()
    if record is None:
        return ServerError(
            f"the page is already served by {lock.holder()}", hint="Stop that process first."
        )
    where = record.info.get("socket") or f"port {record.info.get('port')}"
    process = f"process {record.process.pid} on {record.host}{suspension(record.process)}"
    return ServerError(
        f"the page is already served at {where} by {process}",
        hint="`motoko serve --link` prints how to open it, `motoko serve --stop` stops it.",
    )


@contextlib.contextmanager
def _bind(state: StateDir) -> Iterator[Listener]:
    path = state.new_web_socket()
    require_private(path.parent)
    path.unlink(missing_ok=True)  # of a dead process: this one holds the lock
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bound:
        bound.bind(str(path))
        path.chmod(0o600)  # nobody can connect yet: it does not listen
        inode = file_identity(path)
        try:
            yield Listener(bound, path, None)
        finally:
            with contextlib.suppress(OSError):
                if file_identity(path, follow=False) == inode:
                    path.unlink()


@contextlib.contextmanager
def _bind_port(port: int) -> Iterator[Listener]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((LOOPBACK, port))
        except OSError as error:
            raise ServerError(
                f"port {port} cannot be used: {error.strerror}",
                hint="Choose another port, or --port 0 for any free one.",
            ) from error
        name: Any = bound.getsockname()
        yield Listener(bound, None, name[1])
