"""The firing engine: what fires when. Events in, firings out; no I/O.

The engine is told which runs satisfy which event's condition, what commits touched, and when
firings begin and end; it says what is to be fired. Its rules (docs: "Level-triggered"):

* a run inside an unfinished firing of an event is not selected by that event again, and firings of
  one event without runs never overlap;
* a trigger that has just fired and still holds waits for a later commit, from anything but that
  firing, that touches what it reads, or for ``poll_interval``;
* with ``once``, a run (or the event, where there are no runs) that has fired does not fire again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from motoko.core.records import RunKey


class ConditionKind(Enum):
    """What a condition is asked about."""

    CONSTRAINT = "constraint"
    RUN_FILTER = "f(run, job)"
    TASK_MANAGER_FILTER = "f(workflow, task_manager)"
    NO_ARGUMENTS = "f()"


@dataclass(frozen=True, slots=True)
class EventSpec:
    """A registered event as the engine knows it; ``name`` is unique."""

    name: str
    studies: tuple[str, ...]
    kind: ConditionKind
    once: bool = False

    @property
    def per_run(self) -> bool:
        """Whether each run is a trigger of its own."""
        return self.kind in (ConditionKind.CONSTRAINT, ConditionKind.RUN_FILTER)


@dataclass(frozen=True, slots=True)
class WriteSet:
    """What one commit touched; ``source`` is the firing that made it, if one did.

    ``number`` counts commits: it tells which are later than a firing's snapshot.
    """

    runs: frozenset[RunKey] = frozenset()
    variables: bool = False
    everything: bool = False
    source: object = None
    number: int = 0


@dataclass(frozen=True, slots=True)
class Firing:
    """One execution of an event's action: for these runs, or for a study's plain true value."""

    event: str
    number: int
    runs: tuple[RunKey, ...] = ()
    study: str | None = None


@dataclass(slots=True)
class _Cooldown:
    """A trigger that has just fired: until ``until``, or a commit from another source that is
    later than the one numbered ``since``.
    """

    until: float
    source: object
    since: int

    def yields_to(self, touched: WriteSet) -> bool:
        return touched.source is not self.source and touched.number > self.since


@dataclass(slots=True)
class _EventState:
    event: EventSpec
    matching: set[RunKey] = field(default_factory=set)
    selected: dict[str, set[RunKey]] = field(default_factory=dict)
    true_for: set[str] = field(default_factory=set)
    busy: set[RunKey] = field(default_factory=set)
    busy_plain: int | None = None
    held: dict[RunKey, _Cooldown] = field(default_factory=dict)
    held_plain: dict[str, _Cooldown] = field(default_factory=dict)
    done: set[RunKey] = field(default_factory=set)
    done_plain: bool = False
    fired: int = 0
    changed: bool = True  # so that something may have become due since it was last looked at


class FiringEngine:
    """Decides what fires. Times are monotonic seconds, given by the caller."""

    def __init__(self, poll_interval: float) -> None:
        self._poll_interval = poll_interval
        self._states: dict[str, _EventState] = {}
        self._count = 0

    def register(self, event: EventSpec) -> None:
        """Add an event, or replace the one of this name; firings under way stay busy."""
        new = _EventState(event)
        old = self._states.get(event.name)
        if old is not None:
            new.busy, new.busy_plain, new.fired = old.busy, old.busy_plain, old.fired
        self._states[event.name] = new

    def events(self) -> list[EventSpec]:
        """Return all registered events, in order of registration."""
        return [state.event for state in self._states.values()]

    def event(self, name: str) -> EventSpec:
        """Return the registered event of this name."""
        return self._states[name].event

    def fired(self, name: str) -> int:
        """Return how many times an event has fired since the start."""
        return self._states[name].fired

    def matching(self, name: str) -> set[RunKey]:
        """Return the runs that satisfied the event's condition when last asked."""
        return self._states[name].matching

    def selects(self, key: RunKey) -> bool:
        """Return whether some event selects this run, or is being fired with it."""
        return any(
            key in state.matching or key in state.busy or key in state.done
            for state in self._states.values()
        )

    # -- what is told ----------------------------------------------------------------------

    def mark_done(self, name: str, keys: Iterable[RunKey], *, plain: bool = False) -> None:
        """Learn that ``once`` firings are on record for these runs (or for the event)."""
        state = self._states[name]
        state.done.update(keys)
        state.done_plain = state.done_plain or plain

    def update_matches(
        self, name: str, asked: Iterable[RunKey] | str, matching: set[RunKey]
    ) -> None:
        """Learn which of the ``asked`` runs (or of a study's runs) satisfy a condition."""
        state = self._states[name]
        state.changed = True
        if isinstance(asked, str):
            gone = state.selected.get(asked, set()) - matching
            state.selected[asked] = set(matching)
            # A study's condition may select runs of another study, and two the same run.
            gone.difference_update(*state.selected.values())
        else:
            gone = {key for key in asked if key not in matching}
            for key in asked:
                chosen = state.selected.setdefault(key.study, set())
                (chosen.discard if key in gone else chosen.add)(key)
        state.matching -= gone
        for key in gone:
            state.held.pop(key, None)
        state.matching |= matching

    def update_truth(self, name: str, study: str, holds: bool) -> None:
        """Learn whether a condition without runs holds for a study ("" for ``f()``)."""
        state = self._states[name]
        state.changed = True
        if holds:
            state.true_for.add(study)
        else:
            state.true_for.discard(study)
            state.held_plain.pop(study, None)

    def on_commit(self, touched: WriteSet) -> None:
        """Release the held triggers that this commit touches, unless it is their own."""
        for state in self._states.values():
            if state.held or state.held_plain:
                self._release(state, touched)

    def _release(self, state: _EventState, touched: WriteSet) -> None:
        state.changed = True
        studies = {key.study for key in touched.runs}
        for key, hold in list(state.held.items()):
            reads = (
                key in touched.runs
                if state.event.kind is ConditionKind.CONSTRAINT
                else key.study in studies or state.event.kind is ConditionKind.TASK_MANAGER_FILTER
            )
            if hold.yields_to(touched) and (reads or touched.everything):
                del state.held[key]
        if state.event.kind is ConditionKind.TASK_MANAGER_FILTER:
            for study, hold in list(state.held_plain.items()):
                if hold.yields_to(touched):
                    del state.held_plain[study]

    def on_finished(self, firing: Firing, source: object, now: float, since: int = 0) -> None:
        """Learn that a firing has ended; what still holds waits.

        ``since`` is the number of the last commit that the firing's snapshot included.
        """
        state = self._states.get(firing.event)
        if state is None:
            return
        hold = _Cooldown(now + self._poll_interval, source, since)
        state.changed = True
        state.busy.difference_update(firing.runs)
        for key in firing.runs:
            if key in state.matching:
                state.held[key] = hold
            if state.event.once:
                state.done.add(key)
        if firing.study is not None:
            state.busy_plain = None
            state.held_plain[firing.study] = hold
            state.done_plain = state.done_plain or state.event.once

    def on_dropped(self, firing: Firing) -> None:
        """Learn that nothing was left of a firing when it looked: it did not happen."""
        state = self._states.get(firing.event)
        if state is None:
            return
        state.changed = True
        state.busy.difference_update(firing.runs)
        state.matching.difference_update(firing.runs)
        for chosen in state.selected.values():
            chosen.difference_update(firing.runs)
        state.fired -= 1
        if firing.study is not None:
            state.busy_plain = None
            state.true_for.discard(firing.study)

    def is_quiescent(self, number: int) -> bool:
        """Return whether all that holds has fired since commit ``number``, and changed nothing."""
        return all(
            hold.since >= number
            for state in self._states.values()
            for hold in (*state.held.values(), *state.held_plain.values())
        ) and not any(self._could_fire(state) for state in self._states.values())

    @staticmethod
    def _could_fire(state: _EventState) -> bool:
        runs = state.matching - state.busy - state.held.keys() - state.done
        plain = state.true_for - state.held_plain.keys()
        return bool(runs) or bool(plain and not state.done_plain and state.busy_plain is None)

    # -- what is decided -------------------------------------------------------------------

    def pop_due(self, now: float) -> list[Firing]:
        """Return what is to be fired now, and take it as begun."""
        firings: list[Firing] = []
        for state in self._states.values():
            self._expire(state, now)
            if state.changed:
                state.changed = False
                firings.extend(self._due(state))
        return firings

    def _expire(self, state: _EventState, now: float) -> None:
        for key, hold in list(state.held.items()):
            if hold.until <= now:
                state.changed = True
                del state.held[key]
        for study, hold in list(state.held_plain.items()):
            if hold.until <= now:
                state.changed = True
                del state.held_plain[study]

    def _due(self, state: _EventState) -> Iterable[Firing]:
        ready = state.matching - state.busy - state.held.keys() - state.done
        if ready:
            state.busy |= ready
            yield self._begin(state, runs=tuple(sorted(ready)))
        if state.busy_plain is None and not state.done_plain:
            studies = [s for s in sorted(state.true_for) if s not in state.held_plain]
            if studies:
                firing = self._begin(state, study=studies[0])
                state.busy_plain = firing.number
                yield firing

    def _begin(
        self, state: _EventState, *, runs: tuple[RunKey, ...] = (), study: str | None = None
    ) -> Firing:
        self._count += 1
        state.fired += 1
        return Firing(state.event.name, self._count, runs, study)

    def resume(self, name: str, runs: tuple[RunKey, ...]) -> Firing:
        """Begin a recorded open firing again, with its recorded runs."""
        state = self._states[name]
        state.busy.update(runs)
        firing = self._begin(state, runs=runs, study=None if runs else "")
        if not runs:
            state.busy_plain = firing.number
        return firing

    def next_cooldown_end(self) -> float | None:
        """Return when the first held trigger is to be looked at again, None if none is held."""
        times = [
            hold.until
            for state in self._states.values()
            for hold in (*state.held.values(), *state.held_plain.values())
        ]
        return min(times, default=None)
