"""Typing: from a comparison as written to one whose values fit its column."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from motoko.core.constraints.faults import ConstraintFault, constraint_error
from motoko.core.constraints.syntax_tree import (
    BOOLEANS,
    ORDERINGS,
    SEARCHES,
    Column,
    Comparison,
    RawComparison,
    RawValue,
    parse_timestamp,
)
from motoko.core.states import RESERVED_LABELS

if TYPE_CHECKING:
    from motoko.core.constraints.columns import Columns

_EXAMPLES: Final = {
    "int": "a number, e.g. 3",
    "float": "a number, e.g. 0.5",
    "bool": "true or false",
    "datetime": "a time in ISO 8601, e.g. '2024-05-01T12:00'",
}


class TypeChecker:
    """Types the comparisons of one text and collects the warnings about them."""

    def __init__(self, text: str, columns: Columns) -> None:
        self._text = text
        self._columns = columns
        self.warnings: list[str] = []

    def check(self, written: RawComparison) -> Comparison:
        """Return the typed comparison, or raise ConstraintError."""
        column = self._columns.resolve(written.name, written.at)
        if isinstance(column, ConstraintFault):
            raise self._error(column)
        fault = _operator_fault(column, written)
        if fault is not None:
            raise self._error(fault)
        values = tuple(self._value(column, written, given) for given in written.values)
        self._warn(column, written, values)
        return Comparison(column, written.operator, written.negated, values)

    def _value(self, column: Column, written: RawComparison, given: RawValue) -> Any:
        read = _pattern if written.operator in SEARCHES else _literal
        value = read(column, given)
        if isinstance(value, bool) and written.operator in ORDERINGS:
            value = ConstraintFault(
                given.at, f"{given.text} is neither less nor greater", "Use = or !=."
            )
        if not isinstance(value, ConstraintFault):
            return value
        if given.kind == "word" and self._columns.is_known(given.text.rpartition(".")[2]):
            hint = "The right side is a value: columns cannot be compared with each other."
            value = ConstraintFault(value.at, value.what, hint)
        raise self._error(value)

    def _warn(self, column: Column, written: RawComparison, values: tuple[Any, ...]) -> None:
        warning = self._columns.warning(column)
        if warning is not None:
            self.warnings.append(warning)
        if column.source != "own" or column.name not in ("state", "lifecycle"):
            return
        if written.operator in SEARCHES:
            return
        for value in values:
            if value not in RESERVED_LABELS and value.upper() in RESERVED_LABELS:
                self.warnings.append(
                    f"study {self._columns.study!r}: {column.name} is compared with {value!r}, "
                    f"and case matters; did you mean {value.upper()}?"
                )

    def _error(self, fault: ConstraintFault) -> Exception:
        return constraint_error(fault, self._text, self._columns.study)


def _operator_fault(column: Column, written: RawComparison) -> ConstraintFault | None:
    sign = written.operator
    if column.type in ("list", "dict"):
        what = f"column {written.name!r} is {_article(column.type)}, which cannot be compared"
        return ConstraintFault(
            written.at, what, "Use a run filter, a Python function f(run, job), instead."
        )
    if sign in SEARCHES and column.type not in ("str", None):
        what = f"{sign} searches in text, and column {written.name!r} is {_article(column.type)}"
        return ConstraintFault(written.at, what, "Use =, !=, <, <=, > or >=.")
    return None


def _literal(column: Column, given: RawValue) -> Any:
    """Return the value that ``given`` is for ``column``, or a Fault."""
    if column.type in ("int", "float"):
        return _number(given) if given.kind == "number" else _misfit(column, given)
    if column.type == "bool":
        known = given.kind == "word" and given.text in BOOLEANS
        return BOOLEANS[given.text] if known else _misfit(column, given)
    if column.type == "datetime":
        time = parse_timestamp(given.text) if given.kind != "number" else None
        return _misfit(column, given) if time is None else time
    if column.type == "str":
        return _misfit(column, given) if given.kind == "number" else given.text
    if given.kind == "number":
        return _number(given)
    return BOOLEANS.get(given.text, given.text) if given.kind == "word" else given.text


def _number(given: RawValue) -> int | float | ConstraintFault:
    too_large = ConstraintFault(given.at, "this number is too large")
    try:
        value = float(given.text) if re.search("[.eE]", given.text) else int(given.text)
    except ValueError:  # Python limits the digits of an integer
        return too_large
    return too_large if isinstance(value, float) and math.isinf(value) else value


def _misfit(column: Column, given: RawValue) -> ConstraintFault:
    shown = given.text if len(given.text) <= 60 else f"{given.text[:60]}..."
    shown = f"the number {shown}" if given.kind == "number" else f"the text {shown!r}"
    what = f"column {column.shown!r} is {_article(column.type)} and cannot be compared with {shown}"
    if column.type == "str":
        return ConstraintFault(given.at, what, f'Put it in quotes: "{given.text}".')
    assert column.type is not None
    hint = f"Give {_EXAMPLES[column.type]}"
    if given.kind == "text" and column.type != "datetime":
        hint += ", without quotes"
    return ConstraintFault(given.at, what, f"{hint}.")


def _pattern(column: Column, given: RawValue) -> str | ConstraintFault:
    """Return the regular expression that ``given`` is, or a Fault."""
    if given.kind == "number":
        what = f"column {column.shown!r} is searched for text, not for the number {given.text}"
        return ConstraintFault(given.at, what, f'Put it in quotes: "{given.text}".')
    try:
        re.compile(given.text)
    except (re.error, OverflowError, RecursionError, Warning) as bad:
        return ConstraintFault(
            given.at, f"bad regular expression: {bad}", "Escape special signs with \\."
        )
    return given.text


def _article(type_name: str | None) -> str:
    return f"an {type_name}" if type_name == "int" else f"a {type_name}"
