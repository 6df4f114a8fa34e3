"""An open database: connections, the change feed, and the one thread that commits."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import ZODB
from ZEO.Exceptions import ServerException
from ZODB.Connection import Connection
from ZODB.MappingStorage import MappingStorage
from ZODB.POSException import POSError, StateLoadError

from motoko.errors import (
    DatabaseDamagedError,
    ForbiddenClassError,
    NoDatabaseError,
    ServerError,
    StorageError,
)
from motoko.runtime.ports import SYSTEM
from motoko.server.class_allow_list import class_factory
from motoko.server.integrity import (
    CLOSED_MESSAGE,
    PARSE_ERRORS,
    UNREADABLE_OBJECT,
    check_file,
    close_after_failure,
    damaged_error,
    torn_tail,
    translate_errors,
)
from motoko.server.safe_file import SafeFileStorage
from motoko.storage.feed import Feed, FeedProxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from motoko.runtime.ports import Runtime
    from motoko.server.watchdog import ServerWatchdog

log = logging.getLogger(__name__)

T = TypeVar("T")

COMMITTER: Final = "motoko-committer"
CACHE_OBJECTS: Final = 30_000
CACHE_BYTES: Final = 32 * 2**20
PATIENCE: Final = 60.0
WITHOUT_SERVER: Final = 0.5  # seconds that winding up waits for a server that has gone
LOOK: Final = 0.05
TRIES: Final = 3
PARSE_ERROR_NAMES: Final = frozenset(f"{kind.__module__}.{kind.__name__}" for kind in PARSE_ERRORS)


class _Connection(Connection):  # type: ignore[misc]
    def get(self, oid: bytes) -> Any:
        """Return an object; DatabaseDamagedError where its record makes no sense."""
        try:
            return super().get(oid)
        except ForbiddenClassError as error:
            raise self._forbidden(error) from error
        except POSError:
            raise
        except UNREADABLE_OBJECT as error:
            if CLOSED_MESSAGE in str(error):
                raise
            raise self._unreadable(type(error).__name__) from error

    def setstate(self, obj: Any) -> None:
        """Load an object; DatabaseDamagedError where its record makes no sense."""
        try:
            super().setstate(obj)
        except (StateLoadError, ServerException) as error:
            if isinstance(error.__cause__, ForbiddenClassError):
                raise self._forbidden(error.__cause__) from error
            what = _is_corruption_error(error)
            if what is None:
                raise
            raise self._unreadable(what) from error

    def _forbidden(self, error: ForbiddenClassError) -> ForbiddenClassError:
        return ForbiddenClassError(f"{self._file()}: {error.message}", hint=error.hint)

    def _unreadable(self, what: str) -> DatabaseDamagedError:
        return damaged_error(self._file(), f"is damaged: an object cannot be read ({what})")

    def _file(self) -> Path:
        return self.db().file or Path("the database")


def _is_corruption_error(error: Exception) -> str | None:
    """Return the name of what was raised for a record, None where that says nothing of it."""
    if isinstance(error, ServerException):
        name, details = error.args  # of what the server met
        if name in PARSE_ERROR_NAMES and CLOSED_MESSAGE not in str(details):
            return str(name).rpartition(".")[2]
        return None
    # Of a pickle that makes no sense, anything may come.
    return None if isinstance(error.__cause__, MemoryError) else type(error.__cause__).__name__


class _DatabaseFile(SafeFileStorage):
    """A file of which the first ``committed`` bytes are read."""

    def __init__(self, path: Path, committed: int) -> None:
        try:
            super().__init__(path, committed=committed)
        except BaseException:
            close_after_failure(self)
            raise

    def loadBefore(self, oid: bytes, tid: bytes) -> Any:  # noqa: N802 - the name is ZODB's
        """Return an object's state."""
        try:
            with translate_errors(Path(self.getName())):
                return super().loadBefore(oid, tid)
        except DatabaseDamagedError as error:
            self._check_same(error)
            raise

    def _check_same(self, error: Exception) -> None:
        # It opens the file by its name again and again, and a server may have packed it meanwhile.
        if not os.path.samestat(os.fstat(self._file.fileno()), os.stat(self.getName())):
            raise StorageError(
                f"{self.getName()} was replaced while it was read", hint="Do it again."
            ) from error


class _DB(ZODB.DB):  # type: ignore[misc]
    klass = _Connection
    classFactory = staticmethod(class_factory)  # noqa: N815 - the name is ZODB's

    def __init__(self, storage: Any, file: Path | None, **options: Any) -> None:
        self.file = file  # before it loads the root
        super().__init__(storage, **options)


def _quieten() -> None:
    for library in ("ZEO", "ZODB"):
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
    # It takes a server that goes during a commit for a disaster; committing.py looks it up.
    logging.getLogger("txn").setLevel(logging.CRITICAL + 1)


class Database:
    """One database, through ZEO, in memory, or a file read without a server.

    ``patience``: seconds for which to retry on conflicts and to wait for a disconnected server.
    ``commit_lock``: the lock file of commits with priority. ``file``: the database, for messages.
    """

    def __init__(
        self,
        storage: Any,
        *,
        read_only: bool = False,
        patience: float = PATIENCE,
        commit_lock: Path | None = None,
        file: Path | None = None,
        runtime: Runtime = SYSTEM,
    ) -> None:
        _quieten()
        self.runtime = runtime
        self.read_only = read_only
        self.patience = patience
        self.commit_lock = commit_lock
        self._storage = storage
        self._name = runtime.random.token(6)
        self._marks = itertools.count()
        self.feed = Feed()
        self.index_oids: set[bytes] = set()
        register = storage.registerDB
        storage.registerDB = lambda target: register(FeedProxy(target, self.feed))
        self._db = _DB(
            storage, file, cache_size=CACHE_OBJECTS, cache_size_bytes=CACHE_BYTES, pool_size=20
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
        commit_lock: Path | None = None,
        file: Path | None = None,
        supervisor: ServerWatchdog | None = None,
        runtime: Runtime = SYSTEM,
    ) -> Database:
        """Connect to a ZEO server on a Unix socket; ServerError if it does not answer.

        ``supervisor`` starts the server again when it has gone.
        """
        from motoko.server.client import ReconnectingStorage

        storage = ReconnectingStorage(
            address, wait=wait, patience=patience, supervisor=supervisor, clock=runtime.clock
        )
        return cls(storage, patience=patience, commit_lock=commit_lock, file=file, runtime=runtime)

    @classmethod
    def connect_read_only(
        cls, address: str, file: Path, *, wait: float = 5.0, runtime: Runtime = SYSTEM
    ) -> Database:
        """Read through a ZEO server, and from the database ``file`` once the server has gone.

        ServerError if no server answers within ``wait`` seconds.
        """
        from motoko.server.client import InspectionStorage

        def open_file() -> _DatabaseFile:
            return _DatabaseFile(file, check_file(file, clock=runtime.clock).committed)

        storage = InspectionStorage(address, wait=wait, open_file=open_file, clock=runtime.clock)
        return cls(storage, read_only=True, file=file, runtime=runtime)

    @classmethod
    def in_memory(cls) -> Database:
        """Return a new empty database that lives and dies with this process."""
        return cls(MappingStorage())

    @classmethod
    def read_file(cls, path: Path, *, runtime: Runtime = SYSTEM) -> Database:
        """Open a database file for reading only, beside or without a server."""
        if not path.exists():
            raise NoDatabaseError(f"{path} does not exist", hint="Run `motoko create`.")
        _quieten()
        try:
            for _ in range(TRIES):
                before = path.stat()
                try:
                    return cls._read_file(path, runtime)
                except DatabaseDamagedError:
                    if os.path.samestat(before, path.stat()):
                        raise
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error.strerror}") from error
        raise StorageError(f"{path} was replaced again and again while it was read")

    @classmethod
    def _read_file(cls, path: Path, runtime: Runtime) -> Database:
        found = check_file(path, clock=runtime.clock)
        rest = torn_tail(path, found, runtime.clock.now())
        if rest is not None:
            log.warning("the end of %s is left out: %s", path, rest)
        with translate_errors(path, opening=True):
            storage = _DatabaseFile(path, found.committed)
            try:
                return cls(storage, read_only=True, file=path, runtime=runtime)
            except BaseException:
                storage.close()
                raise

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

    def request_server(self) -> None:
        """Have a server that has gone started again, if there is one and somebody who can."""
        need = getattr(self._storage, "request_server", None)
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
        self._db.pack(self.runtime.clock.now() - keep)

    def drain(self) -> None:
        """Finish the commit under way; whoever waits for a server that has gone, fails.

        What became of a commit that is in doubt then is seen by who looks next.
        """
        self._finish_commit()
        if not self._connected():
            self._storage.close()

    def _finish_commit(self) -> None:
        with contextlib.suppress(RuntimeError):  # closed
            last = self._committer.submit(lambda: None)
            clock = self.runtime.clock
            seen = clock.monotonic()
            while not wait([last], LOOK).done and clock.monotonic() < seen + WITHOUT_SERVER:
                if self._connected():
                    seen = clock.monotonic()

    def _connected(self) -> bool:
        is_connected = getattr(self._storage, "is_connected", None)
        return is_connected is None or bool(is_connected())

    def close(self) -> None:
        """Finish the commit under way and disconnect."""
        if self._closed:
            return
        self._closed = True
        self.drain()
        self._committer.shutdown(wait=True)
        with contextlib.suppress(Exception):
            self._db.close()
