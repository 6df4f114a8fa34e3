"""Read the facts about executions and launchers that notifications depend on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from motoko.core.notifications import EVENT_OF_END, ExecutionFacts, LauncherFacts
from motoko.core.states import FAILURES, Lifecycle
from motoko.handles.failure_text import last_error_line
from motoko.orchestrator.run_ends import end_file, read_execution
from motoko.printable import one_line
from motoko.runtime.processes import is_alive
from motoko.storage.launcher_leases import registered_launchers
from motoko.storage.orchestrator_leases import orchestrator_report

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from motoko.core.records import RunRecord
    from motoko.notifier.watched import WatchedExecution
    from motoko.orchestrator.run_ends import RunEnd
    from motoko.runtime.ports import Clock
    from motoko.server.state_dir import StateDir
    from motoko.storage.session import Session
    from motoko.storage.store import WorkflowStore
    from motoko.storage.tables import Tables

EXIT_SECONDS: Final = 30.0  # in which a command exits, unless it is suspended or cannot print
FAILED: Final = FAILURES - {Lifecycle.CANCELLED}


def end_of(state: StateDir, watched: WatchedExecution, now: float) -> RunEnd | None:
    """Return the end of an execution, None until then; LookupError if it is unknown.

    A command has ended when its process has exited: to use the database before would delay that. It
    is unknown in a copy of the workflow, or if the run name was started again several times.
    """
    found = read_execution(end_file(state, watched.run_name))
    if found is not None and found.token == watched.token and not found.copied:
        end = found.end(now)
        if end is not None and found.alone and is_alive(found.process):
            return None if abs(now - end.time) < EXIT_SECONDS else end
        return end
    previous = None if found is None else found.previous
    if previous is None or previous.started != watched.started:
        raise LookupError(watched.run_name)
    return previous


class FailedRuns:
    """Counts the runs of a run name that failed since an execution started."""

    def __init__(self, watched: WatchedExecution) -> None:
        self._watched = watched
        self._seen: dict[str, set[int]] = {}
        self.number = 0
        self.first: RunRecord | None = None

    def look(self, tables: Tables) -> None:
        """Count the runs that failed since the last look, or at the first one since the start."""
        for study in tables.study_names():
            table = tables.study(study)
            failed = set(table.ids(self._watched.run_name, lifecycles=FAILED))
            seen = self._seen.get(study)
            self._seen[study] = failed
            new = sorted(failed - (seen or set()))
            if seen is None:
                # At the first look, only the records show which failed before the execution.
                new = [r.id for r in table.records(new, keep=False) if self._is_recent(r)]
            self.number += len(new)
            if new and self.first is None:
                self.first = table.run(new[0])

    def _is_recent(self, record: RunRecord) -> bool:
        return bool(record.history) and record.history[-1].time >= self._watched.started


class Renewals:
    """The time for which the leases of launchers have not been renewed, as this process sees it.

    Its clock stands still while the machine sleeps: a launcher then has time to wake up as well.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[float, float]] = {}

    def unchanged(self, token: str, renewed: float) -> float:
        """Return the seconds since this renewal of the lease with this token was first seen."""
        now = self._clock.monotonic()
        if self._seen.get(token, (None, now))[0] != renewed:
            self._seen[token] = (renewed, now)
        return now - self._seen[token][1]


class Observer:
    """Reads the database without a server of its own, and the recorded ends."""

    def __init__(self, store: WorkflowStore) -> None:
        self._store = store
        self._failed: dict[str, FailedRuns] = {}
        self._renewals = Renewals(store.clock)

    def execution(
        self, session: Session, watched: WatchedExecution, end: RunEnd | None
    ) -> ExecutionFacts:
        """Return the facts about an execution."""
        tables = session.tables
        failed = self._failed.setdefault(watched.token, FailedRuns(watched))
        failed.look(tables)
        stall = orchestrator_report(tables, watched.run_name).stall
        return ExecutionFacts(
            watched.run_name,
            watched.token,
            None if end is None else EVENT_OF_END[end.kind],
            "" if end is None else one_line(end.reason),
            _counts(tables, watched.run_name),
            () if stall is None else tuple(map(one_line, stall.waits)),
            failed.number,
            "" if failed.first is None else self._describe(failed.first),
        )

    def forget(self, watched: WatchedExecution) -> None:
        """Free the memory of an execution."""
        self._failed.pop(watched.token, None)

    def launchers(
        self, session: Session, running: Sequence[WatchedExecution]
    ) -> Iterable[LauncherFacts]:
        """Yield the launchers that were alive during one of these executions."""
        tables, now = session.tables, self._store.steady()
        for found in registered_launchers(tables):
            renewed = tables.renewed_at(found.key)
            served = [one for one in running if renewed + found.lease >= one.started]
            if served and tables.lease_belongs_here(found.key):
                yield LauncherFacts(
                    served[0].run_name,
                    found.token,
                    f"(process {found.identity.pid} on {found.host})",
                    found.lease,
                    now - renewed,
                    self._renewals.unchanged(found.token, renewed),
                )

    def _describe(self, record: RunRecord) -> str:
        line = last_error_line(self._store, record) if record.study in self._store.studies else ""
        parts = (f"{record.key} {record.lifecycle}", record.reason or "", line)
        return one_line(": ".join(filter(None, parts)))


def _counts(tables: Tables, run_name: str) -> dict[str, int]:
    numbers = dict.fromkeys((state.value for state in Lifecycle), 0)
    for study in tables.study_names():
        for state, number in tables.study(study).counts(run_name, index="lifecycles").items():
            numbers[state] += number
    return numbers
