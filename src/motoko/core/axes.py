"""Axes of a parameter space: evenly spaced values, and columns that vary together.

Values are exact: each is computed from the numbers as written and rounded once, to the nearest
float. So 0.1 steps from 0 give 0.3, not 0.30000000000000004, on every platform.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, Protocol

from motoko.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MAX_POINTS: Final = 250_000  # of one axis or one commit; so many runs take 1 GB to create
MAX_RUNS: Final = 10_000_000  # of one request that takes several commits
_EXACT: Final = Context(prec=40)  # digits; rounding to a float hides the error of the last ones


class JointAxis(Protocol):
    """Parameters that vary together."""

    def columns(self) -> Mapping[str, Sequence[Any]]:
        """Return the values of each parameter, in sequences of equal length."""


@dataclass(frozen=True, slots=True)
class Column:
    """One parameter's part of a joint axis."""

    axis: JointAxis
    name: str


@dataclass(frozen=True, slots=True)
class Zip:
    """Parameters with given values that vary together."""

    values: Mapping[str, Sequence[Any]]

    @property
    def names(self) -> Sequence[str]:
        """Return the names of the parameters."""
        return list(self.values)

    def columns(self) -> Mapping[str, Sequence[Any]]:
        """Return the values of each parameter."""
        return self.values


def range_values(start: float, stop: float, step: float) -> list[float]:
    """Return start, start + step, ... up to ``stop``, which is included if a step meets it."""
    first, last, width = _fraction(start), _fraction(stop), _fraction(step)
    if not width:
        raise ParameterError("step cannot be 0", hint="Give a step towards stop.")
    steps = (last - first) / width
    if steps < 0:
        raise ParameterError(
            f"steps of {step!r} do not lead from {start!r} to {stop!r}",
            hint="Give step the other sign, or exchange start and stop.",
        )
    count = math.floor(steps) + 1
    check_count(count)
    return _spaced(first, width, count, whole=_are_whole(start, stop, step))


def linspace_values(start: float, stop: float, num: int) -> list[float]:
    """Return ``num`` evenly spaced values, with both ends."""
    check_count(num)
    first, last = _fraction(start), _fraction(stop)
    return _spaced(first, (last - first) / (num - 1), num, whole=_are_whole(start, stop))


def logspace_values(start: float, stop: float, num: int) -> list[float]:
    """Return ``num`` values with a constant ratio between them, with both ends, all positive."""
    check_count(num)
    for value in (start, stop):
        if value <= 0:
            raise ParameterError(
                f"logspace needs positive values, not {value!r}",
                hint="Give start and stop themselves, not their logarithms.",
            )
    scale = log_scale(start, stop)
    return [start, *(scale(i, num - 1) for i in range(1, num - 1)), stop]


def log_scale(start: float, stop: float) -> Callable[[int, int], float]:
    """Return a function of a fraction (numerator, denominator) of the way from start to stop."""
    first = _decimal(start)
    logarithm = _EXACT.ln(_EXACT.divide(_decimal(stop), first))

    def value(numerator: int, denominator: int) -> float:
        part = _EXACT.divide(Decimal(numerator), Decimal(denominator))
        return float(_EXACT.multiply(first, _EXACT.exp(_EXACT.multiply(logarithm, part))))

    return value


def check_count(count: int, what: str = "", most: int = MAX_POINTS) -> None:
    """Raise ParameterError for too many points to create at once; ``what`` precedes the message."""
    if count > most:
        shown = f"{count:,}" if count < 10**12 else "more than 10**12"
        raise ParameterError(
            f"{what}{shown} points are too many at once; at most {most:,} are allowed",
            hint="Use fewer values, or create the runs in several calls of create_task.",
        )


def _spaced(first: Fraction, step: Fraction, count: int, *, whole: bool) -> list[float]:
    """Return first + i * step as the nearest floats; with ``whole``, whole numbers stay exact."""
    denominator = math.lcm(first.denominator, step.denominator)
    start, width = int(first * denominator), int(step * denominator)
    if whole and denominator == 1:
        return [start + i * width for i in range(count)]
    return [(start + i * width) / denominator for i in range(count)]


def _are_whole(*numbers: float) -> bool:
    return all(isinstance(number, int) for number in numbers)


def _fraction(number: float) -> Fraction:
    """Return the decimal number that was written for a float."""
    return Fraction(number) if isinstance(number, int) else Fraction(repr(number))


def _decimal(number: float) -> Decimal:
    return Decimal(repr(number))
