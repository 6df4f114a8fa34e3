"""Where a workflow's database, its server's socket and its logs are."""

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


@dataclass(frozen=True, slots=True)
class StateDir:
    """``.wf/`` of one workflow: its database, server, logs."""

    path: Path

    @classmethod
    def of(cls, workflow: Path) -> StateDir:
        """Return the state directory of the workflow in directory ``workflow``.

        StorageError if something else has its name.
        """
        path = Path(os.path.realpath(workflow)) / ".wf"
        if path.exists() and not path.is_dir():
            raise StorageError(f"{path} is not a directory", hint="Move it out of the way.")
        return cls(path)

    @property
    def database(self) -> Path:
        """Return the database file."""
        return self.path / "wf.db"

    @property
    def database_lock(self) -> Path:
        """Return the file that FileStorage locks while it serves the database."""
        return self.path / "wf.db.lock"

    @property
    def server_record(self) -> Path:
        """Return the file that says which process serves the database."""
        return self.path / "server.json"

    @property
    def server_lock(self) -> Path:
        """Return the lock file that whoever starts or stops the server holds."""
        return self.path / "server.lock"

    @property
    def stop_marker(self) -> Path:
        """Return the file that is there while the server is stopped on purpose."""
        return self.path / "server.stopped"

    @property
    def packed_size_file(self) -> Path:
        """Return the file that keeps the size of the database when it was last packed."""
        return self.path / "wf.db.packed"

    @property
    def database_sidecars(self) -> tuple[Path, ...]:
        """Return the files that say something of the database file, to go when it is replaced."""
        index, cut = (self.path / f"{self.database.name}.{kind}" for kind in ("index", "cut"))
        return (index, self.packed_size_file, cut)

    @property
    def firing_lock(self) -> Path:
        """Return the lock file that a firing holds before which all others stand back."""
        return self.path / "right_of_way.lock"

    @property
    def commit_lock(self) -> Path:
        """Return the lock file that a commit holds for which all others wait."""
        return self.path / "turn.lock"

    @property
    def logs(self) -> Path:
        """Return the directory of the daemons' logs."""
        return self.path / "logs"

    def socket(self) -> Path:
        """Return the server's socket: in ``.wf``, elsewhere where that path is too long."""
        here = self.path / "zeo.sock"
        if len(os.fsencode(here)) <= MAX_SOCKET_PATH:
            return here
        # Where it is elsewhere depends on the environment of whoever started the server.
        found = PidFile(self.server_record).read()
        if found is not None and isinstance(path := found.info.get("socket"), str):
            socket = Path(path)
            if not socket.parent.exists() or _is_private(socket.parent):
                return socket
        return self.new_socket()

    def new_socket(self) -> Path:
        """Return where a server that is started now makes its socket."""
        here = self.path / "zeo.sock"
        if len(os.fsencode(here)) <= MAX_SOCKET_PATH:
            return here
        digest = hashlib.blake2b(os.fsencode(self.path), digest_size=12).hexdigest()
        return _private_runtime_directory() / f"{digest}.sock"


def _private_runtime_directory() -> Path:
    """Return a private directory with a short path, made if need be, for sockets."""
    for base in _runtime_bases():
        directory = Path(base) / f"motoko-{os.getuid()}"
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
        except OSError:  # it is gone, or nothing can be made in it
            continue
        if not _is_private(directory):
            raise ServerError(
                f"{directory} is not a directory that only you can enter",
                hint="Whoever can reach the server's socket can act as you. Remove the directory.",
            )
        return directory
    raise ServerError(
        "there is no directory for the socket of the database server",
        hint="Set XDG_RUNTIME_DIR or TMPDIR to a directory that you can write to.",
    )


def _runtime_bases() -> Iterator[str]:
    bases = [os.environ.get("XDG_RUNTIME_DIR")]
    with contextlib.suppress(FileNotFoundError):
        bases.append(tempfile.gettempdir())
    bases.append("/tmp")  # noqa: S108 - the directory made in it is checked to be ours alone
    return (base for base in bases if base and len(os.fsencode(base)) <= MAX_SOCKET_PATH - 50)


def _is_private(directory: Path) -> bool:
    try:
        found = directory.lstat()
    except OSError:
        return False
    ours = found.st_uid == os.getuid() and not found.st_mode & 0o077
    return ours and stat.S_ISDIR(found.st_mode)
