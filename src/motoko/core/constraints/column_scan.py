"""Scan columns of a block of runs for the runs that may match a constraint.

Columns of parameters and fields are scanned. Comparisons of other columns hold for any run here, as
do those of values that may have changed since the block was written. So the result is a superset.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from motoko.core.column_encoding import CODES, SIZE, Column, decode_column
from motoko.core.constraints.evaluate import NUMBERS, value_predicate
from motoko.core.constraints.syntax_tree import And, Comparison, Not, Or, Tree

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

PARTS: Final = {"job": "job", "field": "fields"}  # sources of columns that are scanned
ABSENT: Final[Column] = ("absent",)


class ScannedBlock(Protocol):
    """A block as a scan needs it. A ``part`` is "job" or "fields"."""

    @property
    def length(self) -> int:
        """The number of its runs."""

    def member(self, part: str, name: str) -> Column | None:
        """Return the column of a value, ABSENT if no run has it, None if it has no column."""

    def changed(self, part: str) -> AbstractSet[int]:
        """Return the positions of the runs whose values in a part may have changed."""


# Returns the positions of the runs that may match, None for all.
Positions: TypeAlias = Callable[[ScannedBlock], "set[int] | None"]


@dataclass(frozen=True, slots=True)
class ColumnScan:
    """A scan of the columns in ``names``, such as ``job.x`` and ``fields.y``."""

    names: frozenset[str]
    positions: Positions


def compile_scan(tree: Tree[Comparison], negated: bool = False) -> ColumnScan | None:
    """Return the scan for ``tree`` (or its negation), None if no scanned column narrows it."""
    if isinstance(tree, Not):
        return compile_scan(tree.item, not negated)
    if isinstance(tree, And | Or):
        parts = [compile_scan(item, negated) for item in tree.items]
        scans = [part for part in parts if part is not None]
        conjunction = isinstance(tree, And) != negated
        if not scans or (not conjunction and len(scans) < len(parts)):
            return None
        positions = [scan.positions for scan in scans]
        names = frozenset().union(*(scan.names for scan in scans))
        return ColumnScan(names, _every(positions) if conjunction else _any(positions))
    part = PARTS.get(tree.column.source)
    if part is None:
        return None
    names = frozenset({f"{part}.{tree.column.name}"})
    return ColumnScan(names, _comparison(part, tree, negated != tree.negated))


def _every(scans: list[Positions]) -> Positions:
    def scan(block: ScannedBlock) -> set[int] | None:
        found: set[int] | None = None
        for part in scans:
            positions = part(block)
            if positions is not None:
                found = positions if found is None else found & positions
            if found is not None and not found:
                break
        return found

    return scan


def _any(scans: list[Positions]) -> Positions:
    def scan(block: ScannedBlock) -> set[int] | None:
        found: set[int] = set()
        for part in scans:
            positions = part(block)
            if positions is None:
                return None
            found |= positions
        return found

    return scan


def _comparison(part: str, test: Comparison, negated: bool) -> Positions:
    name, matching = test.column.name, _matching(test, negated)

    def scan(block: ScannedBlock) -> set[int] | None:
        column = block.member(part, name)
        found = None if column is None else matching(column, block.length)
        return None if found is None else found | block.changed(part)

    return scan


def _matching(test: Comparison, negated: bool) -> Callable[[Column, int], set[int] | None]:
    """Return a function that returns the positions in a column at which a comparison holds."""
    holds = value_predicate(test)
    wanted = test.values[0] if test.operator == "=" and not negated else None
    text = wanted.encode(errors="replace") if isinstance(wanted, str) else None
    is_number = wanted.__class__ in NUMBERS
    patterns = {kind: _patterns(kind, wanted) for kind in CODES} if is_number else {}

    def matching(column: Column, length: int) -> set[int] | None:
        kind = column[0]
        if kind == "absent":
            return set()
        if kind == "same":
            return None if holds(column[1]) != negated else set()
        if kind in patterns:
            return set(_positions(patterns[kind], column[1]))
        if kind == "choice":
            chosen = {at for at, value in enumerate(column[1]) if holds(value) != negated}
            return (
                {at for at, place in enumerate(column[2]) if place in chosen} if chosen else set()
            )
        if kind == "text" and text is not None and text not in column[2]:
            return set()
        values = decode_column(column, range(length))
        return {at for at, value in enumerate(values) if holds(value) != negated}

    return matching


def _positions(patterns: Iterable[bytes], data: bytes) -> Iterable[int]:
    """Yield the positions of numbers in their stored forms, without decoding the others."""
    for pattern in patterns:
        at = data.find(pattern)
        while at >= 0:
            if at % SIZE == 0:
                yield at // SIZE
            at = data.find(pattern, at + 1)


def _patterns(kind: str, number: Any) -> list[bytes]:
    """Return the stored forms of the values of a column that equal a number."""
    try:
        exact: Any = float(number) if kind == "float" else int(number)
        values = [0.0, -0.0] if kind == "float" and exact == 0 else [exact]
        forms = [struct.pack(f"<{CODES[kind]}", value) for value in values]
    except (OverflowError, ValueError, struct.error):  # too large for the column, or not finite
        return []
    return forms if exact == number else []
