"""The words and signs of the screens: states, rates, forecasts and times."""

from __future__ import annotations

from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from motoko.core.states import FAILURES, Lifecycle
from motoko.operations.reason_text import duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from motoko.core.progress import StudyProgress

SIGNS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType({
    "START": ("●", "running"),
    "FINISHED": ("✓", "finished"),
    "SUBMITTED": ("◷", "queued"),
    "CREATED": ("○", "created"),
    "FAILED": ("✗", "failed"),
    "TIMEOUT": ("✗", "failed"),
    "CANCELLED": ("⊘", "failed"),
    "LOST": ("?", "unknown"),
})  # fmt: skip
LABEL: Final = ("◆", "label")  # a state that a user gave
ORDER: Final = (
    "FINISHED", "FAILED", "TIMEOUT", "LOST", "CANCELLED", "START", "SUBMITTED", "CREATED",
)  # fmt: skip
HALF_DAY: Final = 12 * 3600.0


def sign(state: str) -> tuple[str, str]:
    """Return the sign of a state, and the name of its colour."""
    return SIGNS.get(state, LABEL)


def ordered(states: Iterable[str]) -> list[str]:
    """Return states in the order of a progress bar, labels after FINISHED."""
    found = set(states)
    labels = sorted(found - set(ORDER))
    known = [state for state in ORDER if state in found]
    first = [state for state in known if state == Lifecycle.FINISHED]
    return [*first, *labels, *(state for state in known if state != Lifecycle.FINISHED)]


def rate_text(rate: float | None) -> str:
    """Return a number of runs per second in a unit that suits it; empty if it is unknown."""
    if rate is None:
        return ""
    if rate >= 1:
        return f"{rate:.1f}/s" if rate < 100 else f"{rate:.0f}/s"
    if rate >= 1 / 60:
        return f"{rate * 60:.1f}/min"
    return f"{rate * 3600:.1f}/h"


def clock_text(at: float, now: float, *, seconds: bool = False) -> str:
    """Return a time of day in the local time zone, with its date if it is far from ``now``."""
    local = datetime.fromtimestamp(at, UTC).astimezone()
    text = f"{local:%H:%M:%S}" if seconds else f"{local:%H:%M}"
    return text if abs(at - now) < HALF_DAY else f"{local:%a %d %b} {text}"


def iso_text(at: float) -> str:
    """Return a time in UTC, as ISO 8601."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def end_text(progress: StudyProgress, now: float) -> str:
    """Return when the known runs will have ended, as far as that can be forecast."""
    left = progress.left
    if not progress.known or progress.done == progress.known:
        return ""
    if progress.silent is not None:
        return f"no run has ended for {duration(progress.silent)}"
    if left is None:
        return "new runs keep coming" if progress.grows else ""
    text = f"ends about {clock_text(now + left.seconds, now)}"
    if left.low is None or left.high is None:
        return text
    low, high = (clock_text(now + seconds, now) for seconds in (left.low, left.high))
    return text if low == high else f"{text} ({low} to {high})"


def left_text(progress: StudyProgress) -> str:
    """Return how long the known runs will still take; empty if it is unknown."""
    return "" if progress.left is None else duration(progress.left.seconds)


def mean_text(seconds: float | None) -> str:
    """Return a mean duration; empty if it is unknown."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    return duration(seconds)


def span_text(seconds: float) -> str:
    """Return a round span of time, such as "6 min"."""
    return duration(seconds).removesuffix(" 0 s").removesuffix(" 0 min")


def number_failed(lifecycles: Mapping[str, int]) -> int:
    """Return the number of failed runs that nobody cancelled."""
    return sum(lifecycles.get(s, 0) for s in FAILURES if s is not Lifecycle.CANCELLED)
