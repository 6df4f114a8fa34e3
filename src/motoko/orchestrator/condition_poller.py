"""Decide when Python conditions are evaluated, each in a task that delays no other."""

from __future__ import annotations

import contextlib
import heapq
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from motoko.core.firing import ConditionKind
from motoko.core.orchestrator_status import Answer
from motoko.errors import EventError
from motoko.orchestrator.actions import is_normal_exit, location
from motoko.orchestrator.conditions import Matches, Truth, evaluate_function, evaluate_run_filter
from motoko.storage.run_requests import RequestOrigin
from motoko.storage.scope import AutocommitScope, use_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from motoko.core.changes import Change
    from motoko.core.firing import EventSpec
    from motoko.core.records import RunKey, RunRecord
    from motoko.orchestrator.actions import Action
    from motoko.orchestrator.change_listener import ChangeSet
    from motoko.orchestrator.execution_context import ExecutionContext
    from motoko.storage.database import Database
    from motoko.storage.run_requests import RunRequest
    from motoko.storage.session import Session

# The largest share of the time for evaluations of a run filter for all runs.
FULL_EVALUATION_SHARE: Final = 0.02
SHOWN: Final = 20  # runs in a published answer
ERROR: Final = 500  # characters of a published exception

# The studies and variables that the current evaluation has read.
_reads: ContextVar[set[str] | None] = ContextVar("motoko_condition_reads", default=None)


class _Evaluation:
    """The condition of an event for a study, and the runs for which it must be evaluated."""

    def __init__(self, event: str, study: str, kind: ConditionKind) -> None:
        self.event = event
        self.study = study
        self.kind = kind
        self.keys: set[RunKey] = set()
        self.full = True  # for all runs
        self.full_at: float | None = None
        self.seconds = 0.0  # that the last full evaluation took
        self.running = False
        self.answer: Answer | None = None

    @property
    def is_open(self) -> bool:
        return self.full or bool(self.keys)

    @property
    def is_settled(self) -> bool:
        return not self.is_open and not self.running


class ConditionPoller:
    """Evaluates the Python conditions that changes or the time have made due.

    ``on_result`` gets each result; ``on_evaluated`` is called after the results of one condition.
    """

    def __init__(
        self,
        context: ExecutionContext,
        poll_interval: float,
        *,
        on_result: Callable[[Matches | Truth], None],
        on_evaluated: Callable[[], None],
    ) -> None:
        self._context = context
        self._poll_interval = poll_interval
        self._on_result = on_result
        self._on_evaluated = on_evaluated
        self._evaluations: dict[tuple[str, str], _Evaluation] = {}
        self._scope = ReadOnlyScope(context.store.database)

    def close(self) -> None:
        """Close the session that conditions read through."""
        self._scope.close()

    def register(self, event: EventSpec) -> None:
        """Evaluate a new event's condition for everything."""
        for key in [key for key in self._evaluations if key[0] == event.name]:
            del self._evaluations[key]
        if event.kind is ConditionKind.CONSTRAINT:
            return
        studies = ("",) if event.kind is ConditionKind.NO_ARGUMENTS else event.studies
        for study in studies:
            self._evaluations[event.name, study] = _Evaluation(event.name, study, event.kind)
        self.evaluate_open()

    def on_change(self, changes: ChangeSet) -> None:
        """Mark the conditions that these changes may affect.

        A run filter is evaluated for the changed runs at once. It may read more than its run, so
        it is also evaluated for all runs of a changed study: after the poll interval, and so rarely
        that this takes a small share of the time.
        """
        studies = {key.study for write_set in changes.write_sets for key in write_set.runs}
        any_change = bool(studies) or any(w.variables for w in changes.write_sets)
        for item in self._evaluations.values():
            if changes.everything:
                item.full = True
            elif item.kind is ConditionKind.TASK_MANAGER_FILTER:
                item.full = item.full or any_change
            elif item.kind is ConditionKind.RUN_FILTER and item.study in studies:
                item.keys |= {key for key in changes.records if key.study == item.study}
                if item.full_at is None:
                    delay = max(self._poll_interval, item.seconds / FULL_EVALUATION_SHARE)
                    item.full_at = self._context.clock.monotonic() + delay

    def evaluate_due(self, now: float) -> None:
        """Evaluate the conditions that are due by time, but not those opened by changes."""
        for item in self._evaluations.values():
            if item.full_at is not None and item.full_at <= now:
                item.full, item.full_at = True, None
                self._start(item)

    def next_time(self) -> float | None:
        """Return when the next evaluation is due by time, in monotonic seconds."""
        times = [e.full_at for e in self._evaluations.values() if e.full_at is not None]
        return min(times, default=None)

    def answers(self, event: str) -> dict[str, Answer]:
        """Return the last answers of an event's condition by study."""
        found = self._evaluations.values()
        return {i.study: i.answer for i in found if i.event == event and i.answer is not None}

    @property
    def is_idle(self) -> bool:
        """Whether every condition was evaluated since the last change."""
        return all(item.is_settled for item in self._evaluations.values())

    def is_settled(self, events: set[str]) -> bool:
        """Return whether the conditions of these events were evaluated since the last change."""
        return all(i.is_settled for i in self._evaluations.values() if i.event in events)

    def reevaluate(self, events: set[str]) -> None:
        """Evaluate the conditions of these events for everything."""
        for item in self._evaluations.values():
            if item.event in events:
                item.full = True
        self.evaluate_open()

    def evaluate_open(self) -> None:
        """Start the evaluations that are open and not running."""
        for item in self._evaluations.values():
            if item.is_open:
                self._start(item)

    def _start(self, item: _Evaluation) -> None:
        if not item.running and not self._context.tasks.ending:
            item.running = True
            description = f"the condition of event {item.event!r}"
            self._context.tasks.start(lambda: self._evaluate(item), description)

    async def _evaluate(self, item: _Evaluation) -> None:
        try:
            while item.is_open and self._evaluations.get((item.event, item.study)) is item:
                keys, item.keys = item.keys, set()
                full, item.full = item.full, False
                if full:
                    item.full_at = None
                await self._evaluate_once(item, keys, full=full)
        finally:
            item.running = False
        if item.kind is ConditionKind.NO_ARGUMENTS:
            item.full_at = self._context.clock.monotonic() + self._poll_interval
        self._on_evaluated()

    async def _evaluate_once(self, item: _Evaluation, keys: set[RunKey], *, full: bool) -> None:
        context = self._context
        action = context.actions[item.event]
        asked, start = context.store.now(), context.clock.monotonic()
        reads: set[str] = set()
        token = _reads.set(reads)
        result: Matches | Truth
        evaluated: int | None = None
        try:
            with use_scope(self._scope):
                if item.kind is ConditionKind.RUN_FILTER:
                    result, evaluated = await self._evaluate_run_filter(
                        action, item, keys, full=full
                    )
                else:
                    result = await self._evaluate_function(action, item)
        except BaseException as error:
            if isinstance(error, SystemExit) and is_normal_exit(error):
                context.tasks.finish()
                return
            text = f"{type(error).__name__}: {error}"[:ERROR]
            seconds = context.clock.monotonic() - start
            item.answer = Answer(asked, seconds, reads=tuple(sorted(reads)), error=text)
            error.add_note(
                f"in the condition of event {action.name!r}, {location(action.condition)}"
            )
            raise
        finally:
            _reads.reset(token)
        seconds = context.clock.monotonic() - start
        self._on_result(result)
        if isinstance(result, Truth):
            self._on_result(Matches(result.event, result.study, frozenset()))
        elif item.kind is not ConditionKind.RUN_FILTER:
            self._on_result(Truth(result.event, item.study, holds=False))
        item.answer = self._answer(
            result, Answer(asked, seconds, evaluated=evaluated, reads=tuple(sorted(reads)))
        )

    def _answer(self, result: Matches | Truth, answer: Answer) -> Answer:
        if isinstance(result, Truth):
            return replace(answer, holds=result.holds)
        # A run filter is mostly evaluated for a few runs, and the others still match.
        filtered = answer.evaluated is not None
        matching = self._context.engine.matching(result.event) if filtered else result.matching
        runs = tuple(map(str, heapq.nsmallest(SHOWN, matching)))
        return replace(answer, matching=len(matching), runs=runs)

    async def _evaluate_function(self, action: Action, item: _Evaluation) -> Matches | Truth:
        host = self._context.host
        per_study = item.kind is ConditionKind.TASK_MANAGER_FILTER
        manager = host.task_manager(item.study) if per_study else None
        return await evaluate_function(action, host, manager, item.study)

    async def _evaluate_run_filter(
        self, action: Action, item: _Evaluation, keys: set[RunKey], *, full: bool
    ) -> tuple[Matches, int]:
        """Return the result, and the number of runs for which the filter was called."""
        context, scope = self._context, self._scope
        start = context.clock.monotonic()
        number = 0

        def read_records() -> list[RunRecord]:
            nonlocal number
            with scope.read() as session:
                table = session.tables.study(item.study)
                ids = table.ids(context.run_name) if full else sorted(key.id for key in keys)
                found = [r for r in table.records(ids) if r.run_name == context.run_name]
            number = len(found)
            return found

        matching = await evaluate_run_filter(action.condition, context.store, read_records)
        if full:
            item.seconds = context.clock.monotonic() - start
            return Matches(action.id, item.study, matching), number
        return Matches(action.id, frozenset(keys), matching), number


class ReadOnlyScope(AutocommitScope):
    """The scope of conditions: every read is fresh, and every write is an error."""

    blind = False
    event_name = "condition"

    def __init__(self, database: Database) -> None:
        super().__init__(lambda: database, cause="condition")
        self.origin = RequestOrigin("a condition")

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """Yield the session, and record the studies and variables that are read."""
        with super().read() as session:
            outer, session.tables.reads = session.tables.reads, _reads.get()
            try:
                yield session
            finally:
                session.tables.reads = outer

    def write(self, *_changes: Change) -> None:
        """Raise EventError: a condition only reads."""
        raise EventError(
            "a condition wrote to the workflow's database",
            hint="Conditions may be evaluated at any time, any number of times: write in actions.",
        )

    def enqueue(self, _request: RunRequest) -> None:
        """Raise EventError: a condition only reads."""
        self.write()

    def begin_nested(self, *, prepared: bool = False) -> None:
        """Return None: a condition has nothing to commit."""
