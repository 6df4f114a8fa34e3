"""A model of the firing engine that looks at every trigger of every event in each call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from motoko.core.firing import ConditionKind, EventSpec, Firing, WriteSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from motoko.core.records import RunKey


@dataclass(slots=True)
class _Cooldown:
    """The pause of a trigger: until ``until``, or a commit of another source after ``since``."""

    until: float
    source: object
    since: int

    def ends_with(self, written: WriteSet) -> bool:
        return written.source is not self.source and written.number > self.since


@dataclass(slots=True)
class _EventState:
    """The triggers of an event: runs, or studies where the condition selects no runs."""

    event: EventSpec
    matching: set[RunKey] = field(default_factory=set)
    selected: dict[str, set[RunKey]] = field(default_factory=dict)  # by evaluated study
    true_for: set[str] = field(default_factory=set)
    busy: set[RunKey] = field(default_factory=set)
    busy_without_runs: bool = False
    cooldowns: dict[RunKey | str, _Cooldown] = field(default_factory=dict)
    done: set[RunKey] = field(default_factory=set)
    done_without_runs: bool = False
    fired: int = 0
    changed: bool = True  # since the last call of `pop_due`

    def ready_runs(self) -> set[RunKey]:
        return self.matching - self.busy - self.cooldowns.keys() - self.done

    def ready_studies(self) -> list[str]:
        if self.busy_without_runs or self.done_without_runs:
            return []
        return sorted(self.true_for - self.cooldowns.keys())

    def reads(self, trigger: RunKey | str, written: WriteSet, studies: set[str]) -> bool:
        """Return whether a trigger's condition reads what a commit wrote, in these studies."""
        if self.event.kind is ConditionKind.TASK_MANAGER_FILTER:
            return True
        if isinstance(trigger, str):
            return False
        if self.event.kind is ConditionKind.CONSTRAINT:
            return written.everything or trigger in written.runs
        return written.everything or trigger.study in studies


class FiringModel:
    """Decides which events fire. Times are monotonic seconds, given by the caller."""

    def __init__(self, poll_interval: float) -> None:
        self._poll_interval = poll_interval
        self._states: dict[str, _EventState] = {}
        self._count = 0

    def register(self, event: EventSpec) -> None:
        """Add an event, or replace the one of this name; unfinished firings stay busy."""
        new = _EventState(event)
        old = self._states.get(event.name)
        if old is not None:
            new.busy, new.busy_without_runs = old.busy, old.busy_without_runs
            new.fired = old.fired
        self._states[event.name] = new

    def events(self) -> list[EventSpec]:
        """Return all registered events, in order of registration."""
        return [state.event for state in self._states.values()]

    def event(self, name: str) -> EventSpec:
        """Return the registered event of this name."""
        return self._states[name].event

    def fired(self, name: str) -> int:
        """Return how often an event has fired since the start."""
        return self._states[name].fired

    def activity(self, name: str) -> tuple[int, int]:
        """Return how many triggers of an event are in unfinished firings, and how many cool down.

        The latter fired and still hold.
        """
        state = self._states[name]
        cooling = 0 if state.done_without_runs else len(state.cooldowns.keys() - state.done)
        return len(state.busy) + state.busy_without_runs, cooling

    def matching(self, name: str) -> set[RunKey]:
        """Return the runs that matched the event's condition at its last evaluation."""
        return self._states[name].matching

    def selects(self, key: RunKey) -> bool:
        """Return whether an event selects this run, is firing with it, or is done with it."""
        return any(
            key in state.matching or key in state.busy or key in state.done
            for state in self._states.values()
        )

    # -- notices ---------------------------------------------------------------------------

    def record_once_firings(
        self, name: str, keys: Iterable[RunKey], *, without_runs: bool = False
    ) -> None:
        """Record the stored ``once`` firings: their runs, and whether one had no runs."""
        state = self._states[name]
        state.done.update(keys)
        state.done_without_runs = state.done_without_runs or without_runs

    def update_matches(
        self, name: str, evaluated: Iterable[RunKey] | str, matching: set[RunKey]
    ) -> None:
        """Record which of the evaluated runs (or of a study's runs) match a condition."""
        state = self._states[name]
        state.changed = True
        if isinstance(evaluated, str):
            dropped = state.selected.get(evaluated, set()) - matching
            state.selected[evaluated] = set(matching)
            # A study's condition may select runs of another study, and two the same run.
            dropped.difference_update(*state.selected.values())
        else:
            dropped = {key for key in evaluated if key not in matching}
            for key in evaluated:
                selected = state.selected.setdefault(key.study, set())
                (selected.discard if key in dropped else selected.add)(key)
        state.matching -= dropped
        for key in dropped:
            state.cooldowns.pop(key, None)
        state.matching |= matching

    def update_truth(self, name: str, study: str, holds: bool) -> None:
        """Record whether a condition without runs holds for a study ("" for ``f()``)."""
        state = self._states[name]
        state.changed = True
        if holds:
            state.true_for.add(study)
        else:
            state.true_for.discard(study)
            state.cooldowns.pop(study, None)

    def on_commit(self, written: WriteSet) -> None:
        """End the cooldowns of triggers that read what a commit wrote, except its own."""
        studies = {key.study for key in written.runs}
        for state in self._states.values():
            ended = [
                trigger
                for trigger, cooldown in state.cooldowns.items()
                if cooldown.ends_with(written) and state.reads(trigger, written, studies)
            ]
            self._end_cooldowns(state, ended)

    def _end_cooldowns(self, state: _EventState, triggers: list[RunKey | str]) -> None:
        for trigger in triggers:
            state.changed = True
            del state.cooldowns[trigger]

    def on_finished(self, firing: Firing, source: object, now: float, since: int = 0) -> None:
        """Finish a firing with ``since`` as last commit in its snapshot; its triggers cool down."""
        state = self._states.get(firing.event)
        if state is None:
            return
        cooldown = _Cooldown(now + self._poll_interval, source, since)
        state.changed = True
        state.busy.difference_update(firing.runs)
        state.cooldowns.update((key, cooldown) for key in firing.runs if key in state.matching)
        if state.event.once:
            state.done.update(firing.runs)
        if firing.study is not None:
            state.busy_without_runs = False
            state.cooldowns[firing.study] = cooldown
            state.done_without_runs = state.done_without_runs or state.event.once

    def on_dropped(self, firing: Firing) -> None:
        """Undo a firing whose trigger no longer held at its start."""
        state = self._states.get(firing.event)
        if state is None:
            return
        state.changed = True
        state.busy.difference_update(firing.runs)
        for selected in (state.matching, *state.selected.values()):
            selected.difference_update(firing.runs)
        state.fired -= 1
        if firing.study is not None:
            state.busy_without_runs = False
            state.true_for.discard(firing.study)

    # -- decisions -------------------------------------------------------------------------

    def pop_due(self, now: float) -> list[Firing]:
        """Return the firings to start now; their triggers are busy from now on."""
        firings: list[Firing] = []
        for state in self._states.values():
            self._end_cooldowns(state, [t for t, c in state.cooldowns.items() if c.until <= now])
            if state.changed:
                state.changed = False
                firings.extend(self._due(state))
        return firings

    def _due(self, state: _EventState) -> Iterator[Firing]:
        ready = state.ready_runs()
        if ready:
            yield self._start(state, runs=tuple(sorted(ready)))
        for study in state.ready_studies()[:1]:
            yield self._start(state, study=study)

    def _start(
        self, state: _EventState, *, runs: tuple[RunKey, ...] = (), study: str | None = None
    ) -> Firing:
        self._count += 1
        state.fired += 1
        state.busy.update(runs)
        state.busy_without_runs = state.busy_without_runs or study is not None
        return Firing(state.event.name, self._count, runs, study)

    def resume(self, name: str, runs: tuple[RunKey, ...]) -> Firing:
        """Restart a recorded open firing with its recorded runs."""
        return self._start(self._states[name], runs=runs, study=None if runs else "")

    def is_quiescent(self, number: int) -> bool:
        """Return whether every trigger that holds has fired since commit ``number``."""
        return all(
            cooldown.since >= number
            for state in self._states.values()
            for cooldown in state.cooldowns.values()
        ) and not any(
            state.ready_runs() or state.ready_studies() for state in self._states.values()
        )

    def next_cooldown_end(self) -> float | None:
        """Return when the first cooldown ends, None if no trigger cools down."""
        states = self._states.values()
        times = [cooldown.until for state in states for cooldown in state.cooldowns.values()]
        return min(times, default=None)
