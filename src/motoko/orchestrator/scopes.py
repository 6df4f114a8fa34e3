"""The scopes of actions: each segment is one commit, which includes the record of its firing."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

import anyio.lowlevel

from motoko.core.replay import AWAIT, CREATE, NO_ENTRIES, ROOT, Journal
from motoko.errors import ConflictError, ReplayError, StateError
from motoko.runtime import fault_points
from motoko.storage.scope import (
    AwaitRecord,
    SegmentScope,
    await_in_transaction_error,
    in_joined_transaction,
)
from motoko.storage.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from motoko.core.changes import Change
    from motoko.core.records import RunKey
    from motoko.core.replay import Call, Entries, Lane
    from motoko.storage.database import Database
    from motoko.storage.leases import LeaseGuard
    from motoko.storage.run_requests import RequestOrigin, RunRequest


class RerunAction(asyncio.CancelledError):
    """Unwinds an ``@event`` action after a conflict, like a cancellation, before its rerun."""


# The current scope, task and lane; a task inherits those of the task that starts it.
_position: ContextVar[tuple[ActionScope, asyncio.Task[Any] | None, Lane] | None] = ContextVar(
    "motoko_lane", default=None
)
_idempotent: ContextVar[bool] = ContextVar("motoko_idempotent", default=False)


@contextlib.contextmanager
def idempotent() -> Iterator[None]:
    """Keep the block's creations, assignments and awaits out of an action's journal.

    A rerun executes the block again, so the block must skip finished work itself.
    """
    token = _idempotent.set(True)
    try:
        yield
    finally:
        _idempotent.reset(token)


class ActionScope(SegmentScope):
    """The scope of one call of an action.

    ``journal`` holds its committed segments, which are not written again. ``advanced``: the last
    commit recorded calls. ``problem``: the error after which the call must not commit.
    """

    def __init__(
        self,
        database: Database,
        *,
        cause: str,
        event_name: str,
        guard: LeaseGuard | None,
        origin: RequestOrigin,
        owner: str,
        repeatable: bool,
        firing: str,
        on_commit: Callable[[], None],
    ) -> None:
        super().__init__(database, cause=cause, event_name=event_name, guard=guard, origin=origin)
        self._repeatable = repeatable
        self.firing = firing
        self._on_commit = on_commit
        self.finish_requested = False
        self.owner = owner
        self.problem: BaseException | None = None
        self.unwind: Callable[[], object] = lambda: None
        self.journal = Journal(cause)
        self.advanced = False
        self._ended = False
        self._entries = NO_ENTRIES
        self._journal_lock = threading.Lock()

    @property
    def to_rerun(self) -> bool:
        """Whether the action must be called again after a conflict."""
        return self._repeatable and isinstance(self.problem, ConflictError | RerunAction)

    def request_finish(self) -> None:
        """End the workflow with this segment's commit."""
        self.finish_requested = True

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """Return the session, with all requests so far resolved."""
        if self._ended:
            with contextlib.closing(Session(self.database)) as session:
                yield session
            return
        self._check_active()
        with super().read() as session:
            yield session

    # -- replaying -------------------------------------------------------------------------

    def start_lane(self) -> None:
        """Mark the current task as that of the action itself."""
        _position.set((self, _current_task(), self.journal.lane(ROOT)))

    def _lane(self) -> Lane:
        found, task = _position.get(), _current_task()
        if found is None or found[0] is not self:
            return self.journal.lane(ROOT)
        lane = found[2]
        if task is not None and task is not found[1]:
            lane = self.journal.lane(lane.child_name())
            _position.set((self, task, lane))
        return lane

    def _call(self, kind: str, study: str) -> Call:
        try:
            with self._journal_lock:
                return self.journal.record_call(self._lane(), kind, study)
        except ReplayError as error:
            self.problem = error
            raise

    def write(self, *changes: Change) -> None:
        """Add changes to the segment's commit; discard those that are committed already."""
        with self._lock:  # so that no commit separates the journal from the session
            self._check_active()
            if not _idempotent.get():
                with self._journal_lock:
                    lane = self._lane()
                    changes = tuple(c for c in changes if not self.journal.record_assignment(lane))
            if changes:
                super().write(*changes)

    def enqueue(self, request: RunRequest) -> None:
        """Enqueue a request until the first read or the commit."""
        with self._lock:
            self._check_active()
            if not _idempotent.get():
                call = self._call(CREATE, request.study)
                if call.runs is not None:
                    request.set_recorded(call.runs)
                    return
                with self._journal_lock:
                    self.journal.set_result_source(call, request.own_keys)
            super().enqueue(request)

    def begin_await(self, study: str) -> AwaitRecord:
        """Record the start of an await, and return its recorded result."""
        self._check_active()
        if in_joined_transaction():
            raise await_in_transaction_error(study)
        if _idempotent.get():
            return AwaitRecord()
        return ActionAwaitRecord(self, self._call(AWAIT, study))

    async def skip_await(self) -> None:
        """Let other tasks run, and release the snapshot if nothing was written."""
        with self._lock:
            if self._session is not None and not (self._session.pending or self._requests):
                self._session.close()
                self._session = None
        if self.finish_requested:
            self._on_commit()
        await anyio.lowlevel.checkpoint()

    def record_result(self, call: Call, runs: Iterable[RunKey], *, failed: bool) -> None:
        """Record the result of an await."""
        with self._journal_lock:
            self.journal.record_result(call, runs, failed=failed)

    def entries(self) -> Entries:
        """Return this commit's journal entries; call it in the committer thread."""
        with self._journal_lock:
            self._entries = self.journal.new_entries()
        return self._entries

    # -- committing ------------------------------------------------------------------------

    async def flush(self) -> None:
        """Commit the segment; after a conflict, rerun an ``@event`` action from its start."""
        self._check_active()
        try:
            await self.finish(last=False)
        except ConflictError:
            if not self._repeatable:
                raise
            # The action's other tasks may await runs that will never exist.
            self.unwind()
            raise RerunAction from None
        self._on_commit()

    def _resolve(self) -> None:
        try:
            super()._resolve()
        except Exception as error:
            self.problem = error  # the journal holds requests that are lost
            raise

    async def finish(self, *, last: bool) -> None:
        """Commit the segment off the loop; ``last``: the firing is done."""
        self._check_active()
        if last:
            self.journal.check_complete()
        await super().finish(last=last)

    def _check_active(self) -> None:
        # After a conflict, the call's remaining tasks must not write.
        if self.problem is not None:
            raise RerunAction if self.to_rerun else self.problem
        if self._ended:
            raise self._ended_error()

    def _ended_error(self) -> StateError:
        return StateError(
            f"{self.cause} has ended, so nothing more can be written, created or awaited in it",
            hint="Await every task that an action starts before it returns.",
        )

    def end(self) -> None:
        """Drop uncommitted changes, and refuse further ones from the action's remaining tasks.

        Their journal would record assignments that were dropped.
        """
        with self._lock:
            self._ended = True
            self.close()

    def commit(self, *, last: bool) -> None:
        """Commit the segment; call it in the committer thread."""
        fault_points.point("orchestrator.before_commit")
        with self._lock:
            if self.problem is not None:  # the journal holds assignments that are lost
                raise self.problem
            if self._ended:
                raise self._ended_error()
            try:
                super().commit(last=last)
            except BaseException as error:
                self.problem = error
                raise
            self._ended = self._ended or last
        with self._journal_lock:
            self.advanced = bool(self._entries.calls)
            self.journal.mark_committed(self._entries)
            self._entries = NO_ENTRIES
        fault_points.point("orchestrator.after_commit")


class ActionAwaitRecord(AwaitRecord):
    """One await of an action, recorded in its journal."""

    def __init__(self, scope: ActionScope, call: Call) -> None:
        self._scope = scope
        self._call = call

    async def recorded_call(self) -> Call | None:
        """Return the recorded result, None if the action must wait."""
        if self._call.runs is None:
            return None
        await self._scope.skip_await()
        return self._call

    def record_result(self, runs: Iterable[RunKey], *, failed: bool = False) -> None:
        """Record the runs that the await returned, or for which it raised RunFailed."""
        self._scope.record_result(self._call, runs, failed=failed)


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
