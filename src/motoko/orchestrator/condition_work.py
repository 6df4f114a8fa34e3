"""The evaluation of sync conditions in threads: of one call, of some runs, or of all runs."""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final, Protocol

from motoko.core.firing import ConditionKind
from motoko.handles.run import run_job_pairs
from motoko.orchestrator.conditions import Matches, condition_reads, to_result
from motoko.storage.scope import use_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from motoko.core.records import RunKey, RunRecord
    from motoko.handles.run import Runs
    from motoko.orchestrator.conditions import ReadOnlyScope
    from motoko.orchestrator.execution_context import ExecutionContext
    from motoko.orchestrator.pending_evaluations import Evaluated, Evaluation

CHUNK: Final = 50  # ids of runs that a walk reads at once


class Caller(Protocol):
    """Reads the runs for calls, and accepts their results."""

    context: ExecutionContext
    scope: ReadOnlyScope

    def read_pairs(self, study: str, keys: frozenset[RunKey]) -> Runs:
        """Return the runs with these keys, from any thread."""

    def on_call(self, item: Evaluation, keys: frozenset[RunKey], found: Evaluated) -> None:
        """Accept the result of a call, in the event loop."""


class Call:
    """One call of ``f(workflow, task_manager)`` or ``f()``, or a run filter for some runs."""

    __slots__ = ("_caller", "_evaluated", "_item", "_keys", "expected")

    def __init__(
        self, caller: Caller, item: Evaluation, keys: frozenset[RunKey], evaluated: Evaluated
    ) -> None:
        self.expected = item.seconds
        self._caller = caller
        self._item = item
        self._keys = keys
        self._evaluated = evaluated

    @property
    def description(self) -> str:
        """The condition."""
        return f"the condition of event {self._item.event!r}"

    def step(self, _deadline: float) -> bool:
        """Evaluate the condition."""
        found, context = self._evaluated, self._caller.context
        clock = context.clock
        found.asked, start = context.store.now(), clock.monotonic()
        try:
            copy_context().run(self._evaluate)
        except BaseException as error:  # noqa: BLE001 - raised by ``finish``
            found.error = error
        found.seconds = clock.monotonic() - start
        return True

    def _evaluate(self) -> None:
        found, action = self._evaluated, self._evaluated.action
        condition_reads.set(found.reads)
        with use_scope(self._caller.scope):
            if action.kind is ConditionKind.RUN_FILTER:
                self._evaluate_runs()
                return
            arguments: tuple[Any, ...] = ()
            if action.kind is ConditionKind.TASK_MANAGER_FILTER:
                host = self._caller.context.host
                arguments = (host, host.task_manager(found.study))
            condition: Any = action.condition
            returned = condition(*arguments)
            if not found.returned_coroutine(returned):
                found.result = to_result(action.id, found.study, returned)

    def _evaluate_runs(self) -> None:
        found = self._evaluated
        condition: Any = found.action.condition
        pairs = self._caller.read_pairs(found.study, self._keys)
        found.reads.add(found.study)
        matching: list[RunKey] = []
        for run, job in pairs:
            returned = condition(run, job)
            if found.returned_coroutine(returned):
                return
            if returned:
                matching.append(run.key)
        found.number = len(pairs)
        found.result = Matches(found.action.id, self._keys, frozenset(matching))

    def finish(self) -> None:
        """Pass the result on."""
        self._caller.on_call(self._item, self._keys, self._evaluated)


class Walk:
    """The evaluation of run filters for all runs of a study, a few runs at a time.

    The filters share the reading of runs. ``overrides``: newer results of single runs, by event.
    """

    expected = 0.0

    def __init__(
        self,
        context: ExecutionContext,
        scope: ReadOnlyScope,
        study: str,
        filters: list[Evaluated],
        on_walked: Callable[[Walk], None],
    ) -> None:
        self.description = f"the run filters of study {study!r}"
        self.study = study
        self.filters = filters
        self.seconds = 0.0
        self.overrides: dict[str, dict[RunKey, bool]] = {one.action.id: {} for one in filters}
        self._context = context
        self._scope = scope
        self._on_walked = on_walked
        self._matching: dict[str, set[RunKey]] = {one.action.id: set() for one in filters}
        self._number = 0
        self._deadline = 0.0
        self._steps = self._walk()
        self._current: Evaluated | None = None

    def step(self, deadline: float) -> bool:
        """Continue to ``deadline`` or further; return whether all runs were evaluated."""
        start = self._context.clock.monotonic()
        self._deadline = deadline
        if not self.seconds:
            asked = self._context.store.now()
            for one in self.filters:
                one.asked = asked
        try:
            copy_context().run(self._advance)
        except StopIteration:
            return True
        except BaseException as error:  # noqa: BLE001 - raised by ``finish``
            culprit = self._current or self.filters[0]
            culprit.error = error
            return True
        finally:
            self.seconds += self._context.clock.monotonic() - start
        return False

    def _advance(self) -> None:
        with use_scope(self._scope):
            next(self._steps)

    def _walk(self) -> Iterator[None]:
        for pairs in self._chunks():
            self._number += len(pairs)
            for one in self.filters:
                if not one.is_async:
                    yield from self._evaluate(one, pairs)
            yield

    def _evaluate(self, one: Evaluated, pairs: Runs) -> Iterator[None]:
        clock, matching = self._context.clock, self._matching[one.action.id]
        condition: Any = one.action.condition
        self._current, start = one, clock.monotonic()
        for run, job in pairs:
            condition_reads.set(one.reads)  # each step has a context of its own
            returned = condition(run, job)
            if one.returned_coroutine(returned):
                break
            if returned:
                matching.add(run.key)
            now = clock.monotonic()
            if now >= self._deadline:
                one.seconds += now - start
                yield
                start = clock.monotonic()
        one.seconds += clock.monotonic() - start
        self._current = None

    def _chunks(self) -> Iterator[Runs]:
        low, last = 1, 1
        while low <= last:
            condition_reads.set(None)
            with self._scope.read() as session:
                table = session.tables.study(self.study)
                last = table.last_id
                sets = table.id_sets("lifecycles", None, self._context.run_name)
                ids = sorted(number for ids in sets for number in ids.keys(low, low + CHUNK - 1))
                records = list(table.records(ids, keep=False))
            low += CHUNK
            if records:
                yield run_job_pairs(self._context.store, records)

    def finish(self) -> None:
        """Pass the results on; none after an exception."""
        complete = all(one.error is None for one in self.filters)
        for one in self.filters if complete else ():
            newer = self.overrides[one.action.id]
            matching = {key for key in self._matching[one.action.id] if key not in newer}
            matching |= {key for key, matches in newer.items() if matches}
            one.reads.add(self.study)
            one.number = self._number
            one.result = Matches(one.action.id, self.study, frozenset(matching))
        self._on_walked(self)


def read_pairs(
    context: ExecutionContext, scope: ReadOnlyScope, study: str, keys: frozenset[RunKey]
) -> Runs:
    """Return the runs with these keys that exist under the run name, in id order."""
    with scope.read() as session:
        table = session.tables.study(study)
        records: list[RunRecord] = list(table.records(sorted(key.id for key in keys)))
    return run_job_pairs(context.store, [r for r in records if r.run_name == context.run_name])
