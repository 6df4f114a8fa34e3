"""Clients of a ZEO server: they reconnect quickly, and wait for a disconnected server."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from ZEO.asyncio.client import ClientThread
from ZEO.ClientStorage import ClientStorage
from ZEO.Exceptions import ClientDisconnected
from ZODB.POSException import ConflictError as StoreConflict
from ZODB.POSException import POSKeyError, ReadOnlyError

from motoko.errors import MotokoError, ServerError
from motoko.runtime.ports import SYSTEM
from motoko.server.memory_buffer import MemoryBuffer
from motoko.server.memory_cache import MemoryCache

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence

    from motoko.runtime.ports import Clock
    from motoko.server.watchdog import ServerWatchdog

RECONNECT_POLL: Final = 0.2  # seconds between attempts to reach a server that exited
BATCH: Final = 500  # objects loaded together
REGISTER_POLL: Final = 0.2  # the same for one that exited during a client's registration
READ_TIMEOUT: Final = 5.0  # seconds after which an inspection reads the file instead
PAUSE: Final = 0.05
CACHE_BYTES: Final = 20 * 2**20
# Raised by reads from ZEO's cache while another thread closes it.
CLOSED_CACHE_ERRORS: Final = (AttributeError, ValueError)
# Revisions of an object among which to look for a commit of unknown outcome.
REVISIONS: Final = 1000

log = logging.getLogger(__name__)


class _FastReconnectClient(ClientThread):  # type: ignore[misc]
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, disconnect_poll=RECONNECT_POLL, **options)

    def set_options(self, *args: Any, **options: Any) -> None:
        """Add an option that ZEO's constructor does not accept."""
        super().set_options(*args, register_failed_poll=REGISTER_POLL, **options)

    def setup_delegation(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start to work in the loop, which is in the client's own thread."""
        super().setup_delegation(loop)
        loop.set_exception_handler(_log_loop_error)

    def reconnect(self, address: str) -> None:
        """Try to reach the server at this address now, not at the next poll."""

        def connect() -> None:
            if self.client.protocol is None:
                self.client.new_addrs([address])
            else:
                self.client.addrs = [address]

        with contextlib.suppress(RuntimeError):  # the loop is closed, as is the client
            self.loop.call_soon_threadsafe(connect)


def _log_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # A message to a server that exits just then: its sender learns of that from the commit.
    log.debug("%s: %r", context.get("message"), context.get("exception"))


class ReconnectingStorage(ClientStorage):  # type: ignore[misc]
    """Reads wait up to ``retry_timeout`` seconds for a disconnected server, then raise ServerError.

    A snapshot survives that: objects are loaded as of its transaction. ``watchdog`` is notified of
    disconnections, and of calls that wait for the server.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float,
        retry_timeout: float,
        watchdog: ServerWatchdog | None = None,
        clock: Clock = SYSTEM.clock,
    ) -> None:
        self._path = address
        self._clock = clock
        self._retry_timeout = retry_timeout
        self._watchdog = watchdog
        self._calls = 0
        self._calls_lock = threading.Lock()
        try:
            super().__init__(
                address,
                wait_timeout=timeout,
                cache=MemoryCache(CACHE_BYTES),
                _client_factory=_FastReconnectClient,
            )
        except ClientDisconnected as error:
            raise ServerError(
                f"no database server responds at {address}",
                hint="Repeat the command; `motoko kill` stops a server that hangs.",
            ) from error
        self._server.timeout = retry_timeout
        self._call = self._call_server

    def notify_connected(self, conn: Any, info: Any) -> None:
        """React to a connection; ZEO calls this."""
        # The server assigns again the unused ids that its predecessor reserved.
        self._oids: list[bytes] = []
        super().notify_connected(conn, info)
        if self._watchdog is not None:
            self._watchdog.on_connected()

    def notify_disconnected(self) -> None:
        """React to a lost connection; ZEO calls this."""
        super().notify_disconnected()
        if self._watchdog is not None:
            self._watchdog.on_disconnected(self)
            # After ZEO has recorded it: later calls see that the server is disconnected.
            self._server.loop.call_soon(self._request_for_calls)

    def _request_for_calls(self) -> None:
        """Request the server for calls that found it connected, and now wait for it."""
        if self._calls:
            self.request_server()

    def reconnect(self, address: str) -> None:
        """Try to reach the server at this address now."""
        self._path = address
        self._server.reconnect(address)

    def request_server(self) -> None:
        """Restart the server if it exited, even if it was stopped on purpose."""
        if self._watchdog is not None and not self.is_connected():
            self._watchdog.request(self)

    def close(self) -> None:
        """Disconnect permanently."""
        if self._watchdog is not None:
            self._watchdog.close()
        super().close()

    def _call_server(self, method: str, *args: Any, **options: Any) -> Any:
        if self._server.is_closed():
            raise ClientDisconnected("closed")
        with self._calling():
            return self._server.call(method, *args, **options)

    @contextlib.contextmanager
    def _calling(self) -> Iterator[None]:
        with self._calls_lock:
            self._calls += 1
        try:
            self.request_server()
            yield
        finally:
            with self._calls_lock:
                self._calls -= 1

    def loadBefore(self, oid: bytes, tid: bytes) -> Any:  # noqa: N802 - the name is ZODB's
        """Return an object's state, waiting for the server if necessary."""
        return self._retry_until_connected(super().loadBefore, oid, tid)

    def prefetch(self, oids: Iterable[bytes], tid: bytes) -> None:
        """Load objects as of ``tid`` into the cache, and wait for them."""
        missing = [oid for oid in oids if self._cache.loadBefore(oid, tid) is None]
        for _ in self._load_batches(missing, tid):
            pass

    def load_many(self, oids: Sequence[bytes], tid: bytes) -> Iterator[Any]:
        """Yield the states of objects as of ``tid``, None for one that must be loaded alone."""
        cached = [self._cache.loadBefore(oid, tid) for oid in oids]
        pairs = zip(oids, cached, strict=True)
        loaded = self._load_batches([oid for oid, found in pairs if found is None], tid)
        for found in cached:
            yield next(loaded) if found is None else found

    def _load_batches(
        self, oids: Sequence[bytes], tid: bytes, *, keep: bool = True
    ) -> Iterator[Any]:
        """Yield the server's answers; it loads a batch while the caller uses the one before.

        ``keep``: they go into the cache.
        """
        pending: deque[tuple[Any, int]] = deque()
        for start in range(0, len(oids), BATCH):
            batch = oids[start : start + BATCH]
            request = self._server.io_call(self._load_batch(batch, tid, keep), wait=False)
            pending.append((request, len(batch)))
            if len(pending) > 1:
                yield from self._answers(*pending.popleft())
        while pending:
            yield from self._answers(*pending.popleft())

    async def _load_batch(self, oids: Sequence[bytes], tid: bytes, keep: bool) -> list[Any]:
        """Send all requests, then await the answers; ZEO's prefetch starts a task for each."""
        protocol = self._server.client.protocol
        if protocol is None:
            return [None] * len(oids)
        if keep:
            answers = [protocol.load_before(oid, tid) for oid in oids]
        else:
            answers = [protocol.call_sync("loadBefore", (oid, tid)) for oid in oids]
        return [await _answer_or_none(answer) for answer in answers]

    def _answers(self, request: Any, number: int, timeout: float | None = None) -> list[Any]:
        try:
            answers: list[Any] = request.result(timeout)
        except ClientDisconnected:
            return [None] * number
        return answers

    def new_oid(self) -> Any:
        """Return the id of a new object, waiting for the server if necessary."""
        try:
            return self._oids.pop()
        except IndexError:
            return self._retry_until_connected(super().new_oid)

    def store(self, oid: bytes, serial: bytes, data: bytes, version: str, txn: Any) -> None:
        """Store an object's state; sent together with others."""
        buffer = self._check_trans(txn, "store")
        buffer.store(oid, data)
        buffer.send("storea", oid, serial, data, id(txn))

    def checkCurrentSerialInTransaction(  # noqa: N802 - the name is ZODB's
        self, oid: bytes, serial: bytes, transaction: Any
    ) -> None:
        """Refuse the transaction if the object has another version; sent together with others."""
        method = "checkCurrentSerialInTransaction"
        self._check_trans(transaction, method).send(method, oid, serial, id(transaction))

    def tpc_begin(self, txn: Any, tid: Any = None, status: str = " ") -> None:
        """Begin a transaction, with a buffer in memory; sent together with others."""
        if self._is_read_only:
            raise ReadOnlyError
        txn.set_data(self, MemoryBuffer(self._connection_generation, self._server.async_iter))
        self._commit_lock.acquire()
        self._tbuf = txn.data(self)
        begin = id(txn), txn.user, txn.description, txn.extension, tid, status
        self._tbuf.send("tpc_begin", *begin)

    def tpc_vote(self, txn: Any) -> Any:
        """Vote on a transaction."""
        self._check_trans(txn, "tpc_vote").flush()
        return super().tpc_vote(txn)

    def tpc_abort(self, txn: Any, timeout: float | None = 0.0) -> None:
        """Abort a transaction, without waiting: an exited server has forgotten it."""
        super().tpc_abort(txn, timeout=timeout)

    def tryToResolveConflict(self, *_: Any, **__: Any) -> Any:  # noqa: N802 - the name is ZODB's
        """Raise ConflictError: the server resolves conflicts, and checks the records' classes."""
        raise StoreConflict("the server left a conflict to its client")

    def was_committed(self, oid: bytes, mark: str) -> bool:
        """Return whether a transaction described as ``mark`` wrote the object ``oid``."""
        try:
            found = self._retry_until_connected(self.history, oid, REVISIONS)
        except (POSKeyError, KeyError):
            return False
        return any(_text(entry["description"]) == mark for entry in found)

    def _retry_until_connected(self, call: Any, *args: Any) -> Any:
        deadline = self._clock.monotonic() + self._retry_timeout
        while True:
            try:
                with self._calling():
                    return call(*args)
            except (ClientDisconnected, *CLOSED_CACHE_ERRORS) as error:
                if self._server.is_closed() or self._clock.monotonic() > deadline:
                    raise self.unreachable() from error
                if not isinstance(error, ClientDisconnected):
                    raise
                self._clock.sleep(PAUSE)

    def catch_up(self) -> None:
        """Wait until this client knows of all commits made before this call."""
        # The server reports other clients' commits before it answers.
        self._retry_until_connected(self._call, "ping")

    def unreachable(self) -> ServerError:
        """Return the error for a server that did not return."""
        problem: MotokoError | None = None
        if self._watchdog is not None:
            problem = self._watchdog.problem
        why = f": {problem.message}" if problem is not None else ""
        waited = f" and did not come back within {self._retry_timeout:g} s"
        return ServerError(
            f"the database server at {self._path} is disconnected"
            f"{'' if self._server.is_closed() else waited}{why}",
            hint="Repeat the interrupted command: that starts a server. Commits are kept.",
        )


class InspectionStorage(ReconnectingStorage):
    """Reads from the server, or from the database file if the server exits or hangs.

    ``open_file`` opens the file for reading. Both hold every state that a snapshot reads.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float,
        open_file: Callable[[], Any],
        clock: Clock = SYSTEM.clock,
    ) -> None:
        self._open_file = open_file
        self._file: Any = None
        self._disconnections = self._disconnections_at_opening = 0
        self._hangs = False
        self._reading = threading.Lock()
        super().__init__(address, timeout=timeout, retry_timeout=READ_TIMEOUT, clock=clock)

    def notify_disconnected(self) -> None:
        """React to a lost connection; ZEO calls this."""
        super().notify_disconnected()
        self._disconnections += 1
        self._hangs = False

    def loadBefore(self, oid: bytes, tid: bytes) -> Any:  # noqa: N802 - the name is ZODB's
        """Return an object's state."""
        if self._is_served():
            with contextlib.suppress(ClientDisconnected):
                return self._cache.loadBefore(oid, tid) or self._request(
                    self._server.load_before_co(oid, tid, READ_TIMEOUT)
                )
        with self._reading:
            if self._file is None or self._disconnections_at_opening != self._disconnections:
                self._close_file()
                self._disconnections_at_opening = self._disconnections
                self._file = self._open_file()
            return self._file.loadBefore(oid, tid)

    def load_many(self, oids: Sequence[bytes], tid: bytes) -> Iterator[Any]:
        """Yield the states of objects as of ``tid``; a command reads them once."""
        return self._load_batches(oids, tid, keep=False)

    def _answers(self, request: Any, number: int, timeout: float | None = None) -> list[Any]:
        try:
            return super()._answers(request, number, READ_TIMEOUT if timeout is None else timeout)
        except TimeoutError:
            self._hangs = True
            return [None] * number

    def catch_up(self) -> None:
        """Wait until all commits made before this call are known, if a server responds."""
        if self._is_served():
            with contextlib.suppress(ClientDisconnected):
                self._request(self._server.call_sync_co("ping", (), READ_TIMEOUT))

    def close(self) -> None:
        """Disconnect permanently."""
        super().close()
        with self._reading:
            self._close_file()

    def _is_served(self) -> bool:
        return bool(self.is_connected()) and not self._hangs

    def _request(self, request: Coroutine[Any, Any, Any]) -> Any:
        # ZEO waits without a timeout for the answer of a connected server.
        answer = self._server.io_call(request, wait=False)
        try:
            return answer.result(READ_TIMEOUT)
        except TimeoutError:
            self._hangs = True
            raise ClientDisconnected("the server does not respond") from None

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


async def _answer_or_none(answer: Any) -> Any:
    try:
        return await answer
    except Exception:  # noqa: BLE001 - loaded alone, the object raises it again
        return None


def _text(description: Any) -> str:
    return description.decode() if isinstance(description, bytes) else str(description)
