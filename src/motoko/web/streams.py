"""Streams of server-sent events: bounded in number, ended at once when the server stops."""

from __future__ import annotations

import re
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio
from starlette.exceptions import HTTPException
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from starlette.types import Receive, Scope, Send

KEEP_ALIVE_SECONDS: Final = 15.0
KEEP_ALIVE: Final = ":\n\n"  # a comment
MEDIA_TYPE: Final = "text/event-stream"
_LINE_END: Final = re.compile("\r\n|\r|\n")


def event_text(data: str, *, name: str | None = None, number: str | None = None) -> str:
    """Return one event in the format of a stream."""
    head = [f"event: {name}"] if name is not None else []
    head += [f"id: {number}"] if number is not None else []
    return "\n".join([*head, *(f"data: {line}" for line in _LINE_END.split(data)), "", ""])


@dataclass(slots=True)
class EventStreams:
    """The open streams of one server."""

    limit: int
    open: int = 0
    _closing: bool = False
    _scopes: set[anyio.CancelScope] = field(default_factory=set)

    def respond(self, events: Callable[[], AsyncGenerator[str]]) -> Response:
        """Return a response that sends the events, each in the format of ``event_text``.

        It ends when the generator, the client or the server does. Raise HTTPException 503 if too
        many streams are open.
        """
        if self.open >= self.limit or self._closing:
            raise HTTPException(503, headers={"Retry-After": "5"})
        return _Stream(self, events)

    def close(self) -> None:
        """End all streams, and refuse new ones."""
        self._closing = True
        for scope in self._scopes:
            scope.cancel()


class _Stream(Response):
    media_type = MEDIA_TYPE

    def __init__(self, streams: EventStreams, events: Callable[[], AsyncGenerator[str]]) -> None:
        # A proxy must not buffer the events.
        super().__init__(headers={"X-Accel-Buffering": "no", "Cache-Control": "no-store"})
        del self.headers["content-length"]
        self._streams = streams
        self._events = events
        self._quiet = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        if scope["method"] == "HEAD":
            await send(start)
            await send(_body("", more=False))
            return
        self._streams.open += 1
        try:
            async with anyio.create_task_group() as tasks:
                self._streams._scopes.add(tasks.cancel_scope)  # noqa: SLF001 - of this module
                tasks.start_soon(self._wait_for_disconnect, receive, tasks.cancel_scope)
                await send(start)
                tasks.start_soon(self._keep_alive, send)
                async with aclosing(self._events()) as events:
                    async for text in events:
                        self._quiet = False
                        await send(_body(text, more=True))
                tasks.cancel_scope.cancel()
        finally:
            self._streams._scopes.discard(tasks.cancel_scope)  # noqa: SLF001
            self._streams.open -= 1
        await send(_body("", more=False))

    async def _keep_alive(self, send: Send) -> None:
        """Send comments while nothing else is sent: proxies close silent connections."""
        while True:
            await anyio.sleep(KEEP_ALIVE_SECONDS)
            if self._quiet:
                await send(_body(KEEP_ALIVE, more=True))
            self._quiet = True

    @staticmethod
    async def _wait_for_disconnect(receive: Receive, scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()


def _body(text: str, *, more: bool) -> dict[str, object]:
    return {"type": "http.response.body", "body": text.encode(errors="replace"), "more_body": more}
