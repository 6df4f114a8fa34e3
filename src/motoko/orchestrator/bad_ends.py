"""Bad ends of runs: who handles them, and what happens to those that nobody does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from motoko.core.states import BAD_OUTCOMES
from motoko.errors import RunFailed, WorkflowFailed
from motoko.orchestrator.actions import is_run_filter
from motoko.printable import one_line, printable
from motoko.storage.handles import Job, Run
from motoko.storage.off_loop import in_thread
from motoko.storage.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from motoko.core.records import RunKey, RunRecord
    from motoko.orchestrator.dispatcher import News
    from motoko.orchestrator.execution import Execution

logger = logging.getLogger("motoko.orchestrator")

STDERR_LINES = 10
STDERR_CHARACTERS = 20_000  # of the end, among which the lines are looked for
NAMED = 5
RETRY_HINT = "Try them again with --retry-failed."


class BadEnds:
    """Keeps account of badly ended runs: awaited, selected by an event, handled, or nobody's."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._suspects: dict[RunKey, RunRecord] = {}
        self._old: dict[RunKey, RunRecord] = {}
        self._raised: dict[str, set[tuple[RunKey, int]]] = {}
        self._handled: set[tuple[RunKey, int]] = set()
        self._abandoned: dict[str, set[RunKey]] = {}
        self._expected: set[RunKey] = set()
        self._about_to_wait = 0
        self.handlers: list[ErrorHandler] = []

    def news(self, news: News) -> None:
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

    def raised(self, owner: str, records: Iterable[RunRecord], going: Iterable[RunKey]) -> None:
        """Note that an await of ``owner`` raised these runs' bad end.

        Who catches it gives up waiting for those that are still ``going``: however they end, that
        is handled too.
        """
        noted = self._raised.setdefault(owner, set())
        noted.update((record.key, record.attempt) for record in records)
        self._abandoned.setdefault(owner, set()).update(going)

    def owner_ended(self, owner: str) -> None:
        """Learn that an action or ``main`` ended well: what it caught is handled."""
        self._handled |= self._raised.pop(owner, set())
        self._expected |= self._abandoned.pop(owner, set())

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
        raised = {key for noted in self._raised.values() for key, _ in noted}
        raised.update(*self._abandoned.values())
        handled = {key for key, _ in self._handled} | self._expected
        orphans = [
            record
            for key, record in self._suspects.items()
            if not execution.dispatcher.awaited(key)
            and not execution.engine.claims(key)
            and key not in raised
            and key not in handled
        ]
        self._suspects.clear()
        orphans = [r for r in orphans if any(h.selects(execution, r) for h in self.handlers)]
        if orphans and not execution.ending:
            execution.start_soon(self._orphaned, orphans)

    async def _orphaned(self, records: list[RunRecord]) -> None:
        raise bad_runs_error(self._execution, records, RunFailed)

    async def report(self, error: RunFailed) -> None:
        """Call the error handlers with the runs of an error that ends the workflow.

        Where one fails, that error stays the one that is raised.
        """
        for handler in self.handlers:
            try:
                await self._handle(handler, error)
            except (Exception, SystemExit) as problem:
                error.add_note(f"the error handler failed too: {problem!r}")
                logger.exception("the error handler failed")

    async def _handle(self, handler: ErrorHandler, error: RunFailed) -> None:
        from motoko.orchestrator.calling import call

        execution = self._execution
        runs = [(run, run.job) for run in error.runs if handler.selects(execution, run.record)]
        if runs:
            offered = {
                **execution.params,
                **handler.kwargs,
                "workflow": execution.host,
                "runs": runs,
            }
            await call(handler.callback, offered)

    async def conclude(self) -> None:
        """Raise WorkflowFailed if there are bad ends that nothing handled.

        To be called when nothing has failed: what awaits raised has been caught then, also by those
        that ``finished`` ended before they came to their end.
        """
        for owner in self._raised.keys() | self._abandoned.keys():
            self.owner_ended(owner)
        records = await in_thread(self._unhandled)
        if records:
            raise bad_runs_error(self._execution, records, WorkflowFailed)

    def _unhandled(self) -> list[RunRecord]:
        execution = self._execution
        session = Session(execution.store.database)
        try:
            found = bad_records(session, execution.run_name)
            return [
                record
                for record in found
                if (record.key, record.attempt) not in self._handled
                and record.key not in self._expected
            ]
        finally:
            session.close()


def bad_records(session: Session, run_name: str) -> list[RunRecord]:
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
        self, condition: Any, constraints: Any, callback: Any, kwargs: dict[str, Any]
    ) -> None:
        self._condition = condition
        self._constraints = constraints
        self.callback = callback
        self.kwargs = kwargs

    def selects(self, execution: Execution, record: RunRecord) -> bool:
        """Return whether this handler is for this run."""
        if self._condition == "state = FAILED":
            return True
        if is_run_filter(self._condition):
            store = execution.store
            job = Job(store, record.study, record.job_id, record.job)
            return bool(self._condition(Run(store, record.key), job))
        constraint = self._constraints.get(record.study)
        return constraint is not None and bool(constraint.matches(record))


def bad_runs_error(
    execution: Execution, records: list[RunRecord], kind: type[RunFailed | WorkflowFailed]
) -> RunFailed | WorkflowFailed:
    """Return the error that names these runs, what each ended as, and how to try again."""
    runs = [Run(execution.store, record.key) for record in records]
    return kind(describe(records, runs), runs, hint=RETRY_HINT)


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
