"""The lifecycle of a run, its legal transitions, and the rules for labels."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from motoko.errors import StateError


class Lifecycle(StrEnum):
    """The lifecycle state of a run. The launcher changes it, on evidence."""

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
        """Whether this is a terminal state."""
        return self in TERMINAL

    @property
    def is_failure(self) -> bool:
        """Whether this is a terminal state other than FINISHED."""
        return self in FAILURES


FAILURES: Final = frozenset(
    {Lifecycle.FAILED, Lifecycle.TIMEOUT, Lifecycle.CANCELLED, Lifecycle.LOST}
)
TERMINAL: Final = FAILURES | {Lifecycle.FINISHED}
ACTIVE: Final = frozenset({Lifecycle.SUBMITTED, Lifecycle.START})
NON_TERMINAL: Final = ACTIVE | {Lifecycle.CREATED}

TRANSITIONS: Final[dict[Lifecycle, frozenset[Lifecycle]]] = {
    Lifecycle.CREATED: frozenset({Lifecycle.SUBMITTED, Lifecycle.CANCELLED}),
    # Back to CREATED: the attempt never started, was interrupted, or is retried.
    Lifecycle.SUBMITTED: TERMINAL | {Lifecycle.START, Lifecycle.CREATED},
    Lifecycle.START: TERMINAL | {Lifecycle.CREATED},
    # Only on request.
    **{state: frozenset({Lifecycle.CREATED}) for state in TERMINAL},
}

RESERVED_LABELS: Final = frozenset(member.value for member in Lifecycle)
MAX_LABEL: Final = 100


def check_transition(run: object, old: Lifecycle, new: Lifecycle) -> None:
    """Raise StateError unless the lifecycle allows the transition ``old -> new``."""
    if new not in TRANSITIONS[old]:
        raise StateError(f"run {run} cannot go from {old} to {new}")


def check_label(label: object) -> str:
    """Return ``label``, or raise StateError if it is not valid text for a label."""
    if not isinstance(label, str) or not label or len(label) > MAX_LABEL or not label.isprintable():
        raise StateError(
            f"{label!r} cannot be a run's label",
            hint=f"A label is printable text of 1 to {MAX_LABEL} characters.",
        )
    return label
