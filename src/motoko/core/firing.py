"""The firing engine: decides which events fire. It maps notices to firings, without I/O.

The caller reports matching runs, commits and finished firings, and gets firings to execute. Rules:

* An event does not select a run of its unfinished firings, and its firings without runs never
  overlap.
* A trigger that has just fired and still holds cools down for ``poll_interval``, or until a later
  commit from another source writes an object that it reads.
* With ``once`` a run (or an event without runs) fires one time only.

The work per call depends on what changed, not on the numbers of events and of matching runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from motoko.core.cooldowns import Cooldown, CooldownQueue
from motoko.core.event_state import ConditionKind, EventSpec, EventState, WriteSet
from motoko.core.run_sets import Holders, RunSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from motoko.core.records import RunKey

__all__ = ["ConditionKind", "EventSpec", "Firing", "FiringEngine", "WriteSet"]


@dataclass(frozen=True, slots=True)
class Firing:
    """One execution of an event's action, for runs or for a study with a true condition."""

    event: str
    number: int
    runs: tuple[RunKey, ...] = ()
    study: str | None = None


class FiringEngine:
    """Decides which events fire. Times are monotonic seconds, given by the caller."""

    def __init__(self, poll_interval: float) -> None:
        self._poll_interval = poll_interval
        self._states: dict[str, EventState] = {}
        self._count = 0
        self._changed: set[str] = set()  # events, since the last call of `pop_due`
        self._holders = Holders()
        self._queue = CooldownQueue()
        self._cooling: dict[bool, set[str]] = {True: set(), False: set()}  # by: is a constraint

    def register(self, event: EventSpec) -> None:
        """Add an event, or replace the one of this name; unfinished firings stay busy."""
        old = self._states.get(event.name)
        new = EventState(event, len(self._states) if old is None else old.order)
        if old is not None:
            for trigger in tuple(old.cooldowns):
                self._end_cooldown(old, trigger)
            new.busy, new.busy_without_runs = old.busy, old.busy_without_runs
            new.fired, new.version = old.fired, old.version
        self._states[event.name] = new
        if old is not None:
            self._release(new, chain(old.matching, old.done))
        self._mark(new)

    def events(self) -> list[EventSpec]:
        """Return all registered events, in order of registration."""
        return [state.event for state in self._states.values()]

    def event(self, name: str) -> EventSpec:
        """Return the registered event of this name."""
        return self._states[name].event

    def has_event(self, name: str) -> bool:
        """Return whether an event of this name is registered."""
        return name in self._states

    def fired(self, name: str) -> int:
        """Return how often an event has fired since the start."""
        return self._states[name].fired

    def version(self, name: str) -> int:
        """Return a number that grows with every change of an event's activity."""
        return self._states[name].version

    def activity(self, name: str) -> tuple[int, int]:
        """Return how many triggers of an event are in unfinished firings, and how many cool down.

        The latter fired and still hold.
        """
        state = self._states[name]
        cooling = [trigger for trigger in state.cooldowns if trigger not in state.done]
        number = 0 if state.done_without_runs else len(cooling)
        return len(state.busy) + state.busy_without_runs, number

    def matching(self, name: str) -> AbstractSet[RunKey]:
        """Return the runs that matched the event's condition at its last evaluation."""
        return self._states[name].matching

    def selects(self, key: RunKey) -> bool:
        """Return whether an event selects this run, is firing with it, or is done with it."""
        return bool(self._holders.names(key))

    def _mark(self, state: EventState) -> None:
        state.version += 1
        self._changed.add(state.event.name)

    def _release(self, state: EventState, keys: Iterable[RunKey]) -> None:
        """Record that an event no longer holds these runs, if so."""
        for key in keys:
            if not state.holds(key):
                self._holders.discard(state.event.name, key)

    # -- notices ---------------------------------------------------------------------------

    def record_once_firings(
        self, name: str, keys: Iterable[RunKey], *, without_runs: bool = False
    ) -> None:
        """Record the stored ``once`` firings: their runs, and whether one had no runs."""
        state = self._states[name]
        new = RunSet(keys)
        state.done.update(new)
        state.done_without_runs = state.done_without_runs or without_runs
        self._holders.add(name, new)

    def update_matches(
        self, name: str, evaluated: Iterable[RunKey] | str, matching: set[RunKey]
    ) -> None:
        """Record which of the evaluated runs (or of a study's runs) match a condition."""
        state = self._states[name]
        if isinstance(evaluated, str):
            dropped = state.replace_selection(evaluated, matching)
        else:
            dropped = {key for key in evaluated if key not in matching}
        self._deselect(state, dropped)
        self._select(state, matching)

    def update_runs(self, satisfied: Mapping[RunKey, Iterable[str]]) -> None:
        """Record which of all events with constraints each evaluated run satisfies."""
        for key, names in satisfied.items():
            known = {name for name in names if name in self._states}
            for name in self._holders.names(key):
                state = self._states[name]
                if name not in known and state.event.kind is ConditionKind.CONSTRAINT:
                    self._deselect(state, (key,))
            for name in known:
                self._select(self._states[name], (key,))

    def _select(self, state: EventState, keys: Iterable[RunKey]) -> None:
        new = {key for key in keys if key not in state.matching}
        if new:
            state.matching.update(new)
            state.unchecked |= new
            self._holders.add(state.event.name, new)
            self._mark(state)

    def _deselect(self, state: EventState, keys: Iterable[RunKey]) -> None:
        for key in keys:
            if key in state.matching:
                state.matching.discard(key)
                self._end_cooldown(state, key)
                self._release(state, (key,))
                self._mark(state)

    def update_truth(self, name: str, study: str, holds: bool) -> None:
        """Record whether a condition without runs holds for a study ("" for ``f()``)."""
        state = self._states[name]
        if holds != (study in state.true_for):
            self._mark(state)
        if holds:
            state.true_for.add(study)
        else:
            state.true_for.discard(study)
            self._end_cooldown(state, study)

    def on_commit(self, written: WriteSet) -> None:
        """End the cooldowns of triggers that read what a commit wrote, except its own."""
        studies = {key.study for key in written.runs}
        for key in written.runs:
            for name in self._holders.names(key):
                state = self._states[name]
                if state.event.kind is ConditionKind.CONSTRAINT:
                    self._end_cooldowns(state, (key,), written, studies)
        constraints = self._cooling[True] if written.everything else ()
        for name in (*self._cooling[False], *constraints):
            state = self._states[name]
            self._end_cooldowns(state, tuple(state.cooldowns), written, studies)

    def _end_cooldowns(
        self,
        state: EventState,
        triggers: Iterable[RunKey | str],
        written: WriteSet,
        studies: set[str],
    ) -> None:
        for trigger in triggers:
            cooldown = state.cooldowns.get(trigger)
            ends = cooldown is not None and cooldown.ends_with(written.source, written.number)
            if ends and state.reads(trigger, written, studies):
                self._end_cooldown(state, trigger)

    def _end_cooldown(self, state: EventState, trigger: RunKey | str) -> None:
        cooldown = state.cooldowns.pop(trigger, None)
        if cooldown is None:
            return
        self._queue.release(cooldown)
        if not isinstance(trigger, str):
            state.unchecked.add(trigger)
        if not state.cooldowns:
            self._cooling[state.event.kind is ConditionKind.CONSTRAINT].discard(state.event.name)
        self._mark(state)

    def _cool_down(self, state: EventState, cooldown: Cooldown) -> None:
        for trigger in cooldown.triggers:
            self._end_cooldown(state, trigger)
            state.cooldowns[trigger] = cooldown
        cooldown.remaining = len(cooldown.triggers)
        if cooldown.remaining:
            self._queue.add(cooldown)
            self._cooling[state.event.kind is ConditionKind.CONSTRAINT].add(state.event.name)

    def on_finished(self, firing: Firing, source: object, now: float, since: int = 0) -> None:
        """Finish a firing with ``since`` as last commit in its snapshot; its triggers cool down."""
        state = self._states.get(firing.event)
        if state is None:
            return
        self._mark(state)
        state.busy.difference_update(firing.runs)
        triggers: list[RunKey | str] = [key for key in firing.runs if key in state.matching]
        if state.event.once:
            state.done.update(firing.runs)
        if firing.study is not None:
            state.busy_without_runs = False
            triggers.append(firing.study)
            state.done_without_runs = state.done_without_runs or state.event.once
        until = now + self._poll_interval
        self._cool_down(state, Cooldown(firing.event, tuple(triggers), until, source, since))
        self._release(state, firing.runs)

    def on_dropped(self, firing: Firing) -> None:
        """Undo a firing whose trigger no longer held at its start."""
        state = self._states.get(firing.event)
        if state is None:
            return
        self._mark(state)
        state.busy.difference_update(firing.runs)
        state.matching.difference_update(firing.runs)
        for selected in state.selected.values():
            selected.difference_update(firing.runs)
        state.fired -= 1
        if firing.study is not None:
            state.busy_without_runs = False
            state.true_for.discard(firing.study)
        self._release(state, firing.runs)

    # -- decisions -------------------------------------------------------------------------

    def pop_due(self, now: float) -> list[Firing]:
        """Return the firings to start now; their triggers are busy from now on."""
        for cooldown in self._queue.pop_ended(now):
            state = self._states[cooldown.event]
            for trigger in cooldown.triggers:
                if state.cooldowns.get(trigger) is cooldown:
                    self._end_cooldown(state, trigger)
        changed = sorted((self._states[name] for name in self._changed), key=lambda s: s.order)
        self._changed = set()
        firings: list[Firing] = []
        for state in changed:
            firings.extend(self._due(state))
            state.unchecked = set()
        return firings

    def _due(self, state: EventState) -> Iterator[Firing]:
        ready = state.ready_runs()
        if ready:
            yield self._start(state, runs=tuple(sorted(ready)))
        for study in state.ready_studies()[:1]:
            yield self._start(state, study=study)

    def _start(
        self, state: EventState, *, runs: tuple[RunKey, ...] = (), study: str | None = None
    ) -> Firing:
        self._count += 1
        state.fired += 1
        state.version += 1
        state.busy.update(runs)
        self._holders.add(state.event.name, runs)
        state.busy_without_runs = state.busy_without_runs or study is not None
        return Firing(state.event.name, self._count, runs, study)

    def resume(self, name: str, runs: tuple[RunKey, ...]) -> Firing:
        """Restart a recorded open firing with its recorded runs."""
        return self._start(self._states[name], runs=runs, study=None if runs else "")

    def is_quiescent(self, number: int) -> bool:
        """Return whether every trigger that holds has fired since commit ``number``."""
        changed = [self._states[name] for name in self._changed]
        ready = any(state.ready_runs() or state.ready_studies() for state in changed)
        return not ready and all(cooldown.since >= number for cooldown in self._queue)

    def next_cooldown_end(self) -> float | None:
        """Return when the first cooldown ends, None if no trigger cools down."""
        return self._queue.next_end()
