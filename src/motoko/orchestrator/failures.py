"""Bad ends of runs: who handles them, and what happens to those that nobody does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from motoko.core.states import BAD_OUTCOMES
from motoko.errors import WorkflowFailed
from motoko.handles.run import Job, Run, pairs
from motoko.orchestrator.actions import is_run_filter
from motoko.orchestrator.calling import call
from motoko.printable import one_line, printable
from motoko.storage.session import Session
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from motoko.core.changes import Failure
    from motoko.core.constraints import Constraint
    from motoko.core.records import RunKey, RunRecord
    from motoko.errors import RunFailed
    from motoko.orchestrator.change_listener import ChangeSet
    from motoko.orchestrator.execution import WorkflowExecution

logger = logging.getLogger("motoko.orchestrator")

STDERR_LINES = 10
STDERR_CHARACTERS = 20_000  # of the end, among which the lines are looked for
NAMED = 5
RETRY_HINT = "Try them again with --retry-failed."


class FailureTracker:
    """Keeps account of badly ended runs: awaited, selected by an event, handled, or nobody's."""

    def __init__(self, execution: WorkflowExecution) -> None:
        self._execution = execution
        self._suspects: dict[RunKey, RunRecord] = {}
        self._old: dict[RunKey, RunRecord] = {}
        self._raised: dict[str, set[tuple[RunKey, int]]] = {}
        self._handled: set[tuple[RunKey, int]] = set()
        self._reported: set[tuple[RunKey, int]] = set()
        self._about_to_wait = 0
        self.handlers: list[ErrorHandler] = []

    def news(self, news: ChangeSet) -> None:
        """Note runs that have just been seen to have ended badly."""
        for record in news.records.values():
            if record.run_name == self._execution.run_name:
                if record.lifecycle.bad:
                    self._suspects[record.key] = record
                else:
                    self._suspects.pop(record.key, None)

    def found(self, records: Iterable[RunRecord]) -> None:
        """Note all bad ends there are, of earlier starts too."""
        self._old.update((record.key, record) for record in records)

    def consider_old(self) -> None:
        """Hand bad ends of an earlier start to the error handlers, as they count again.

        To be called when ``main`` waits: until then it may still come to await them.
        """
        self._suspects = {**self._old, **self._suspects}
        self._old = {}
        self.consider()

    @contextlib.contextmanager
    def about_to_wait(self) -> Iterator[None]:
        """Take nothing for nobody's while somebody commits runs to wait for them."""
        self._about_to_wait += 1
        try:
            yield
        finally:
            self._about_to_wait -= 1
            asyncio.get_running_loop().call_soon(self.consider)

    def raised(self, owner: str, records: Iterable[RunRecord]) -> None:
        """Note that an await of ``owner`` raised or returned these failed runs."""
        noted = self._raised.setdefault(owner, set())
        noted.update((record.key, record.attempt) for record in records)

    def handled_by(self, owner: str, records: Iterable[RunRecord]) -> tuple[Failure, ...]:
        """Return which failures a firing with these runs has handled when it is done."""
        selected = {(r.key, r.attempt) for r in records if r.lifecycle.bad}
        return tuple(sorted(selected | self._raised.get(owner, set())))

    def owner_ended(self, owner: str) -> None:
        """Learn that an action or ``main`` ended well: what it caught is handled."""
        self._handled |= self._raised.pop(owner, set())

    def fired_with(self, records: Iterable[RunRecord]) -> None:
        """Learn of the runs of a done firing: those selected as badly ended are handled."""
        self._handled |= {(r.key, r.attempt) for r in records if r.lifecycle.bad}

    def consider(self) -> None:
        """Hand the bad ends that nobody awaits and no event selects to the error handlers."""
        execution = self._execution
        if not self.handlers or not self._suspects or not execution.asker.idle:
            return
        if self._about_to_wait:  # perhaps for one of these, which was quick to fail
            return
        known = self._handled.union(self._reported, *self._raised.values())
        orphans = [
            record
            for key, record in self._suspects.items()
            if not execution.dispatcher.awaited(key)
            and not execution.engine.claims(key)
            and (key, record.attempt) not in known
        ]
        self._suspects.clear()
        orphans = [r for r in orphans if any(h.selects(execution, r) for h in self.handlers)]
        if orphans and not execution.ending:
            execution.start_soon(self._orphaned, orphans)

    async def _orphaned(self, records: list[RunRecord]) -> None:
        records = await run_in_thread(lambda: self._not_on_record(records))
        if records:
            raise unhandled_error(self._execution, records)

    async def report(self, error: RunFailed) -> None:
        """Call the error handlers with the runs of an error that ends the workflow.

        No failure is reported twice. Where a handler fails, ``error`` is still the one that is
        raised.
        """
        for handler in self.handlers:
            try:
                await self._handle(handler, error)
            except (KeyboardInterrupt, GeneratorExit, asyncio.CancelledError):
                raise
            except BaseException as problem:
                error.add_note(f"the error handler failed too: {problem!r}")
                logger.exception("the error handler failed")
        self._reported |= {(run.key, run.record.attempt) for run in error.runs}

    async def _handle(self, handler: ErrorHandler, error: RunFailed) -> None:
        execution = self._execution
        records = [r for r in (run.record for run in error.runs) if self._is_new(r)]
        chosen = [record for record in records if handler.selects(execution, record)]
        if chosen:
            offered = {
                **execution.params,
                **handler.kwargs,
                "workflow": execution.host,
                "runs": pairs(execution.store, chosen),
            }
            if handler.get_params is not None:
                offered["params"] = handler.get_params()
            await call(handler.callback, offered)

    def _is_new(self, record: RunRecord) -> bool:
        return (record.key, record.attempt) not in self._reported

    async def conclude(self) -> None:
        """Report the failures that nothing handled to the error handlers; raise WorkflowFailed.

        Call it when nothing runs any more: an await's error has been caught then, also by actions
        that ``finished`` ended before they came to their end.
        """
        if self._execution.failure is None:
            for owner in tuple(self._raised):
                self.owner_ended(owner)
        records = await run_in_thread(self._unhandled)
        if records:
            error = unhandled_error(self._execution, records)
            await self.report(error)
            raise error

    def _unhandled(self) -> list[RunRecord]:
        execution = self._execution
        session = Session(execution.store.database)
        try:
            found = failed_records(session, execution.run_name)
            left = [r for r in found if (r.key, r.attempt) not in self._handled]
            return _without_recorded(session, execution.run_name, left)
        finally:
            session.close()

    def _not_on_record(self, records: list[RunRecord]) -> list[RunRecord]:
        session = Session(self._execution.store.database)
        try:
            return _without_recorded(session, self._execution.run_name, records)
        finally:
            session.close()


def _without_recorded(session: Session, run_name: str, records: list[RunRecord]) -> list[RunRecord]:
    """Return the failed runs that no done firing of an earlier start has handled."""
    if not records:
        return records
    handled = session.tables.handled_failures(run_name)
    return [r for r in records if (r.key.study, r.key.id, r.attempt) not in handled]


def failed_records(session: Session, run_name: str) -> list[RunRecord]:
    """Return all runs of a run name that ended badly, whatever their label."""
    found: list[RunRecord] = []
    for study in session.tables.study_names():
        table = session.tables.study(study)
        found += table.records(table.ids(run_name, lifecycles=BAD_OUTCOMES))
    return found


class ErrorHandler:
    """A function that is called with bad ends that nobody handled.

    The documented default condition, ``state = FAILED``, stands for every bad end.
    """

    def __init__(
        self,
        condition: Any,
        studies: tuple[str, ...],
        constraints: Mapping[str, Constraint] | None,
        callback: Any,
        get_params: Callable[[], Any] | None,
        kwargs: dict[str, Any],
    ) -> None:
        self._condition = condition
        self._studies = studies
        self._constraints = constraints or {}
        self.callback = callback
        self.get_params = get_params
        self.kwargs = kwargs

    def selects(self, execution: WorkflowExecution, record: RunRecord) -> bool:
        """Return whether this handler is for this run."""
        if record.study not in self._studies:
            return False
        if self._condition == "state = FAILED":
            return True
        if is_run_filter(self._condition):
            store = execution.store
            job = Job(store, record.study, record.job_id, record.job)
            return bool(self._condition(Run(store, record.key), job))
        constraint = self._constraints.get(record.study)
        return constraint is not None and bool(constraint.matches(record))


def unhandled_error(execution: WorkflowExecution, records: list[RunRecord]) -> WorkflowFailed:
    """Return the error that names these runs, what each ended as, and how to try again."""
    runs = [Run(execution.store, record.key) for record in records]
    return WorkflowFailed(describe(records, runs), runs, hint=RETRY_HINT)


def describe(records: list[RunRecord], runs: list[Run]) -> str:
    """Return a message of a line for each bad run, with the end of the first one's stderr."""
    lines = [_line(record) for record in records[:NAMED]]
    if len(records) > NAMED:
        lines.append(f"... and {len(records) - NAMED} more")
    head = lines[0] if len(records) == 1 else f"{len(records)} runs ended badly"
    body = [] if len(records) == 1 else lines
    tail = printable(runs[0].stderr[-STDERR_CHARACTERS:].rstrip()).split("\n")[-STDERR_LINES:]
    if any(tail):
        body = [*body, f"stderr of {runs[0].key} ({runs[0].directory}):", *tail]
    return "\n  ".join([head, *body])


def _line(record: RunRecord) -> str:
    code = "" if record.exit_code is None else f" with exit code {record.exit_code}"
    told = not record.reason or record.reason == f"exit code {record.exit_code}"
    why = "" if told else f": {one_line(record.reason or '')}"
    return f"run {record.key} ended {record.lifecycle}{code}{why}"
