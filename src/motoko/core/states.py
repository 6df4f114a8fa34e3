"""The lifecycle of a run, its legal moves, and what may be a label."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from motoko.errors import StateError


class Lifecycle(StrEnum):
    """Where a run is. The launcher moves it, on evidence."""

    CREATED = "CREATED"
    SUBMITTED = "SUBMITTED"
    START = "START"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"
    CANCELLED = "CANCELLED"
    LOST = "LOST"

    @property
    def is_terminal(self) -> bool:
        """Whether this is an outcome."""
        return self in TERMINAL

    @property
    def is_failure(self) -> bool:
        """Whether this is an outcome other than FINISHED."""
        return self in FAILURES


FAILURES: Final = frozenset(
    {Lifecycle.FAILED, Lifecycle.TIMEOUT, Lifecycle.CANCELLED, Lifecycle.LOST}
)
TERMINAL: Final = FAILURES | {Lifecycle.FINISHED}
ACTIVE: Final = frozenset({Lifecycle.SUBMITTED, Lifecycle.START})
NON_TERMINAL: Final = ACTIVE | {Lifecycle.CREATED}

TRANSITIONS: Final[dict[Lifecycle, frozenset[Lifecycle]]] = {
    Lifecycle.CREATED: frozenset({Lifecycle.SUBMITTED, Lifecycle.CANCELLED}),
    # Back to CREATED: the attempt never started, was interrupted, or another attempt is left.
    Lifecycle.SUBMITTED: TERMINAL | {Lifecycle.START, Lifecycle.CREATED},
    Lifecycle.START: TERMINAL | {Lifecycle.CREATED},
    # Only on request: its scripts have changed since.
    Lifecycle.FINISHED: frozenset({Lifecycle.CREATED}),
    **{outcome: frozenset({Lifecycle.CREATED}) for outcome in FAILURES},
}

RESERVED_LABELS: Final = frozenset(member.value for member in Lifecycle)
MAX_LABEL: Final = 100


def check_transition(run: str, old: Lifecycle, new: Lifecycle) -> None:
    """Raise StateError unless ``old -> new`` is a legal move of the lifecycle."""
    if new not in TRANSITIONS[old]:
        raise StateError(f"run {run} cannot go from {old} to {new}")


def check_label(label: object) -> str:
    """Return ``label`` if it is text that can be a label, raise StateError otherwise."""
    if not isinstance(label, str) or not label or len(label) > MAX_LABEL or not label.isprintable():
        raise StateError(
            f"{label!r} cannot be a run's label",
            hint=f"A label is printable text of 1 to {MAX_LABEL} characters.",
        )
    return label
