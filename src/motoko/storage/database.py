"""An open database: connections, the change feed, and the one thread that commits."""

from __future__ import annotations

import contextlib
import itertools
import logging
import secrets
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Final, TypeVar

import ZODB
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage
from ZODB.POSException import POSError

from motoko.errors import NoDatabaseError, ServerError, StorageError
from motoko.storage.feed import Feed, FeedProxy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from motoko.storage.supervision import Supervisor

T = TypeVar("T")

COMMITTER: Final = "motoko-committer"
CACHE_OBJECTS: Final = 30_000
CACHE_BYTES: Final = 32 * 2**20
PATIENCE: Final = 60.0
WITHOUT_SERVER: Final = 0.5  # seconds that winding up waits for a server that has gone
LOOK: Final = 0.05
MAGIC: Final = b"FS30"  # what a file of FileStorage begins with


class Database:
    """One database, through ZEO, in memory, or a file read without a server.

    ``patience``: seconds for which conflicts, and a server that has gone, are put up with.
    ``turn_file``: by a lock on it commits take turns, those of other processes included.
    """

    def __init__(
        self,
        storage: Any,
        *,
        read_only: bool = False,
        patience: float = PATIENCE,
        turn_file: Path | None = None,
    ) -> None:
        for library in ("ZEO", "ZODB"):
            logging.getLogger(library).setLevel(logging.CRITICAL)
        # It takes a server that goes during a commit for a disaster; committing.py looks it up.
        logging.getLogger("txn").setLevel(logging.CRITICAL + 1)
        self.read_only = read_only
        self.patience = patience
        self.turn_file = turn_file
        self._storage = storage
        self._name = secrets.token_hex(6)
        self._marks = itertools.count()
        self.feed = Feed()
        self.index_oids: set[bytes] = set()
        register = storage.registerDB
        storage.registerDB = lambda target: register(FeedProxy(target, self.feed))
        self._db = ZODB.DB(
            storage, cache_size=CACHE_OBJECTS, cache_size_bytes=CACHE_BYTES, pool_size=20
        )
        self._committer = ThreadPoolExecutor(1, thread_name_prefix=COMMITTER)
        self._closed = False

    @classmethod
    def connect(
        cls,
        address: str,
        *,
        wait: float = 10.0,
        patience: float = PATIENCE,
        read_only: bool = False,
        turn_file: Path | None = None,
        supervisor: Supervisor | None = None,
    ) -> Database:
        """Connect to a ZEO server on a Unix socket; ServerError if it does not answer.

        ``supervisor`` starts the server again when it has gone.
        """
        from motoko.storage.client import PatientStorage

        storage = PatientStorage(address, wait=wait, patience=patience, supervisor=supervisor)
        return cls(storage, read_only=read_only, patience=patience, turn_file=turn_file)

    @classmethod
    def in_memory(cls) -> Database:
        """Return a new empty database that lives and dies with this process."""
        return cls(MappingStorage())

    @classmethod
    def read_file(cls, path: Path) -> Database:
        """Open a database file for reading only, beside or without a server."""
        if not path.exists():
            raise NoDatabaseError(f"{path} does not exist", hint="Run `motoko create`.")
        with path.open("rb") as file:
            start = file.read(len(MAGIC) + 1)
        if len(start) <= len(MAGIC):
            raise NoDatabaseError(f"{path} is empty", hint="Run `motoko create`.")
        if not start.startswith(MAGIC):
            raise StorageError(f"{path} is not a database of Motoko's")
        try:
            storage = FileStorage(str(path), read_only=True)
        except (POSError, OSError) as error:
            raise StorageError(f"{path} cannot be read: {error}") from error
        if not len(storage):
            storage.close()
            raise NoDatabaseError(f"{path} is empty", hint="Run `motoko create`.")
        return cls(storage, read_only=True)

    def check_writable(self) -> None:
        """Raise StorageError if this database was opened only to look."""
        if self.read_only:
            raise StorageError(
                "the workflow's database was opened only to look, so nothing can be changed",
                hint="Open the workflow without look=True.",
            )

    def new_mark(self) -> str:
        """Return a text that no other transaction has."""
        return f"{self._name}.{next(self._marks)}"

    def was_committed(self, oid: bytes, mark: str) -> bool:
        """Return whether the transaction with this mark, which wrote ``oid``, was committed.

        Waits for a server that has gone; ServerError if it does not come back.
        """
        return bool(self._storage.was_committed(oid, mark))

    def catch_up(self) -> None:
        """Have snapshots taken from now on include all that others have committed by now."""
        catch_up = getattr(self._storage, "catch_up", None)
        if catch_up is not None:
            catch_up()

    def unreachable(self) -> ServerError:
        """Return the error for a server that did not come back."""
        error: ServerError = self._storage.unreachable()
        return error

    def need_server(self) -> None:
        """Have a server that has gone started again, if there is one and somebody who can."""
        need = getattr(self._storage, "need_server", None)
        if need is not None:
            need()

    def open(self, manager: Any) -> Any:
        """Return a pooled connection bound to ``manager``."""
        return self._db.open(manager)

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run ``work`` in the committer thread (at once, where this is that thread)."""
        if threading.current_thread().name.startswith(COMMITTER):
            done: Future[T] = Future()
            try:
                done.set_result(work())
            except Exception as error:  # noqa: BLE001 - handed to whoever asks for the result
                done.set_exception(error)
            return done
        return self._committer.submit(work)

    def pack(self, *, keep: float = 0.0) -> None:
        """Drop what nothing refers to, and states older than ``keep`` seconds.

        A snapshot that was taken earlier than that may miss what it would read.
        """
        self._db.pack(time.time() - keep)

    def wind_up(self) -> None:
        """Finish the commit under way; whoever waits for a server that has gone, fails.

        What became of a commit that is in doubt then is seen by who looks next.
        """
        self._finish_commit()
        if not self._connected():
            self._storage.close()

    def _finish_commit(self) -> None:
        with contextlib.suppress(RuntimeError):  # closed
            last = self._committer.submit(lambda: None)
            seen = time.monotonic()
            while not wait([last], LOOK).done and time.monotonic() < seen + WITHOUT_SERVER:
                if self._connected():
                    seen = time.monotonic()

    def _connected(self) -> bool:
        is_connected = getattr(self._storage, "is_connected", None)
        return is_connected is None or bool(is_connected())

    def close(self) -> None:
        """Finish the commit under way and disconnect."""
        if self._closed:
            return
        self._closed = True
        self.wind_up()
        self._committer.shutdown(wait=True)
        with contextlib.suppress(Exception):
            self._db.close()
