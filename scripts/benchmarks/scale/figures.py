"""Figures by number of runs, their limits, and the table of both."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

TIMES = frozenset({"ms", "s", "runs/s", "times"})  # units of what other processes slow down
FULL = 1_000_000  # the number of runs that the limits are about


@dataclass(frozen=True)
class Limit:
    """A limit as text, and as a function of the values by number of runs."""

    text: str = ""
    holds: Callable[[Mapping[int, float]], bool] = lambda values: True
    sizes: int = 1  # it says something about figures for so many sizes


NO_LIMIT = Limit()


def at_most(value: float, text: str) -> Limit:
    """Return a limit of the figure for the largest number of runs."""
    return Limit(f"<= {text}", lambda values: values[max(values)] <= value)


def in_all(value: float, text: str) -> Limit:
    """Return a limit for FULL runs of a figure that grows with the number of runs."""

    def holds(values: Mapping[int, float]) -> bool:
        largest = max(values)
        return values[largest] <= value * largest / FULL

    return Limit(f"<= {text} for {power(FULL)}", holds)


def at_least(value: float, text: str) -> Limit:
    """Return a lower limit of the figure for the largest number of runs."""
    return Limit(f">= {text}", lambda values: values[max(values)] >= value)


def growth(times: float) -> Limit:
    """Return a limit of the ratio of the last figure to the first one."""
    return Limit(
        f"<= {times:g} times the first",
        lambda values: values[max(values)] <= times * values[min(values)],
        sizes=2,
    )


@dataclass(frozen=True)
class Figure:
    """A measured value; figures of one name and several sizes make a line of the table."""

    what: str
    value: float
    unit: str = "ms"
    limit: Limit = NO_LIMIT

    @property
    def label(self) -> str:
        """The value as text."""
        return shown(self.value, self.unit)


@dataclass(frozen=True)
class Missing:
    """A figure that does not exist for this number of runs, and why."""

    what: str
    reason: str
    limit: Limit = NO_LIMIT
    label: str = "not built"
    holds: bool = True


@dataclass
class Line:
    """One line of the table."""

    what: str
    limit: Limit
    place: int  # of its row in the table
    values: dict[int, float] = field(default_factory=dict)
    cells: dict[int, str] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    holds: bool = True

    def verdict(self) -> str:
        """Return whether the limit holds, and for how many runs unless for FULL."""
        if not self.limit.text and self.holds:
            return ""
        if not self.holds or (self.values and not self.limit.holds(self.values)):
            return "TOO MUCH"
        if len(self.values) < self.limit.sizes:
            return "-"
        largest = max(self.values)
        return "holds" if largest == FULL else f"holds at {power(largest)}"


class Report:
    """Collects figures by line and size."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = sizes
        self.lines: dict[str, Line] = {}
        self.noisy = False

    def add(
        self, size: int, figure: Figure | Missing, *, place: int = 0, noisy: bool = False
    ) -> None:
        """Record a figure, or why there is none; mark it if it is ``noisy``."""
        line = self.lines.setdefault(figure.what, Line(figure.what, figure.limit, place))
        if isinstance(figure, Figure):
            line.values[size] = figure.value
            noisy &= figure.unit in TIMES
            line.cells[size] = figure.label + " ~" * noisy
            self.noisy |= noisy
            return
        line.cells[size] = figure.label
        line.holds &= figure.holds
        if figure.reason not in line.reasons:
            line.reasons.append(figure.reason)

    def table(self) -> Table:
        """Return the table for the terminal."""
        columns = [power(size) for size in self.sizes]
        table = Table("what", *columns, "ratio", "limit", "", show_lines=False)
        for line in sorted(self.lines.values(), key=lambda line: line.place):
            cells = [line.cells.get(size, "") for size in self.sizes]
            table.add_row(line.what, *cells, ratios(line.values), line.limit.text, line.verdict())
        return table

    def notes(self) -> Iterable[str]:
        """Return the reasons of missing figures."""
        for line in self.lines.values():
            for reason in line.reasons:
                yield f"{line.what}: {reason}"

    def failures(self) -> int:
        """Return the number of lines over their limits."""
        return sum(line.verdict() == "TOO MUCH" for line in self.lines.values())


def ratios(values: Mapping[int, float]) -> str:
    """Return the ratio of each further value to the first."""
    first, *others = sorted(values) or [0]
    if not others or not values[first]:
        return ""
    return " / ".join(f"{values[size] / values[first]:.2f}" for size in others)


def shown(value: float, unit: str) -> str:
    """Return a value with three digits and its unit."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f} {unit}"


def power(number: int) -> str:
    """Return a number such as 100000 as 10^5."""
    exponent = len(str(number)) - 1
    return f"10^{exponent}" if number == 10**exponent else f"{number:,}"
