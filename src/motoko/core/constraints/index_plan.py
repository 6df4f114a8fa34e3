"""Index plans: the superset of a constraint's runs that indexes can find."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Final

from motoko.core.constraints.syntax_tree import And, Comparison, Not, Or, Tree

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """Runs in ``states`` with ids from ``id_min`` to ``id_max``; ``exact``: just these match."""

    states: frozenset[str] | None
    id_min: int | None
    id_max: int | None
    exact: bool


@dataclass(frozen=True, slots=True)
class _States:
    """The states in ``names``, or (``others``) all but these."""

    names: frozenset[str]
    others: bool = False

    def inverse(self) -> _States:
        return _States(self.names, not self.others)

    def __and__(self, other: _States) -> _States:
        if self.others and other.others:
            return _States(self.names | other.names, True)
        if self.others:
            return _States(other.names - self.names)
        return _States(self.names - other.names if other.others else self.names & other.names)

    def __or__(self, other: _States) -> _States:
        return (self.inverse() & other.inverse()).inverse()


@dataclass(frozen=True, slots=True)
class _Candidates:
    """States times ids from ``low`` to ``high`` (whole, or infinite)."""

    states: _States
    low: float = -math.inf
    high: float = math.inf
    exact: bool = True

    def __and__(self, other: _Candidates) -> _Candidates:
        low, high = max(self.low, other.low), min(self.high, other.high)
        states = self.states & other.states
        if low > high or states == _NONE:
            return _NOTHING
        return _Candidates(states, low, high, self.exact and other.exact)

    def __or__(self, other: _Candidates) -> _Candidates:
        if _NOTHING in (self, other):
            return other if self == _NOTHING else self
        return _Candidates(
            self.states | other.states,
            min(self.low, other.low),
            max(self.high, other.high),
            self.exact and other.exact and self._joins(other),
        )

    def _joins(self, other: _Candidates) -> bool:
        """Return whether the union is a rectangle with nothing outside both parts."""
        if self._within(other) or other._within(self):
            return True
        same_ids = (self.low, self.high) == (other.low, other.high)
        touching = max(self.low, other.low) <= min(self.high, other.high) + 1
        return same_ids or (self.states == other.states and touching)

    def _within(self, other: _Candidates) -> bool:
        ids = other.low <= self.low and self.high <= other.high
        return ids and self.states & other.states == self.states


_NONE: Final = _States(frozenset())
_NOTHING: Final = _Candidates(_NONE, 0, 0)
_EVERYTHING: Final = _Candidates(_States(frozenset(), True))
_UNKNOWN: Final = _Candidates(_States(frozenset(), True), exact=False)

INVERSE: Final = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_ID_RANGES: Final[dict[str, Callable[[float], tuple[float, float]]]] = {
    "<": lambda bound: (-math.inf, math.ceil(bound) - 1),
    "<=": lambda bound: (-math.inf, math.floor(bound)),
    ">": lambda bound: (math.floor(bound) + 1, math.inf),
    ">=": lambda bound: (math.ceil(bound), math.inf),
}


def plan_index(tree: Tree[Comparison]) -> IndexPlan:
    """Return the narrowest plan that indexes of states and ids allow."""
    found = _candidates(tree, negated=False)
    return IndexPlan(
        states=None if found.states.others else found.states.names,
        id_min=None if found.low == -math.inf else int(found.low),
        id_max=None if found.high == math.inf else int(found.high),
        exact=found.exact and (not found.states.others or not found.states.names),
    )


def _candidates(tree: Tree[Comparison], negated: bool) -> _Candidates:
    if isinstance(tree, Not):
        return _candidates(tree.item, not negated)
    if isinstance(tree, And | Or):
        parts = [_candidates(item, negated) for item in tree.items]
        if isinstance(tree, And) != negated:
            return reduce(operator.and_, parts, _EVERYTHING)
        return reduce(operator.or_, parts, _NOTHING)
    return _of_comparison(tree, negated != tree.negated)


def _of_comparison(test: Comparison, negated: bool) -> _Candidates:
    # A run always has an id and a state, so these comparisons are never unknown.
    if test.column.source != "own":
        return _UNKNOWN
    if test.column.name == "state" and test.operator in ("=", "in"):
        return _Candidates(_States(frozenset(test.values), negated))
    if test.column.name == "id":
        return _of_id(test, negated)
    return _UNKNOWN


def _of_id(test: Comparison, negated: bool) -> _Candidates:
    if test.operator in INVERSE:
        sign = INVERSE[test.operator] if negated else test.operator
        return _Candidates(_EVERYTHING.states, *_ID_RANGES[sign](test.values[0]))
    ids = {int(value) for value in test.values if value == int(value)}
    if negated:
        return _UNKNOWN if ids else _EVERYTHING
    if not ids:
        return _NOTHING
    low, high = min(ids), max(ids)
    return _Candidates(_EVERYTHING.states, low, high, exact=high - low + 1 == len(ids))
