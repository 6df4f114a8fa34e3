"""Runs named on a command line: ``STUDY``, ``STUDY.7``, ``STUDY.3-9`` or ``STUDY.3-9,12``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final, TypeAlias

from motoko.errors import RunNameError, UnknownRunError, suggestion

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

IdRange: TypeAlias = "tuple[int, int]"  # both ends belong to it

MAX_ID: Final = 2**31 - 1  # ids are keys of 32 bits
RANGE: Final = re.compile(r"([0-9]+)(?:-([0-9]+))?")
FORMS: Final = "Write STUDY, STUDY.7, STUDY.3-9 or STUDY.3-9,12."


@dataclass(frozen=True, slots=True)
class RunTarget:
    """The runs of a study in any of ``ranges``, each with both ends; all runs if it is empty."""

    study: str
    ranges: tuple[IdRange, ...] = ()

    @classmethod
    def parse(cls, text: str) -> RunTarget:
        """Return the runs that a text names; raise UnknownRunError for other text."""
        study, dot, numbers = text.partition(".")
        if not study or (dot and not numbers):
            raise UnknownRunError(f"{text!r} names no runs", hint=FORMS)
        return cls(study, tuple(_range(part, text) for part in numbers.split(",") if dot))

    def __str__(self) -> str:
        return f"{self.study}.{range_text(self.ranges)}" if self.ranges else self.study


def _range(part: str, text: str) -> IdRange:
    found = RANGE.fullmatch(part)
    if found is None:
        raise UnknownRunError(
            f"{text!r} names no runs: {part!r} is neither an id nor a range", hint=FORMS
        )
    # Digits beyond those of any id are not converted: Python limits their number.
    first, last = (_number(digits) for digits in (found[1], found[2] or found[1]))
    if first > last:
        raise UnknownRunError(
            f"{text!r} names no runs: {part} ends before it begins", hint=f"Write {last}-{first}."
        )
    return first, last


def _number(digits: str) -> int:
    digits = digits.lstrip("0") or "0"
    return MAX_ID if len(digits) > len(str(MAX_ID)) else min(int(digits), MAX_ID)


def range_text(ranges: Iterable[IdRange]) -> str:
    """Return ranges as ``3-9,12``."""
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)


def id_ranges(ids: Sequence[int]) -> list[IdRange]:
    """Return ascending ids as ranges of consecutive ones."""
    if not ids:
        return []
    breaks = [(before, after) for before, after in pairwise(ids) if after != before + 1]
    firsts = [ids[0], *(after for _, after in breaks)]
    lasts = [*(before for before, _ in breaks), ids[-1]]
    return list(zip(firsts, lasts, strict=True))


def merged_ranges(ranges: Iterable[IdRange]) -> list[IdRange]:
    """Return ascending ranges without overlaps that contain the same ids."""
    merged: list[IdRange] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return merged


def missing_runs(study: str, missing: IdRange, existing: Sequence[int]) -> UnknownRunError:
    """Return the error for a range that contains none of the ids of a study.

    ``existing``: the first and the last id, and those next to the range, ascending.
    """
    low, high = missing
    named = f"run {low}" if low == high else f"runs {low} to {high}"
    if not existing:
        return UnknownRunError(f"study {study!r} has no {named}", hint="It has no runs yet.")
    near = min(existing, key=lambda run_id: min(abs(run_id - low), abs(run_id - high)))
    ids = f"{existing[0]} to {existing[-1]}" if len(existing) > 1 else f"{near}"
    return UnknownRunError(
        f"study {study!r} has no {named}",
        hint=f"The nearest is {study}.{near}. Ids are {ids}.",
    )


def unknown_run_name(name: str, known: Sequence[str]) -> RunNameError:
    """Return the error for a run name that no run has."""
    return RunNameError(f"no run has the run name {name!r}", hint=suggestion(name, known))
