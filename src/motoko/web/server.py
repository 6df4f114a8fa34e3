"""Run the application on a socket until a signal, and end its streams at once then."""

from __future__ import annotations

import contextlib
import logging
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread
import uvicorn

from motoko.server.state_dir_guard import CHECK_SECONDS, StateDirGuard
from motoko.web.protocol import Connection

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from anyio.abc import TaskStatus
    from starlette.types import ASGIApp

    from motoko.server.state_dir import StateDir
    from motoko.web.listening import Listener
    from motoko.web.streams import EventStreams

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HEADER_BYTES: Final = 64 * 1024
KEEP_ALIVE_SECONDS: Final = 30
GRACE_SECONDS: Final = 2  # for responses that are being sent when the server stops

log = logging.getLogger("motoko.web")


class _Server(uvicorn.Server):
    """A server whose caller handles signals, and learns when it accepts connections."""

    def __init__(self, app: ASGIApp, ready: Callable[[], object]) -> None:
        super().__init__(_config(app))
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen."""
        await super().startup(sockets)
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


@dataclass(slots=True)
class WebServer:
    """Serves ``app`` within the context ``background``; calls ``ready`` once it can be reached."""

    app: ASGIApp
    streams: EventStreams
    state: StateDir
    ready: Callable[[], object] = lambda: None
    background: Callable[[], AbstractAsyncContextManager[object]] = contextlib.nullcontext

    def run(self, listener: Listener) -> None:
        """Serve until SIGINT, SIGTERM or SIGHUP, or until the workflow is moved."""
        anyio.run(self._run, listener)

    async def _run(self, listener: Listener) -> None:
        server = _Server(self.app, self.ready)
        guard = StateDirGuard.of(self.state)
        async with self.background():
            try:
                async with anyio.create_task_group() as tasks:
                    await tasks.start(self._handle_signals, server)
                    tasks.start_soon(self._watch_directory, server, guard)
                    await server.serve([listener.socket])
                    tasks.cancel_scope.cancel()
            except ExceptionGroup as group:
                raise group.exceptions[0] from None
        guard.check()

    async def _handle_signals(
        self, server: uvicorn.Server, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Stop at the first signal; at the second one without waiting for responses."""
        # nohup ignores SIGHUP, and a shell without job control ignores SIGINT.
        heeded = [one for one in SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]
        with anyio.open_signal_receiver(*heeded) as signals:
            task_status.started()
            async for _ in signals:
                server.force_exit = server.should_exit
                self._stop(server)

    async def _watch_directory(self, server: uvicorn.Server, guard: StateDirGuard) -> None:
        while True:
            await anyio.sleep(CHECK_SECONDS)
            # In a thread: a file system may hang.
            if await anyio.to_thread.run_sync(guard.is_replaced, abandon_on_cancel=True):
                self._stop(server)

    def _stop(self, server: uvicorn.Server) -> None:
        self.streams.close()
        server.should_exit = True


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Connection,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level=logging.CRITICAL,  # the application logs its own errors
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        h11_max_incomplete_event_size=HEADER_BYTES,
    )
