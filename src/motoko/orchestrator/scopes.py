"""The scopes of an orchestrator: ``main``, whose writes are committed by the next turn of the loop,
and actions, each stretch of which is one commit with the record of its firing.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING

import anyio.lowlevel

from motoko.core.replay import AWAIT, CREATE, NO_ENTRIES, ROOT, Journal
from motoko.errors import ConflictError, ReplayError, StateError
from motoko.runtime import fault_points
from motoko.storage.run_requests import RequestOrigin
from motoko.storage.scope import (
    AwaitRecord,
    SegmentScope,
    await_in_transaction_error,
    in_joined_transaction,
)
from motoko.storage.session import Session
from motoko.storage.threads import run_in_committer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from motoko.core.changes import Change
    from motoko.core.records import RunKey
    from motoko.core.replay import Call, Entries, Lane
    from motoko.storage.database import Database
    from motoko.storage.run_requests import RunRequest
    from motoko.storage.session import LeaseGuard


class RerunAction(asyncio.CancelledError):
    """Unwinds an ``@event`` action that met a conflict, like a cancellation: it is called again."""


# The scope, the task that is in it, and the task's lane; a task that it starts inherits this.
_position: ContextVar[tuple[ActionScope, asyncio.Task[Any] | None, Lane] | None] = ContextVar(
    "motoko_lane", default=None
)
_idempotent: ContextVar[bool] = ContextVar("motoko_idempotent", default=False)


@contextlib.contextmanager
def idempotent() -> Iterator[None]:
    """Keep what the block creates, assigns and awaits out of an action's journal.

    For what looks itself whether it is done: a rerun does as much of it as is left.
    """
    token = _idempotent.set(True)
    try:
        yield
    finally:
        _idempotent.reset(token)


class ActionScope(SegmentScope):
    """The scope of one execution of an action.

    ``journal`` knows what is committed of it: in those segments nothing is written again.
    ``advanced``: the last commit put calls on record.
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
        on_commit: Callable[[], None],
    ) -> None:
        super().__init__(database, cause=cause, event_name=event_name, guard=guard, origin=origin)
        self._repeatable = repeatable
        self._on_commit = on_commit
        self.finish_requested = False
        self.owner = owner
        self.problem: BaseException | None = None
        self.unwind: Callable[[], object] = lambda: None
        self.journal = Journal(cause)
        self.advanced = False
        self._over = False
        self._entries = NO_ENTRIES
        self._journal_lock = threading.Lock()

    @property
    def to_rerun(self) -> bool:
        """Whether its problem is a conflict, after which an ``@event`` action is called again."""
        return self._repeatable and isinstance(self.problem, ConflictError | RerunAction)

    def request_finish(self) -> None:
        """Have the workflow end with this stretch's commit."""
        self.finish_requested = True

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """Lend the session, with all requests so far resolved."""
        if self._over:
            with contextlib.closing(Session(self.database)) as session:
                yield session
            return
        self._check_going()
        with super().read() as session:
            yield session

    # -- replaying -------------------------------------------------------------------------

    def start_lane(self) -> None:
        """Take the current task for the action itself."""
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
        """Add changes to the stretch's commit; discard those that are committed already."""
        with self._lock:  # no commit comes between noting them and adding them
            self._check_going()
            if not _idempotent.get():
                with self._journal_lock:
                    lane = self._lane()
                    changes = tuple(c for c in changes if not self.journal.record_assignment(lane))
            if changes:
                super().write(*changes)

    def enqueue(self, request: RunRequest) -> None:
        """Note a request; it is resolved at the first read or with the commit."""
        with self._lock:
            self._check_going()
            if not _idempotent.get():
                call = self._call(CREATE, request.study)
                if call.runs is not None:
                    request.set_recorded(call.runs)
                    return
                with self._journal_lock:
                    self.journal.set_result_source(call, request.own_keys)
            super().enqueue(request)

    def begin_await(self, study: str) -> AwaitRecord:
        """Note that an await begins, and what is on record of it."""
        self._check_going()
        if in_joined_transaction():
            raise await_in_transaction_error(study)
        return (
            AwaitRecord()
            if _idempotent.get()
            else ActionAwaitRecord(self, self._call(AWAIT, study))
        )

    async def pass_over(self) -> None:
        """Let others have their turn, and give the snapshot back if nothing was written."""
        with self._lock:
            if self._session is not None and not (self._session.pending or self._requests):
                self._session.close()
                self._session = None
        if self.finish_requested:
            self._on_commit()
        await anyio.lowlevel.checkpoint()

    def record_result(self, call: Call, runs: Iterable[RunKey], *, failed: bool) -> None:
        """Note what an await returned."""
        with self._journal_lock:
            self.journal.record_result(call, runs, failed=failed)

    def entries(self) -> Entries:
        """Return what this commit adds to the firing's journal; in the committer thread."""
        with self._journal_lock:
            self._entries = self.journal.new_entries()
        return self._entries

    # -- committing ------------------------------------------------------------------------

    async def flush(self) -> None:
        """Commit the stretch; a conflict has an ``@event`` action run again from its start."""
        self._check_going()
        try:
            await self.finish(last=False)
        except ConflictError:
            if not self._repeatable:
                raise
            # Other awaits of this action wait for runs that will never be: all of it unwinds.
            self.unwind()
            raise RerunAction from None
        self._on_commit()

    def _resolve(self) -> None:
        try:
            super()._resolve()
        except Exception as error:
            self.problem = error  # requests are lost that the journal knows
            raise

    async def finish(self, *, last: bool) -> None:
        """Commit the stretch off the loop. ``last``: it is the final one."""
        self._check_going()
        if last:
            self.journal.check_complete()
        await super().finish(last=last)

    def _check_going(self) -> None:
        # What is left of a call that met a conflict must neither write nor be taken for done.
        if self.problem is not None:
            raise RerunAction if self.to_rerun else self.problem
        if self._over:
            raise self._has_ended()

    def _has_ended(self) -> StateError:
        return StateError(
            f"{self.cause} has ended, so nothing more can be written, created or awaited in it",
            hint="Await every task that an action starts before it returns.",
        )

    def end(self) -> None:
        """Drop what is not committed; what is left of the action's tasks commits nothing more.

        Their journal would put assignments on record that were dropped.
        """
        with self._lock:
            self._over = True
            self.close()

    def commit(self, *, last: bool) -> None:
        """Commit the stretch; call it in the committer thread."""
        fault_points.point("orchestrator.before_commit")
        with self._lock:
            if self.problem is not None:  # what the journal notes as assigned is lost
                raise self.problem
            if self._over:
                raise self._has_ended()
            try:
                super().commit(last=last)
            except BaseException as error:
                self.problem = error
                raise
            self._over = self._over or last
        with self._journal_lock:
            self.advanced = bool(self._entries.calls)
            self.journal.mark_committed(self._entries)
            self._entries = NO_ENTRIES
        fault_points.point("orchestrator.after_commit")


class ActionAwaitRecord(AwaitRecord):
    """One await of an action: on record, or to be recorded with what it returns."""

    def __init__(self, scope: ActionScope, call: Call) -> None:
        self._scope = scope
        self._call = call

    async def recorded_call(self) -> Call | None:
        """Return what is on record of it, None where it has to be waited for."""
        if self._call.runs is None:
            return None
        await self._scope.pass_over()
        return self._call

    def record_result(self, runs: Iterable[RunKey], *, failed: bool = False) -> None:
        """Note which runs it returned, or raised RunFailed for."""
        self._scope.record_result(self._call, runs, failed=failed)


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


class MainScope(SegmentScope):
    """The scope of ``main``: what it writes is committed by the next turn of the loop.

    ``interrupt`` raises an error in ``main``; it returns False where it cannot.
    """

    def __init__(
        self,
        database: Database,
        *,
        guard: LeaseGuard | None,
        on_commit: Callable[[], None],
    ) -> None:
        super().__init__(
            database, cause="main", event_name="main", guard=guard, origin=RequestOrigin("main")
        )
        self.blind = True
        self.finish_requested = False
        self.owner = "main"
        self._loop = asyncio.get_running_loop()
        self._on_commit = on_commit
        self._scheduled = False
        self._under_way = 0
        self._failures: deque[Exception] = deque()
        self.interrupt: Callable[[BaseException], bool] = lambda _: False

    @property
    def is_committed(self) -> bool:
        """Whether all that was written is committed; in the event loop."""
        return not self._scheduled and not self._under_way

    def write(self, *changes: Change) -> None:
        """Add changes to the next commit."""
        super().write(*changes)
        self._schedule()

    def enqueue(self, request: RunRequest) -> None:
        """Note a request; it is committed by the next turn of the loop."""
        super().enqueue(request)
        self._schedule()

    def begin_await(self, study: str) -> AwaitRecord:
        """Do nothing: creation is idempotent, so ``main`` needs no journal."""
        del study
        return AwaitRecord()

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
        self._under_way += 1
        self.database.submit(self._commit_noted)

    def _commit_noted(self) -> None:
        try:
            self.commit(last=False)
        except Exception as error:  # noqa: BLE001 - raised in main
            self._failures.append(error)
        finally:
            self._loop.call_soon_threadsafe(self._flushed)

    def _flushed(self) -> None:
        self._under_way -= 1
        if not self._failures:
            self._on_commit()
        elif self.interrupt(self._failures[0]):
            self._failures.clear()  # else the next ``settle`` raises it

    async def flush(self) -> None:
        """Wait for all that was written; a failed commit is raised here, or in ``main`` before."""
        try:
            await run_in_committer(self.database, lambda: self.commit(last=False))
        finally:  # what was submitted before has been committed, or has failed
            if self._failures:
                failure = self._failures[0]
                self._failures.clear()
                raise failure
        self._on_commit()

    async def prepare_nested(self) -> None:
        """Commit what was written so far."""
        await self.flush()

    def begin_nested(self, *, prepared: bool = False) -> SegmentScope:
        """Return a scope for a transaction, after all that was written so far is committed."""
        if not prepared:
            self.database.submit(lambda: self.commit(last=False)).result()
        return SegmentScope(
            self.database, cause=self.cause, event_name=self.event_name, guard=self._guard
        )

    def on_nested_end(self) -> None:
        """Have the events look at what a transaction has committed."""
        self._on_commit()

    def commit(self, *, last: bool) -> None:
        """Commit what was written; call it in the committer thread."""
        fault_points.point("main.before_commit")
        super().commit(last=last)
        fault_points.point("main.after_commit")
