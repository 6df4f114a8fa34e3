"""Scopes: where what user code reads and writes goes.

A *scope* lends user code a session. In a plain script every call is a transaction of its own; an
action has one session for each stretch between Motoko's awaits; ``main`` has its writes committed
by the next turn of the loop. The current scope is found through a context variable, so that handles
need not know where they are used.
"""

from __future__ import annotations

import contextlib
import threading
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Protocol

from ZODB.POSException import ReadConflictError

from motoko.errors import ConflictError, StateError
from motoko.storage.run_requests import RequestOrigin, resolve
from motoko.storage.session import LeaseGuard, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from motoko.core.changes import Change
    from motoko.core.records import RunKey
    from motoko.core.replay import Call
    from motoko.storage.database import Database
    from motoko.storage.run_requests import RunRequest


class Scope(Protocol):
    """What user code reads and writes through.

    ``fresh``: every read sees all that is committed by then.
    """

    blind: bool
    fresh: bool
    cause: str
    event_name: str
    origin: RequestOrigin

    @property
    def database(self) -> Database:
        """Return the database that this scope belongs to."""
        ...

    def read(self) -> AbstractContextManager[Session]:
        """Lend the session for reading; it shows this scope's own writes."""
        ...

    def write(self, *changes: Change) -> None:
        """Have these changes made."""
        ...

    def enqueue(self, request: RunRequest) -> None:
        """Have a request resolved, at the latest with the scope's next commit."""
        ...

    def begin_await(self, study: str) -> AwaitRecord:
        """Note that a Motoko await on runs of ``study`` begins; StateError in a transaction."""
        ...

    async def flush(self) -> None:
        """Commit what was written so far: what every Motoko await begins with."""
        ...

    async def refresh(self) -> None:
        """Have the next read see all that is committed: what every Motoko await ends with."""
        ...

    async def prepare_nested(self) -> None:
        """Do beforehand, off the loop, what ``nested`` would block for."""
        ...

    def begin_nested(self, *, prepared: bool = False) -> SegmentScope | None:
        """Return a new scope for a transaction in this one, None if it joins this one.

        It blocks unless ``prepare_nested`` was awaited (``prepared``).
        """
        ...

    def on_nested_end(self) -> None:
        """Note that a transaction in this scope has ended."""
        ...


class AwaitRecord:
    """One Motoko await, as far as its scope is concerned: nothing is known of it, or kept."""

    async def recorded_call(self) -> Call | None:
        """Return what is on record of it where its action is rerun."""
        return None

    def record_result(self, runs: Iterable[RunKey], *, failed: bool = False) -> None:
        """Note which runs it returned, or raised RunFailed for."""


_current: ContextVar[Scope | None] = ContextVar("motoko_scope", default=None)


def current_scope() -> Scope | None:
    """Return the scope that the running action, ``main`` or transaction has set."""
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
    """A transaction that joined its scope; tasks that it started may outlive it."""

    open = True


_block: ContextVar[_Block | None] = ContextVar("motoko_block", default=None)


@contextlib.contextmanager
def join_transaction() -> Iterator[None]:
    """Note that a transaction is part of the current scope."""
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
    """Return the error for a Motoko await inside of a transaction."""
    return StateError(
        f"runs of {study} are awaited inside of a transaction, which is one commit",
        hint="Runs are executed only once they are committed: await them after the block.",
    )


@contextlib.contextmanager
def _snapshot_kept() -> Iterator[None]:
    try:
        yield
    except ReadConflictError as error:
        raise ConflictError(
            "the database was packed, and what this transaction would read is gone",
            hint="Decorate the action with @event: then it is run again on fresh data.",
        ) from error


class AutocommitScope:
    """Every call is a transaction of its own; threads take turns."""

    blind = True
    fresh = True
    event_name = ""

    def __init__(self, connect: Callable[[], Database], *, cause: str = "user") -> None:
        self.origin = RequestOrigin("a script")
        self._connect = connect
        self._lock = threading.RLock()
        self._session: Session | None = None
        self._lent = 0
        self.cause = cause

    @property
    def database(self) -> Database:
        """Return the database, connecting at the first use."""
        return self._connect()

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """Lend the session with a fresh snapshot."""
        with self._lock:
            if self._session is None:
                self._session = Session(self.database)
            elif not self._lent:
                self._session.refresh()
            self._lent += 1
            try:
                with _snapshot_kept():
                    yield self._session
            finally:
                self._lent -= 1

    def write(self, *changes: Change) -> None:
        """Commit these changes at once."""
        with self.read() as session:
            try:
                for change in changes:
                    session.add(change)
                self.database.submit(session.commit).result()
            except BaseException:
                session.refresh()
                raise

    def enqueue(self, request: RunRequest) -> None:
        """Resolve and commit the request at once."""
        with self.read() as session:
            try:
                resolve(session, [request])
                self.database.submit(session.commit).result()
            except BaseException:
                session.refresh()
                raise
            request.on_committed(session)

    def begin_await(self, study: str) -> AwaitRecord:
        """Do nothing: a script is not rerun."""
        del study
        return AwaitRecord()

    async def flush(self) -> None:
        """Do nothing: everything is committed already."""

    async def refresh(self) -> None:
        """Do nothing: every read is fresh."""

    async def prepare_nested(self) -> None:
        """Do nothing: everything is committed already."""

    def begin_nested(self, *, prepared: bool = False) -> SegmentScope:
        """Return a scope for a transaction."""
        return SegmentScope(self.database, cause=self.cause)

    def on_nested_end(self) -> None:
        """Do nothing: there is nobody to tell."""

    def close(self) -> None:
        """Give the session back."""
        with self._lock:
            if self._session is not None:
                self._session.close()
                self._session = None


class SegmentScope:
    """One session from one Motoko await to the next: actions and transactions.

    ``before_commit`` adds what must be in the same commit: a firing's record.
    """

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
        self.blind = False
        self.fresh = False
        self.origin = RequestOrigin("a transaction") if origin is None else origin
        self.cause = cause
        self.event_name = event_name
        self.database = database
        self._guard = guard
        self.before_commit = before_commit
        self._session: Session | None = None
        self.since = 0
        self._requests: list[RunRequest] = []
        self._resolved: list[RunRequest] = []
        self._lock = threading.RLock()

    @property
    def session(self) -> Session:
        """Return the stretch's session, opened at its first use."""
        if self._session is None:
            self.since = self.database.feed.number
            self._session = Session(self.database, guard=self._guard, source=self)
        return self._session

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """Lend the session, with all requests so far resolved."""
        with self._lock:
            if self._session is not None and self.blind and not self._session.pending:
                self._session.refresh()
            with _snapshot_kept():
                self._resolve()
                yield self.session

    def write(self, *changes: Change) -> None:
        """Add changes to the stretch's commit."""
        with self._lock:
            self._resolve()
            for change in changes:
                self.session.add(change)

    def enqueue(self, request: RunRequest) -> None:
        """Note a request; it is resolved at the first read or with the commit."""
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
        """Commit the stretch; the next one begins with a fresh snapshot when it is needed."""
        await self.finish(last=False)

    async def refresh(self) -> None:
        """Commit what others wrote in this scope meanwhile, so that the snapshot can go."""
        if self._session is not None or self._requests:
            await self.flush()

    async def prepare_nested(self) -> None:
        """Do nothing: a transaction in a stretch is part of it."""

    def begin_nested(self, *, prepared: bool = False) -> SegmentScope | None:
        """Return None: a transaction in a stretch is part of it."""
        return None

    def on_nested_end(self) -> None:
        """Do nothing: the stretch goes on."""

    async def finish(self, *, last: bool) -> None:
        """Commit the stretch off the loop. ``last``: it is the final one."""
        from motoko.storage.threads import run_in_committer, run_in_thread

        if self._requests:
            await run_in_thread(self._resolve_all)
        await run_in_committer(self.database, lambda: self.commit(last=last))

    def _resolve_all(self) -> None:
        with self._lock:
            self._resolve()

    def commit(self, *, last: bool) -> None:
        """Commit the stretch; call it in the committer thread."""
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
        """Drop what is not committed and give the connection back."""
        with self._lock:
            for request in (*self._requests, *self._resolved):
                request.on_dropped()
            self._requests = []
            self._resolved = []
            if self._session is not None:
                self._session.close()
                self._session = None
