"""Values of many runs for plots in a browser: columns, thinned to what a screen can show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from motoko.printable import printable
from motoko.storage.columns import read_columns
from motoko.views.run import number_pairs, thinned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from motoko.views.connection import ReadConnection
    from motoko.views.runs import RunQuery

POINTS: Final = 20_000  # runs that are drawn
CATEGORIES: Final = 12  # values of a text column that are told apart
OTHER: Final = "other"


@dataclass(frozen=True, slots=True)
class PlotColumn:
    """A column for an axis: numbers (None: missing), or positions in ``categories``."""

    name: str
    values: Sequence[float | None]
    categories: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class PlotData:
    """The drawn runs, as columns. ``number``: of all runs that match."""

    study: str
    ids: Sequence[int]
    columns: Sequence[PlotColumn]
    number: int


@dataclass(frozen=True, slots=True)
class Line:
    """A quantity of one run over its steps."""

    run: str
    steps: Sequence[float]
    values: Sequence[float]


def read_plot(connection: ReadConnection, query: RunQuery, names: Sequence[str]) -> PlotData:
    """Return these columns of the runs of one study.

    Raise ConstraintError or UnknownNameError for a constraint or a column that is not valid.
    """
    workflow = connection.workflow
    assert query.study is not None
    manager = workflow.task_manager(query.study)
    constraint = query.selection.parse(workflow)[manager.name]
    with connection.read() as session:
        if session is None or manager.name not in session.tables.study_names():
            return PlotData(manager.name, (), [PlotColumn(name, ()) for name in names], 0)
        table = read_columns(
            session, manager.columns, query.run_name, constraint, ["runs.id", *names], copied=True
        )
    positions = range(0, len(table), max(1, -(-len(table) // POINTS)))
    taken = table.take(positions)
    columns = [plot_column(name, taken.values[name]) for name in names]
    return PlotData(manager.name, taken.values["runs.id"], columns, len(table))


def plot_column(name: str, values: Sequence[Any]) -> PlotColumn:
    """Return values as numbers; as categories if any of them is no number or time."""
    numbers = [_number(value) for value in values]
    if all(n is not None for n, value in zip(numbers, values, strict=True) if value is not None):
        return PlotColumn(name, [_finite(number) for number in numbers])
    counts: dict[str, int] = {}
    for value in values:
        if value is not None:
            text = printable(str(value))
            counts[text] = counts.get(text, 0) + 1
    shown = sorted(counts, key=lambda text: -counts[text])[:CATEGORIES]
    categories = [*sorted(shown), *([OTHER] if len(counts) > len(shown) else [])]
    place = {text: position for position, text in enumerate(categories)}
    rest = len(categories) - 1
    return PlotColumn(
        name,
        [None if v is None else float(place.get(printable(str(v)), rest)) for v in values],
        categories,
    )


def _number(value: Any) -> float | None:
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, bool | int | float):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    return None


def _finite(number: float | None) -> float | None:
    return None if number is None or not math.isfinite(number) else number


def read_lines(
    connection: ReadConnection, study: str, ids: Sequence[int], quantity: str
) -> list[Line]:
    """Return a quantity of these runs; those without it are left out."""
    lines: list[Line] = []
    with connection.read() as session:
        if session is None or study not in session.tables.study_names():
            return lines
        table = session.tables.study(study)
        for run_id, found in zip(ids, table.series(ids, [quantity]), strict=True):
            pairs = thinned(number_pairs(found.get(quantity, [])))
            if pairs:
                lines.append(Line(f"{study}.{run_id}", *map(list, zip(*pairs, strict=True))))
    return lines


def quantity_names(connection: ReadConnection, study: str, ids: Sequence[int]) -> list[str]:
    """Return the names of the quantities of these runs."""
    with connection.read() as session:
        if session is None or study not in session.tables.study_names():
            return []
        table = session.tables.study(study)
        return sorted({name for run_id in ids for name in table.quantity_names(run_id)})
