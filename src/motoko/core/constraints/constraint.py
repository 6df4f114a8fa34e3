"""Constraints: parsed and typed once, ready to select runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from reprlib import repr as shortened
from typing import TYPE_CHECKING, Any, Final

from motoko.core.constraints.column_scan import compile_scan
from motoko.core.constraints.evaluate import compile_predicate
from motoko.core.constraints.index_plan import plan_index
from motoko.core.constraints.syntax_tree import And, conjunction, convert, render
from motoko.core.constraints.typing import ConstraintFault, TypeChecker
from motoko.errors import ConstraintError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from motoko.core.constraints.column_scan import ColumnScan
    from motoko.core.constraints.evaluate import RunPredicate
    from motoko.core.constraints.index_plan import IndexPlan
    from motoko.core.constraints.syntax_tree import Comparison, Tree
    from motoko.core.constraints.typing import Columns
    from motoko.core.records import RunRecord


@dataclass(frozen=True, slots=True)
class Constraint:
    """Selects runs of a study. ``parse`` makes it; constraints with equal ``text`` are equal.

    ``text`` is normalised, and empty if every run matches. ``warnings`` are about probable
    mistakes. ``scan`` finds a superset of the runs in blocks, None if it would find all.
    """

    text: str
    tree: Tree[Comparison] = field(repr=False)
    warnings: tuple[str, ...] = field(compare=False)
    _predicate: RunPredicate = field(repr=False, compare=False)
    _plan: IndexPlan = field(repr=False, compare=False)
    scan: ColumnScan | None = field(repr=False, compare=False)

    def matches(self, record: RunRecord) -> bool:
        """Return whether the run matches."""
        return self._predicate(record)

    def plan(self) -> IndexPlan:
        """Return the index plan: a superset of the matching runs."""
        return self._plan

    def __and__(self, other: Constraint) -> Constraint:
        """Return the conjunction of two constraints of one study."""
        warnings = dict.fromkeys([*self.warnings, *other.warnings])
        return _constraint(conjunction((self.tree, other.tree)), tuple(warnings))

    def __str__(self) -> str:
        return self.text


def parse(constraints: str | Sequence[str] | None, columns: Columns) -> Constraint:
    """Return the conjunction of ``constraints``, ALL if there are none.

    Raises ConstraintError, with the place, for invalid syntax, unknown or ambiguous columns, and
    values that do not fit their column.
    """
    trees: list[Tree[Comparison]] = []
    warnings: dict[str, None] = {}
    for text in _texts(constraints, columns):
        if text.strip():
            checker = TypeChecker(columns)
            trees.append(_typed(text, checker, columns.study))
            warnings.update(dict.fromkeys(checker.warnings))
    return _constraint(conjunction(tuple(trees)), tuple(warnings)) if trees else ALL


def parse_each(
    constraints: str | Sequence[str] | None, studies: Iterable[Columns]
) -> dict[str, Constraint]:
    """Return the constraint for each study that has its columns, by study name.

    Raises ConstraintError if no study has them (with the nearest names), or if a name is
    ambiguous.
    """
    parsed: dict[str, Constraint] = {}
    problems: list[ConstraintError] = []
    for columns in studies:
        try:
            parsed[columns.study] = parse(constraints, columns)
        except ConstraintError as problem:
            if problem.nearness > 1:
                raise
            problems.append(problem)
    if problems and not parsed:
        raise max(problems, key=lambda problem: problem.nearness)
    return parsed


def _texts(constraints: Any, columns: Columns) -> Sequence[str]:
    if constraints is None:
        return ()
    if isinstance(constraints, str):
        return (constraints,)
    location = f"study {columns.study!r}: bad constraint"
    hint = "Give text such as 'state = FINISHED', or a flat list of texts."
    if not isinstance(constraints, list | tuple):
        raise ConstraintError(f"{location} {shortened(constraints)}: it is not text", hint=hint)
    for entry in constraints:
        if not isinstance(entry, str):
            message = f"{location} {shortened(constraints)}: entry {shortened(entry)} is not text"
            raise ConstraintError(message, hint=hint)
    return constraints


def _typed(text: str, checker: TypeChecker, study: str) -> Tree[Comparison]:
    # Imported late: importing and building the parser takes some 60 ms.
    from motoko.core.constraints.grammar import parse_text

    try:
        return convert(parse_text(text), checker.check)
    except ConstraintFault as fault:
        raise fault.as_error(text, study) from None


def _constraint(tree: Tree[Comparison], warnings: tuple[str, ...]) -> Constraint:
    return Constraint(
        render(tree), tree, warnings, compile_predicate(tree), plan_index(tree), compile_scan(tree)
    )


ALL: Final = _constraint(And(()), ())
"""The constraint that every run matches."""
