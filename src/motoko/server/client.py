"""The client of a ZEO server: reconnects quickly, and waits for a server that has gone."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any, Final

from ZEO.asyncio.client import ClientThread
from ZEO.ClientStorage import ClientStorage
from ZEO.Exceptions import ClientDisconnected
from ZODB.POSException import ConflictError as StoreConflict
from ZODB.POSException import POSKeyError

from motoko.errors import MotokoError, ServerError
from motoko.runtime.ports import SYSTEM

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Iterator

    from motoko.runtime.ports import Clock
    from motoko.server.watchdog import ServerWatchdog

RECONNECT_POLL: Final = 0.2  # seconds between attempts to reach a server that has gone
REGISTER_POLL: Final = 0.2  # the same for one that went while a client introduced itself
LOOK_PATIENCE: Final = 5.0  # seconds that a look waits for an answer before it reads the file
PAUSE: Final = 0.05
CACHE_BYTES: Final = 20 * 2**20
# What reading from ZEO's cache raises while another thread closes it.
OF_A_CLOSED_CACHE: Final = (AttributeError, ValueError)
# How far back a commit in doubt is looked for among the revisions of an object it wrote.
REVISIONS: Final = 1000

log = logging.getLogger(__name__)


class _FastReconnectClient(ClientThread):  # type: ignore[misc]
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, disconnect_poll=RECONNECT_POLL, **options)

    def set_options(self, *args: Any, **options: Any) -> None:
        """Take the options, of which ZEO's constructor does not know all."""
        super().set_options(*args, register_failed_poll=REGISTER_POLL, **options)

    def setup_delegation(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to work in the loop, which is in the client's own thread."""
        super().setup_delegation(loop)
        loop.set_exception_handler(_note)

    def reconnect(self, address: str) -> None:
        """Look for the server at this address now, instead of at the next poll."""

        def look() -> None:
            if self.client.protocol is None:
                self.client.new_addrs([address])
            else:
                self.client.addrs = [address]

        with contextlib.suppress(RuntimeError):  # the loop has ended: the client was closed
            self.loop.call_soon_threadsafe(look)


def _note(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # A message for a server that goes just then: whoever sent it will hear of it from the commit.
    log.debug("%s: %r", context.get("message"), context.get("exception"))


class ReconnectingStorage(ClientStorage):  # type: ignore[misc]
    """Reads wait up to ``patience`` seconds for a server that has gone, then raise ServerError.

    A snapshot stays what it was: objects are asked for as of its transaction. ``supervisor`` is
    told when the server has gone, and when somebody waits for it.
    """

    def __init__(
        self,
        address: str,
        *,
        wait: float,
        patience: float,
        supervisor: ServerWatchdog | None = None,
        clock: Clock = SYSTEM.clock,
    ) -> None:
        self._path = address
        self._clock = clock
        self._patience = patience
        self._supervisor = supervisor
        self._calls = 0
        self._counting = threading.Lock()
        try:
            super().__init__(
                address,
                wait_timeout=wait,
                cache_size=CACHE_BYTES,
                _client_factory=_FastReconnectClient,
            )
        except ClientDisconnected as error:
            raise ServerError(
                f"no database server answers at {address}",
                hint="Try again; `motoko kill` stops a server that hangs.",
            ) from error
        self._server.timeout = patience
        self._call = self._call_server

    def notify_connected(self, conn: Any, info: Any) -> None:
        """Learn, from ZEO, that there is a server."""
        # Ids that a former server reserved and nobody has used yet, this one gives out again.
        self._oids: list[bytes] = []
        super().notify_connected(conn, info)
        if self._supervisor is not None:
            self._supervisor.on_connected()

    def notify_disconnected(self) -> None:
        """Learn, from ZEO, that the server has gone."""
        super().notify_disconnected()
        if self._supervisor is not None:
            self._supervisor.on_disconnected(self)
            # After ZEO has noted it: who calls from then on sees that there is no server.
            self._server.loop.call_soon(self._need_for_calls)

    def _need_for_calls(self) -> None:
        """Have the server back for calls that found it connected, and now wait for it."""
        if self._calls:
            self.request_server()

    def reconnect(self, address: str) -> None:
        """Look for the server at this address, now."""
        self._path = address
        self._server.reconnect(address)

    def request_server(self) -> None:
        """Have the server started again if it has gone, whoever stopped it."""
        if self._supervisor is not None and not self.is_connected():
            self._supervisor.request(self)

    def close(self) -> None:
        """Disconnect for good."""
        if self._supervisor is not None:
            self._supervisor.close()
        super().close()

    def _call_server(self, method: str, *args: Any, **options: Any) -> Any:
        if self._server.is_closed():
            raise ClientDisconnected("closed")
        with self._calling():
            self.request_server()
            return self._server.call(method, *args, **options)

    @contextlib.contextmanager
    def _calling(self) -> Iterator[None]:
        with self._counting:
            self._calls += 1
        try:
            yield
        finally:
            with self._counting:
                self._calls -= 1

    def loadBefore(self, oid: bytes, tid: bytes) -> Any:  # noqa: N802 - the name is ZODB's
        """Return an object's state, waiting for the server where need be."""
        return self._patiently(super().loadBefore, oid, tid)

    def new_oid(self) -> Any:
        """Return the id of a new object, waiting for the server where need be."""
        return self._patiently(super().new_oid)

    def tpc_abort(self, txn: Any, timeout: float | None = 0.0) -> None:
        """Abort a transaction; a server that has gone has forgotten it, so it is not waited for."""
        super().tpc_abort(txn, timeout=timeout)

    def tryToResolveConflict(self, *_: Any, **__: Any) -> Any:  # noqa: N802 - the name is ZODB's
        """Resolve nothing: the server does, and looks at what the records name."""
        raise StoreConflict("the server left a conflict to its client")

    def was_committed(self, oid: bytes, mark: str) -> bool:
        """Return whether a transaction described as ``mark`` wrote the object ``oid``."""
        try:
            found = self._patiently(self.history, oid, REVISIONS)
        except (POSKeyError, KeyError):
            return False
        return any(_text(entry["description"]) == mark for entry in found)

    def _patiently(self, call: Any, *args: Any) -> Any:
        deadline = self._clock.monotonic() + self._patience
        while True:
            try:
                with self._calling():
                    self.request_server()
                    return call(*args)
            except (ClientDisconnected, *OF_A_CLOSED_CACHE) as error:
                if self._server.is_closed() or self._clock.monotonic() > deadline:
                    raise self.unreachable() from error
                if not isinstance(error, ClientDisconnected):
                    raise
                self._clock.sleep(PAUSE)

    def catch_up(self) -> None:
        """Wait until all is known that was committed before this call."""
        # What the server told of others' commits has come before its answer.
        self._patiently(self._call, "ping")

    def unreachable(self) -> ServerError:
        """Return the error for a server that did not come back."""
        problem: MotokoError | None = None
        if self._supervisor is not None:
            problem = self._supervisor.problem
        why = f": {problem.message}" if problem is not None else ""
        waited = f" and did not come back within {self._patience:g} s"
        return ServerError(
            f"the database server at {self._path} has gone"
            f"{'' if self._server.is_closed() else waited}{why}",
            hint="Start again what was interrupted: that starts a server; what was committed is "
            "kept.",
        )


class InspectionStorage(ReconnectingStorage):
    """Reads from the server, and from the database file where the server has gone or hangs.

    ``open_file`` opens the file for reading. Both have every state that a snapshot asks for.
    """

    def __init__(
        self,
        address: str,
        *,
        wait: float,
        open_file: Callable[[], Any],
        clock: Clock = SYSTEM.clock,
    ) -> None:
        self._open_file = open_file
        self._file: Any = None
        self._losses = self._losses_at_opening = 0
        self._hangs = False
        self._reading = threading.Lock()
        super().__init__(address, wait=wait, patience=LOOK_PATIENCE, clock=clock)

    def notify_disconnected(self) -> None:
        """Learn, from ZEO, that the server has gone."""
        super().notify_disconnected()
        self._losses += 1
        self._hangs = False

    def loadBefore(self, oid: bytes, tid: bytes) -> Any:  # noqa: N802 - the name is ZODB's
        """Return an object's state."""
        if self._served():
            with contextlib.suppress(ClientDisconnected):
                return self._cache.loadBefore(oid, tid) or self._ask(
                    self._server.load_before_co(oid, tid, LOOK_PATIENCE)
                )
        with self._reading:
            if self._file is None or self._losses_at_opening != self._losses:
                self._close_file()
                self._losses_at_opening = self._losses
                self._file = self._open_file()
            return self._file.loadBefore(oid, tid)

    def catch_up(self) -> None:
        """Wait until all is known that was committed before this call, if a server answers."""
        if self._served():
            with contextlib.suppress(ClientDisconnected):
                self._ask(self._server.call_sync_co("ping", (), LOOK_PATIENCE))

    def close(self) -> None:
        """Disconnect for good."""
        super().close()
        with self._reading:
            self._close_file()

    def _served(self) -> bool:
        return bool(self.is_connected()) and not self._hangs

    def _ask(self, request: Coroutine[Any, Any, Any]) -> Any:
        # ZEO waits without a limit for the answer of a server that is connected.
        asked = self._server.io_call(request, wait=False)
        try:
            return asked.result(LOOK_PATIENCE)
        except TimeoutError:
            self._hangs = True
            raise ClientDisconnected("the server does not answer") from None

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _text(description: Any) -> str:
    return description.decode() if isinstance(description, bytes) else str(description)
