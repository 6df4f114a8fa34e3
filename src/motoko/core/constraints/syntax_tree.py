"""The syntax tree: comparisons under and, or and not, as written and as typed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeAlias, TypeVar

from motoko.core.values import coerce
from motoko.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable

Leaf = TypeVar("Leaf")
NewLeaf = TypeVar("NewLeaf")
Operator: TypeAlias = Literal["=", "<", "<=", ">", ">=", "~", "~*", "in"]
ORDERINGS: Final = frozenset({"<", "<=", ">", ">="})
SEARCHES: Final = frozenset({"~", "~*"})

_KEYWORD: Final = r"(?i:and|or|not|in)"
# Slashes are escaped because the grammar puts its patterns between slashes.
NAME: Final = rf"(?!{_KEYWORD}(?![\w.]))[^\W\d]\w*(?:\.\w+)*"
WORD: Final = (
    rf"(?!{_KEYWORD}(?![-\w.:\/@+]))[^\W\d]\w*(?:[-.:\/@+]\w+)*"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9:.]*[0-9](?:Z|[-+][0-9:]+)?)?(?!\w)"
)
BOOLEANS: Final = {"true": True, "True": True, "false": False, "False": False}


@dataclass(frozen=True, slots=True)
class And(Generic[Leaf]):
    """All ``items`` hold; always true without items."""

    items: tuple[Tree[Leaf], ...]


@dataclass(frozen=True, slots=True)
class Or(Generic[Leaf]):
    """At least one of ``items`` holds."""

    items: tuple[Tree[Leaf], ...]


@dataclass(frozen=True, slots=True)
class Not(Generic[Leaf]):
    """``item`` is known not to hold."""

    item: Tree[Leaf]


Tree: TypeAlias = "Leaf | And[Leaf] | Or[Leaf] | Not[Leaf]"


@dataclass(frozen=True, slots=True)
class RawValue:
    """A value as written, at character ``at``; text has no quotes."""

    kind: Literal["number", "text", "word"]
    text: str
    at: int


@dataclass(frozen=True, slots=True)
class RawComparison:
    """A comparison as written, with the column's name at character ``at``."""

    name: str
    at: int
    operator: Operator
    negated: bool
    values: tuple[RawValue, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of runs. ``shown`` is its shortest unambiguous name, ``type`` None: undeclared."""

    source: Literal["job", "field", "own"]
    name: str
    shown: str
    type: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A typed comparison; only ``in`` has several ``values``."""

    column: Column
    operator: Operator
    negated: bool
    values: tuple[Any, ...]


def conjunction(items: tuple[Tree[Leaf], ...]) -> Tree[Leaf]:
    """Return the *and* of ``items``, without *and* directly under *and*."""
    flat = [part for item in items for part in (item.items if isinstance(item, And) else (item,))]
    return flat[0] if len(flat) == 1 else And(tuple(flat))


def disjunction(items: tuple[Tree[Leaf], ...]) -> Tree[Leaf]:
    """Return the *or* of ``items``, without *or* directly under *or*."""
    flat = [part for item in items for part in (item.items if isinstance(item, Or) else (item,))]
    return flat[0] if len(flat) == 1 else Or(tuple(flat))


def convert(tree: Tree[Leaf], leaf: Callable[[Leaf], NewLeaf]) -> Tree[NewLeaf]:
    """Return the same tree with ``leaf`` applied to every comparison, from left to right."""
    if isinstance(tree, And):
        return And(tuple(convert(item, leaf) for item in tree.items))
    if isinstance(tree, Or):
        return Or(tuple(convert(item, leaf) for item in tree.items))
    if isinstance(tree, Not):
        return Not(convert(tree.item, leaf))
    return leaf(tree)


def render(tree: Tree[Comparison], binding: int = 0) -> str:
    """Return the text of ``tree``, in parentheses if it binds looser than ``binding``."""
    if isinstance(tree, Or):
        text, own = " or ".join(render(item, 1) for item in tree.items), 0
    elif isinstance(tree, And):
        text, own = " and ".join(render(item, 2) for item in tree.items), 1
    elif isinstance(tree, Not):
        return f"not {render(tree.item, 2)}"
    else:
        return _comparison(tree)
    return f"({text})" if own < binding else text


def _comparison(test: Comparison) -> str:
    if test.operator == "in":
        members = ", ".join(literal(value) for value in test.values)
        return f"{test.column.shown} {'not in' if test.negated else 'in'} ({members})"
    sign = "!" if test.negated else ""
    return f"{test.column.shown} {sign}{test.operator} {literal(test.values[0])}"


def literal(value: Any) -> str:
    """Return the text of ``value`` in a constraint."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return f'"{value.isoformat()}"'
    if not isinstance(value, str):
        return repr(value)
    if re.fullmatch(WORD, value) and value not in BOOLEANS:
        return value
    escaped = re.sub(r'\\(?=[\\"]|\Z)|"', r"\\\g<0>", value)
    return f'"{escaped}"'


def parse_timestamp(text: str) -> datetime | None:
    """Return the time (in UTC) of a text in ISO 8601, None for other text."""
    try:
        time: datetime = coerce(text, "datetime", "time")
    except (ParameterError, OverflowError):
        return None
    return time
