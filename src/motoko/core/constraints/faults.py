"""What is wrong with a constraint, where, and how the user is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from motoko.errors import ConstraintError

_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class ConstraintFault:
    """Something wrong at character ``at`` (from 0) of a constraint's text.

    ``nearness``: how much an unknown name is like one of the study's, 1 where no name is unknown,
    2 where one is ambiguous.
    """

    at: int
    what: str
    hint: str | None = None
    nearness: float = 1.0


def constraint_error(fault: ConstraintFault, text: str, study: str) -> ConstraintError:
    """Return the error that shows ``text`` with a mark under the fault."""
    line, mark = _excerpt(text, fault.at)
    quote = '"' if "'" in line and '"' not in line else "'"
    place = f"study {study!r}: bad constraint {quote}{line}{quote}, column {fault.at + 1}"
    message = f"{place}: {fault.what}\n    {line}\n    {' ' * mark}^"
    found = ConstraintError(message, hint=fault.hint)
    found.nearness = fault.nearness
    return found


def _excerpt(text: str, at: int) -> tuple[str, int]:
    """Return one printable line of at most some 100 characters, and where in it ``at`` is."""
    flat = "".join(char if char.isprintable() else " " for char in text)
    if len(flat) <= _SHOWN:
        return flat, at
    start = max(0, min(at - _SHOWN // 2, len(flat) - _SHOWN))
    before = "..." if start else ""
    after = "..." if start + _SHOWN < len(flat) else ""
    return before + flat[start : start + _SHOWN] + after, at - start + len(before)
