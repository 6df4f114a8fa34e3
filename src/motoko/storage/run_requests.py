"""Requests for runs: found where they exist, created where they do not, many at a time."""

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

    from motoko.core.records import RunRecord
    from motoko.storage.scope import Scope
    from motoko.storage.session import Session
    from motoko.storage.study_table import StudyTable


@dataclass(frozen=True, slots=True)
class RequestedRun:
    """A run that was asked for; its ids are filled in when it is created.

    ``literal``, ``literal_job``: the identities that they had before numbers were normalised.
    """

    identity: bytes
    job_identity: bytes
    record: RunRecord
    literal: bytes | None = None
    literal_job: bytes | None = None

    def find(self, table: StudyTable) -> int | None:
        """Return the id of the run, by the identity that it had formerly if it is that old."""
        return table.find(self.literal, self.identity)

    def find_job(self, table: StudyTable) -> int | None:
        """Return the id of the run's job."""
        return table.find_job(self.literal_job, self.job_identity)


class RequestOrigin:
    """Whoever asks for runs: ``main``, a firing with all its calls, a transaction.

    Tells those who wait for what it asked for of each of its commits, and of its end.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.done = False
        self._listeners: set[Callable[[], object]] = set()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def notifying(self, listener: Callable[[], object]) -> Iterator[None]:
        """Have ``listener`` called, in any thread, after each commit and at the end."""
        with self._lock:
            self._listeners.add(listener)
        try:
            yield
        finally:
            with self._lock:
                self._listeners.discard(listener)

    def notify(self) -> None:
        """Tell of a commit."""
        with self._lock:
            for listener in self._listeners:
                listener()

    def end(self) -> None:
        """Tell that nothing more will be committed."""
        self.done = True
        self.notify()


class RunRequest:
    """A request for runs of one study, without duplicates, in order.

    It is noted, resolved in the session of the scope that it was made in, and then committed, or
    dropped with its transaction. Only that scope sees its runs before they are committed.
    """

    def __init__(self, study: str, wanted: Sequence[RequestedRun], scope: Scope) -> None:
        self.study = study
        self.wanted_runs = wanted
        self.origin = scope.origin
        self._scope: Scope | None = scope
        self._keys: list[RunKey] = []
        self.committed: list[RunKey] | None = None

    # -- what becomes of it ----------------------------------------------------------------

    def set_recorded(self, keys: Iterable[RunKey]) -> None:
        """Learn which runs it stands for: an earlier execution of the action committed it."""
        self.committed = list(keys)
        self._scope = None

    def own_keys(self) -> list[RunKey] | None:
        """Return the runs as its own transaction has them; None where that came to nothing."""
        if self.committed is not None:
            return self.committed
        return None if self._scope is None else self._keys

    def set_keys(self, keys: list[RunKey]) -> None:
        """Learn which runs were found, or are to be created."""
        self._keys = keys

    def on_committed(self, session: Session) -> None:
        """Learn of the commit: somebody else may have created some runs at the same time."""
        self.committed = [session.moved.get(key, key) for key in self._keys]
        self._scope = None

    def on_dropped(self) -> None:
        """Learn that the transaction came to nothing."""
        self._scope = None

    def reissue(self, scope: Scope) -> None:
        """Have it made in ``scope``, if it was dropped and its own origin wants it still."""
        if self.committed is None and self._scope is None and scope.origin is self.origin:
            self._scope = scope
            try:
                scope.enqueue(self)
            except BaseException:
                self._scope = None
                raise

    # -- reading ---------------------------------------------------------------------------

    def keys(self, scope: Scope) -> list[RunKey]:
        """Return the runs as ``scope`` sees them; StateError where they are not committed.

        Where a thread can wait for the commit, it does.
        """
        self.reissue(scope)
        if self._scope is scope:
            with scope.read() as session:
                if self._scope is scope:  # still: it was not committed in between
                    for key in self._keys:
                        session.record_read_id(key)
                    return self._keys
        return self._elsewhere(scope) if self.committed is None else self.committed

    def _elsewhere(self, scope: Scope) -> list[RunKey]:
        told = threading.Event()
        with self.origin.notifying(told.set):
            while True:
                over = self.origin.done
                with scope.read() as session:
                    found = self.find(session)
                if found is not None:
                    return found
                if over or not scope.fresh or _in_event_loop():
                    raise self.not_committed_error(over=over)
                told.wait()
                told.clear()

    def find(self, session: Session) -> list[RunKey] | None:
        """Return the runs by their identity; None unless all of them are there."""
        if self.committed is not None:
            return self.committed
        table = session.tables.study(self.study)
        ids = [item.find(table) for item in self.wanted_runs]
        return None if None in ids else [RunKey(self.study, n) for n in ids if n is not None]

    def not_committed_error(self, *, over: bool) -> StateError:
        """Return the error that says that the runs are not there; ``over``: never will be."""
        if over:
            return StateError(
                f"{self.origin.name} gave up {self}, with the transaction in which it asked for "
                "them",
                hint="Ask for them again with create_task: what exists is found, not repeated.",
            )
        return StateError(
            f"{self.origin.name} has not yet committed {self}, which can be read elsewhere only "
            "then",
            hint="Await them first: that waits until they are committed and have ended.",
        )

    def __len__(self) -> int:
        """Return how many runs it stands for."""
        return len(self.wanted_runs if self.committed is None else self.committed)

    def __str__(self) -> str:
        tasks = "the task" if len(self.wanted_runs) == 1 else f"the {len(self.wanted_runs)} tasks"
        return f"{tasks} of {self.study}"


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def resolve(session: Session, requests: Iterable[RunRequest]) -> None:
    """Look up what is asked for and create what is missing, with one reservation of ids a study."""
    by_study: dict[str, list[RunRequest]] = {}
    for request in requests:
        by_study.setdefault(request.study, []).append(request)
    for study, of_study in by_study.items():
        wanted = {w.identity: w for request in of_study for w in request.wanted_runs}
        ids = _find_or_create(session, study, list(wanted.values()))
        for request in of_study:
            request.set_keys([RunKey(study, ids[w.identity]) for w in request.wanted_runs])


def _find_or_create(session: Session, study: str, wanted: list[RequestedRun]) -> dict[bytes, int]:
    table = session.tables.study(study)
    ids: dict[bytes, int] = {}
    new: list[RequestedRun] = []
    for item in wanted:
        found = item.find(table)
        if found is None:
            new.append(item)
        else:
            ids[item.identity] = found
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
