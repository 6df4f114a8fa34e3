"""Choose the runs to claim: decisions without effects."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from motoko.core.records import RunRecord
    from motoko.core.run_options import RunOptions


@dataclass(frozen=True, slots=True)
class ServedQueue:
    """What a launcher serves: runs for one of its generators, meant for one of its machines."""

    generators: frozenset[str]
    machines: frozenset[str]

    def serves(self, terms: RunOptions) -> bool:
        """Return whether a run with these terms is for this launcher."""
        meant_for = terms.machine_name or "localhost"
        return terms.generator in self.generators and meant_for in self.machines


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much may be claimed: slots in all, runs by study, and at most so many runs ahead.

    A run claimed ahead waits until a slot is free, which then need not wait for a commit.
    """

    slots: int
    most_ahead: int = 0
    per_study: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Load:
    """What is claimed already: slots taken, runs by study, runs that wait for a slot.

    ``ended_lately``: so many runs ended within the last second.
    """

    taken: int = 0
    waiting: int = 0
    ended_lately: int = 0
    runs: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClaimPlan:
    """Which runs to claim, and when to look again because of a ``not_before``."""

    claims: tuple[tuple[RunRecord, RunOptions], ...] = ()
    wake_at: float | None = None


class _ClaimChooser:
    def __init__(self, capacity: Capacity, load: Load, now: float) -> None:
        self.capacity = capacity
        self.now = now
        self.taken = load.taken
        self.waiting = load.waiting
        # Worth it only where runs are short: long ones had better stay free for others.
        self.ahead = min(capacity.most_ahead, load.ended_lately)
        self.runs = dict(load.runs)
        self.claims: list[tuple[RunRecord, RunOptions]] = []
        self.wake_at: float | None = None

    def full(self, study: str) -> bool:
        limit = self.capacity.per_study.get(study)
        return limit is not None and self.runs.get(study, 0) >= limit

    def due(self, record: RunRecord) -> bool:
        if record.not_before <= self.now:
            return True
        self.wake_at = min(record.not_before, self.wake_at or record.not_before)
        return False

    def take(self, record: RunRecord, terms: RunOptions) -> bool:
        """Take the run if there is room. One that is larger than all slots runs alone."""
        if not fits(terms.slots, self.taken, self.capacity.slots):
            if self.waiting >= self.ahead:
                return False
            self.waiting += 1
        self.taken += terms.slots
        self.runs[record.study] = self.runs.get(record.study, 0) + 1
        self.claims.append((record, terms))
        return True


def fits(wanted: int, taken: int, slots: int) -> bool:
    """Return whether a run may start; one that is larger than all slots does so alone."""
    return taken == 0 or taken + wanted <= slots


def choose_claims(
    queues: Sequence[tuple[str, Iterable[RunRecord]]],
    terms_of: Callable[[RunRecord], RunOptions | None],
    capacity: Capacity,
    load: Load,
    now: float,
) -> ClaimPlan:
    """Return which CREATED runs to claim: the studies take turns, each in the order given.

    ``terms_of`` returns None for a run that is not for this launcher. The first run that does not
    fit ends the search: smaller ones behind it would keep a large one waiting for ever.
    """
    chooser = _ClaimChooser(capacity, load, now)
    turns: deque[tuple[str, Iterator[RunRecord]]] = deque((s, iter(runs)) for s, runs in queues)
    while turns:
        study, records = turns.popleft()
        if chooser.full(study):
            continue
        for record in records:
            terms = terms_of(record)
            if terms is not None and chooser.due(record):
                if not chooser.take(record, terms):
                    return ClaimPlan(tuple(chooser.claims), chooser.wake_at)
                turns.append((study, records))
                break
    return ClaimPlan(tuple(chooser.claims), chooser.wake_at)
