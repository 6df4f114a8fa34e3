"""Whoever uses a server that has gone starts it again.

A server that was stopped on purpose stays stopped until somebody needs it: a call that waits for
it, or a new client.
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

GRACE: Final = 0.1  # seconds that a client may be without a server before one is started
CONNECT_SECONDS: Final = 1.0  # for a client to reach a server that runs
LOOK: Final = 0.02
LAST_PAUSE: Final = 5.0


class SupervisedClient(Protocol):
    """What is supervised: one client of the server."""

    def is_connected(self) -> bool:
        """Return whether requests reach the server."""
        ...

    def reconnect(self, address: str) -> None:
        """Look for the server at this address, now."""
        ...

    def close(self) -> None:
        """Disconnect for good."""
        ...


class ServerWatchdog:
    """Starts the server of one workflow again, in a thread that lives while it is gone."""

    def __init__(self, state: StateDir, *, clock: Clock = SYSTEM.clock) -> None:
        self._clock = clock
        self._state = state
        self._home = StateDirGuard.of(state)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._wanted = False
        self.problem: MotokoError | None = None

    def on_disconnected(self, client: SupervisedClient) -> None:
        """Note that the client has lost the server."""
        self._watch(client, wanted=False)

    def request(self, client: SupervisedClient) -> None:
        """Note that somebody waits for the server, even if it was stopped on purpose."""
        self._watch(client, wanted=True)

    def on_connected(self) -> None:
        """Note that the client has reached a server, so that nobody waits for one any more."""
        with self._lock:
            self._wanted = False

    def close(self) -> None:
        """Start nothing any more."""
        self._closed.set()

    def _watch(self, client: SupervisedClient, *, wanted: bool) -> None:
        with self._lock:
            self._wanted = self._wanted or wanted
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(
                    target=self._bring_back, args=(client,), name="motoko-supervisor", daemon=True
                )
                self._thread.start()

    def _bring_back(self, client: SupervisedClient) -> None:
        pause = failing = GRACE
        while not self._closed.wait(pause):
            self._give_up(client)
            with self._lock:
                if client.is_connected() or not self._needed():
                    self._wanted = False
                    self._thread = None
                    return
            if self._start():
                client.reconnect(str(self._state.socket()))
                self._wait_for(client)
                pause = failing = 0.0
            else:
                pause = failing = min(max(2 * failing, GRACE), LAST_PAUSE)

    def _give_up(self, client: SupervisedClient) -> None:
        """Disconnect for good where the directory is gone: then nobody waits for its server."""
        lost = None if client.is_connected() else self._home.missing_error()
        if lost is not None:
            self.problem = lost
            client.close()

    def _wait_for(self, client: SupervisedClient) -> None:
        deadline = self._clock.monotonic() + CONNECT_SECONDS
        while not (client.is_connected() or self._clock.monotonic() > deadline):
            if self._closed.wait(LOOK):
                return

    def _needed(self) -> bool:
        if self._closed.is_set() or not self._state.path.exists():
            return False
        return self._wanted or not self._state.stop_marker.exists()

    def _start(self) -> bool:
        try:
            started = ensure_server(self._state, needed=self._needed, clock=self._clock)
        except (MotokoError, OSError) as error:
            problem = error if isinstance(error, MotokoError) else MotokoError(str(error))
            if self.problem is None:
                log.warning("the database server has gone: %s", problem)
            self.problem = problem
            return False
        self.problem = None
        if started:
            log.warning("the database server had gone; it was started again")
        return True
