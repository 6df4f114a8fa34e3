"""Choose the runs to claim: decisions without effects."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from motoko.core.reasons import fits

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
    """The current claims: used slots, runs that wait for slots, all runs by study.

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


def most_claims(capacity: Capacity, load: Load) -> int:
    """Return the number of runs that may be claimed now at most."""
    ahead = min(capacity.max_ahead, load.recently_ended) - load.waiting
    return max(0, capacity.slots - load.used_slots + load.waiting) + max(0, ahead)


def choose_claims(
    queues: Sequence[tuple[str, Iterable[RunRecord]]],
    options_of: Callable[[RunRecord], RunOptions | None],
    capacity: Capacity,
    load: Load,
    now: float,
) -> ClaimPlan:
    """Return which CREATED runs to claim, alternating between studies, each in the given order.

    ``options_of`` returns None for a run to skip. The first run that does not fit ends the search:
    otherwise smaller runs could delay a large one forever.
    """
    used, waiting, runs = load.used_slots, load.waiting, Counter(load.runs_by_study)
    # Claiming ahead pays off only for short runs; other launchers could start long ones.
    max_waiting = min(capacity.max_ahead, load.recently_ended)
    claims: list[tuple[RunRecord, RunOptions]] = []
    next_wakeup: float | None = None
    turns: deque[tuple[str, Iterator[RunRecord]]] = deque((s, iter(r)) for s, r in queues)
    while turns:
        study, records = turns.popleft()
        if runs[study] >= capacity.per_study.get(study, math.inf):
            continue
        for record in records:
            options = options_of(record)
            if options is None:
                continue
            if record.not_before > now:
                next_wakeup = min(record.not_before, next_wakeup or record.not_before)
                continue
            if not fits(options.slots, used, capacity.slots):
                if waiting >= max_waiting:
                    return ClaimPlan(tuple(claims), next_wakeup)
                waiting += 1
            used += options.slots
            runs[study] += 1
            claims.append((record, options))
            turns.append((study, records))
            break
    return ClaimPlan(tuple(claims), next_wakeup)
