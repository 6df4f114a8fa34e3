"""Compile the tree of a constraint into one fast predicate of run records.

Negations are pushed down to the comparisons first. There *unknown* (the run has no such field) and
false need no distinction: plain booleans suffice.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from motoko.core.constraints.syntax_tree import (
    And,
    Column,
    Comparison,
    Not,
    Or,
    Tree,
    parse_timestamp,
)
from motoko.core.run_options import STORED_OPTIONS
from motoko.core.values import MISSING

if TYPE_CHECKING:
    from motoko.core.records import RunRecord

RunPredicate: TypeAlias = "Callable[[RunRecord], bool]"
ValuePredicate: TypeAlias = Callable[[Any], bool]

# Exact classes: a bool is not a number here, and records hold no other subclasses.
NUMBERS: Final = frozenset({int, float})
_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def compile_predicate(tree: Tree[Comparison], negated: bool = False) -> RunPredicate:
    """Return the predicate of records for which ``tree`` (or its negation) is true."""
    if isinstance(tree, Not):
        return compile_predicate(tree.item, not negated)
    if isinstance(tree, And | Or):
        predicates = [compile_predicate(item, negated) for item in tree.items]
        return _all(predicates) if isinstance(tree, And) != negated else _any(predicates)
    return _comparison(tree, negated != tree.negated)


def _all(predicates: list[RunPredicate]) -> RunPredicate:
    if len(predicates) == 2:
        first, second = predicates
        return lambda record: first(record) and second(record)

    def every(record: RunRecord) -> bool:
        for predicate in predicates:  # noqa: SIM110 - a generator costs twice as much
            if not predicate(record):
                return False
        return True

    return every


def _any(predicates: list[RunPredicate]) -> RunPredicate:
    def some(record: RunRecord) -> bool:
        for predicate in predicates:  # noqa: SIM110 - a generator costs twice as much
            if predicate(record):
                return True
        return False

    return some


def _comparison(test: Comparison, negated: bool) -> RunPredicate:
    get, holds = value_getter(test.column), value_predicate(test)
    if negated:
        return lambda record: (value := get(record)) is not MISSING and not holds(value)
    return lambda record: (value := get(record)) is not MISSING and holds(value)


def value_getter(column: Column) -> Callable[[RunRecord], Any]:
    """Return a function that returns a record's value of a column, MISSING if it has none."""
    name = column.name
    if column.source == "job":
        return lambda record: record.job.get(name, MISSING)
    if column.source == "field":
        return lambda record: record.fields.get(name, MISSING)
    if name in STORED_OPTIONS:
        return lambda record: MISSING if (value := record.options.get(name)) is None else value
    attribute = operator.attrgetter("tries" if name == "attempt" else name)
    return lambda record: MISSING if (value := attribute(record)) is None else value


def value_predicate(test: Comparison) -> ValuePredicate:
    """Return the predicate of present values for which the comparison holds."""
    if test.operator == "in":
        return _member(test.values)
    value = test.values[0]
    if test.operator in ("~", "~*"):
        search = re.compile(value, re.IGNORECASE if test.operator == "~*" else 0).search
        return lambda given: isinstance(given, str) and search(given) is not None
    return _ordered(_COMPARE[test.operator], value)


def _ordered(compare: Callable[[Any, Any], bool], value: Any) -> ValuePredicate:
    if isinstance(value, bool):
        return lambda given: given is value
    if isinstance(value, datetime):
        return lambda given: _is_timestamp(given) and compare(given, value)
    if not isinstance(value, str):
        return lambda given: given.__class__ in NUMBERS and compare(given, value)
    time = parse_timestamp(value)
    if time is None:
        return lambda given: isinstance(given, str) and compare(given, value)
    # A timestamp is also comparable with times in undeclared fields.
    return lambda given: (
        compare(given, value)
        if isinstance(given, str)
        else _is_timestamp(given) and compare(given, time)
    )


def _member(values: tuple[Any, ...]) -> ValuePredicate:
    numbers = frozenset(value for value in values if value.__class__ in NUMBERS)
    texts = frozenset(value for value in values if isinstance(value, str))
    others = [_ordered(operator.eq, value) for value in values if value.__class__ not in NUMBERS]

    def holds(given: Any) -> bool:
        if given.__class__ in NUMBERS:
            return given in numbers
        if isinstance(given, str):
            return given in texts
        return any(other(given) for other in others)

    return holds


def _is_timestamp(given: Any) -> bool:
    return isinstance(given, datetime) and given.tzinfo is not None
