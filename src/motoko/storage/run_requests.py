"""Requests for runs: existing runs are found, missing ones created, in batches."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from motoko.core.changes import CreateRun
from motoko.core.records import RunKey
from motoko.errors import StateError
from motoko.runtime import fault_points

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from motoko.core.records import RunRecord
    from motoko.storage.session import Session
    from motoko.storage.study_table import StudyTable


@dataclass(frozen=True, slots=True)
class RequestedRun:
    """A requested run; its creation fills in the ids of its record.

    ``literal``, ``literal_job``: its identities in databases that did not normalise numbers.
    """

    identity: bytes
    job_identity: bytes
    record: RunRecord
    literal: bytes | None = None
    literal_job: bytes | None = None

    def find(self, table: StudyTable) -> int | None:
        """Return the id of the run if it exists."""
        return table.find(self.literal, self.identity)

    def find_job(self, table: StudyTable) -> int | None:
        """Return the id of the run's job if it exists."""
        return table.find_job(self.literal_job, self.job_identity)


class RequestOrigin:
    """The source of requests: ``main``, a firing with all its calls, or a transaction.

    It notifies those that wait for its requests of each of its commits, and of its end.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.done = False
        self._listeners: set[Callable[[], object]] = set()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def notifying(self, listener: Callable[[], object]) -> Iterator[None]:
        """Call ``listener``, in any thread, after each commit and at the end."""
        with self._lock:
            self._listeners.add(listener)
        try:
            yield
        finally:
            with self._lock:
                self._listeners.discard(listener)

    def notify(self) -> None:
        """Notify of a commit."""
        with self._lock:
            for listener in self._listeners:
                listener()

    def end(self) -> None:
        """Notify that no commit follows."""
        self.done = True
        self.notify()


class RequestingScope:
    """The scope of a request."""

    fresh: bool
    origin: RequestOrigin

    def read(self) -> AbstractContextManager[Session]:
        """Yield the session for reading; it shows this scope's own writes."""
        raise NotImplementedError

    def enqueue(self, request: RunRequest) -> None:
        """Resolve a request, no later than the scope's next commit."""
        raise NotImplementedError


class RunRequest:
    """A request for runs of one study, without duplicates, in order.

    The session of its scope resolves it. Then it is committed, or dropped with its transaction.
    Until the commit only that scope sees its runs.
    """

    def __init__(self, study: str, runs: Sequence[RequestedRun], scope: RequestingScope) -> None:
        self.study = study
        self.requested_runs = runs
        self.origin = scope.origin
        self._scope: RequestingScope | None = scope
        self._keys: list[RunKey] = []
        self.committed: list[RunKey] | None = None

    # -- its progress ----------------------------------------------------------------------

    def set_recorded(self, keys: Iterable[RunKey]) -> None:
        """Set the runs that an earlier execution of the action committed."""
        self.committed = list(keys)
        self._scope = None

    def own_keys(self) -> list[RunKey] | None:
        """Return the runs in its own transaction, None if that was dropped."""
        if self.committed is not None:
            return self.committed
        return None if self._scope is None else self._keys

    def set_keys(self, keys: list[RunKey]) -> None:
        """Set the runs that exist, or will be created."""
        self._keys = keys

    def on_committed(self, session: Session) -> None:
        """Set the committed runs: another process may have created some at the same time."""
        self.committed = [session.replaced_keys.get(key, key) for key in self._keys]
        self._scope = None

    def on_dropped(self) -> None:
        """Leave the scope whose transaction was dropped."""
        self._scope = None

    def reissue(self, scope: RequestingScope) -> None:
        """Repeat a dropped request in ``scope``, if that has the same origin."""
        if self.committed is None and self._scope is None and scope.origin is self.origin:
            self._scope = scope
            try:
                scope.enqueue(self)
            except BaseException:
                self._scope = None
                raise

    # -- reading ---------------------------------------------------------------------------

    def keys(self, scope: RequestingScope) -> list[RunKey]:
        """Return the runs as ``scope`` sees them; in the event loop StateError if not committed."""
        self.reissue(scope)
        if self._scope is scope:
            with scope.read() as session:
                if self._scope is scope:  # no commit came in between
                    for key in self._keys:
                        session.record_read_id(key)
                    return self._keys
        return self._keys_elsewhere(scope) if self.committed is None else self.committed

    def _keys_elsewhere(self, scope: RequestingScope) -> list[RunKey]:
        changed = threading.Event()
        with self.origin.notifying(changed.set):
            while True:
                done = self.origin.done
                with scope.read() as session:
                    found = self.find(session)
                if found is not None:
                    return found
                if done or not scope.fresh or _in_event_loop():
                    raise self.not_committed_error(done=done)
                changed.wait()
                changed.clear()

    def find(self, session: Session) -> list[RunKey] | None:
        """Return the runs by their identity, None unless all of them exist."""
        if self.committed is not None:
            return self.committed
        table = session.tables.study(self.study)
        ids = [item.find(table) for item in self.requested_runs]
        return None if None in ids else [RunKey(self.study, n) for n in ids if n is not None]

    def not_committed_error(self, *, done: bool) -> StateError:
        """Return the error for uncommitted runs; ``done``: they never will be committed."""
        if done:
            return StateError(
                f"{self.origin.name} dropped the transaction in which it requested {self}",
                hint="Request them again with create_task: existing runs are not repeated.",
            )
        return StateError(
            f"{self.origin.name} has not yet committed {self}; others can read them only then",
            hint="Await them first: that waits until they are committed and in a terminal state.",
        )

    def __len__(self) -> int:
        """Return the number of runs."""
        return len(self.requested_runs if self.committed is None else self.committed)

    def __str__(self) -> str:
        count = len(self.requested_runs)
        return f"{'the task' if count == 1 else f'the {count} tasks'} of {self.study}"


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def resolve(session: Session, requests: Iterable[RunRequest]) -> None:
    """Find the requested runs and create the missing ones, with one id reservation a study."""
    by_study: dict[str, list[RunRequest]] = {}
    for request in requests:
        by_study.setdefault(request.study, []).append(request)
    for study, of_study in by_study.items():
        requested = {r.identity: r for request in of_study for r in request.requested_runs}
        ids = _find_or_create(session, study, list(requested.values()))
        for request in of_study:
            request.set_keys([RunKey(study, ids[r.identity]) for r in request.requested_runs])


def _find_or_create(session: Session, study: str, runs: list[RequestedRun]) -> dict[bytes, int]:
    table = session.tables.study(study)
    found = {item.identity: item.find(table) for item in runs}
    ids = {identity: run_id for identity, run_id in found.items() if run_id is not None}
    new = [item for item in runs if item.identity not in ids]
    if not new:
        return ids
    jobs = {item.job_identity: item.find_job(table) for item in new}
    unknown = [digest for digest, job_id in jobs.items() if job_id is None]
    run_id, job_id = session.reserve(study, len(new), len(unknown))
    fault_points.point("storage.ids_reserved")
    jobs.update({digest: job_id + n for n, digest in enumerate(unknown)})
    for n, item in enumerate(new):
        ids[item.identity] = run_id + n
        record = replace(item.record, id=run_id + n, job_id=jobs[item.job_identity] or 0)
        session.add(CreateRun(record, item.job_identity))
    return ids
