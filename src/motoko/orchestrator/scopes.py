"""The scopes of an orchestrator: ``main``, whose writes are committed by the next turn of the loop,
and actions, each stretch of which is one commit with the record of its firing.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

from motoko.errors import ConflictError, EventError
from motoko.runtime import faults
from motoko.storage.off_loop import in_committer, in_thread
from motoko.storage.requests import Origin
from motoko.storage.scope import StretchScope
from motoko.storage.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from motoko.core.changes import Change
    from motoko.storage.database import Database
    from motoko.storage.requests import Request
    from motoko.storage.session import Guard


class RunAgain(asyncio.CancelledError):
    """Unwinds an ``@event`` action that met a conflict, like a cancellation: it is called again."""


class ActionScope(StretchScope):
    """The scope of one execution of an action."""

    def __init__(
        self,
        database: Database,
        *,
        cause: str,
        event_name: str,
        guard: Guard | None,
        origin: Origin,
        repeatable: bool,
        on_commit: Callable[[], None],
    ) -> None:
        super().__init__(database, cause=cause, event_name=event_name, guard=guard, origin=origin)
        self._repeatable = repeatable
        self._on_commit = on_commit
        self.finish_requested = False
        self.owner = ""
        self.problem: ConflictError | RunAgain | None = None
        self.unwind: Callable[[], object] = lambda: None

    def request_finish(self) -> None:
        """Have the workflow end with this stretch's commit."""
        self.finish_requested = True

    @contextlib.contextmanager
    def view(self) -> Iterator[Session]:
        """Lend the session, with all requests so far resolved."""
        self._check_going()
        with super().view() as session:
            yield session

    def write(self, *changes: Change) -> None:
        """Add changes to the stretch's commit."""
        self._check_going()
        super().write(*changes)

    def defer(self, request: Request) -> None:
        """Note a request; it is resolved at the first read or with the commit."""
        self._check_going()
        super().defer(request)

    async def settle(self) -> None:
        """Commit the stretch; a conflict has an ``@event`` action run again from its start."""
        self._check_going()
        try:
            await self.finish(last=False)
        except ConflictError as error:
            self.problem = error
            if not self._repeatable:
                raise
            # Other awaits of this action wait for runs that will never be: all of it unwinds.
            self.unwind()
            raise RunAgain from None
        self._on_commit()

    async def finish(self, *, last: bool) -> None:
        """Commit the stretch off the loop. ``last``: it is the final one."""
        self._check_going()
        await super().finish(last=last)

    def _check_going(self) -> None:
        # What is left of a call that met a conflict must neither write nor be taken for done.
        if self.problem is not None:
            raise RunAgain if self._repeatable else self.problem

    def commit(self, *, last: bool) -> None:
        """Commit the stretch; call it in the committer thread."""
        faults.point("orchestrator.before_commit")
        super().commit(last=last)
        faults.point("orchestrator.after_commit")


class AskingScope:
    """What conditions read through: one session for all of them, and nothing to write with.

    Threads take turns for the time of a read; what they are lent is as fresh as can be.
    """

    blind = False
    fresh = True
    cause = "condition"
    event_name = "condition"

    def __init__(self, database: Database) -> None:
        self.origin = Origin("a condition")
        self._database = database
        self._session: Session | None = None
        self._lock = threading.RLock()
        self._lent = 0

    @property
    def database(self) -> Database:
        """Return the workflow's database."""
        return self._database

    @contextlib.contextmanager
    def view(self) -> Iterator[Session]:
        """Lend the session with a fresh snapshot."""
        with self._lock:
            if self._session is None:
                self._session = Session(self._database)
            elif not self._lent:
                self._session.refresh()
            self._lent += 1
            try:
                yield self._session
            finally:
                self._lent -= 1

    def write(self, *_changes: Change) -> None:
        """Refuse: a condition only reads."""
        raise EventError(
            "a condition wrote to the workflow's database",
            hint="Conditions may be asked at any time and any number of times: write in actions.",
        )

    def defer(self, _request: Request) -> None:
        """Refuse: a condition only reads."""
        self.write()

    async def settle(self) -> None:
        """Do nothing: there is nothing to commit."""

    async def renew(self) -> None:
        """Do nothing: every read is fresh."""

    def nested(self) -> None:
        """Return None: there is nothing to commit."""

    def was_joined(self) -> None:
        """Do nothing: nothing was written."""

    def close(self) -> None:
        """Give the session back."""
        with self._lock:
            if self._session is not None:
                self._session.close()
                self._session = None


class MainScope(StretchScope):
    """The scope of ``main``: what it writes is committed by the next turn of the loop."""

    def __init__(
        self,
        database: Database,
        *,
        guard: Guard | None,
        on_commit: Callable[[], None],
    ) -> None:
        super().__init__(
            database, cause="main", event_name="main", guard=guard, origin=Origin("main")
        )
        self.blind = True
        self.finish_requested = False
        self.owner = "main"
        self._loop = asyncio.get_running_loop()
        self._on_commit = on_commit
        self._scheduled = False
        self._flushes: list[Future[None]] = []

    def write(self, *changes: Change) -> None:
        """Add changes to the next commit."""
        super().write(*changes)
        self._schedule()

    def defer(self, request: Request) -> None:
        """Note a request; it is committed by the next turn of the loop."""
        super().defer(request)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon_threadsafe(self._flush)

    def request_finish(self) -> None:
        """Have the workflow end with the next commit."""
        self.finish_requested = True
        self._schedule()

    def _flush(self) -> None:
        self._scheduled = False
        flush = self.database.submit(lambda: self.commit(last=False))
        self._flushes.append(flush)
        flush.add_done_callback(self._flushed)

    def _flushed(self, flush: Future[None]) -> None:
        if flush.exception() is None:
            self._loop.call_soon_threadsafe(self._on_commit)

    async def settle(self) -> None:
        """Wait for all that was written; a failed commit is raised here."""
        while self._flushes:
            flush = self._flushes.pop(0)
            await in_thread(flush.result)
        await in_committer(self.database, lambda: self.commit(last=False))
        self._on_commit()

    def nested(self) -> StretchScope:
        """Return a scope for a transaction, after all that was written so far is committed."""
        self.database.submit(lambda: self.commit(last=False)).result()
        return StretchScope(
            self.database, cause=self.cause, event_name=self.event_name, guard=self._guard
        )

    def was_joined(self) -> None:
        """Have the events look at what a transaction has committed."""
        self._on_commit()

    def commit(self, *, last: bool) -> None:
        """Commit what was written; call it in the committer thread."""
        faults.point("main.before_commit")
        super().commit(last=last)
        faults.point("main.after_commit")
