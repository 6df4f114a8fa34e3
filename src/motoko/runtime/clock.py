"""The one place that asks what time it is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What tells the time; tests give their own."""

    def now(self) -> float:
        """Return the time in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Return the time in seconds since the epoch."""
        return time.time()


def now() -> float:
    """Return the machine's time in seconds since the epoch."""
    return time.time()


def utc(epoch: float) -> datetime:
    """Return ``epoch``, in seconds, as an aware time in UTC."""
    return datetime.fromtimestamp(epoch, UTC)
