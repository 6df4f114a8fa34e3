"""Find the constraints that a record may satisfy, without evaluating all of them.

Each constraint is filed under its states, and within each under its most selective guards: values
that a column must have, or an interval that must contain it. Constraints without guards are always
candidates. So the work for a record depends on the candidates, not on the number of constraints.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar

from motoko.core.constraints.evaluate import NUMBERS, value_getter
from motoko.core.constraints.index_plan import INVERSE
from motoko.core.constraints.interval_index import IntervalIndex
from motoko.core.constraints.syntax_tree import (
    And,
    Column,
    Comparison,
    Not,
    Or,
    Tree,
    parse_timestamp,
)
from motoko.core.values import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from motoko.core.constraints.constraint import Constraint
    from motoko.core.records import RunRecord

Key = TypeVar("Key", bound="Hashable")

MAX_STATES: Final = 16  # under which one constraint is filed
MAX_GUARDED: Final = 1000  # values under which one constraint is filed
# Estimates of the records that pass a guard: one value, an interval, one bound, a common value.
OF_VALUE, OF_INTERVAL, OF_BOUND, OF_COMMON_VALUE = 1, 20, 1000, 10_000
COMMON: Final = ("state", "lifecycle")  # columns with few values; states are filed apart


@dataclass(frozen=True, slots=True)
class Values:
    """A guard: the column has one of these values."""

    column: Column
    values: frozenset[Any]

    @property
    def cost(self) -> int:
        """An estimate of the share of runs that pass it."""
        common = self.column.source == "own" and self.column.name in COMMON
        return (OF_COMMON_VALUE if common else OF_VALUE) * len(self.values)


@dataclass(frozen=True, slots=True)
class Interval:
    """A guard: the column is a number from ``low`` to ``high``, both included."""

    column: Column
    low: float
    high: float

    @property
    def cost(self) -> int:
        """An estimate of the share of runs that pass it."""
        return OF_BOUND if math.inf in (-self.low, self.high) else OF_INTERVAL


Guard: TypeAlias = "Values | Interval"


# Every matching run passes at least one of these guards.
Guards: TypeAlias = "tuple[Guard, ...]"


def alternatives(tree: Tree[Comparison], *, negated: bool = False) -> list[Guards]:
    """Return guards that the constraint implies: each entry suffices."""
    if isinstance(tree, Not):
        return alternatives(tree.item, negated=not negated)
    if not isinstance(tree, And | Or):
        guard = None if negated != tree.negated else _of_comparison(tree)
        return [] if guard is None else [(guard,)]
    parts = [alternatives(item, negated=negated) for item in tree.items]
    if isinstance(tree, And) != negated:
        return list(_narrowed([part for of_item in parts for part in of_item]))
    if not all(parts):
        return []  # an item may hold for any run
    return [tuple(guard for of_item in parts for guard in min(of_item, key=_cost))]


def _cost(guards: Guards) -> int:
    return sum(guard.cost for guard in guards)


def _narrowed(parts: list[Guards]) -> Iterator[Guards]:
    """Yield the alternatives, with all intervals of one column that must hold joined to one."""
    joined: dict[Column, Interval] = {}
    for part in parts:
        if len(part) != 1 or not isinstance(guard := part[0], Interval):
            yield part
            continue
        former = joined.get(guard.column, guard)
        low, high = max(former.low, guard.low), min(former.high, guard.high)
        joined[guard.column] = Interval(guard.column, low, high)
    for interval in joined.values():
        yield (interval,) if interval.low <= interval.high else ()


def _of_comparison(test: Comparison) -> Guard | None:
    # A negated comparison also holds for values of other types.
    if test.operator in ("=", "in"):
        return Values(test.column, frozenset(_equal_values(test.values)))
    value = test.values[0]
    if test.operator not in INVERSE or not _is_number(value):
        return None
    if test.operator in ("<", "<="):
        return Interval(test.column, -math.inf, value)
    return Interval(test.column, value, math.inf)


def _is_number(value: Any) -> bool:
    return value.__class__ in NUMBERS


def _equal_values(values: Iterable[Any]) -> Iterator[Any]:
    """Yield values of which a matching one equals at least one."""
    for value in values:
        yield value
        if isinstance(value, str) and (time := parse_timestamp(value)) is not None:
            yield time


@dataclass(slots=True)
class _OfColumn(Generic[Key]):
    """The keys that are filed under the values of one column."""

    get: Callable[[RunRecord], Any]
    by_value: dict[Any, dict[Key, None]] = field(default_factory=dict)
    intervals: IntervalIndex[Key] = field(default_factory=IntervalIndex)

    def file(self, guard: Guard, key: Key) -> None:
        if isinstance(guard, Interval):
            self.intervals.add(guard.low, guard.high, key)
        else:
            for value in guard.values:
                self.by_value.setdefault(value, {})[key] = None

    def load(self, guard: Guard) -> int:
        """Return how many keys are filed under the values of a guard."""
        if isinstance(guard, Interval):
            return 0
        return sum(len(self.by_value.get(value, ())) for value in guard.values)

    def remove(self, guard: Guard, key: Key) -> None:
        if isinstance(guard, Interval):
            self.intervals.discard(guard.low, guard.high, key)
            return
        for value in guard.values:
            keys = self.by_value.get(value, {})
            keys.pop(key, None)
            if not keys:
                self.by_value.pop(value, None)

    def candidates(self, record: RunRecord) -> Iterator[Key]:
        value = self.get(record)
        if value is MISSING:
            return
        try:
            yield from self.by_value.get(value, ())
        except TypeError:  # a list or a dictionary equals no value of the language
            return
        if _is_number(value):
            yield from self.intervals.containing(value)


@dataclass(slots=True)
class _OfState(Generic[Key]):
    """The constraints of one state, or of all."""

    columns: dict[Column, _OfColumn[Key]] = field(default_factory=dict)
    always: dict[Key, None] = field(default_factory=dict)

    def load(self, guards: Guards) -> int:
        """Return how many candidates a constraint costs that is filed under these guards."""
        columns = ((self.columns.get(guard.column), guard) for guard in guards)
        return _cost(guards) + sum(column.load(guard) for column, guard in columns if column)

    def file(self, guards: Guards | None, key: Key) -> None:
        if guards is None:
            self.always[key] = None
            return
        for guard in guards:
            column = self.columns.get(guard.column)
            if column is None:
                column = self.columns[guard.column] = _OfColumn(value_getter(guard.column))
            column.file(guard, key)

    def remove(self, guards: Guards | None, key: Key) -> None:
        if guards is None:
            self.always.pop(key, None)
            return
        for guard in guards:
            self.columns[guard.column].remove(guard, key)

    def candidates(self, record: RunRecord) -> Iterator[Key]:
        yield from self.always
        for column in self.columns.values():
            yield from column.candidates(record)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A constraint, the states under which it is filed (None: any), and its guards in each."""

    constraint: Constraint
    filed: tuple[tuple[str | None, Guards | None], ...]


class ConstraintIndex(Generic[Key]):
    """The constraints of one study, each under a key."""

    def __init__(self) -> None:
        self._entries: dict[Key, _Entry] = {}
        self._states: dict[str | None, _OfState[Key]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, key: Key, constraint: Constraint) -> None:
        """Add a constraint, or replace the one of this key."""
        self.discard(key)
        states = constraint.plan().states
        names = (None,) if states is None or len(states) > MAX_STATES else tuple(states)
        possible = [guards for guards in alternatives(constraint.tree) if _is_small(guards)]
        filed = []
        for name in names:
            of_state = self._states.setdefault(name, _OfState())
            guards = min(possible, key=of_state.load, default=None)
            of_state.file(guards, key)
            filed.append((name, guards))
        self._entries[key] = _Entry(constraint, tuple(filed))

    def discard(self, key: Key) -> None:
        """Remove the constraint of this key, if there is one."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            for name, guards in entry.filed:
                self._states[name].remove(guards, key)

    def candidates(self, record: RunRecord) -> dict[Key, Constraint]:
        """Return a superset of the constraints that the record satisfies."""
        found: dict[Key, Constraint] = {}
        for name in (record.state, None):
            of_state = self._states.get(name)
            if of_state is not None:
                for key in of_state.candidates(record):
                    found[key] = self._entries[key].constraint
        return found

    def matching(self, record: RunRecord) -> list[Key]:
        """Return the keys of the constraints that the record satisfies."""
        candidates = self.candidates(record)
        return [key for key, constraint in candidates.items() if constraint.matches(record)]


def _is_small(guards: Guards) -> bool:
    return sum(len(guard.values) for guard in guards if isinstance(guard, Values)) <= MAX_GUARDED
