"""A limit on the time for which one client's commit holds up those of all others."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle

SECONDS: Final = 10.0

log = logging.getLogger("motoko.server.main")


class CommitLimit:
    """Disconnects a client that does not finish its commit, such as one that was stopped.

    The server then aborts the commit. The client repeats it when it is back. ZEO calls ``begin``
    and ``end``, in the server's loop, while a client holds the commit lock. ZEO's own limit
    (``transaction_timeout``) closes the connection but keeps the lock.
    """

    def __init__(self, loop: AbstractEventLoop, seconds: float = SECONDS) -> None:
        self._loop = loop
        self._seconds = seconds
        self._timer: TimerHandle | None = None

    def begin(self, client: Any) -> None:
        """Begin to measure the time of a client."""
        self._timer = self._loop.call_later(self._seconds, self._disconnect, client)

    def end(self, client: Any) -> None:
        """Stop measuring: the client's commit is finished or aborted."""
        assert client is not None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def is_alive(self) -> bool:
        """Return whether the limit is watched over; part of what ZEO reports of a server."""
        return self._loop.is_running()

    def _disconnect(self, client: Any) -> None:
        self._timer = None
        log.warning("a client did not finish its commit within %g s: disconnected", self._seconds)
        client.connection.sm_protocol.transport.abort()
