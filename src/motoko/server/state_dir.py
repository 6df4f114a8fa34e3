"""The paths of a workflow's database, its server's socket and its logs."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from motoko.errors import ServerError, StorageError
from motoko.runtime.daemons import PidFile

if TYPE_CHECKING:
    from collections.abc import Iterator

# sockaddr_un has 108 bytes on Linux and 104 on macOS, the closing zero included.
MAX_SOCKET_PATH: Final = 100


class _File:
    """A path in the state directory."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, state: StateDir, owner: object) -> Path:
        return state.path / self._name


@dataclass(frozen=True, slots=True)
class StateDir:
    """``.wf/`` of one workflow: its database, server, logs."""

    path: Path

    @classmethod
    def of(cls, workflow: Path) -> StateDir:
        """Return the state directory of a workflow; StorageError unless it is a directory."""
        path = Path(os.path.realpath(workflow)) / ".wf"
        if path.exists() and not path.is_dir():
            raise StorageError(f"{path} is not a directory", hint="Move it out of the way.")
        return cls(path)

    database = _File("wf.db")
    database_lock = _File("wf.db.lock")  # locked by FileStorage while it serves the database
    server_record = _File("server.json")  # names the process that serves the database
    server_lock = _File("server.lock")  # held while the server is started or stopped
    stop_marker = _File("server.stopped")  # exists while the server is stopped on purpose
    packed_size_file = _File("wf.db.packed")  # the size of the data that the last packing packed
    backup_record = _File("wf.db.backup")  # names the last backup
    firing_lock = _File("right_of_way.lock")  # held by a firing with priority
    commit_lock = _File("turn.lock")  # held by a commit with priority
    logs = _File("logs")  # the directory of the daemons' logs
    ends = _File("ends")  # the last execution of each run name
    notify = _File("notify")  # the executions that the notifier watches
    notifier_record = _File("notifier.json")  # names the notifier's process
    notifier_lock = _File("notifier.lock")  # held by the notifier
    events = _File("events")  # the status of the last orchestrator of each run name
    web_record = _File("web.json")  # names the process that serves the web page
    web_lock = _File("web.lock")  # held while the web page is served
    web_secret = _File("web.secret")  # signs sessions of browsers

    @property
    def database_sidecars(self) -> tuple[Path, ...]:
        """Return the files about the database file, to be removed when it is replaced."""
        index, cut = (self.path / f"{self.database.name}.{kind}" for kind in ("index", "cut"))
        return (index, self.packed_size_file, cut, self.backup_record)

    def socket(self) -> Path:
        """Return the database server's socket: in ``.wf``, or elsewhere if that is too long."""
        here = self.path / "zeo.sock"
        if len(os.fsencode(here)) <= MAX_SOCKET_PATH:
            return here
        # Its place depends on the environment in which the server was started.
        found = PidFile(self.server_record).read()
        if found is not None and isinstance(path := found.info.get("socket"), str):
            socket = Path(path)
            if not socket.parent.exists() or is_private(socket.parent):
                return socket
        return self.new_socket()

    def new_socket(self) -> Path:
        """Return the path of the socket for a new database server."""
        return self._socket("zeo.sock", ".sock")

    def new_web_socket(self) -> Path:
        """Return the path of the socket for the web page."""
        return self._socket("web.sock", "-web.sock")

    def _socket(self, name: str, suffix: str) -> Path:
        here = self.path / name
        if len(os.fsencode(here)) <= MAX_SOCKET_PATH:
            return here
        digest = hashlib.blake2b(os.fsencode(self.path), digest_size=12).hexdigest()
        return _private_runtime_directory() / f"{digest}{suffix}"


def _private_runtime_directory() -> Path:
    """Return a private directory with a short path for sockets; create it if necessary."""
    for base in _runtime_bases():
        directory = Path(base) / f"motoko-{os.getuid()}"
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
        except OSError:  # missing or not writable
            continue
        if not is_private(directory):
            raise ServerError(
                f"{directory} is not a directory that only you can enter",
                hint="Access to the server's socket lets others act as you. Remove the directory.",
            )
        return directory
    raise ServerError(
        "no directory is available for the socket of the database server",
        hint="Set XDG_RUNTIME_DIR or TMPDIR to a directory that you can write to.",
    )


def _runtime_bases() -> Iterator[str]:
    bases = [os.environ.get("XDG_RUNTIME_DIR")]
    with contextlib.suppress(FileNotFoundError):
        bases.append(tempfile.gettempdir())
    bases.append("/tmp")  # noqa: S108 - the directory made in it is checked to be ours alone
    return (base for base in bases if base and len(os.fsencode(base)) <= MAX_SOCKET_PATH - 50)


def is_private(directory: Path) -> bool:
    """Return whether only this user can enter a directory."""
    try:
        found = directory.lstat()
    except OSError:
        return False
    ours = found.st_uid == os.getuid() and not found.st_mode & 0o077
    return ours and stat.S_ISDIR(found.st_mode)
