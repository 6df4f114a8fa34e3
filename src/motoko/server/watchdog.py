"""Restart the database server for its clients.

A server that was stopped on purpose stays stopped until a call waits for it, or a client connects.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final, Protocol

from motoko.errors import MotokoError
from motoko.runtime.ports import SYSTEM
from motoko.server.lifecycle import ensure_server
from motoko.server.state_dir_guard import StateDirGuard

if TYPE_CHECKING:
    from motoko.runtime.ports import Clock
    from motoko.server.state_dir import StateDir

log = logging.getLogger(__name__)

GRACE: Final = 0.1  # seconds for which a client may be without a server before one is started
CONNECT_SECONDS: Final = 1.0  # for a client to reach a running server
CONNECT_POLL: Final = 0.02
MAX_PAUSE: Final = 5.0


class SupervisedClient(Protocol):
    """A client of the server, for the watchdog."""

    def is_connected(self) -> bool:
        """Return whether requests reach the server."""

    def reconnect(self, address: str) -> None:
        """Try to reach the server at this address now."""

    def close(self) -> None:
        """Disconnect permanently."""


class ServerWatchdog:
    """Restarts the server of one workflow, in a thread that runs while the server is down."""

    def __init__(self, state: StateDir, *, clock: Clock = SYSTEM.clock) -> None:
        self._clock = clock
        self._state = state
        self._directory = StateDirGuard.of(state)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._requested = False
        self.problem: MotokoError | None = None

    def on_disconnected(self, client: SupervisedClient) -> None:
        """Restart the server for a disconnected client, unless it was stopped on purpose."""
        self._watch(client, requested=False)

    def request(self, client: SupervisedClient) -> None:
        """Restart the server for a waiting call, even if it was stopped on purpose."""
        self._watch(client, requested=True)

    def on_connected(self) -> None:
        """Drop the request: the client has reached a server."""
        with self._lock:
            self._requested = False

    def close(self) -> None:
        """Stop restarting the server."""
        self._closed.set()

    def _watch(self, client: SupervisedClient, *, requested: bool) -> None:
        with self._lock:
            self._requested = self._requested or requested
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(
                    target=self._restart, args=(client,), name="motoko-watchdog", daemon=True
                )
                self._thread.start()

    def _restart(self, client: SupervisedClient) -> None:
        pause = GRACE
        while not self._closed.wait(pause):
            self._check_directory(client)
            with self._lock:
                if client.is_connected() or not self._is_needed():
                    self._requested = False
                    self._thread = None
                    return
            if self._start():
                client.reconnect(str(self._state.socket()))
                self._await_connection(client)
                pause = 0.0
            else:
                pause = min(max(2 * pause, GRACE), MAX_PAUSE)

    def _check_directory(self, client: SupervisedClient) -> None:
        """Disconnect the client permanently if the state directory was moved or removed."""
        error = None if client.is_connected() else self._directory.missing_error()
        if error is not None:
            self.problem = error
            client.close()

    def _await_connection(self, client: SupervisedClient) -> None:
        deadline = self._clock.monotonic() + CONNECT_SECONDS
        while not (client.is_connected() or self._clock.monotonic() > deadline):
            if self._closed.wait(CONNECT_POLL):
                return

    def _is_needed(self) -> bool:
        if self._closed.is_set() or not self._state.path.exists():
            return False
        return self._requested or not self._state.stop_marker.exists()

    def _start(self) -> bool:
        try:
            started = ensure_server(self._state, needed=self._is_needed, clock=self._clock)
        except (MotokoError, OSError) as error:
            problem = error if isinstance(error, MotokoError) else MotokoError(str(error))
            if self.problem is None:
                log.warning("the database server exited, and cannot be started: %s", problem)
            self.problem = problem
            return False
        self.problem = None
        if started:
            log.warning("the database server had exited; it was restarted")
        return True
