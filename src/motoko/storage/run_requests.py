"""Requests for runs: existing runs are found, missing ones created, in batches."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, overload

from motoko.core.changes import CreateRun
from motoko.core.parameter_space import job_identity, run_identity
from motoko.core.records import RunRecord
from motoko.core.run_keys import RunKeys
from motoko.errors import StateError
from motoko.runtime import fault_points
from motoko.storage.commit import collector_paused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from motoko.core.records import RunKey
    from motoko.core.requests import PlannedRun
    from motoko.storage.identities import Identities
    from motoko.storage.session import Session
    from motoko.storage.study_table import StudyTable


@dataclass(frozen=True, slots=True)
class RequestedRun:
    """A requested run. ``common``: the values of its record that other runs have as well."""

    identity: bytes
    job_identity: bytes
    planned: PlannedRun
    common: Mapping[str, Any]

    @property
    def literal(self) -> bytes:
        """Its identity in databases that did not normalise numbers."""
        run, study, run_name = self.planned, self.common["study"], self.common["run_name"]
        return run_identity(study, run_name, run.job, run.declared, run.replicate, literal=True)

    @property
    def literal_job(self) -> bytes:
        """The identity of its job in databases that did not normalise numbers."""
        return job_identity(self.planned.job, literal=True)

    def record(self, run_id: int, job_id: int) -> RunRecord:
        """Return the record of the new run with these ids."""
        run = self.planned
        return RunRecord(
            id=run_id,
            job_id=job_id,
            identity=self.identity,
            job=run.job,
            replicate=run.replicate,
            options=MappingProxyType(run.options),
            fields=MappingProxyType({**run.other, **run.declared}),
            **self.common,
        )


class DeferredRuns(Sequence[RequestedRun]):
    """At most ``number`` requested runs, which ``make`` makes each time they are needed."""

    def __init__(self, number: int, make: Callable[[], list[RequestedRun]]) -> None:
        self._number = number
        self._make = make

    def __len__(self) -> int:
        return self._number

    @overload
    def __getitem__(self, index: int) -> RequestedRun: ...

    @overload
    def __getitem__(self, index: slice) -> list[RequestedRun]: ...

    def __getitem__(self, index: int | slice) -> RequestedRun | list[RequestedRun]:
        return self._make()[index]

    def __iter__(self) -> Iterator[RequestedRun]:
        return iter(self._make())


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
    """The scope of a request.

    ``splits``: it may commit many requests of one call one after the other.
    """

    fresh: bool
    splits: bool = False
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
        self.requested_runs = runs  # dropped when they are committed
        self._number = len(runs)
        self.origin = scope.origin
        self._scope: RequestingScope | None = scope
        self._keys = RunKeys(study)
        self.committed: RunKeys | None = None

    # -- its progress ----------------------------------------------------------------------

    def set_recorded(self, keys: Iterable[RunKey]) -> None:
        """Set the runs that an earlier execution of the action committed."""
        self._set_committed(RunKeys.of(self.study, keys))

    def _set_committed(self, keys: RunKeys) -> None:
        self.committed = self._keys = keys
        self.requested_runs = ()
        self._scope = None

    def own_keys(self) -> RunKeys | None:
        """Return the runs in its own transaction, None if that was dropped."""
        if self.committed is not None:
            return self.committed
        return None if self._scope is None else self._keys

    def set_keys(self, keys: RunKeys) -> None:
        """Set the runs that exist, or will be created."""
        self._keys = keys

    def on_committed(self, session: Session) -> None:
        """Set the committed runs: another process may have created some at the same time."""
        replaced, keys = session.replaced_keys, self._keys
        if replaced:
            keys = RunKeys.of(self.study, [replaced.get(key, key) for key in keys])
        self._set_committed(keys)

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

    def keys(self, scope: RequestingScope) -> RunKeys:
        """Return the runs as ``scope`` sees them; in the event loop StateError if not committed."""
        self.reissue(scope)
        if self._scope is scope:
            with scope.read() as session:
                if self._scope is scope:  # no commit came in between
                    for key in self._keys:
                        session.record_read_id(key)
                    return self._keys
        return self._keys_elsewhere(scope) if self.committed is None else self.committed

    def _keys_elsewhere(self, scope: RequestingScope) -> RunKeys:
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

    def find(self, session: Session) -> RunKeys | None:
        """Return the runs by their identity, None unless all of them exist."""
        if self.committed is not None:
            return self.committed
        table = session.tables.study(self.study)
        runs = list(self.requested_runs)
        found = find_runs(table, runs)
        if len(found) < len(runs):
            return None
        return RunKeys(self.study, (found[item.identity] for item in runs))

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
        return self._number if self.committed is None else len(self.committed)

    def __str__(self) -> str:
        count = self._number
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
        with collector_paused(sum(map(len, of_study))):
            runs = [list(request.requested_runs) for request in of_study]
            requested = {run.identity: run for of_request in runs for run in of_request}
            ids = _find_or_create(session, study, list(requested.values()))
        for request, of_request in zip(of_study, runs, strict=True):
            request.set_keys(RunKeys(study, (ids[run.identity] for run in of_request)))


def find_runs(table: StudyTable, runs: Sequence[RequestedRun]) -> dict[bytes, int]:
    """Return the ids of those requested runs that exist, by identity."""
    normalised = table.normalised
    literals = [None if normalised else item.literal for item in runs]
    digests = [item.identity for item in runs]
    return _find(table.identities, dict(zip(digests, literals, strict=True)))


def _find_jobs(table: StudyTable, runs: Sequence[RequestedRun]) -> dict[bytes, int]:
    """Return the ids of those jobs of requested runs that exist, by identity."""
    normalised = table.normalised
    literals = [None if normalised else item.literal_job for item in runs]
    digests = [item.job_identity for item in runs]
    return _find(table.jobs.identities, dict(zip(digests, literals, strict=True)))


def _find(index: Identities, literals: Mapping[bytes, bytes | None]) -> dict[bytes, int]:
    """Return the numbers by digest; that of the literal digest, if there is one, goes first."""
    known = index.find([*literals, *filter(None, literals.values())])
    found = {
        digest: known.get(literal or digest) or known.get(digest)
        for digest, literal in literals.items()
    }
    return {digest: number for digest, number in found.items() if number is not None}


def _find_or_create(session: Session, study: str, runs: list[RequestedRun]) -> dict[bytes, int]:
    table = session.tables.study(study)
    ids = find_runs(table, runs)
    new = [item for item in runs if item.identity not in ids]
    if not new:
        return ids
    jobs = _find_jobs(table, new)
    unknown = list(dict.fromkeys(r.job_identity for r in new if r.job_identity not in jobs))
    run_id, job_id = session.reserve(study, len(new), len(unknown))
    fault_points.point("storage.ids_reserved")
    jobs.update({digest: job_id + n for n, digest in enumerate(unknown)})
    for n, item in enumerate(new):
        ids[item.identity] = run_id + n
        record = item.record(run_id + n, jobs[item.job_identity])
        session.add(CreateRun(record, item.job_identity))
    return ids
