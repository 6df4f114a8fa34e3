"""Times, rates and numbers in words. Unknown ones are empty, never invented."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from motoko.operations.reason_text import DAY, HOUR, MINUTE, duration, moment

if TYPE_CHECKING:
    from motoko.core.progress import StudyProgress, TimeLeft


def number(value: int) -> str:
    """Return a number with separators."""
    return f"{value:,}"


def rate_text(per_second: float | None) -> str:
    """Return a rate as runs per second, minute, or hour: whichever has digits before the point."""
    if not per_second:
        return ""
    for factor, unit in ((1, "s"), (60, "min"), (3600, "h")):
        if per_second * factor >= 1:
            return f"{per_second * factor:.{1 if per_second * factor < 100 else 0}f}/{unit}"
    return f"{per_second * DAY:.1f}/d"


def seconds_text(seconds: float | None) -> str:
    """Return a duration, with tenths if it is short; empty if unknown."""
    if seconds is None:
        return ""
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


def clock(at: float, now: float) -> str:
    """Return a time of day in the local time zone, with the day unless that is today."""
    local, today = (datetime.fromtimestamp(value).astimezone() for value in (at, now))
    if local.date() == today.date():
        return f"{local:%H:%M}"
    return f"{local:%a %H:%M}" if abs(at - now) < 6 * DAY else f"{local:%Y-%m-%d %H:%M}"


def ago(at: float | None, now: float, *, absolute: bool = False) -> str:
    """Return a time relative to now, or the time itself."""
    if at is None or not at:
        return ""
    return moment(at, now) if absolute else f"{about(now - at)} ago"


def about(seconds: float) -> str:
    """Return a duration in its largest unit, as ``4 min``."""
    for size, unit in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def left_text(left: TimeLeft | None) -> str:
    """Return the time left, empty if it cannot be forecast."""
    return "" if left is None else duration(left.seconds)


def ends_text(progress: StudyProgress, now: float) -> str:
    """Return when the known runs will have ended, with an interval, or why nobody knows."""
    left = progress.left
    if progress.silent is not None:
        return f"no run has ended for {duration(progress.silent)}"
    if left is None:
        unfinished = progress.known > progress.done
        return (
            "new runs are still created: no end in sight" if progress.grows and unfinished else ""
        )
    text = f"ends about {clock(now + left.seconds, now)}"
    if left.low is None or left.high is None:
        return text
    low, high = (clock(now + seconds, now) for seconds in (left.low, left.high))
    return text if low == high else f"{text} ({low}-{high})"
