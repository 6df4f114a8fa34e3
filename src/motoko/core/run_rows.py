"""Runs of one study as the values that they store, from which tables take columns.

Rows are stored tuples or columns of a block; to read a few columns, neither becomes a record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from motoko.core.column_encoding import decode_column
from motoko.core.records import STORED_FIELDS, default_value, stored_values
from motoko.core.run_blocks import DIVIDED, KEYS

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence

    from motoko.core.column_encoding import Column
    from motoko.core.records import RunRecord

# The names of a run's job values, and of its fields.
Shape: TypeAlias = "tuple[tuple[str, ...], tuple[str, ...]]"

_PLACES: Final = {name: 1 + at for at, name in enumerate(STORED_FIELDS)}  # behind the version


class Rows(Protocol):
    """The stored values of some runs, in their order."""

    def __len__(self) -> int:
        """Return the number of the runs."""

    def values(self, name: str) -> Sequence[Any]:
        """Return the values of one of STORED_FIELDS."""

    def members(self, part: str, name: str) -> Sequence[Any]:
        """Return the values under a name in ``job``, ``fields`` or ``options``; None without.

        If they are an array, all are numbers.
        """

    def shapes(self) -> Iterable[Shape]:
        """Return the different shapes of the runs."""


class Part(Rows, Protocol):
    """Rows of which some can be taken."""

    def take(self, positions: Sequence[int]) -> Part:
        """Return the rows at these positions."""


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Rows of runs that are stored one by one: each a version and the STORED_FIELDS."""

    rows: Sequence[Sequence[Any]]

    @classmethod
    def of(cls, records: Iterable[RunRecord]) -> StoredRows:
        """Return the rows of records."""
        return cls([(0, *stored_values(record)) for record in records])

    def __len__(self) -> int:
        return len(self.rows)

    def values(self, name: str) -> Sequence[Any]:
        """Return the values of one of STORED_FIELDS."""
        place, missing = _PLACES[name], default_value(name)
        return [row[place] if len(row) > place else missing for row in self.rows]

    def members(self, part: str, name: str) -> Sequence[Any]:
        """Return the values under a name in ``job``, ``fields`` or ``options``; None without."""
        return _members(self.values(part), name)

    def shapes(self) -> Iterable[Shape]:
        """Return the different shapes of the runs."""
        found = zip(*map(self.values, DIVIDED), strict=True)
        return dict.fromkeys([(tuple(job or ()), tuple(own or ())) for job, own in found])

    def take(self, positions: Sequence[int]) -> Part:
        """Return the rows at these positions."""
        return StoredRows([self.rows[at] for at in positions])


@dataclass(frozen=True, slots=True)
class ColumnRows:
    """Rows of runs in a block, at these positions. ``column`` returns a column by its name."""

    ids: Sequence[int]
    positions: Sequence[int]
    column: Callable[[str], Column | None]

    def __len__(self) -> int:
        return len(self.ids)

    def values(self, name: str) -> Sequence[Any]:
        """Return the values of one of STORED_FIELDS."""
        if name == "id":
            return self.ids
        found = self._found(name)
        if found[0] != KEYS:
            return decode_column(found, self.positions)
        members = tuple(self.column(f"{name}.{key}") for key in found[1])
        return decode_column(("dict", found[1], members), self.positions)

    def members(self, part: str, name: str) -> Sequence[Any]:
        """Return the values under a name in ``job``, ``fields`` or ``options``; None without."""
        found = self._found(part)
        if found[0] == "same":
            return [(found[1] or {}).get(name)] * len(self.ids)
        if found[0] != KEYS:
            return _members(decode_column(found, self.positions), name)
        column = self.column(f"{part}.{name}") if name in found[1] else None
        return decode_column(column or ("same", None), self.positions)

    def shapes(self) -> Iterable[Shape]:
        """Return the different shapes of the runs."""
        kinds = [self._found(part) for part in DIVIDED]
        if all(kind in ("same", KEYS) for kind, *_ in kinds):
            job, own = (tuple(content or ()) for _, content in kinds)
            return [(job, own)]
        names = (self._names(part) for part in DIVIDED)
        return dict.fromkeys(zip(*names, strict=True))

    def take(self, positions: Sequence[int]) -> Part:
        """Return the rows at these positions."""
        ids = [self.ids[at] for at in positions]
        return ColumnRows(ids, [self.positions[at] for at in positions], self.column)

    def _names(self, part: str) -> Sequence[tuple[str, ...]]:
        found = self._found(part)
        if found[0] == KEYS:
            return [found[1]] * len(self.ids)
        return [tuple(values or ()) for values in decode_column(found, self.positions)]

    def _found(self, name: str) -> Column:
        return self.column(name) or ("same", default_value(name))


@dataclass(frozen=True, slots=True)
class _JoinedRows:
    """Rows of several sources in one order: row i is row ``order[i]`` of all sources joined."""

    parts: Sequence[Rows]
    order: Sequence[int]

    def __len__(self) -> int:
        return len(self.order)

    def values(self, name: str) -> Sequence[Any]:
        """Return the values of one of STORED_FIELDS."""
        return self._ordered([part.values(name) for part in self.parts])

    def members(self, part: str, name: str) -> Sequence[Any]:
        """Return the values under a name in ``job``, ``fields`` or ``options``; None without."""
        return self._ordered([one.members(part, name) for one in self.parts])

    def shapes(self) -> Iterable[Shape]:
        """Return the different shapes of the runs."""
        return dict.fromkeys(shape for part in self.parts for shape in part.shapes())

    def _ordered(self, parts: Sequence[Sequence[Any]]) -> Sequence[Any]:
        joined = [value for values in parts for value in values]
        return [joined[at] for at in self.order]


def join_rows(parts: Iterable[Rows]) -> Rows:
    """Return the rows of all parts by id."""
    found = [part for part in parts if len(part)]
    if len(found) < 2:
        return found[0] if found else StoredRows(())
    ids = [run_id for part in found for run_id in part.values("id")]
    return _JoinedRows(found, sorted(range(len(ids)), key=ids.__getitem__))


def selector(
    run_name: str | None, states: Container[str] | None, lifecycles: Container[str] | None
) -> Callable[[Part], Part]:
    """Return a function that takes the rows of a run name in these states and lifecycles.

    ``states`` are states as shown. None stands for all.
    """

    def select(rows: Part) -> Part:
        found: Sequence[int] = range(len(rows))
        if run_name is not None:
            names = rows.values("run_name")
            if names.count(run_name) < len(names):
                found = [at for at in found if names[at] == run_name]
        if lifecycles is not None:
            reached = rows.values("lifecycle")
            found = [at for at in found if reached[at] in lifecycles]
        if states is not None:
            shown = shown_states(rows)
            found = [at for at in found if shown[at] in states]
        return rows if len(found) == len(rows) else rows.take(found)

    return select


def shown_states(rows: Rows) -> Sequence[str]:
    """Return the states that users see: labels, else lifecycles."""
    labels, states = rows.values("label"), rows.values("lifecycle")
    if labels.count(None) == len(labels):
        return states
    pairs = zip(labels, states, strict=True)
    return [state if label is None else label for label, state in pairs]


def counted_attempts(rows: Rows) -> Sequence[int]:
    """Return the numbers of attempts that users see: without requeued ones."""
    numbers, uncounted = rows.values("attempt"), rows.values("uncounted")
    return [number - other for number, other in zip(numbers, uncounted, strict=True)]


def _members(mappings: Sequence[Any], name: str) -> Sequence[Any]:
    return [mapping.get(name) if mapping else None for mapping in mappings]
