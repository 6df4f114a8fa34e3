"""A connection for reading that follows a workflow for days: its server may come and go."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from motoko.config import load_workflow
from motoko.errors import NoDatabaseError, StorageError
from motoko.launcher.config_reload import ConfigReloader
from motoko.server.lifecycle import is_responding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from motoko.api.workflow import Workflow
    from motoko.storage.feed import CommitNotice
    from motoko.storage.session import Session
    from motoko.storage.store import WorkflowStore

RELOAD_SECONDS: Final = 2.0  # between two looks at the configuration's files
SERVER_SECONDS: Final = 1.0  # between two questions whether a server has started


class ReadConnection:
    """Reads through the server while one responds, and from the file without one.

    Call it from one thread at a time. ``on_commit`` is called in another thread after each commit
    that the server reports. ``generation`` counts the connections. With ``reopen``, ``workflow`` is
    replaced when its configuration has changed; an invalid one changes nothing.
    """

    def __init__(
        self,
        workflow: Workflow,
        on_commit: Callable[[], object] = lambda: None,
        *,
        reopen: Callable[[], Workflow] | None = None,
    ) -> None:
        self.workflow = workflow
        self.generation = 0
        self._reopen = reopen
        self._reloader = self._new_reloader()
        self._reloaded = workflow.store.clock.monotonic()
        self._on_commit = on_commit
        self._stamp: tuple[int, int, int] | None = None
        self._asked = -SERVER_SECONDS
        self._unsubscribe: Callable[[], None] = lambda: None

    @property
    def is_served(self) -> bool:
        """Whether a server is connected."""
        return self._store.connected and self._store.database.is_served

    @property
    def _store(self) -> WorkflowStore:
        return self.workflow.store

    def _new_reloader(self) -> ConfigReloader[Workflow]:
        path, reopen = self.workflow.config_path, self._reopen
        return ConfigReloader(
            self.workflow.config,
            lambda: load_workflow(Path(path), tolerant=True),
            lambda _: self.workflow if reopen is None else reopen(),
            self._store.clock,
        )

    def _reload(self) -> None:
        """Replace the workflow if its configuration has changed."""
        now = self._store.clock.monotonic()
        if self._reopen is None or now - self._reloaded < RELOAD_SECONDS:
            return
        self._reloaded = now
        changed = self._reloader.check()
        if changed is not None:
            self.close()
            self.workflow = changed

    @contextlib.contextmanager
    def read(self) -> Iterator[Session | None]:
        """Yield a session with a fresh snapshot, None without a database."""
        self._connect()
        if not self._store.connected:
            yield None
            return
        with self._store.autocommit_scope.read() as session:
            yield session

    def _connect(self) -> None:
        """Connect, or connect again if the server has exited or started, or the file has grown."""
        self._reload()
        store = self._store
        if store.connected:
            if store.database.is_served or not self._has_news():
                return
            self.close()
        try:
            self._stamp = self._file_stamp()
            database = store.database
            database.catch_up()
        except NoDatabaseError:
            return
        self.generation += 1
        self._unsubscribe = database.feed.subscribe(self._notify)

    def _has_news(self) -> bool:
        now = self._store.clock.monotonic()
        if now - self._asked < SERVER_SECONDS:
            return False
        self._asked = now
        return self._file_stamp() != self._stamp or is_responding(self._store.state)

    def _file_stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self._store.state.database.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"{self._store.state.database} cannot be read: {error}") from error
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _notify(self, _: CommitNotice) -> None:
        self._on_commit()

    def close(self) -> None:
        """Disconnect; the next read connects again."""
        self._unsubscribe()
        self._store.close()
