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
    """The runs that a launcher serves, by their generators and machines."""

    generators: frozenset[str]
    machines: frozenset[str]

    def serves(self, options: RunOptions) -> bool:
        """Return whether this launcher serves a run with these options."""
        machine = options.machine_name or "localhost"
        return options.generator in self.generators and machine in self.machines


@dataclass(frozen=True, slots=True)
class Capacity:
    """The limits of claims: slots in all, runs by study, and runs claimed ahead.

    A run claimed ahead starts as soon as a slot is free, without waiting for a commit.
    """

    slots: int
    max_ahead: int = 0
    per_study: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Load:
    """The present claims: used slots, runs that wait for slots, all runs by study.

    ``recently_ended`` counts the runs that ended within the last second.
    """

    used_slots: int = 0
    waiting: int = 0
    recently_ended: int = 0
    runs_by_study: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClaimPlan:
    """The runs to claim, and the earliest ``not_before`` of the others."""

    claims: tuple[tuple[RunRecord, RunOptions], ...] = ()
    next_wakeup: float | None = None


class _ClaimChooser:
    def __init__(self, capacity: Capacity, load: Load, now: float) -> None:
        self.capacity = capacity
        self.now = now
        self.used_slots = load.used_slots
        self.waiting = load.waiting
        # Claiming ahead pays off only for short runs; other launchers could start long ones.
        self.ahead = min(capacity.max_ahead, load.recently_ended)
        self.runs_by_study = dict(load.runs_by_study)
        self.claims: list[tuple[RunRecord, RunOptions]] = []
        self.next_wakeup: float | None = None

    def is_full(self, study: str) -> bool:
        limit = self.capacity.per_study.get(study)
        return limit is not None and self.runs_by_study.get(study, 0) >= limit

    def is_due(self, record: RunRecord) -> bool:
        if record.not_before <= self.now:
            return True
        self.next_wakeup = min(record.not_before, self.next_wakeup or record.not_before)
        return False

    def try_claim(self, record: RunRecord, options: RunOptions) -> bool:
        """Claim the run if it fits, or if it may be claimed ahead."""
        if not fits(options.slots, self.used_slots, self.capacity.slots):
            if self.waiting >= self.ahead:
                return False
            self.waiting += 1
        self.used_slots += options.slots
        self.runs_by_study[record.study] = self.runs_by_study.get(record.study, 0) + 1
        self.claims.append((record, options))
        return True


def fits(wanted: int, used: int, slots: int) -> bool:
    """Return whether a run may start; one larger than all slots runs alone."""
    return used == 0 or used + wanted <= slots


def choose_claims(
    queues: Sequence[tuple[str, Iterable[RunRecord]]],
    options_of: Callable[[RunRecord], RunOptions | None],
    capacity: Capacity,
    load: Load,
    now: float,
) -> ClaimPlan:
    """Return which CREATED runs to claim, alternating between studies, each in the given order.

    ``options_of`` returns None for a run to skip. The first run that does not fit ends the search:
    otherwise smaller runs could delay a large one for ever.
    """
    chooser = _ClaimChooser(capacity, load, now)
    turns: deque[tuple[str, Iterator[RunRecord]]] = deque((s, iter(runs)) for s, runs in queues)
    while turns:
        study, records = turns.popleft()
        if chooser.is_full(study):
            continue
        for record in records:
            options = options_of(record)
            if options is not None and chooser.is_due(record):
                if not chooser.try_claim(record, options):
                    return ClaimPlan(tuple(chooser.claims), chooser.next_wakeup)
                turns.append((study, records))
                break
    return ClaimPlan(tuple(chooser.claims), chooser.next_wakeup)
