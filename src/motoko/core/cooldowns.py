"""Cooldowns: the pauses of triggers that have just fired and still hold."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motoko.core.records import RunKey

    Trigger: TypeAlias = RunKey | str

MAX_ENDED: Final = 1000  # cooldowns that are kept after their end, beside as many others


@dataclass(slots=True, eq=False)
class Cooldown:
    """The pause of an event's triggers that fired together.

    It lasts until ``until``, for each trigger also until a commit of another source after
    ``since``. ``remaining`` counts the triggers that still pause.
    """

    event: str
    triggers: tuple[Trigger, ...]
    until: float
    source: object
    since: int
    remaining: int = 0

    def ends_with(self, source: object, number: int) -> bool:
        """Return whether a commit that wrote what a trigger reads ends its pause."""
        return source is not self.source and number > self.since


class CooldownQueue:
    """All cooldowns, in the order of their ends. The work per call does not grow with them."""

    def __init__(self) -> None:
        self._queue: list[tuple[float, int, Cooldown]] = []
        self._numbers = itertools.count()
        self._ended = 0

    def add(self, cooldown: Cooldown) -> None:
        """Add a cooldown that has begun for all its triggers."""
        heapq.heappush(self._queue, (cooldown.until, next(self._numbers), cooldown))

    def release(self, cooldown: Cooldown) -> None:
        """End a cooldown for one of its triggers."""
        cooldown.remaining -= 1
        if cooldown.remaining:
            return
        self._ended += 1
        if self._ended > MAX_ENDED and 2 * self._ended > len(self._queue):
            self._queue = [entry for entry in self._queue if entry[2].remaining]
            heapq.heapify(self._queue)
            self._ended = 0

    def pop_ended(self, now: float) -> Iterator[Cooldown]:
        """Remove and yield the cooldowns that end by time, unless all their triggers did."""
        while self._queue and (self._queue[0][0] <= now or not self._queue[0][2].remaining):
            cooldown = heapq.heappop(self._queue)[2]
            if cooldown.remaining:
                self._ended -= 1  # its release counts it again, but it is gone
                yield cooldown
            else:
                self._ended -= 1

    def next_end(self) -> float | None:
        """Return when the first cooldown ends, None without any."""
        while self._queue and not self._queue[0][2].remaining:
            heapq.heappop(self._queue)
            self._ended -= 1
        return self._queue[0][0] if self._queue else None

    def __iter__(self) -> Iterator[Cooldown]:
        """Iterate over the cooldowns of which a trigger still pauses."""
        return (entry[2] for entry in self._queue if entry[2].remaining)
