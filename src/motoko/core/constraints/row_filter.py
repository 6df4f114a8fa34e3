"""Take the rows of runs that match a constraint, by their columns: no run becomes a record.

A negated comparison holds for a run that has the field, even as None. Members of rows are None
without the field too, so those runs are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from motoko.core.constraints.column_scan import PARTS
from motoko.core.constraints.evaluate import value_predicate
from motoko.core.constraints.syntax_tree import And, Column, Comparison, Not, Or, Tree
from motoko.core.run_options import STORED_OPTIONS
from motoko.core.run_rows import Part, Rows, counted_attempts, shown_states

if TYPE_CHECKING:
    from collections.abc import Iterable

# Returns for each row whether it matches.
Matching: TypeAlias = Callable[[Part], Sequence[bool]]

# Columns that are not stored as users see them.
SHOWN: Final[Mapping[str, Callable[[Rows], Sequence[Any]]]] = {
    "state": shown_states,
    "attempt": counted_attempts,
}


def compile_filter(tree: Tree[Comparison]) -> Callable[[Part], Part]:
    """Return a function that takes the matching ones of some rows."""
    matching = _compile(tree, negated=False)

    def take(rows: Part) -> Part:
        found = [at for at, matches in enumerate(matching(rows)) if matches]
        return rows if len(found) == len(rows) else rows.take(found)

    return take


def _compile(tree: Tree[Comparison], *, negated: bool) -> Matching:
    if isinstance(tree, Not):
        return _compile(tree.item, negated=not negated)
    if isinstance(tree, And | Or):
        parts = [_compile(item, negated=negated) for item in tree.items]
        return _joined(parts, all if isinstance(tree, And) != negated else any)
    return _comparison(tree, negated != tree.negated)


def _joined(parts: Sequence[Matching], join: Callable[[Iterable[bool]], bool]) -> Matching:
    if not parts:
        return lambda rows: [join(())] * len(rows)
    return lambda rows: list(map(join, zip(*(part(rows) for part in parts), strict=True)))


def _comparison(test: Comparison, negated: bool) -> Matching:
    holds, column = value_predicate(test), test.column

    def matching(rows: Part) -> Sequence[bool]:
        values = column_values(rows, column)
        if not negated:
            return list(map(holds, values))  # none holds for None
        found = [value is not None and not holds(value) for value in values]
        absent = [at for at, value in enumerate(values) if value is None]
        if absent and (part := PARTS.get(column.source)):
            mappings = rows.take(absent).values(part)
            for at, mapping in zip(absent, mappings, strict=True):
                found[at] = column.name in (mapping or ())
        return found

    return matching


def column_values(rows: Rows, column: Column) -> Sequence[Any]:
    """Return the values of a column that constraints may have; None where a run has none."""
    name, part = column.name, PARTS.get(column.source)
    if part is not None:
        return rows.members(part, name)
    if name in STORED_OPTIONS:
        return rows.members("options", name)
    shown = SHOWN.get(name)
    return rows.values(name) if shown is None else shown(rows)
