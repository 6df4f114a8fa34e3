"""How often to print: seldom in a long log, at once when something new fails."""

from __future__ import annotations

from typing import Final

FIRST_SECONDS: Final = 1.0
LAST_SECONDS: Final = 60.0
BURST: Final = 3  # lines about failures in a period
PERIOD_SECONDS: Final = 60.0


class LinePacer:
    """Lets one line pass at most once a second, then after 2 s, 4 s and so on up to a minute.

    Times are in seconds on a clock that does not jump.
    """

    def __init__(self) -> None:
        self._pause = FIRST_SECONDS
        self._last: float | None = None

    def is_due(self, now: float, *, urgent: bool = False) -> bool:
        """Return whether to print now; an urgent line waits for a second only. Count it if so."""
        pause = FIRST_SECONDS if urgent else self._pause
        if self._last is not None:
            if now - self._last < pause:
                return False
            if not urgent:
                self._pause = min(2 * self._pause, LAST_SECONDS)
        self._last = now
        return True


class FailureLimiter:
    """Lets BURST failures pass in each period, and counts the others."""

    def __init__(self) -> None:
        self._started: float | None = None
        self._passed = 0
        self._omitted = 0

    def admit(self, now: float, failures: int) -> tuple[int, int]:
        """Return how many of ``failures`` new ones to print, and how many were omitted before.

        The latter is 0 until the end of the period in which they were omitted.
        """
        omitted = 0
        if self._started is None or now - self._started >= PERIOD_SECONDS:
            omitted = self.flush()
        if failures and not self._passed:
            self._started = now
        shown = min(failures, BURST - self._passed)
        self._passed += shown
        self._omitted += failures - shown
        return shown, omitted

    def flush(self) -> int:
        """Return how many were omitted in this period, and end it."""
        omitted, self._omitted, self._passed = self._omitted, 0, 0
        return omitted
