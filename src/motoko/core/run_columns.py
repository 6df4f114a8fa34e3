"""The runs of a study as columns: pure functions from rows to lists of values.

A column is a property of every run, a job value or a field. If names clash, ``jobs.x`` and
``runs.x`` name job value and field, as in constraints.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from motoko.core.column_encoding import EncodedValues
from motoko.core.constraints import Columns
from motoko.core.constraints.row_filter import column_values
from motoko.core.constraints.syntax_tree import Column
from motoko.core.provenance import (
    NO_FACTS,
    process_host,
    reference_of,
    times_in,
)
from motoko.core.records import RUN_COLUMNS
from motoko.core.run_blocks import DIVIDED
from motoko.core.run_options import STORED_OPTIONS
from motoko.core.run_rows import StoredRows
from motoko.core.states import TERMINAL
from motoko.core.values import TYPE_NAMES, copy_plain
from motoko.errors import UnknownNameError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from motoko.core.provenance import AttemptTimes, Provenance
    from motoko.core.records import RunRecord
    from motoko.core.run_rows import Rows, Shape

# Columns that no constraint has, with their types: facts of the last attempt, and others.
FACTS: Final = MappingProxyType({
    "host": "str",
    "scripts": "str",
    "git_commit": "str",
    "git_dirty": "bool",
    "interpreter": "str",
    "python_version": "str",
    "motoko_version": "str",
})  # fmt: skip
DERIVED: Final = MappingProxyType({
    "outcome": "str",
    "created": "datetime",
    "started": "datetime",
    "ended": "datetime",
    "duration": "float",
    "directory": "str",
    **FACTS,
})  # fmt: skip
TIMES: Final = frozenset({"started", "ended", "duration"})
# Shown by default, before and after job values and fields.
FIRST: Final = ("id", "run_name")
LAST: Final = (
    "state", "lifecycle", "outcome", "attempt", "exit_code", "reason", "event_name", "created",
    "started", "ended", "duration", "directory", *FACTS,
)  # fmt: skip
_SCALARS: Final = frozenset({int, float, str, bool, bytes, datetime, type(None)})
_NAMED: Final = 20  # columns in a hint
# The stored values that some columns are made from; other columns are stored as they are.
_STORED_IN: Final = MappingProxyType({
    "attempt": ("attempt", "uncounted"),
    "state": ("lifecycle", "label"),
    "outcome": ("lifecycle",),
    "created": ("history",),
    **dict.fromkeys(TIMES, ("history", "attempt")),
    **dict.fromkeys(FACTS, ("provenance", "attempt")),
    "host": ("provenance", "attempt", "process"),
    "scripts": ("provenance", "attempt", "scripts"),
})  # fmt: skip
_UNIQUE: Final = frozenset({"directory", "reason"})  # texts that hardly repeat


@dataclass(frozen=True, slots=True)
class ColumnTable:
    """Values of runs, a row for each run, or for each step of its quantities.

    ``types`` maps the columns, in their order, to declared types (None: undeclared), ``values`` to
    lists of plain values, with None for missing ones. ``transaction`` is the id of the newest
    commit that was read, in hexadecimal, and ``committed`` its time.
    """

    study: str
    types: Mapping[str, str | None]
    values: Mapping[str, list[Any]]
    transaction: str = ""
    committed: datetime | None = None
    length: int = field(default=0, kw_only=True)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns in their order."""
        return tuple(self.types)

    def __len__(self) -> int:
        return self.length

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield the values of each row, in the order of the columns."""
        return zip(*self.values.values(), strict=True) if self.values else iter([()] * self.length)

    def take(self, positions: Sequence[int]) -> ColumnTable:
        """Return the rows at these positions, in the given order."""
        values = {name: [items[i] for i in positions] for name, items in self.values.items()}
        return replace(self, values=values, length=len(positions))


class CollectedColumns(Mapping[str, "list[Any]"]):
    """Columns in parts, as rows passed. A column becomes a list when it is used as one."""

    def __init__(self, parts: Mapping[str, Sequence[Sequence[Any]]]) -> None:
        self._parts = parts
        self._lists: dict[str, list[Any]] = {}

    def parts(self, name: str) -> Sequence[Sequence[Any]]:
        """Return the values of a column in parts, of which arrays hold numbers of their type."""
        return [self._lists[name]] if name in self._lists else self._parts[name]

    def __getitem__(self, name: str) -> list[Any]:
        if name not in self._lists:
            self._lists[name] = list(chain.from_iterable(self._parts[name]))
        return self._lists[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


class ColumnNames:
    """The columns that the runs of a study have, by the names that select them."""

    def __init__(self, declared: Columns, shapes: Iterable[Shape] = ()) -> None:
        self._declared = declared
        shapes = dict.fromkeys(shapes)
        self.jobs = dict.fromkeys([*declared.job, *(name for job, _ in shapes for name in job)])
        self.fields = dict.fromkeys([*declared.run, *(name for _, own in shapes for name in own)])

        self._columns = self._named()

    def default(self) -> list[str]:
        """Return the names of the default columns."""
        own = (*map(self._shown_job, self.jobs), *map(self._shown_field, self.fields))
        return [*FIRST, *own, *LAST]

    def compact(self, *, run_names: bool = False) -> list[str]:
        """Return the names of the columns that fit in a terminal."""
        run_name = ["run_name"] if run_names else []
        jobs, fields = map(self._shown_job, self.jobs), map(self._shown_field, self.fields)
        return ["id", *run_name, *jobs, "state", *fields, "reason"]

    def candidates(self, written: str) -> list[Column]:
        """Return the columns that ``written`` may name if further runs have other columns."""
        bare = written.removeprefix("jobs.").removeprefix("runs.")
        columns = self._columns.items()
        return [column for shown, column in columns if shown == written or column.name == bare]

    def find(self, written: str) -> Column | None:
        """Return the column that ``written`` names, None if no run has it."""
        return self._columns.get(written)

    def unknown(self, written: str) -> UnknownNameError:
        """Return the error for a name that selects no column."""
        study = self._declared.study
        if written in self.jobs:
            return UnknownNameError(
                f"column {written!r} of study {study!r} is ambiguous: jobs and runs both have it",
                hint=f"Write jobs.{written} or runs.{written}.",
            )
        known = self.default()
        near = nearest(written, dict.fromkeys([*known, *RUN_COLUMNS]))
        hint = f"Did you mean {near!r}?" if near else f"Known: {', '.join(known[:_NAMED])}."
        return UnknownNameError(f"study {study!r} has no column {written!r}", hint=hint)

    def _named(self) -> dict[str, Column]:
        declared, own = self._declared, {**RUN_COLUMNS, **DERIVED}
        job_types = {name: _type(declared.job.get(name)) for name in self.jobs}
        field_types = {name: _type(declared.run.get(name)) for name in self.fields}
        found = [Column("own", name, f"runs.{name}", own[name]) for name in own]
        found += [Column("own", name, name, own[name]) for name in own if name not in self.jobs]
        found += [Column("own", name, name, own[name]) for name in DERIVED]
        found += [Column("own", "job_id", "jobs.id", "int")]
        for name, type_name in field_types.items():
            shown = {f"runs.{name}", self._shown_field(name)}
            found += [Column("field", name, text, type_name) for text in shown]
        for name, type_name in job_types.items():
            shown = {f"jobs.{name}", self._shown_job(name)}
            found += [Column("job", name, text, type_name) for text in shown]
        return {column.shown: column for column in found}

    def _shown_job(self, name: str) -> str:
        clash = name in self._declared.run or name in RUN_COLUMNS or name in DERIVED
        return f"jobs.{name}" if clash else name

    def _shown_field(self, name: str) -> str:
        return f"runs.{name}" if name in self.jobs or name in DERIVED else name


def _type(declared: str | None) -> str | None:
    return declared if declared in TYPE_NAMES else None


@dataclass(frozen=True, slots=True)
class ColumnSource:
    """What columns need besides rows.

    ``root`` is the parent of the run directories. ``facts`` returns the provenance of a reference.
    """

    root: str = ""
    facts: Callable[[bytes], Provenance | None] = lambda _: None

    def columns(self, rows: Rows, columns: Iterable[Column]) -> dict[str, Sequence[Any]]:
        """Return the values of runs by column."""
        wanted = list(columns)
        timed = any(column.source == "own" and column.name in TIMES for column in wanted)
        times = _last_times(rows) if timed else []
        return {column.shown: self._values(rows, column, times) for column in wanted}

    def _values(self, rows: Rows, column: Column, times: Sequence[AttemptTimes]) -> Sequence[Any]:
        name = column.name
        if column.source == "own":
            if name in FACTS:
                return self._facts(name, rows)
            if name in DERIVED:
                return self._derived(name, rows, times)
        return _copied(column_values(rows, column))

    def _derived(self, name: str, rows: Rows, times: Sequence[AttemptTimes]) -> Sequence[Any]:
        if name == "outcome":
            return [state if state in TERMINAL else None for state in rows.values("lifecycle")]
        if name == "created":
            return [_time(moves[0][0]) if moves else None for moves in rows.values("history")]
        if name == "directory":
            return [f"{self.root}/run-{run_id}" for run_id in rows.values("id")]
        if name == "duration":
            return [of_attempt.duration for of_attempt in times]
        return [_time(getattr(of_attempt, name)) for of_attempt in times]

    def _facts(self, name: str, rows: Rows) -> Sequence[Any]:
        """Return one fact of the last attempts, None if it is unknown."""
        attempts = zip(rows.values("provenance"), rows.values("attempt"), strict=True)
        references = [reference_of(all_of_run, attempt) for all_of_run, attempt in attempts]
        known = {one: self.facts(one) or NO_FACTS for one in dict.fromkeys(references)}
        found = {one: getattr(facts, name) for one, facts in known.items()}
        values = [None if found[one] == "" else found[one] for one in references]
        if name == "host":
            pairs = zip(values, rows.values("process"), strict=True)
            return [value or process_host(process) for value, process in pairs]
        if name == "scripts":
            pairs = zip(values, rows.values("scripts"), strict=True)
            return [value or digest or None for value, digest in pairs]
        return values


class ColumnCollector:
    """Fills columns while rows pass, which it does not keep.

    ``columns`` are the names of the columns; if it is None, ``default`` chooses them.
    """

    def __init__(
        self,
        declared: Columns,
        source: ColumnSource,
        columns: Sequence[str] | None = None,
        default: Callable[[ColumnNames], list[str]] = ColumnNames.default,
    ) -> None:
        self._declared = declared
        self._source = source
        self._written = columns
        self._default = default
        self._shapes: dict[Shape, None] = {}
        self._wanted: list[Column] = []
        self._values: dict[tuple[str, str], list[Sequence[Any]]] = {}
        self._texts: dict[Any, Any] = {}
        self.length = 0

    def add(self, rows: Rows) -> None:
        """Append the values of runs."""
        known = len(self._shapes)
        self._shapes.update(dict.fromkeys(rows.shapes()))
        if len(self._shapes) > known:
            names = self.names()
            found = [one for name in self.written(names) for one in names.candidates(name)]
            self._wanted = list({(one.source, one.name): one for one in found}.values())
        of_batch = self._source.columns(rows, self._wanted)
        for column in self._wanted:
            values = of_batch[column.shown]
            is_decoded = not isinstance(values, EncodedValues)
            repeats = column.type == "str" and column.name not in _UNIQUE
            if column.source == "own" and repeats and is_decoded:
                self._texts.update({one: one for one in set(values) - self._texts.keys()})
                values = list(map(self._texts.__getitem__, values))
            position = column.source, column.name
            if position not in self._values:
                self._values[position] = [[None] * self.length]
            self._values[position].append(values)
        self.length += len(rows)

    def names(self) -> ColumnNames:
        """Return the columns that the runs so far have."""
        return ColumnNames(self._declared, self._shapes)

    def written(self, names: ColumnNames) -> list[str]:
        """Return the names of the chosen columns, in their order."""
        return self._default(names) if self._written is None else [*dict.fromkeys(self._written)]

    def values(self, columns: Iterable[Column]) -> CollectedColumns:
        """Return the values of these columns, by their names."""
        missing = [[None] * self.length]
        return CollectedColumns(
            {
                column.shown: self._values.get((column.source, column.name), missing)
                for column in columns
            }
        )


def compact_table(
    study: str, records: Sequence[RunRecord], *, run_names: bool = False
) -> ColumnTable:
    """Return the columns of records that fit in a terminal."""
    rows = StoredRows.of(records)
    names = ColumnNames(Columns(study, {}, {}), rows.shapes())
    found = [names.find(name) for name in names.compact(run_names=run_names)]
    columns = [column for column in found if column is not None]
    found_values = ColumnSource().columns(rows, columns)
    values = {name: list(items) for name, items in found_values.items()}
    types = {column.shown: column.type for column in columns}
    return ColumnTable(study, types, values, length=len(records))


def stored_names(written: Iterable[str]) -> frozenset[str]:
    """Return the columns of blocks from which columns of these names are made."""
    found = {"id", *DIVIDED, "run_name", "lifecycle", "label"}  # the last ones select runs
    for name in written:
        bare = name.removeprefix("jobs.").removeprefix("runs.")
        own = _STORED_IN.get(bare, ("options",) if bare in STORED_OPTIONS else (bare,))
        found.update(own, (f"{part}.{bare}" for part in DIVIDED))
    return frozenset(found)


def _time(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)


def _last_times(rows: Rows) -> list[AttemptTimes]:
    histories = zip(rows.values("history"), rows.values("attempt"), strict=True)
    return [times_in(moves, attempt) for moves, attempt in histories]


def _copied(values: Sequence[Any]) -> Sequence[Any]:
    """Return values that the caller may change, without effect on cached ones."""
    if isinstance(values, array | range | EncodedValues) or _SCALARS.issuperset(map(type, values)):
        return values
    return [v if v.__class__ in _SCALARS else copy_plain(v) for v in values]
