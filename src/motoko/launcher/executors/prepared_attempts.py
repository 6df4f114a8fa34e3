"""Attempts that are prepared while they wait for slots: so no slot waits for a directory."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from motoko.launcher.attempts import Attempt
    from motoko.launcher.preparation import LaunchSpec
    from motoko.runtime.ports import Clock

MAX_AGE: Final = 1.0  # seconds; the files of the study may have changed since
# Seconds of one preparation. Many slower ones would be too old when they are used, and those that
# have slots would wait for the others.
SLOW: Final = 0.05


@dataclass(frozen=True, slots=True)
class PreparedAttempt:
    """An attempt that was prepared ``at`` a time of the monotonic clock.

    ``command``: the line that lets a shell of several attempts run it, None if none can.
    """

    spec: LaunchSpec
    command: bytes | None
    at: float


class PreparedAttempts:
    """The attempts that are prepared before they get slots.

    ``prepare`` and ``withdraw`` block. A thread calls ``prepare_all`` with the attempts that
    ``choose`` returned, and ``use`` and ``withdraw``. The event loop calls the rest.
    """

    def __init__(
        self,
        prepare: Callable[[Attempt], PreparedAttempt | Exception],
        withdraw: Callable[[Attempt], object],
        clock: Clock,
    ) -> None:
        self._call_prepare = prepare
        self._withdraw = withdraw
        self._clock = clock
        self._chosen: set[Attempt] = set()
        self._ready: dict[Attempt, PreparedAttempt] = {}
        self._lock = threading.Lock()
        self._is_slow = False

    def __contains__(self, attempt: Attempt) -> bool:
        return attempt in self._chosen or attempt in self._ready

    def choose(self, waiting: Sequence[Attempt], enough: int) -> list[Attempt]:
        """Return which attempts to prepare now: none if more than ``enough`` are prepared.

        None either if the last preparation was slow.
        """
        if self._is_slow:
            return []
        new = [attempt for attempt in waiting if attempt not in self]
        if len(waiting) - len(new) > enough:
            return []
        self._chosen.update(new)
        return new

    def prepare_all(self, attempts: Sequence[Attempt]) -> None:
        """Prepare attempts, one after the other; one with an error is tried again at its start."""
        for attempt in attempts:
            with self._lock:
                found = self._prepare(attempt) if attempt in self._chosen else None
                if attempt in self._chosen and isinstance(found, PreparedAttempt):
                    self._ready[attempt] = found
                self._chosen.discard(attempt)

    def _prepare(self, attempt: Attempt) -> PreparedAttempt | Exception:
        begun = self._clock.monotonic()
        found = self._call_prepare(attempt)
        self._is_slow = self._clock.monotonic() - begun > SLOW
        return found

    def find(self, attempt: Attempt) -> PreparedAttempt | None:
        """Return a prepared attempt if nothing has changed since."""
        found = self._ready.get(attempt)
        return found if found is not None and self._is_current(attempt, found) else None

    def _is_current(self, attempt: Attempt, found: PreparedAttempt) -> bool:
        young = self._clock.monotonic() - found.at < MAX_AGE
        return young and found.spec.record == attempt.record

    def remove(self, attempt: Attempt) -> None:
        """Forget an attempt that has started, or belongs to another launcher."""
        self._chosen.discard(attempt)
        self._ready.pop(attempt, None)

    def use(self, attempt: Attempt) -> PreparedAttempt | Exception:
        """Return the attempt as prepared with its present files and values, or the error."""
        with self._lock:
            self._chosen.discard(attempt)
            found = self._ready.pop(attempt, None)
        if found is not None and self._is_current(attempt, found):
            return found
        if found is not None:
            self._withdraw(attempt)
        return self._prepare(attempt)

    def withdraw(self, attempt: Attempt) -> None:
        """Withdraw an attempt that will not start, if it is prepared."""
        with self._lock:
            self._chosen.discard(attempt)
            found = self._ready.pop(attempt, None)
        if found is not None:
            self._withdraw(attempt)

    def withdraw_all(self) -> None:
        """Withdraw all prepared attempts, after the last call of another thread."""
        for attempt in list(self._ready):
            self.withdraw(attempt)
