"""The scope of ``main``, whose writes the next turn of the loop commits."""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_right
from collections import deque
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from motoko.runtime import fault_points
from motoko.storage.run_requests import RequestOrigin
from motoko.storage.scope import AwaitRecord, SegmentScope
from motoko.storage.threads import run_in_committer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from motoko.core.changes import Change
    from motoko.storage.database import Database
    from motoko.storage.leases import LeaseGuard
    from motoko.storage.run_requests import RunRequest
    from motoko.storage.session import Session


MOST_RUNS: Final = 20_000  # that a commit of ``main`` requests, except for one large request


class MainScope(SegmentScope):
    """The scope of ``main``: the next turn of the loop commits its writes.

    ``interrupt`` raises an error in ``main``; it returns False if it cannot.
    """

    splits = True

    def __init__(
        self, database: Database, *, guard: LeaseGuard | None, on_commit: Callable[[], None]
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
        self._pending_commits = 0
        self._failures: deque[Exception] = deque()
        self.interrupt: Callable[[BaseException], bool] = lambda _: False

    @property
    def is_committed(self) -> bool:
        """Whether all writes are committed; read it in the event loop."""
        return not self._scheduled and not self._pending_commits

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """Resolve all requests so far, and yield the session."""
        self._commit_many()
        with super().read() as session:
            yield session

    def write(self, *changes: Change) -> None:
        """Add changes to the next commit."""
        self._commit_many()
        super().write(*changes)
        self._schedule()

    def _commit_many(self) -> None:
        """Commit requests of more runs than one commit should have."""
        if sum(map(len, self._requests)) > MOST_RUNS:
            self.database.submit(lambda: self.commit(last=False)).result()

    def enqueue(self, request: RunRequest) -> None:
        """Add a request to the next commit."""
        super().enqueue(request)
        self._schedule()

    def begin_await(self, study: str) -> AwaitRecord:
        """Record nothing: creation is idempotent, so ``main`` needs no journal."""
        del study
        return AwaitRecord()

    def request_finish(self) -> None:
        """End the workflow with the next commit."""
        self.finish_requested = True
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon_threadsafe(self._submit)

    def _submit(self) -> None:
        self._scheduled = False
        self._pending_commits += 1
        self.database.submit(self._commit_scheduled)

    def _commit_scheduled(self) -> None:
        try:
            self.commit(last=False)
        except Exception as error:  # noqa: BLE001 - raised in main
            self._failures.append(error)
        finally:
            self._loop.call_soon_threadsafe(self._on_committed)

    def _on_committed(self) -> None:
        self._pending_commits -= 1
        if not self._failures:
            self._on_commit()
        elif self.interrupt(self._failures[0]):
            self._failures.clear()  # otherwise the next ``flush`` raises it

    async def flush(self) -> None:
        """Commit all writes; raise the error of a failed commit that ``main`` did not get."""
        try:
            await run_in_committer(self.database, lambda: self.commit(last=False))
        finally:  # all earlier commits are finished as well
            if self._failures:
                failure = self._failures[0]
                self._failures.clear()
                raise failure
        self._on_commit()

    async def prepare_nested(self) -> None:
        """Commit all writes."""
        await self.flush()

    def begin_nested(self, *, prepared: bool = False) -> SegmentScope:
        """Return a scope for a transaction, after a commit of all writes."""
        if not prepared:
            self.database.submit(lambda: self.commit(last=False)).result()
        return SegmentScope(
            self.database, cause=self.cause, event_name=self.event_name, guard=self._guard
        )

    def on_nested_end(self) -> None:
        """Report the transaction's commit."""
        self._on_commit()

    def _commit_first(self) -> bool:
        """Commit the first requests if all of them have more runs than one commit should have."""
        with self._lock:
            numbers = list(accumulate(map(len, self._requests)))
            if not numbers or numbers[-1] <= MOST_RUNS:
                return False
            end = max(1, bisect_right(numbers, MOST_RUNS))
            self._requests, later = self._requests[:end], self._requests[end:]
            try:
                super().commit(last=False)
            except BaseException:
                for request in later:
                    request.on_dropped()
                raise
            self._requests = later
            return True

    def commit(self, *, last: bool) -> None:
        """Commit all writes; call it in the committer thread."""
        while self._commit_first():
            pass
        fault_points.point("main.before_commit")
        super().commit(last=last)
        fault_points.point("main.after_commit")
