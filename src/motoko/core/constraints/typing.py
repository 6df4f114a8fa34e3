"""Typing: find the column of a comparison and convert its values to the column's type."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

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
from motoko.core.records import RUN_COLUMNS
from motoko.core.states import RESERVED_LABELS
from motoko.core.values import TYPE_NAMES
from motoko.errors import ConstraintError, likeness, nearest, suggestion
from motoko.worker.validation import RESERVED_FIELDS

if TYPE_CHECKING:
    from collections.abc import Mapping

_EXCERPT: Final = 100  # characters of a constraint in a message
_RUN_NAME: Final = "run_name"
_EXAMPLES: Final = {
    "int": "a number, e.g. 3",
    "float": "a number, e.g. 0.5",
    "bool": "true or false",
    "datetime": "a time in ISO 8601, e.g. '2024-05-01T12:00'",
}


class ConstraintFault(Exception):
    """A fault at character ``at`` (from 0) of a constraint's text.

    ``nearness`` is the likeness of an unknown name to a known one: 1 if no name is unknown, 2 if
    a name is ambiguous.
    """

    def __init__(
        self, at: int, message: str, hint: str | None = None, nearness: float = 1.0
    ) -> None:
        super().__init__(message)
        self.at, self.message, self.hint, self.nearness = at, message, hint, nearness

    def as_error(self, text: str, study: str) -> ConstraintError:
        """Return the error that shows ``text`` with a mark under the fault."""
        line, mark = _excerpt(text, self.at)
        quote = '"' if "'" in line and '"' not in line else "'"
        location = f"study {study!r}: bad constraint {quote}{line}{quote}, column {self.at + 1}"
        message = f"{location}: {self.message}\n    {line}\n    {' ' * mark}^"
        error = ConstraintError(message, hint=self.hint)
        error.nearness = self.nearness
        return error


def _excerpt(text: str, at: int) -> tuple[str, int]:
    """Return a printable line of bounded length, and the position of ``at`` in it."""
    flat = "".join(char if char.isprintable() else " " for char in text)
    if len(flat) <= _EXCERPT:
        return flat, at
    start = max(0, min(at - _EXCERPT // 2, len(flat) - _EXCERPT))
    before = "..." if start else ""
    after = "..." if start + _EXCERPT < len(flat) else ""
    return before + flat[start : start + _EXCERPT] + after, at - start + len(before)


@dataclass(frozen=True, slots=True)
class Columns:
    """The declared fields of one study. With an empty ``run`` unknown names are accepted."""

    study: str
    job: Mapping[str, str]
    run: Mapping[str, str]

    def resolve(self, written: str, at: int) -> Column:
        """Return the column called ``written``, or raise ConstraintFault."""
        prefix, dot, name = written.rpartition(".")
        if not dot:
            return self._unprefixed(name, at)
        if prefix == "jobs":
            return self._of_job(name, at)
        if prefix == "runs":
            return self._of_run(name, at)
        singular = prefix in ("job", "run")
        hint = f"Write {prefix}s.{name}." if singular else "Only jobs. and runs. are prefixes."
        raise ConstraintFault(at, f"unknown column {written!r}", hint, nearness=0.0)

    def warning(self, column: Column) -> str | None:
        """Return a warning about an undeclared column with almost the name of a declared one."""
        if column.type is not None or column.name in self.run or column.name in self.job:
            return None
        near = nearest(column.name, self._known())
        if near is None:
            return None
        return f"study {self.study!r} declares no field {column.name!r}; did you mean {near!r}?"

    def is_known(self, name: str) -> bool:
        """Return whether ``name`` is a declared field or a column of every run."""
        return name in self.job or self._is_of_run(name)

    def _is_of_run(self, name: str) -> bool:
        return name in self.run or name in RUN_COLUMNS

    def _unprefixed(self, name: str, at: int) -> Column:
        if name not in self.job or name == _RUN_NAME:
            return self._of_run(name, at)
        if self._is_of_run(name):
            message = f"column {name!r} is ambiguous: jobs and runs both have it"
            hint = f"Write jobs.{name} or runs.{name}."
            raise ConstraintFault(at, message, hint, nearness=2.0)
        return self._of_job(name, at)

    def _of_job(self, name: str, at: int) -> Column:
        if name in self.job:
            shown = f"jobs.{name}" if self._is_of_run(name) else name
            return Column("job", name, shown, _declared(self.job[name]))
        if name == "id":
            return Column("own", "job_id", self._shown("job_id"), "int")
        known = list(self.job)
        hint, nearness = suggestion(name, known), likeness(name, known)
        raise ConstraintFault(at, f"jobs have no field {name!r}", hint, nearness)

    def _of_run(self, name: str, at: int) -> Column:
        if name == _RUN_NAME:
            raise ConstraintFault(
                at,
                "'run_name' is not a column: constraints cannot select run names",
                "Use the option `--run_name N`. In Python, set workflow.run_name: it scopes every "
                "selection.",
            )
        if name in RUN_COLUMNS:
            return Column("own", name, self._shown(name), RUN_COLUMNS[name])
        if name in self.run:
            return Column("field", name, self._shown(name), _declared(self.run[name]))
        if self.run or name in RESERVED_FIELDS:
            known = self._known()
            nearness = likeness(name, known)
            shortlist = list(dict.fromkeys([*self.job, *self.run, "id", "state"]))
            hint = suggestion(name, known if nearest(name, known) is not None else shortlist)
            raise ConstraintFault(at, f"unknown column {name!r}", hint, nearness)
        return Column("field", name, self._shown(name), None)

    def _shown(self, name: str) -> str:
        return f"runs.{name}" if name in self.job else name

    def _known(self) -> list[str]:
        names = dict.fromkeys([*self.job, *self.run, *RUN_COLUMNS])
        return [name for name in names if name != _RUN_NAME or name in self.job]


def _declared(type_name: str) -> str | None:
    return type_name if type_name in TYPE_NAMES else None


class TypeChecker:
    """Types the comparisons of one text and collects warnings about them."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self.warnings: list[str] = []

    def check(self, comparison: RawComparison) -> Comparison:
        """Return the typed comparison, or raise ConstraintFault."""
        column = self._columns.resolve(comparison.name, comparison.at)
        _check_operator(column, comparison)
        values = tuple(self._value(column, comparison, raw) for raw in comparison.values)
        self._warn(column, comparison, values)
        return Comparison(column, comparison.operator, comparison.negated, values)

    def _value(self, column: Column, comparison: RawComparison, raw: RawValue) -> Any:
        try:
            value = (_pattern if comparison.operator in SEARCHES else _literal)(column, raw)
            if isinstance(value, bool) and comparison.operator in ORDERINGS:
                message = f"{raw.text} is neither less nor greater"
                raise ConstraintFault(raw.at, message, "Use = or !=.")
        except ConstraintFault as fault:
            if raw.kind == "word" and self._columns.is_known(raw.text.rpartition(".")[2]):
                fault.hint = (
                    "The right side is a value: columns cannot be compared with each other."
                )
            raise
        return value

    def _warn(self, column: Column, comparison: RawComparison, values: tuple[Any, ...]) -> None:
        warning = self._columns.warning(column)
        if warning is not None:
            self.warnings.append(warning)
        if column.source != "own" or column.name not in ("state", "lifecycle"):
            return
        if comparison.operator in SEARCHES:
            return
        self.warnings.extend(
            f"study {self._columns.study!r}: {column.name} is compared with {value!r}, "
            f"and case matters; did you mean {value.upper()}?"
            for value in values
            if value not in RESERVED_LABELS and value.upper() in RESERVED_LABELS
        )


def _check_operator(column: Column, comparison: RawComparison) -> None:
    sign = comparison.operator
    if column.type in ("list", "dict"):
        message = f"column {comparison.name!r} is {_article(column.type)}, which cannot be compared"
        hint = "Use a run filter, a Python function f(run, job), instead."
        raise ConstraintFault(comparison.at, message, hint)
    if sign in SEARCHES and column.type not in ("str", None):
        message = (
            f"{sign} searches in text, and column {comparison.name!r} is {_article(column.type)}"
        )
        raise ConstraintFault(comparison.at, message, "Use =, !=, <, <=, > or >=.")


def _literal(column: Column, raw: RawValue) -> Any:
    """Return ``raw`` in the type of the column."""
    if raw.kind == "number":
        is_numeric = column.type in ("int", "float", None)
        return _number(raw) if is_numeric else _raise_type_mismatch(column, raw)
    if column.type == "str":
        return raw.text
    value: Any = parse_timestamp(raw.text) if column.type == "datetime" else None
    if column.type in ("bool", None) and raw.kind == "word":
        value = BOOLEANS.get(raw.text)
    if value is None:
        return raw.text if column.type is None else _raise_type_mismatch(column, raw)
    return value


def _number(raw: RawValue) -> int | float:
    try:
        value = float(raw.text) if re.search("[.eE]", raw.text) else int(raw.text)
        is_too_large = math.isinf(value)
    except (ValueError, OverflowError):  # an integer with too many digits for Python, or a float
        is_too_large = True
    if is_too_large:
        raise ConstraintFault(raw.at, "this number is too large")
    return value


def _raise_type_mismatch(column: Column, raw: RawValue) -> NoReturn:
    shown = raw.text if len(raw.text) <= 60 else f"{raw.text[:60]}..."
    shown = f"the number {shown}" if raw.kind == "number" else f"the text {shown!r}"
    what = f"column {column.shown!r} is {_article(column.type)} and cannot be compared with {shown}"
    if column.type == "str":
        raise ConstraintFault(raw.at, what, f'Put it in quotes: "{raw.text}".')
    hint = f"Give {_EXAMPLES[column.type or '']}"
    if raw.kind == "text" and column.type != "datetime":
        hint += ", without quotes"
    raise ConstraintFault(raw.at, what, f"{hint}.")


def _pattern(column: Column, raw: RawValue) -> str:
    """Return a valid regular expression."""
    if raw.kind == "number":
        message = f"column {column.shown!r} is searched for text, not for the number {raw.text}"
        raise ConstraintFault(raw.at, message, f'Put it in quotes: "{raw.text}".')
    try:
        re.compile(raw.text)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        message = f"bad regular expression: {error}"
        raise ConstraintFault(raw.at, message, "Escape special characters with \\.") from None
    return raw.text


def _article(type_name: str | None) -> str:
    return f"an {type_name}" if type_name == "int" else f"a {type_name}"
