"""Scopes: the sessions that user code reads and writes through.

In a plain script every call is a transaction. Each segment of an action, from one Motoko await to
the next, is one session. The next turn of the loop commits the writes of ``main``. A context
variable holds the current scope, so that handles need not know where they are used.

The first read in a coroutine may block the event loop. In asyncio's debug mode, a read that blocks
it for longer than BLOCK_SECONDS logs a warning.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Final

from ZODB.POSException import ReadConflictError

from motoko.errors import ConflictError, StateError
from motoko.storage.run_requests import RequestingScope, RequestOrigin, resolve
from motoko.storage.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from motoko.core.changes import Change
    from motoko.core.records import RunKey
    from motoko.core.replay import Call
    from motoko.storage.database import Database
    from motoko.storage.leases import LeaseGuard
    from motoko.storage.run_requests import RunRequest

BLOCK_SECONDS: Final = 0.01

logger = logging.getLogger(__name__)


class Scope(RequestingScope):
    """The interface of all scopes; the defaults suit scopes without transactions of their own.

    ``blind``: writes overwrite concurrent ones. ``fresh``: every read sees the newest commit.
    ``firing``: the key of the firing that an action belongs to.
    """

    blind: bool = False
    event_name: str = ""
    firing: str = ""
    cause: str

    @property
    def database(self) -> Database:
        """Return the scope's database."""
        raise NotImplementedError

    def write(self, *changes: Change) -> None:
        """Apply changes, no later than the scope's next commit."""
        raise NotImplementedError

    def begin_await(self, study: str) -> AwaitRecord:
        """Start a Motoko await on runs of ``study``; StateError in a transaction."""
        del study
        return AwaitRecord()

    async def flush(self) -> None:
        """Commit all writes so far. Every Motoko await starts with this."""

    async def refresh(self) -> None:
        """Make the next read see the newest commit. Every Motoko await ends with this."""

    async def prepare_nested(self) -> None:
        """Prepare ``begin_nested`` off the loop, so that it does not block."""

    def begin_nested(self, *, prepared: bool = False) -> SegmentScope | None:
        """Return a new scope for a transaction in this one, None if it joins this one.

        It blocks unless ``prepare_nested`` was awaited (``prepared``).
        """
        del prepared
        return None

    def on_nested_end(self) -> None:
        """React to the end of a transaction in this scope."""


class AwaitRecord:
    """The record of one Motoko await; without a journal it is empty."""

    async def recorded_call(self) -> Call | None:
        """Return the recorded result if the action is rerun."""
        return None

    def record_result(self, runs: Iterable[RunKey], *, failed: bool = False) -> None:
        """Record the runs that it returned, or raised RunFailed for."""


# -- the current scope -----------------------------------------------------------------------

_current: ContextVar[Scope | None] = ContextVar("motoko_scope", default=None)


def current_scope() -> Scope | None:
    """Return the scope of the running action, ``main`` or transaction."""
    return _current.get()


def scope_of_context(context: Context) -> Scope | None:
    """Return the current scope of code that runs in ``context``."""
    return context.get(_current)


@contextlib.contextmanager
def use_scope(scope: Scope) -> Iterator[None]:
    """Make ``scope`` the current one."""
    token = _current.set(scope)
    try:
        yield
    finally:
        _current.reset(token)


class _Block:
    """A transaction that joined its scope; the tasks that it started may outlive it."""

    open = True


_block: ContextVar[_Block | None] = ContextVar("motoko_block", default=None)


@contextlib.contextmanager
def join_transaction() -> Iterator[None]:
    """Mark a transaction as part of the current scope."""
    block = _Block()
    token = _block.set(block)
    try:
        yield
    finally:
        block.open = False
        _block.reset(token)


def in_joined_transaction() -> bool:
    """Return whether the running code is in a transaction that is part of its scope."""
    block = _block.get()
    return block is not None and block.open


def await_in_transaction_error(study: str) -> StateError:
    """Return the error for a Motoko await in a transaction."""
    return StateError(
        f"runs of {study} are awaited inside of a transaction, which is one commit",
        hint="Runs are executed only once they are committed: await them after the block.",
    )


# -- reading ---------------------------------------------------------------------------------


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Translate errors of a lost snapshot; report a blocked event loop in debug mode."""
    loop = _debugged_loop()
    started = 0.0 if loop is None else loop.time()
    try:
        yield
    except ReadConflictError as error:
        raise ConflictError(
            "the database was packed, and the snapshot of this transaction is lost",
            hint="Decorate the action with @event: then it is run again on fresh data.",
        ) from error
    finally:
        if loop is not None and (blocked := loop.time() - started) > BLOCK_SECONDS:
            logger.warning(
                "The event loop was blocked for %d ms by reading the workflow's database at %s; "
                "await the runs first, or read in a thread",
                blocked * 1000, _user_location(),
            )  # fmt: skip


def _debugged_loop() -> asyncio.AbstractEventLoop | None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return loop if loop.get_debug() else None


def _user_location() -> str:
    """Return file and line of the code that called Motoko."""
    frame = sys._getframe()  # noqa: SLF001 - inspect reads source files
    while frame.f_back is not None:
        name = frame.f_globals.get("__name__", "")
        if not name.startswith(("motoko.", "contextlib")):
            break
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


# -- scopes ----------------------------------------------------------------------------------


class AutocommitScope(Scope):
    """Every call is a transaction; threads take turns."""

    blind = True
    fresh = True
    splits = True

    def __init__(self, connect: Callable[[], Database], *, cause: str = "user") -> None:
        self.origin = RequestOrigin("a script")
        self._connect = connect
        self._lock = threading.RLock()
        self._session: Session | None = None
        self._readers = 0
        self.cause = cause

    @property
    def database(self) -> Database:
        """Return the database, connecting at the first use."""
        return self._connect()

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """Yield the session with a fresh snapshot."""
        with _reading(), self._lock:
            if self._session is None:
                self._session = Session(self.database)
            elif not self._readers:
                self._session.refresh()
            self._readers += 1
            try:
                yield self._session
            finally:
                self._readers -= 1

    def write(self, *changes: Change) -> None:
        """Commit these changes at once."""
        with self._committed() as session:
            for change in changes:
                session.add(change)

    def enqueue(self, request: RunRequest) -> None:
        """Resolve and commit the request at once."""
        with self._lock:
            with self._committed() as session:
                resolve(session, [request])
            request.on_committed(session)

    @contextlib.contextmanager
    def _committed(self) -> Iterator[Session]:
        with self.read() as session:
            try:
                yield session
                self.database.submit(session.commit).result()
            except BaseException:
                session.refresh()
                raise

    def begin_nested(self, *, prepared: bool = False) -> SegmentScope | None:
        """Return a scope for a transaction."""
        return SegmentScope(self.database, cause=self.cause)

    def close(self) -> None:
        """Close the session."""
        with self._lock:
            if self._session is not None:
                self._session.close()
                self._session = None


class SegmentScope(Scope):
    """One session from one Motoko await to the next, in actions and transactions.

    ``before_commit`` adds changes that belong to the same commit: a firing's record.
    """

    fresh = False

    def __init__(
        self,
        database: Database,
        *,
        cause: str,
        event_name: str = "",
        guard: LeaseGuard | None = None,
        before_commit: Callable[[Session, bool], None] | None = None,
        origin: RequestOrigin | None = None,
    ) -> None:
        self.origin = RequestOrigin("a transaction") if origin is None else origin
        self.cause = cause
        self.event_name = event_name
        self._database = database
        self._guard = guard
        self.before_commit = before_commit
        self._session: Session | None = None
        self.snapshot_number = 0
        self._requests: list[RunRequest] = []
        self._resolved: list[RunRequest] = []
        self._lock = threading.RLock()

    @property
    def database(self) -> Database:
        """Return the scope's database."""
        return self._database

    @property
    def session(self) -> Session:
        """Return the segment's session, opened at its first use."""
        if self._session is None:
            self.snapshot_number = self.database.feed.number
            self._session = Session(self.database, guard=self._guard, source=self)
        return self._session

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """Resolve all requests so far, and yield the session."""
        with _reading(), self._lock:
            if self._session is not None and self.blind and not self._session.pending:
                self._session.refresh()
            self._resolve()
            yield self.session

    def write(self, *changes: Change) -> None:
        """Add changes to the segment's commit."""
        with self._lock:
            self._resolve()
            for change in changes:
                self.session.add(change)

    def enqueue(self, request: RunRequest) -> None:
        """Add a request. The first read or the commit resolves it."""
        with self._lock:
            self._requests.append(request)

    def _resolve(self) -> None:
        requests, self._requests = self._requests, []
        if requests:
            resolve(self.session, requests)
            self._resolved += requests

    def begin_await(self, study: str) -> AwaitRecord:
        """Raise StateError: a transaction is one commit."""
        raise await_in_transaction_error(study)

    async def flush(self) -> None:
        """Commit the segment. The next one gets a fresh snapshot at its first use."""
        await self.finish(last=False)

    async def refresh(self) -> None:
        """Commit what other tasks of this scope wrote meanwhile, to drop the snapshot."""
        if self._session is not None or self._requests:
            await self.flush()

    async def finish(self, *, last: bool) -> None:
        """Commit the segment off the loop. ``last``: it is the final one."""
        from motoko.storage.threads import run_in_committer, run_in_thread

        if self._requests:
            await run_in_thread(self._resolve_all)
        await run_in_committer(self.database, lambda: self.commit(last=last))

    def _resolve_all(self) -> None:
        with self._lock:
            self._resolve()

    def commit(self, *, last: bool) -> None:
        """Commit the segment; call it in the committer thread."""
        with self._lock:
            try:
                self._resolve()
                if self._session is None and self.before_commit is None:
                    return
                session = self.session
                if self.before_commit is not None:
                    self.before_commit(session, last)
                session.commit()
                resolved, self._resolved = self._resolved, []
                for request in resolved:
                    request.on_committed(session)
            finally:
                self.close()
        self.origin.notify()

    def close(self) -> None:
        """Drop uncommitted changes and close the session."""
        with self._lock:
            for request in (*self._requests, *self._resolved):
                request.on_dropped()
            self._requests = []
            self._resolved = []
            if self._session is not None:
                self._session.close()
                self._session = None
