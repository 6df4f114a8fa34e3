"""Diagnose why no run satisfies a constraint: its clauses, their survivors, the nearest run."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from motoko.core.constraints.evaluate import NUMBERS, compile_predicate, value_getter
from motoko.core.constraints.index_plan import INVERSE, plan_index
from motoko.core.constraints.syntax_tree import (
    ORDERINGS,
    And,
    Comparison,
    Not,
    Or,
    Tree,
    literal,
    render,
)
from motoko.core.states import Lifecycle
from motoko.core.values import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from motoko.core.constraints.constraint import Constraint
    from motoko.core.constraints.evaluate import RunPredicate
    from motoko.core.constraints.index_plan import IndexPlan
    from motoko.core.records import RunKey, RunRecord

_STATE_COLUMNS: Final = frozenset({"state", "lifecycle"})
# The steps from a state to an outcome.
_STEPS: Final = {Lifecycle.START: 1.0, Lifecycle.SUBMITTED: 2.0, Lifecycle.CREATED: 3.0}
_ENDED: Final = 4.0


@dataclass(frozen=True, slots=True)
class Miss:
    """A comparison that a run does not satisfy.

    ``value`` is MISSING if the run has no such field. ``distance`` is in the unit of the column (of
    times: seconds), None if the values have no distance.
    """

    column: str
    value: Any
    needs: str
    distance: float | None


@dataclass(frozen=True, slots=True)
class Clause:
    """A part of a constraint that must hold by itself.

    ``misses`` returns the comparisons that a run does not satisfy; of alternatives, those of the
    nearest one. ``of_state``: it reads the column ``state`` only.
    """

    text: str
    tree: Tree[Comparison]
    plan: IndexPlan
    of_state: bool
    holds: RunPredicate = field(repr=False, compare=False)
    misses: Callable[[RunRecord], tuple[Miss, ...]] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class ClauseResult:
    """The runs that satisfy a clause, all clauses so far, and all clauses but this."""

    clause: Clause
    satisfied: int
    survivors: int
    without: int


@dataclass(frozen=True, slots=True)
class Nearest:
    """The run nearest to satisfying a constraint, with the clauses that it fails, by position."""

    run: RunKey
    lifecycle: Lifecycle
    failed: tuple[int, ...]
    misses: tuple[Miss, ...]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The result for some runs. ``broken``: position of the clause that excludes all of them.

    It is None if some run satisfies the constraint, or if there are no runs. ``values`` counts the
    values of the column of that clause, if these are not numbers.
    """

    runs: int
    matching: tuple[RunKey, ...]
    clauses: tuple[ClauseResult, ...]
    broken: int | None
    nearest: Nearest | None
    values: Mapping[Any, int]


def clauses_of(constraint: Constraint) -> tuple[Clause, ...]:
    """Return the clauses whose conjunction is the constraint, in its order."""
    tree = _without_negations(constraint.tree, negated=False)
    parts = tree.items if isinstance(tree, And) else (tree,)
    return tuple(_clause(part, 1 if len(parts) > 1 else 0) for part in parts)


def _clause(tree: Tree[Comparison], binding: int) -> Clause:
    columns = [test.column for test in _comparisons(tree)]
    of_state = all((column.source, column.name) == ("own", "state") for column in columns)
    text = render(_readable(tree), binding)
    return Clause(text, tree, plan_index(tree), of_state, compile_predicate(tree), _explain(tree))


def _without_negations(tree: Tree[Comparison], *, negated: bool) -> Tree[Comparison]:
    """Move negations into the comparisons; flatten nested *and* and *or*."""
    if isinstance(tree, Not):
        return _without_negations(tree.item, negated=not negated)
    if not isinstance(tree, And | Or):
        return replace(tree, negated=tree.negated != negated)
    kind = And if isinstance(tree, And) != negated else Or
    items: list[Tree[Comparison]] = []
    for item in (_without_negations(item, negated=negated) for item in tree.items):
        items += item.items if isinstance(item, kind) else [item]
    return items[0] if len(items) == 1 else kind(tuple(items))


def _readable(tree: Tree[Comparison]) -> Tree[Comparison]:
    """Return a tree without negated orderings, which the grammar lacks."""
    if isinstance(tree, And | Or):
        return type(tree)(tuple(map(_readable, tree.items)))
    if isinstance(tree, Comparison) and tree.negated and tree.operator in ORDERINGS:
        return Not(replace(tree, negated=False))
    return tree


def _comparisons(tree: Tree[Comparison]) -> list[Comparison]:
    if isinstance(tree, Comparison):
        return [tree]
    items = (tree.item,) if isinstance(tree, Not) else tree.items
    return [test for item in items for test in _comparisons(item)]


# -- diagnosing ------------------------------------------------------------------------------

# The failed clauses of runs, by position.
_Failed: TypeAlias = "tuple[int, ...]"
_Best: TypeAlias = "dict[_Failed, tuple[_Rank, RunRecord]]"


def diagnose(clauses: Sequence[Clause], records: Sequence[RunRecord]) -> Diagnosis:
    """Return which clause excludes the runs, and the nearest run; on a tie the last one."""
    failures: Counter[_Failed] = Counter()
    matching: list[RunKey] = []
    best: _Best = {}
    for record in records:
        failed = tuple(n for n, clause in enumerate(clauses) if not clause.holds(record))
        failures[failed] += 1
        if not failed:
            matching.append(record.key)
            continue
        rank = _rank([miss for n in failed for miss in clauses[n].misses(record)])
        if failed not in best or rank <= best[failed][0]:
            best[failed] = rank, record
    results = _count(clauses, failures)
    broken = None if matching or not failures else _broken(results, best)
    return Diagnosis(
        len(records),
        tuple(matching),
        results,
        broken,
        None if broken is None else _nearest(clauses, best, broken),
        {} if broken is None else _values(clauses[broken].tree, records),
    )


def _count(clauses: Sequence[Clause], failures: Mapping[_Failed, int]) -> tuple[ClauseResult, ...]:
    results = []
    for n, clause in enumerate(clauses):
        satisfied = sum(number for failed, number in failures.items() if n not in failed)
        survivors = sum(
            number for failed, number in failures.items() if not failed or failed[0] > n
        )
        without = sum(number for failed, number in failures.items() if failed in ((), (n,)))
        results.append(ClauseResult(clause, satisfied, survivors, without))
    return tuple(results)


def _broken(results: Sequence[ClauseResult], best: _Best) -> int:
    """Return the clause that alone excludes runs: one that no run satisfies, else the nearest.

    If no clause excludes runs alone, it is the first after which no run survives.
    """
    alone = [n for n, result in enumerate(results) if result.without]
    if not alone:
        return next(n for n, result in enumerate(results) if not result.survivors)
    return min(alone, key=lambda n: (results[n].satisfied > 0, best[(n,)][0], n))


def _nearest(clauses: Sequence[Clause], best: _Best, broken: int) -> Nearest:
    """Return the run that fails fewest clauses, this one among them if possible."""
    failed = min(best, key=lambda one: (broken not in one, len(one), best[one][0]))
    record = best[failed][1]
    misses = tuple(miss for n in failed for miss in clauses[n].misses(record))
    return Nearest(record.key, Lifecycle(record.lifecycle), failed, misses)


def _values(tree: Tree[Comparison], records: Iterable[RunRecord]) -> dict[Any, int]:
    """Count the values of a single comparison, unless some are numbers."""
    if not isinstance(tree, Comparison):
        return {}
    get = value_getter(tree.column)
    counts = Counter(
        value if isinstance(value, str | bool) else None
        for value in map(get, records)
        if value is not MISSING
    )
    return {} if None in counts else dict(counts.most_common())


# -- distances -------------------------------------------------------------------------------

# The numbers of missing fields and of values without distance, and the sum of the distances.
_Rank: TypeAlias = "tuple[int, int, float]"


def _rank(misses: Sequence[Miss]) -> _Rank:
    distances = [miss.distance for miss in misses]
    missing = sum(miss.value is MISSING for miss in misses)
    return missing, distances.count(None), sum(d for d in distances if d is not None)


def _explain(tree: Tree[Comparison]) -> Callable[[RunRecord], tuple[Miss, ...]]:
    """Return the function that finds the unsatisfied comparisons of a run."""
    if isinstance(tree, Comparison):
        return _explain_comparison(tree)
    assert isinstance(tree, And | Or)
    parts = [_explain(item) for item in tree.items]
    if isinstance(tree, And):
        return lambda record: tuple(miss for misses in parts for miss in misses(record))
    return lambda record: min((misses(record) for misses in parts), key=_rank)


def _explain_comparison(test: Comparison) -> Callable[[RunRecord], tuple[Miss, ...]]:
    holds, get = compile_predicate(test), value_getter(test.column)
    shown, needs = test.column.shown, _need(test)

    def misses(record: RunRecord) -> tuple[Miss, ...]:
        if holds(record):
            return ()
        value = get(record)
        return (Miss(shown, value, needs, _distance(test, value, record)),)

    return misses


def _need(test: Comparison) -> str:
    """Return the operator and the values of a comparison."""
    if test.operator == "in":
        members = ", ".join(map(literal, test.values))
        return f"{'not in' if test.negated else 'in'} ({members})"
    if test.negated and test.operator in ORDERINGS:
        return f"{INVERSE[test.operator]} {literal(test.values[0])}"
    return f"{'!' if test.negated else ''}{test.operator} {literal(test.values[0])}"


def _distance(test: Comparison, value: Any, record: RunRecord) -> float | None:
    """Return how far a value is from satisfying a comparison, None if that is unknown."""
    if test.column.source == "own" and test.column.name in _STATE_COLUMNS:
        return _STEPS.get(record.lifecycle, _ENDED)
    if test.negated and test.operator not in ORDERINGS:
        return None
    distances = [_between(value, other) for other in test.values]
    return min((one for one in distances if one is not None), default=None)


def _between(value: Any, other: Any) -> float | None:
    """Return the distance of two numbers, or of two times in seconds."""
    if isinstance(value, datetime):
        both = isinstance(other, datetime) and value.tzinfo is not None
        return abs((value - other).total_seconds()) if both else None
    if not {value.__class__, other.__class__} <= NUMBERS:
        return None
    try:
        distance = abs(float(value) - float(other))
    except OverflowError:
        return None
    return None if math.isnan(distance) else distance
