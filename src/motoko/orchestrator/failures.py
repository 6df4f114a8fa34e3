"""Failed runs: which of them are handled, and the end of a workflow with unhandled ones."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from motoko.errors import WorkflowFailed
from motoko.handles.run import Job, Run, run_job_pairs
from motoko.orchestrator.actions import call, is_run_filter
from motoko.printable import one_line, printable
from motoko.storage.query import failed_records, query_in_thread
from motoko.storage.record_reader import batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from motoko.core.changes import FailedAttempt
    from motoko.core.constraints import Constraint
    from motoko.core.records import RunKey, RunRecord
    from motoko.errors import RunFailed
    from motoko.orchestrator.change_listener import ChangeListener, ChangeSet
    from motoko.orchestrator.execution_context import ExecutionContext
    from motoko.storage.session import Session
    from motoko.storage.store import WorkflowStore

logger = logging.getLogger("motoko.orchestrator")

STDERR_LINES: Final = 10
STDERR_CHARACTERS: Final = 20_000  # at the end, from which the lines are taken
NAMED: Final = 5
RETRY_HINT: Final = "Try them again with --retry-failed."


@dataclass(frozen=True, slots=True)
class ErrorHandler:
    """A function that is called with unhandled failed runs.

    The documented default condition, ``state = FAILED``, selects every failure.
    """

    condition: Any
    studies: tuple[str, ...]
    constraints: Mapping[str, Constraint] | None
    callback: Any
    get_params: Callable[[], Any] | None
    kwargs: dict[str, Any] = field(default_factory=dict)

    def selects(self, store: WorkflowStore, record: RunRecord) -> bool:
        """Return whether the handler's condition selects this run."""
        if record.study not in self.studies:
            return False
        if self.condition == "state = FAILED":
            return True
        if is_run_filter(self.condition):
            job = Job(store, record.study, record.job_id, record.job)
            return bool(self.condition(Run(store, record.key), job))
        constraint = (self.constraints or {}).get(record.study)
        return constraint is not None and bool(constraint.matches(record))


class FailureTracker:
    """Keeps which failed runs are awaited, selected by an event, handled, or reported.

    ``conditions_idle`` returns whether no condition remains to be evaluated.
    """

    def __init__(
        self,
        context: ExecutionContext,
        listener: ChangeListener,
        conditions_idle: Callable[[], bool],
    ) -> None:
        self._context = context
        self._listener = listener
        self._conditions_idle = conditions_idle
        self._new: dict[RunKey, RunRecord] = {}
        self._earlier: dict[RunKey, RunRecord] = {}
        self._raised: dict[str, set[FailedAttempt]] = {}
        self._handled: set[FailedAttempt] = set()
        self._reported: set[FailedAttempt] = set()
        self._suspended = 0
        self._unread = True  # the failures of earlier starts
        self._loop = asyncio.get_running_loop()
        self.failed = 0  # runs, when ``raise_unhandled`` was called
        self.handlers: list[ErrorHandler] = []

    # -- recording -------------------------------------------------------------------------

    def on_change(self, changes: ChangeSet) -> None:
        """Record the runs that have just failed."""
        for record in changes.records.values():
            if record.run_name == self._context.run_name:
                if record.lifecycle.is_failure:
                    self._new[record.key] = record
                else:
                    self._new.pop(record.key, None)

    def read_earlier(self, session: Session, changes: ChangeSet) -> list[RunRecord]:
        """Return the failed runs that no change may have reported, in a thread.

        They are read for the error handlers only: at the start, and after lost notices.
        """
        lost = changes.everything and any(one.number for one in changes.write_sets)
        if not self.handlers or not (lost or self._unread):
            return []
        self._unread = False
        return list(failed_records(session, self._context.run_name))

    def add_handler(self, handler: ErrorHandler) -> None:
        """Add an error handler, from any thread."""
        self.handlers.append(handler)
        if self._unread:
            self._loop.call_soon_threadsafe(self._listener.reevaluate)

    def add_earlier(self, records: Iterable[RunRecord]) -> None:
        """Record failures that may be from an earlier start."""
        self._earlier.update((record.key, record) for record in records)

    def record_raised(self, owner: str, records: Iterable[RunRecord]) -> None:
        """Record that an await of ``owner`` raised or returned these failed runs."""
        self._raised.setdefault(owner, set()).update(_failures(records))

    def handled_by(self, owner: str, records: Iterable[RunRecord]) -> tuple[FailedAttempt, ...]:
        """Return the failures that a firing with these runs has handled once it is done."""
        return tuple(sorted(_failures(records) | self._raised.get(owner, set())))

    def on_owner_completed(self, owner: str, records: Iterable[RunRecord] = ()) -> None:
        """Count failures as handled: caught by an action or ``main``, or runs of a done firing."""
        self._handled.update(self.handled_by(owner, records))
        self._raised.pop(owner, None)

    # -- unhandled failures ----------------------------------------------------------------

    @contextlib.contextmanager
    def suspend_handlers(self) -> Iterator[None]:
        """Suspend the error handlers while the caller commits runs that it will await."""
        self._suspended += 1
        try:
            yield
        finally:
            self._suspended -= 1
            asyncio.get_running_loop().call_soon(self.handle_unhandled)

    def handle_earlier(self) -> None:
        """Pass unhandled failures of an earlier start to the error handlers.

        Call it when ``main`` waits: before, it may still await them.
        """
        self._new = {**self._earlier, **self._new}
        self._earlier = {}
        self.handle_unhandled()

    def handle_unhandled(self) -> None:
        """Pass failures that nothing awaits and no event selects to the error handlers."""
        context = self._context
        if not self.handlers or not self._new or self._suspended or not self._conditions_idle():
            return
        known = self._handled.union(self._reported, *self._raised.values())
        unhandled = [
            record
            for key, record in self._new.items()
            if not self._listener.is_awaited(key)
            and not context.engine.selects(key)
            and (key, record.attempt) not in known
            and any(handler.selects(context.store, record) for handler in self.handlers)
        ]
        self._new.clear()
        if unhandled and not context.tasks.ending:
            context.tasks.start(lambda: self._raise(unhandled), "a task of Motoko")

    async def _raise(self, records: list[RunRecord]) -> None:
        database = self._context.store.database
        records = await query_in_thread(database, lambda s: self._without_recorded(s, records))
        if records:
            raise self._error([record.key for record in records], records)

    async def report(self, error: RunFailed) -> None:
        """Call the error handlers with the runs of an error that ends the workflow.

        No failure is reported twice. If a handler fails, ``error`` is still the one to raise.
        """
        if not self.handlers:
            return
        for handler in self.handlers:
            try:
                await self._call(handler, error)
            except (KeyboardInterrupt, GeneratorExit, asyncio.CancelledError):
                raise
            except BaseException as problem:
                error.add_note(f"the error handler failed too: {problem!r}")
                logger.exception("the error handler failed")
        self._reported |= {(run.key, run.record.attempt) for run in error.runs}

    async def _call(self, handler: ErrorHandler, error: RunFailed) -> None:
        context = self._context
        chosen = [
            record
            for record in (run.record for run in error.runs)
            if (record.key, record.attempt) not in self._reported
            and handler.selects(context.store, record)
        ]
        if chosen:
            runs = run_job_pairs(context.store, chosen)
            offered = {**context.params, **handler.kwargs, "workflow": context.host, "runs": runs}
            if handler.get_params is not None:
                offered["params"] = handler.get_params()
            await call(handler.callback, offered)

    async def raise_unhandled(self) -> None:
        """Report unhandled failures to the error handlers; raise WorkflowFailed.

        Call it after all tasks have ended, because a cancelled action may still catch an await's
        error.
        """
        if self._context.tasks.failure is None:
            for owner in tuple(self._raised):
                self.on_owner_completed(owner)
        keys, first = await query_in_thread(self._context.store.database, self._unhandled)
        if keys:
            error = self._error(keys, first)
            await self.report(error)
            raise error

    def _unhandled(self, session: Session) -> tuple[list[RunKey], list[RunRecord]]:
        """Return the failed runs that nothing handled, and the records to describe them.

        All of them may be too many to keep their records.
        """
        keys: list[RunKey] = []
        first: list[RunRecord] = []
        self.failed = 0
        for records in batches(failed_records(session, self._context.run_name)):
            self.failed += len(records)
            remaining = [r for r in records if (r.key, r.attempt) not in self._handled]
            unhandled = self._without_recorded(session, remaining)
            keys += [record.key for record in unhandled]
            first += unhandled[: NAMED - len(first)]
        return keys, first

    def _without_recorded(self, session: Session, records: list[RunRecord]) -> list[RunRecord]:
        """Drop the failed runs that a done firing of an earlier start has handled."""
        if not records:
            return records
        failures = [(r.study, r.id, r.attempt) for r in records]
        handled = session.tables.handled_failures(self._context.run_name, failures)
        return [r for r, one in zip(records, failures, strict=True) if one not in handled]

    def _error(self, keys: list[RunKey], records: list[RunRecord]) -> WorkflowFailed:
        runs = [Run(self._context.store, key) for key in keys]
        return WorkflowFailed(describe_failures(records, runs), runs, hint=RETRY_HINT)


def _failures(records: Iterable[RunRecord]) -> set[FailedAttempt]:
    return {(record.key, record.attempt) for record in records if record.lifecycle.is_failure}


def describe_failures(records: list[RunRecord], runs: list[Run]) -> str:
    """Return a message with a line for each failed run and the end of the first one's stderr.

    Of more than NAMED ``runs`` it shows the first; ``records`` may lack the others.
    """
    lines = [_line(record) for record in records[:NAMED]]
    if len(runs) > NAMED:
        lines.append(f"... and {len(runs) - NAMED} more")
    if len(runs) > 1:
        lines.insert(0, f"{len(runs)} runs failed")
    stderr = printable(runs[0].stderr[-STDERR_CHARACTERS:].rstrip()).split("\n")[-STDERR_LINES:]
    if any(stderr):
        lines += [f"stderr of {runs[0].key} ({runs[0].directory}):", *stderr]
    return "\n  ".join(lines)


def _line(record: RunRecord) -> str:
    code = "" if record.exit_code is None else f" with exit code {record.exit_code}"
    known = not record.reason or record.reason == f"exit code {record.exit_code}"
    reason = "" if known else f": {one_line(record.reason or '')}"
    return f"run {record.key} ended {record.lifecycle}{code}{reason}"
