"""The HTTP connections of the server: bounded in number and in the time that a client may take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from motoko.web.headers import secured

if TYPE_CHECKING:
    import asyncio

MAX_CONNECTIONS: Final = 256
REQUEST_SECONDS: Final = 30.0  # for a whole request, from its connection or first byte
WRITE_SECONDS: Final = 30.0  # until a client has read enough of a response
INCOMPLETE: Final = (h11.IDLE, h11.SEND_BODY)


class Connection(H11Protocol):
    """A connection that is aborted if its client is stuck, so that it keeps no resources."""

    request_seconds = REQUEST_SECONDS
    write_seconds = WRITE_SECONDS
    max_connections = MAX_CONNECTIONS

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._request_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, unless too many are open."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.abort()
        else:
            self._watch_request()

    def data_received(self, data: bytes) -> None:
        """Handle a part of a request."""
        super().data_received(data)
        if self.conn.their_state in INCOMPLETE:
            self._watch_request()
        else:
            self._stop_request_timer()

    def on_response_complete(self) -> None:
        """Handle the next request, or wait for it."""
        self._stop_request_timer()
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:  # the response preceded the whole request
            self._watch_request()

    def pause_writing(self) -> None:
        """Give the client some time to read."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Continue after the client has read."""
        self._stop_write_timer()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._stop_request_timer()
        self._stop_write_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer an invalid request."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        response = h11.Response(status_code=400, headers=secured(headers), reason=b"Bad Request")
        for event in (response, h11.Data(data=msg.encode()), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _watch_request(self) -> None:
        """Abort the connection if its request remains incomplete; more bytes give no more time."""
        if self._request_timer is None:
            self._request_timer = self.loop.call_later(self.request_seconds, self.transport.abort)

    def _stop_request_timer(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
