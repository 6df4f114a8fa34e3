"""Quantities as columns: a row for each step of each run."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from motoko.core.run_columns import ColumnTable

Series: TypeAlias = "Sequence[tuple[Any, Any]]"  # (step, value) in the order pushed
STEP: Final = "step"


def join_steps(
    table: ColumnTable, names: Sequence[str], series: Sequence[Mapping[str, Series]]
) -> ColumnTable:
    """Return a table with a row for each step of each run, in the order of steps.

    ``series[i]`` holds the quantities of the run in row i. Quantities are joined on the step: one
    without a value at a step is missing there. Runs without steps have no rows. A quantity with
    vectors has a column for each component: ``name[0]``, ``name[1]``, in row-major order. If a
    column has the name already, the new one is ``quantities.NAME``.
    """
    rows = [_steps(of_run, names) for of_run in series]
    flat = [row for of_run in rows for row in of_run]
    repeated = table.take([i for i, of_run in enumerate(rows) for _ in of_run])
    types: dict[str, str | None] = {**table.types}
    values: dict[str, list[Any]] = {**repeated.values}
    step = _free(STEP, types)
    types[step], values[step] = "int", [at for at, _ in flat]
    for position, name in enumerate(names):
        column = [found[position] for _, found in flat]
        for shown, items in _components(_free(name, types), column):
            types[shown], values[shown] = None, items
    return replace(repeated, types=types, values=values, length=len(flat))


def _free(name: str, taken: Mapping[str, Any]) -> str:
    return f"quantities.{name}" if name in taken else name


def _steps(of_run: Mapping[str, Series], names: Sequence[str]) -> list[tuple[Any, list[Any]]]:
    """Return the steps of a run with the values of all quantities there.

    A step that was pushed several times has a row each time.
    """
    rows: dict[tuple[Any, int], list[Any]] = {}
    for position, name in enumerate(names):
        seen: Counter[Any] = Counter()
        for step, value in of_run.get(name, ()):
            row = rows.setdefault((step, seen[step]), [None] * len(names))
            row[position] = value
            seen[step] += 1
    return [(step, rows[step, number]) for step, number in sorted(rows)]


def _components(name: str, column: Sequence[Any]) -> Iterator[tuple[str, list[Any]]]:
    if not any(isinstance(value, list | tuple) for value in column):
        yield name, list(column)
        return
    rows = [list(_numbers(value)) for value in column]
    for index in range(max(map(len, rows))):
        yield f"{name}[{index}]", [row[index] if index < len(row) else None for row in rows]


def _numbers(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item)
    else:
        yield value
