"""Decide when Python conditions are evaluated. None of them delays actions or another one."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from motoko.core.firing import ConditionKind
from motoko.core.orchestrator_status import Answer
from motoko.orchestrator.actions import is_async, is_normal_exit, location
from motoko.orchestrator.condition_runner import ConditionRunner
from motoko.orchestrator.condition_work import Call, Walk, read_pairs
from motoko.orchestrator.conditions import (
    Matches,
    ReadOnlyScope,
    Truth,
    condition_reads,
    evaluate_function,
    evaluate_run_filter,
)
from motoko.orchestrator.pending_evaluations import NO_RUNS, Evaluated, Evaluation, PendingChanges
from motoko.storage.scope import use_scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from motoko.core.firing import EventSpec
    from motoko.core.records import RunKey, RunRecord
    from motoko.handles.run import Runs
    from motoko.orchestrator.actions import Action
    from motoko.orchestrator.change_listener import ChangeSet
    from motoko.orchestrator.execution_context import ExecutionContext

# The largest share of the time for evaluations of all run filters of a study for all runs.
FULL_EVALUATION_SHARE: Final = 0.02
MOST_STARTED: Final = 100  # evaluations that one turn begins with
SHOWN: Final = 20  # runs in a published answer
ERROR: Final = 500  # characters of a published exception


class ConditionPoller:
    """Evaluates the Python conditions that changes or the time have made due.

    ``is_busy`` returns whether changes are being read or actions have just started. ``on_result``
    gets each result; ``on_evaluated`` is called after some results.
    """

    def __init__(
        self,
        context: ExecutionContext,
        poll_interval: float,
        *,
        is_busy: Callable[[], bool],
        on_result: Callable[[Matches | Truth], None],
        on_evaluated: Callable[[], None],
    ) -> None:
        self.context = context
        self._poll_interval = poll_interval
        self._on_result = on_result
        self._on_evaluated = on_evaluated
        self._by_event: dict[str, dict[str, Evaluation]] = {}
        self._changes = PendingChanges()
        self._open: deque[Evaluation] = deque()
        self._unsettled: set[Evaluation] = set()
        self._times: list[tuple[float, int, Evaluation]] = []
        self._numbers = itertools.count()
        self._walk_seconds: dict[str, float] = {}
        self._pairs: dict[tuple[str, frozenset[RunKey]], Runs] = {}
        self.scope = ReadOnlyScope(context.store.database)
        self._runner = ConditionRunner(
            context.tasks,
            context.clock,
            is_busy=is_busy,
            prepare=self._prepare,
            on_results=on_evaluated,
        )
        self.wake, self.give_way = self._runner.wake, self._runner.give_way

    def close(self) -> None:
        """Close the session that conditions read through."""
        self.scope.close()

    def register(self, event: EventSpec) -> None:
        """Evaluate a new event's condition for everything."""
        self._unsettled.difference_update(self._by_event.pop(event.name, {}).values())
        if event.kind is ConditionKind.CONSTRAINT:
            return
        studies = ("",) if event.kind is ConditionKind.NO_ARGUMENTS else event.studies
        alone = is_async(self.context.actions[event.name].condition)
        items = {s: Evaluation(event.name, s, event.kind, alone=alone) for s in studies}
        self._by_event[event.name] = items
        for item in items.values():
            self._mark(item)
        self._runner.start()

    def _is_registered(self, item: Evaluation) -> bool:
        return self._by_event.get(item.event, {}).get(item.study) is item

    def _mark(self, item: Evaluation) -> None:
        self._unsettled.add(item)
        if not item.marked:
            item.marked = True
            self._open.append(item)

    # -- changes and times -----------------------------------------------------------------

    def on_change(self, changes: ChangeSet) -> None:
        """Evaluate the conditions that these changes may affect, after the actions that start now.

        A run filter is evaluated for the changed runs. It may read more than its run, so it is also
        evaluated for all runs of a changed study: after the poll interval, and so rarely that this
        takes a small share of the time.
        """
        if self._by_event:
            self._changes.add(changes)

    def start(self) -> None:
        """Begin with the open evaluations."""
        if self._changes or self._open:
            self._runner.start()

    def _mark_changed(self) -> None:
        changes, self._changes = self._changes, PendingChanges()
        if not changes:
            return
        keys = {study: frozenset(of_study) for study, of_study in changes.keys.items()}
        for items in self._by_event.values():
            for item in items.values():
                if changes.everything or (
                    changes.any and item.kind is ConditionKind.TASK_MANAGER_FILTER
                ):
                    item.full = True
                    self._mark(item)
                elif item.kind is ConditionKind.RUN_FILTER and item.study in changes.studies:
                    self._schedule_all_runs(item)
                    if new := keys.get(item.study):
                        item.keys = item.keys | new if item.keys else new  # one object for many
                        self._mark(item)

    def _schedule_all_runs(self, item: Evaluation) -> None:
        if item.full_at is None:
            seconds = self._walk_seconds.get(item.study, 0.0)
            self._schedule(item, max(self._poll_interval, seconds / FULL_EVALUATION_SHARE))

    def _schedule(self, item: Evaluation, delay: float) -> None:
        item.full_at = self.context.clock.monotonic() + delay
        heapq.heappush(self._times, (item.full_at, next(self._numbers), item))

    def evaluate_due(self, now: float) -> None:
        """Evaluate the conditions that are due by time, but not those opened by changes."""
        started = False
        while (time := self.next_time()) is not None and time <= now:
            item = heapq.heappop(self._times)[2]
            item.full, item.full_at = True, None
            self._mark(item)
            started = True
        if started:
            self._runner.start()

    def next_time(self) -> float | None:
        """Return when the next evaluation is due by time, in monotonic seconds."""
        while self._times:
            time, _, item = self._times[0]
            if item.full_at == time and self._is_registered(item):
                return time
            heapq.heappop(self._times)
        return None

    def reevaluate(self, events: set[str]) -> None:
        """Evaluate the conditions of these events for everything."""
        for event in events:
            for item in self._by_event.get(event, {}).values():
                item.full = True
                self._mark(item)
        self.start()

    # -- answers ---------------------------------------------------------------------------

    def answers(self, event: str) -> dict[str, Answer]:
        """Return the last answers of an event's condition by study."""
        items = self._by_event.get(event, {}).values()
        return {item.study: self._answer(item, item.last) for item in items if item.last}

    def answer_version(self, event: str) -> int:
        """Return a number that grows when an answer differs from the last one, but for times."""
        return sum(item.version for item in self._by_event.get(event, {}).values())

    def _answer(self, item: Evaluation, found: Evaluated) -> Answer:
        reads = tuple(sorted(found.reads))
        answer = Answer(found.asked, found.seconds, evaluated=found.number, reads=reads)
        if found.error is not None:
            error = f"{type(found.error).__name__}: {found.error}"[:ERROR]
            return replace(answer, error=error)
        if isinstance(found.result, Truth):
            return replace(answer, holds=found.result.holds)
        of_filter = self.context.engine.matching(item.event)
        matching = of_filter if found.result is None else found.result.matching
        runs = tuple(map(str, heapq.nsmallest(SHOWN, matching)))
        return replace(answer, matching=len(matching), runs=runs)

    @property
    def is_idle(self) -> bool:
        """Whether every condition was evaluated since the last change."""
        return not self._unsettled and not self._changes

    def is_settled(self, events: set[str]) -> bool:
        """Return whether the conditions of these events were evaluated since the last change."""
        items = [item for event in events for item in self._by_event.get(event, {}).values()]
        return not self._changes and all(item.is_settled for item in items)

    # -- evaluating ------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Add the work of some open evaluations. Those that run are marked again at their end."""
        self._mark_changed()
        self._pairs = {}
        walks: dict[str, list[Evaluation]] = {}
        number = 0
        while self._open and number < MOST_STARTED:
            item = self._open.popleft()
            item.marked = False
            if item.running or not item.is_open or not self._is_registered(item):
                continue
            number += item.kind is not ConditionKind.RUN_FILTER or bool(item.keys)
            if item.alone:
                self._start_alone(item)
            elif item.kind is not ConditionKind.RUN_FILTER:
                self._start(item)
            else:
                if item.keys:
                    self._start(item)
                if item.full and item.overrides is None:
                    walks.setdefault(item.study, []).append(item)
        for study, items in walks.items():
            self._start_walk(study, items)

    def _new_result(self, item: Evaluation) -> Evaluated:
        return Evaluated(self.context.actions[item.event], item.study)

    def _start(self, item: Evaluation) -> None:
        keys, item.keys = item.keys, NO_RUNS
        if item.kind is not ConditionKind.RUN_FILTER:
            item.full, item.full_at = False, None
        item.running = True
        self._runner.add(Call(self, item, keys, self._new_result(item)))

    def read_pairs(self, study: str, keys: frozenset[RunKey]) -> Runs:
        """Return runs, read once for all conditions of this turn."""
        pairs, found = self._pairs, self._pairs.get((study, keys))
        if found is None:
            found = pairs[study, keys] = read_pairs(self.context, self.scope, study, keys)
        return found

    def on_call(self, item: Evaluation, keys: frozenset[RunKey], found: Evaluated) -> None:
        """Apply the result of a call."""
        item.running = False
        item.seconds = found.seconds
        if found.is_async:
            item.alone = True
            item.keys |= keys
            item.full = item.full or item.kind is not ConditionKind.RUN_FILTER
        else:
            if item.overrides is not None and isinstance(found.result, Matches):
                matching = found.result.matching
                item.overrides.update((key, key in matching) for key in keys)
            self._apply(item, found)
        self._settle(item)

    def _start_walk(self, study: str, items: list[Evaluation]) -> None:
        walk = Walk(
            self.context,
            self.scope,
            study,
            [self._new_result(item) for item in items],
            lambda walk: self._on_walked(walk, items),
        )
        for item in items:
            item.full, item.full_at, item.overrides = False, None, walk.overrides[item.event]
        self._runner.add_long(walk)

    def _on_walked(self, walk: Walk, items: list[Evaluation]) -> None:
        self._walk_seconds[walk.study] = walk.seconds
        for item, found in zip(items, walk.filters, strict=True):
            item.overrides = None
            if found.is_async:
                item.alone = item.full = True
            else:
                self._apply(item, found)
            self._settle(item)

    def _settle(self, item: Evaluation) -> None:
        """Record the end of an evaluation."""
        if not self._is_registered(item):
            return
        if item.is_open:
            self._mark(item)
            self._runner.start()
        elif item.is_settled:
            self._unsettled.discard(item)
        if item.kind is ConditionKind.NO_ARGUMENTS:
            self._schedule(item, self._poll_interval)

    def _apply(self, item: Evaluation, found: Evaluated) -> None:
        """Pass a result on, or raise the condition's exception."""
        if not self._is_registered(item):
            return
        last, result, per_run = item.last, found.result, item.kind is ConditionKind.RUN_FILTER
        if per_run:
            found.result = None  # the engine has the runs
        repeats = found.repeats(last)
        if repeats and last is not None:  # the collector need not walk a new object
            last.asked, last.seconds = found.asked, found.seconds
        else:
            item.last, item.version = found, item.version + 1
        if found.error is not None:
            self._raise(found.action, found.error)
        elif result is not None:  # otherwise another run filter has ended the walk
            engine = self.context.engine
            if per_run or not repeats or engine.version(item.event) != item.engine_version:
                self._report(item, result)
                item.engine_version = engine.version(item.event)

    def _raise(self, action: Action, error: BaseException) -> None:
        if isinstance(error, SystemExit) and is_normal_exit(error):
            self.context.tasks.finish()
            return
        error.add_note(f"in the condition of event {action.name!r}, {location(action.condition)}")
        raise error

    def _report(self, item: Evaluation, result: Matches | Truth) -> None:
        self._on_result(result)
        if isinstance(result, Truth):
            self._on_result(Matches(result.event, result.study, NO_RUNS))
        elif item.kind is not ConditionKind.RUN_FILTER:
            self._on_result(Truth(result.event, item.study, holds=False))

    # -- async conditions ------------------------------------------------------------------

    def _start_alone(self, item: Evaluation) -> None:
        item.running = True
        description = f"the condition of event {item.event!r}"
        self.context.tasks.start(lambda: self._evaluate_alone(item), description)

    async def _evaluate_alone(self, item: Evaluation) -> None:
        try:
            while item.is_open and self._is_registered(item):
                keys, item.keys = item.keys, NO_RUNS
                full, item.full = item.full, False
                if full:
                    item.full_at = None
                found = self._new_result(item)
                await self._evaluate(item, found, keys, full=full)
                self._apply(item, found)
        finally:
            item.running = False
        self._settle(item)
        self._on_evaluated()

    async def _evaluate(
        self, item: Evaluation, found: Evaluated, keys: frozenset[RunKey], *, full: bool
    ) -> None:
        context, clock = self.context, self.context.clock
        found.asked = context.store.now()
        start, token = clock.monotonic(), condition_reads.set(found.reads)
        try:
            with use_scope(self.scope):
                if item.kind is ConditionKind.RUN_FILTER:
                    await self._evaluate_run_filter(found, keys, full=full)
                else:
                    per_study = item.kind is ConditionKind.TASK_MANAGER_FILTER
                    manager = context.host.task_manager(item.study) if per_study else None
                    found.result = await evaluate_function(
                        found.action, context.host, manager, item.study
                    )
        except BaseException as error:  # noqa: BLE001 - raised by ``_apply``
            found.error = error
        finally:
            condition_reads.reset(token)
        found.seconds = clock.monotonic() - start
        if full:
            self._walk_seconds[item.study] = found.seconds

    async def _evaluate_run_filter(
        self, found: Evaluated, keys: frozenset[RunKey], *, full: bool
    ) -> None:
        context, scope, study = self.context, self.scope, found.study

        def read_records() -> list[RunRecord]:
            with scope.read() as session:
                table = session.tables.study(study)
                ids = table.ids(context.run_name) if full else sorted(key.id for key in keys)
                records = [r for r in table.records(ids) if r.run_name == context.run_name]
            found.number = len(records)
            return records

        matching = await evaluate_run_filter(found.action.condition, context.store, read_records)
        found.result = Matches(found.action.id, study if full else keys, matching)
