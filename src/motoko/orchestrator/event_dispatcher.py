"""Evaluate conditions after changes, and fire due events."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import anyio

from motoko.core.firing import EventSpec
from motoko.orchestrator.change_listener import ChangeListener
from motoko.orchestrator.condition_poller import ConditionPoller
from motoko.orchestrator.conditions import Matches, Truth
from motoko.orchestrator.constraint_evaluator import ConstraintEvaluator, ConstraintResults
from motoko.orchestrator.event_statuses import EventStatuses
from motoko.orchestrator.failures import FailureTracker
from motoko.orchestrator.firing_executor import FiringExecutor, FiringHistory, load_history
from motoko.storage.query import count_active_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from motoko.core.firing import Firing
    from motoko.core.records import RunRecord
    from motoko.orchestrator.actions import Action
    from motoko.orchestrator.change_listener import ChangeSet
    from motoko.orchestrator.execution_context import ExecutionContext
    from motoko.orchestrator.firing_executor import FiringId
    from motoko.storage.session import Session


@dataclass(frozen=True, slots=True)
class ConditionResults:
    """The results of one evaluation of all constraints.

    ``histories``, ``new``: of events that were registered since the last one. ``failures`` and
    ``active_runs``, a number, are known only if everything was evaluated.
    """

    constraints: ConstraintResults
    histories: list[FiringHistory]
    new: set[str]
    failures: list[RunRecord]
    active_runs: int | None


class EventDispatcher:
    """Feeds changes and condition results to the firing engine, and starts its firings.

    ``active_runs``: their number when everything was last evaluated.
    """

    def __init__(
        self, context: ExecutionContext, *, poll_interval: float, safety_poll: float | None
    ) -> None:
        self._context = context
        self._loop = asyncio.get_running_loop()
        self.listener = ChangeListener(
            context.store, safety_poll=safety_poll, start_evaluation=self._start_evaluation
        )
        self._poller = ConditionPoller(
            context,
            poll_interval,
            is_busy=self._is_busy,
            on_result=self._on_condition_result,
            on_evaluated=self._schedule_fire_due,
        )
        self.give_way = self._poller.give_way
        self.failures = FailureTracker(context, self.listener, lambda: self._poller.is_idle)
        self._executor = FiringExecutor(
            context, self.failures, on_end=self._fire_due, on_commit=self._poller.wake
        )
        self._constraints = ConstraintEvaluator(context.run_name)
        self.statuses = EventStatuses(context.actions, context.engine, self._poller)
        self._new: set[str] = set()
        self._publishing = False
        self._evaluated: set[str] = set()
        self._scheduled = False
        self._timer = asyncio.Event()
        self._observers: set[Callable[[], None]] = set()
        self.active_runs = 0

    def close(self) -> None:
        """Close the session that conditions read through."""
        self._poller.close()

    # -- registering -----------------------------------------------------------------------

    def register(self, action: Action) -> None:
        """Add an action, from any thread; its open firings of an earlier start resume."""
        self._context.actions[action.id] = action
        event = EventSpec(action.id, action.studies, action.kind, action.once)
        self._loop.call_soon_threadsafe(self._register, event)

    def _register(self, event: EventSpec) -> None:
        self._context.engine.register(event)
        self._new.add(event.name)
        self._evaluated.discard(event.name)
        if not self._publishing:  # once for all calls of the current turn of the loop
            self._publishing = True
            self._loop.call_soon(self.publish_events)
        self.listener.reevaluate()

    def publish_events(self) -> None:
        """Publish the registered events in the lease's report."""
        self._publishing = False
        if not self._context.single:
            self._context.lease.report_events(sorted(self._context.actions))

    # -- changes ---------------------------------------------------------------------------

    def _start_evaluation(self) -> Callable[[Session, ChangeSet], Callable[[], None]]:
        new, self._new = self._new, set()
        actions: list[Action] = []
        if new:
            registered = list(self._context.actions.values())  # other threads may add some
            actions = [action for action in registered if action.id in new]
            for action in actions:  # no evaluation uses the constraints now
                self._constraints.register(action)
        return partial(self._evaluate_changes, actions, new)

    def _evaluate_changes(
        self, actions: list[Action], new: set[str], session: Session, changes: ChangeSet
    ) -> Callable[[], None]:
        """Evaluate constraints in a thread; return a function that applies the results.

        ``actions`` are those of ``new`` events.
        """
        run_name, everything = self._context.run_name, changes.everything
        constraints = self._constraints.evaluate(session, changes, new)
        histories = [load_history(session, run_name, action) for action in actions]
        failures = self.failures.read_earlier(session, changes)
        counts = count_active_runs(session, run_name).values() if everything else ()
        active = sum(states.total() for states in counts) if everything else None
        results = ConditionResults(constraints, histories, new, failures, active)
        return partial(self._apply_changes, changes, results)

    def _apply_changes(self, changes: ChangeSet, results: ConditionResults) -> None:
        for history in results.histories:
            self._apply_history(history)
        for matches in results.constraints.matches:
            self._on_condition_result(matches)
        self._context.engine.update_runs(results.constraints.satisfied)
        if not self._context.single:
            for write_set in changes.write_sets:
                self._context.engine.on_commit(write_set)
            self._poller.on_change(changes)
        self.failures.on_change(changes)
        self.failures.add_earlier(results.failures)
        self._evaluated |= results.new - self._new
        if results.active_runs is not None:
            self.active_runs = results.active_runs
        self._fire_due()
        self._poller.start()

    def _is_busy(self) -> bool:
        """Return whether changes are being read, or actions have just started."""
        return not self.listener.is_idle or self._executor.has_fresh()

    def _apply_history(self, history: FiringHistory) -> None:
        engine = self._context.engine
        engine.record_once_firings(history.event, history.done_runs, without_runs=history.done)
        for firing_id, runs in history.open_firings:
            if not self._executor.is_executing(firing_id):
                self._start(engine.resume(history.event, runs), firing_id)
        self._poller.register(engine.event(history.event))

    def _on_condition_result(self, result: Matches | Truth) -> None:
        engine = self._context.engine
        if result.event not in self._context.actions:
            return
        if isinstance(result, Truth):
            engine.update_truth(result.event, result.study, result.holds)
        else:
            engine.update_matches(result.event, result.evaluated, set(result.matching))

    # -- firing ----------------------------------------------------------------------------

    def _schedule_fire_due(self) -> None:
        """Fire due events, once for all calls of the current turn of the loop."""
        if not self._scheduled:
            self._scheduled = True
            self._context.tasks.start(self._fire_scheduled, "a task of Motoko")

    async def _fire_scheduled(self) -> None:
        self._scheduled = False
        self._fire_due()

    def _fire_due(self) -> None:
        self._poller.wake()
        if self._context.tasks.is_open:
            self._start_due()
            self._timer.set()

    def _start_due(self) -> None:
        for firing in self._context.engine.pop_due(self._context.clock.monotonic()):
            self._start(firing)
        self.failures.handle_unhandled()
        self.notify_observers()

    def _start(self, firing: Firing, firing_id: FiringId | None = None) -> None:
        if not self._context.tasks.ending:
            action = self._context.actions[firing.event]
            work = self._executor.start(firing, firing_id)
            description = f"the action of event {action.name!r}, {action.where},"
            self._context.tasks.start(work, description)

    async def run_timer(self) -> None:
        """Evaluate conditions and fire events that become due with time, until cancelled."""
        engine, clock = self._context.engine, self._context.clock
        while True:
            times = [t for t in (engine.next_cooldown_end(), self._poller.next_time()) if t]
            with anyio.move_on_after(min(times) - clock.monotonic() if times else None):
                await self._timer.wait()
            self._timer.clear()
            self._poller.evaluate_due(clock.monotonic())
            if self._context.tasks.is_open:
                self._start_due()

    # -- settling --------------------------------------------------------------------------

    def observe(self, observer: Callable[[], None]) -> None:
        """Call ``observer`` whenever a task ended or something may have fired."""
        self._observers.add(observer)

    def notify_observers(self) -> None:
        """Report that a task ended or something may have fired."""
        for observer in tuple(self._observers):
            observer()

    @property
    def is_idle(self) -> bool:
        """Whether all conditions were evaluated since the last commit known to the process."""
        idle = self.listener.is_idle and self._poller.is_idle
        return idle and not self._scheduled and not self._new

    async def evaluate_now(self, actions: Iterable[Action]) -> bool:
        """Evaluate these actions' conditions and wait for their firings; return whether any fired.

        A firing that calls this is not waited for.
        """
        names = {action.id for action in actions}
        before = self._count_fired(names)
        own = getattr(self._context.store.scope(), "owner", "")
        changed = asyncio.Event()
        self._evaluated -= names
        self._new |= names
        self._observers.add(changed.set)
        try:
            self._poller.reevaluate(names)
            self.listener.reevaluate()
            while not self._is_settled(names, own):
                await changed.wait()
                changed.clear()
        finally:
            self._observers.discard(changed.set)
        return self._count_fired(names) > before

    def _is_settled(self, names: set[str], own: str) -> bool:
        return (
            names <= {event.name for event in self._context.engine.events()}
            and not self._new & names
            and self._evaluated >= names
            and not self._scheduled
            and self._poller.is_settled(names)
            and not any(f.event in names and o != own for o, f in self._executor.in_flight())
        )

    def _count_fired(self, names: set[str]) -> int:
        known = {event.name for event in self._context.engine.events()} & names
        return sum(self._context.engine.fired(name) for name in known)
