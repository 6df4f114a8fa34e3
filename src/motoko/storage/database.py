"""An open database: its connections, its change feed, and its only committing thread."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import transaction
import ZODB
from ZODB.DemoStorage import DemoStorage
from ZODB.MappingStorage import MappingStorage

from motoko.errors import (
    DatabaseDamagedError,
    NoDatabaseError,
    ServerError,
    StorageError,
)
from motoko.runtime.ports import SYSTEM
from motoko.server.class_allow_list import find_class
from motoko.server.file_integrity import (
    check_file,
    close_after_failure,
    torn_tail,
    translate_errors,
)
from motoko.server.safe_file import SafeFileStorage
from motoko.server.transaction_file import RECORD
from motoko.storage.connection import TranslatingConnection, past_state_error
from motoko.storage.feed import Feed, FeedProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from motoko.runtime.ports import Runtime
    from motoko.server.watchdog import ServerWatchdog

log = logging.getLogger(__name__)

T = TypeVar("T")

COMMITTER: Final = "motoko-committer"
CACHE_OBJECTS: Final = 6_000  # of a connection; loaded records take 3 kB each
CACHE_BYTES: Final = 16 * 2**20  # as stored; a column of a million numbers takes 8 MB
RETRY_TIMEOUT: Final = 60.0
DRAIN_SECONDS: Final = 0.5  # for which drain() waits for a disconnected server
DRAIN_POLL: Final = 0.05
READ_ATTEMPTS: Final = 3
READ_BYTES: Final = 1024  # of a file at a time; more than most records have


class _DatabaseFile(SafeFileStorage):
    """The first ``committed`` bytes of a file."""

    def __init__(self, path: Path, committed: int) -> None:
        try:
            super().__init__(path, committed=committed)
        except BaseException:
            close_after_failure(self)
            raise

    def loadBefore(self, oid: bytes, tid: bytes) -> Any:  # noqa: N802 - the name is ZODB's
        """Return an object's state."""
        try:
            return self._load_newest(oid, tid) or super().loadBefore(oid, tid)
        except Exception:
            self._translate_error()
            raise

    def _load_newest(self, oid: bytes, tid: bytes) -> Any:
        """Return the newest state of an object if it precedes ``tid``, else None.

        It takes a quarter of the time that FileStorage takes.
        """
        position, descriptor = self._index.get(oid), self._file.fileno()
        data = os.pread(descriptor, READ_BYTES, position) if position else b""
        if len(data) < RECORD.size:
            return None
        found, serial, _, _, _, length = RECORD.unpack_from(data)
        end = RECORD.size + length
        if found != oid or serial >= tid or not length or position + end > self._view:
            return None
        if end > len(data):
            data += os.pread(descriptor, end - len(data), position + len(data))
        return (data[RECORD.size : end], serial, None) if len(data) >= end else None

    def _translate_error(self) -> None:
        """Raise the error being handled as one about the file, if it is about that."""
        try:
            with translate_errors(Path(self.getName())):
                raise  # noqa: PLE0704 - the error being handled
        except DatabaseDamagedError as error:
            # It opens the file by name each time, and a server may have packed it meanwhile.
            if not os.path.samestat(os.fstat(self._file.fileno()), os.stat(self.getName())):
                raise StorageError(
                    f"{self.getName()} was replaced while it was read", hint="Repeat the command."
                ) from error
            raise


class _DB(ZODB.DB):  # type: ignore[misc]
    klass = TranslatingConnection
    classFactory = staticmethod(lambda _, *name: find_class(*name))  # noqa: N815 - ZODB's name

    def __init__(self, storage: Any, file: Path | None, **options: Any) -> None:
        self.file = file  # before it loads the root
        super().__init__(storage, **options)


def _silence_libraries() -> None:
    # "txn" reports a lost connection as a disaster; commit.py resolves it.
    for library in ("ZEO", "ZODB", "txn"):
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)


class Database:
    """One database: through ZEO, in memory, or a file read without a server.

    ``retry_timeout``: seconds to retry on conflicts, and to wait for a disconnected server.
    ``commit_lock``: the lock file of commits with priority. ``file``: the database, for messages.
    """

    def __init__(
        self,
        storage: Any,
        *,
        read_only: bool = False,
        retry_timeout: float = RETRY_TIMEOUT,
        commit_lock: Path | None = None,
        file: Path | None = None,
        runtime: Runtime = SYSTEM,
    ) -> None:
        _silence_libraries()
        self.runtime = runtime
        self.read_only = read_only
        self.retry_timeout = retry_timeout
        self.commit_lock = commit_lock
        self.file = file
        self._storage = storage
        self._name = runtime.rng.token(6)
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
        timeout: float = 10.0,
        retry_timeout: float = RETRY_TIMEOUT,
        commit_lock: Path | None = None,
        file: Path | None = None,
        watchdog: ServerWatchdog | None = None,
        runtime: Runtime = SYSTEM,
    ) -> Database:
        """Connect to a ZEO server on a Unix socket, which ``watchdog`` restarts; or ServerError."""
        from motoko.server.client import ReconnectingStorage

        storage = ReconnectingStorage(
            address, timeout=timeout, retry_timeout=retry_timeout, watchdog=watchdog,
            clock=runtime.clock,
        )  # fmt: skip
        return cls(
            storage, retry_timeout=retry_timeout, commit_lock=commit_lock, file=file,
            runtime=runtime,
        )  # fmt: skip

    @classmethod
    def connect_read_only(
        cls, address: str, file: Path, *, timeout: float = 5.0, runtime: Runtime = SYSTEM
    ) -> Database:
        """Read through a ZEO server, or from ``file`` once that exited; ServerError without one."""
        from motoko.server.client import InspectionStorage

        clock = runtime.clock
        storage = InspectionStorage(
            address,
            timeout=timeout,
            open_file=lambda: _DatabaseFile(file, check_file(file, clock=clock).committed),
            clock=clock,
        )
        return cls(storage, read_only=True, file=file, runtime=runtime)

    @classmethod
    def in_memory(cls) -> Database:
        """Return a new empty database in the memory of this process."""
        return cls(MappingStorage())

    @classmethod
    def scratch_copy(cls, path: Path, *, runtime: Runtime = SYSTEM) -> Database:
        """Open a database file, with or without a running server; keep all changes in memory."""
        return cls._open_file(path, runtime, writable=True)

    @classmethod
    def read_file(cls, path: Path, *, runtime: Runtime = SYSTEM, served: bool = False) -> Database:
        """Open a database file read-only, with or without a running server.

        ``served``: a server may be writing, so an unfinished commit at the end is no news.
        """
        return cls._open_file(path, runtime, writable=False, served=served)

    @classmethod
    def _open_file(
        cls, path: Path, runtime: Runtime, *, writable: bool, served: bool = False
    ) -> Database:
        if not path.exists():
            raise NoDatabaseError(f"{path} does not exist")
        _silence_libraries()
        try:
            for _ in range(READ_ATTEMPTS):
                before = path.stat()
                try:
                    return cls._open_committed(path, runtime, writable=writable, served=served)
                except DatabaseDamagedError:
                    if os.path.samestat(before, path.stat()):
                        raise
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error.strerror}") from error
        raise StorageError(f"{path} was replaced repeatedly while it was read")

    @classmethod
    def _open_committed(
        cls, path: Path, runtime: Runtime, *, writable: bool, served: bool
    ) -> Database:
        check = check_file(path, clock=runtime.clock)
        tail = torn_tail(path, check, runtime.clock.now())
        if tail is not None and not served:
            log.warning("the end of %s is left out: %s", path, tail)
        with translate_errors(path, opening=True):
            storage = _DatabaseFile(path, check.committed)
            try:
                if writable:
                    overlay = DemoStorage(base=storage, changes=MappingStorage())
                    return cls(overlay, runtime=runtime)
                return cls(storage, read_only=True, file=path, runtime=runtime)
            except BaseException:
                storage.close()
                raise

    def check_writable(self) -> None:
        """Raise StorageError if this database is read-only."""
        if self.read_only:
            raise StorageError(
                "the workflow's database was opened read-only, so nothing can be changed",
                hint="Open the workflow without read_only=True, or in a `with` block.",
            )

    def new_mark(self) -> str:
        """Return a unique text for a transaction."""
        return f"{self._name}.{next(self._marks)}"

    def was_committed(self, oid: bytes, mark: str) -> bool:
        """Return whether the transaction with this mark, which wrote ``oid``, was committed."""
        return bool(self._storage.was_committed(oid, mark))

    def catch_up(self) -> None:
        """Make later snapshots include all earlier commits of other processes."""
        catch_up = getattr(self._storage, "catch_up", None)
        if catch_up is not None:
            catch_up()

    def unreachable(self) -> ServerError:
        """Return the error for a server that did not return."""
        error: ServerError = self._storage.unreachable()
        return error

    def request_server(self) -> None:
        """Restart a server that exited, if there is a watchdog."""
        request = getattr(self._storage, "request_server", None)
        if request is not None:
            request()

    def open(self, manager: Any, at: str | None = None) -> Any:
        """Return a pooled connection bound to ``manager``.

        ``at``: read the state at this transaction, in hexadecimal; PastStateError if it is later
        than all.
        """
        if at is None:
            return self._db.open(manager)
        tid = bytes.fromhex(at)
        if tid > self._db.lastTransaction():
            raise past_state_error(self._db.file, tid)
        return self._db.open(manager, at=tid)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Any]:
        """Yield a connection with a fresh snapshot."""
        manager = transaction.TransactionManager(explicit=True)
        connection = self.open(manager)
        manager.begin()
        try:
            yield connection
        finally:
            manager.abort()
            connection.close()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run ``work`` in the committer thread; at once if called in that thread."""
        if threading.current_thread().name.startswith(COMMITTER):
            done: Future[T] = Future()
            try:
                done.set_result(work())
            except Exception as error:  # noqa: BLE001 - raised by the future
                done.set_exception(error)
            return done
        return self._committer.submit(work)

    def pack(self, *, keep: float = 0.0) -> None:
        """Drop unreferenced objects, and states older than ``keep`` seconds."""
        self._db.pack(self.runtime.clock.now() - keep)

    def drain(self) -> None:
        """Finish the commit in progress. Calls that wait for a disconnected server fail.

        The next client finds out whether an unfinished commit was made.
        """
        clock = self.runtime.clock
        with contextlib.suppress(RuntimeError):  # closed
            last = self._committer.submit(lambda: None)
            seen = clock.monotonic()
            while not wait([last], DRAIN_POLL).done and clock.monotonic() < seen + DRAIN_SECONDS:
                if self._connected():
                    seen = clock.monotonic()
        if not self._connected():
            self._storage.close()

    @property
    def is_served(self) -> bool:
        """Whether it is connected to a server, so that it learns of later commits."""
        return hasattr(self._storage, "is_connected") and self._connected()

    def _connected(self) -> bool:
        is_connected = getattr(self._storage, "is_connected", None)
        return is_connected is None or bool(is_connected())

    def close(self) -> None:
        """Finish the commit in progress and disconnect."""
        if self._closed:
            return
        self._closed = True
        self.drain()
        self._committer.shutdown(wait=True)
        with contextlib.suppress(Exception):
            self._db.close()
