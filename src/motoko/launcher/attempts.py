"""The attempts that a launcher manages, and the updates of them that wait for a commit."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from motoko.core.reasons import fits
from motoko.core.states import Lifecycle
from motoko.launcher.claiming import Load
from motoko.runtime.ports import SYSTEM

if TYPE_CHECKING:
    from motoko.core.records import RunKey, RunRecord
    from motoko.core.run_options import RunOptions
    from motoko.launcher.attempt_outcome import AttemptOutcome
    from motoko.launcher.attempt_paths import AttemptPaths
    from motoko.runtime.ports import Clock
    from motoko.runtime.processes import ProcessIdentity


RECENT_SECONDS: Final = 1.0
ENDS_KEPT: Final = 64
FEW: Final = 16  # waiting attempts, fewer than a launcher starts during a commit


class Attempt:
    """One attempt, from its claim until its end is in the database.

    ``host``: the machine of a batch job, once it is known.
    ``submission``: token and index of an earlier launcher's submission, ``unconfirmed_since``: when
    its evidence became incomplete, ``reason``: the scheduler's latest explanation.
    ``started_at`` is in seconds since the epoch, ``started_uptime`` on the uptime clock.
    ``stop_reason``: why the launcher ends it early, CREATED to try the run again later.
    ``outbox_offset``: the end of the outbox that is in the database, ``reported_failure``: the
    failure reported before it, ``type_mismatches``: fields with values of undeclared types.
    ``finalized`` is set when nothing remains to be recorded.
    """

    def __init__(self, record: RunRecord, options: RunOptions, paths: AttemptPaths) -> None:
        self.record = record
        self.key: RunKey = record.key
        self.options = options
        self.paths = paths
        self.token: str = paths.token
        self.process: ProcessIdentity | None = None
        self.host = ""
        self.submission: tuple[str, int] | None = None
        self.unconfirmed_since: float | None = None
        self.reason = record.reason
        self.started_at: float | None = None
        self.started_uptime: float | None = None
        self.stop_reason: Lifecycle | None = None
        self.already_ended = False
        self.outbox_offset = record.outbox_offset
        self.reported_failure: str | None = None
        self.type_mismatches: set[str] = set()
        self.damaged_lines = 0
        self.remaining_processes: tuple[str, ...] = ()
        self.finalized = asyncio.Event()

    @property
    def start_recorded(self) -> bool:
        """Whether the database knows that it started."""
        return self.record.lifecycle is Lifecycle.START


def recorded_start_time(record: RunRecord) -> float | None:
    """Return when the current attempt started according to the database, None if it did not."""
    times = [m.time for m in record.history if m.attempt == record.attempt and m.state == "START"]
    return times[-1] if times and record.lifecycle is Lifecycle.START else None


class SlotPool:
    """The attempts of one executor: a queue of those that wait for slots, and those with slots."""

    def __init__(self, slots: int, clock: Clock = SYSTEM.clock) -> None:
        self.slots = slots
        self._clock = clock
        self._attempts: dict[str, Attempt] = {}
        self._waiting: list[Attempt] = []
        self._running: set[Attempt] = set()
        self._ends: deque[float] = deque(maxlen=ENDS_KEPT)
        self.few_wait = asyncio.Event()
        self.few_wait.set()

    def attempts(self) -> list[Attempt]:
        """Return all attempts that are not finalized."""
        return list(self._attempts.values())

    def contains(self, attempt: Attempt) -> bool:
        """Return whether the attempt is not finalized."""
        return attempt.token in self._attempts

    def running(self) -> list[Attempt]:
        """Return the attempts that have slots."""
        return list(self._running)

    def unrecorded_starts(self) -> list[str]:
        """Return the tokens of attempts whose start the database does not know, if they start.

        One that has ended is among them until its end is in the database.
        """
        return [attempt.token for attempt in self.attempts() if not attempt.start_recorded]

    def add(self, attempt: Attempt) -> None:
        """Add an attempt to the queue for slots."""
        self._attempts[attempt.token] = attempt
        self._waiting.append(attempt)
        if len(self._waiting) > FEW:
            self.few_wait.clear()

    def add_running(self, attempt: Attempt) -> None:
        """Add an attempt that is running."""
        self._attempts[attempt.token] = attempt
        self._running.add(attempt)

    def record_end(self) -> None:
        """Count an attempt that has just ended."""
        self._ends.append(self._clock.monotonic())

    def start_fitting(self) -> list[Attempt]:
        """Give slots to the first waiting attempts that fit, and return these."""
        used = sum(attempt.options.slots for attempt in self._running)
        started: list[Attempt] = []
        while self._waiting and fits(self._waiting[0].options.slots, used, self.slots):
            attempt = self._waiting.pop(0)
            self._running.add(attempt)
            used += attempt.options.slots
            started.append(attempt)
        self._check_waiting()
        return started

    def next_waiting(self, slots: int) -> list[Attempt]:
        """Return the attempts that would start first if so many slots became free."""
        found: list[Attempt] = []
        for attempt in self._waiting:
            slots -= attempt.options.slots
            if slots < 0:
                break
            found.append(attempt)
        return found

    def is_waiting(self, attempt: Attempt) -> bool:
        """Return whether the attempt waits for slots."""
        return attempt in self._waiting

    def release(self, attempt: Attempt) -> None:
        """Free the attempt's slots, or remove it from the queue."""
        self._running.discard(attempt)
        if attempt in self._waiting:
            self._waiting.remove(attempt)
            self._check_waiting()

    def _check_waiting(self) -> None:
        if len(self._waiting) <= FEW:
            self.few_wait.set()

    def remove(self, attempt: Attempt) -> None:
        """Remove a finalized attempt."""
        self.release(attempt)
        self._attempts.pop(attempt.token, None)
        attempt.finalized.set()

    def load(self) -> Load:
        """Return the load that limits further claims."""
        attempts = (*self._running, *self._waiting)
        used = sum(attempt.options.slots for attempt in attempts)
        recent = self._clock.monotonic() - RECENT_SECONDS
        ended = sum(time > recent for time in self._ends)
        runs = Counter(attempt.record.study for attempt in attempts)
        return Load(used, len(self._waiting), ended, runs)


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """The end of an attempt: an exit status (None: unknown) or an outcome that is known already.

    ``time`` is in seconds since the epoch. ``fault``: the fault of the exit record.
    """

    attempt: Attempt
    status: int | None
    time: float
    outcome: AttemptOutcome | None = None
    fault: str | None = None


@dataclass(slots=True)
class PendingUpdates:
    """Updates of attempts that wait for the next commit.

    ``with_output``: attempts whose outboxes have new data. ``requeued``: with the cause, and the
    seconds until the run may be claimed again. ``reasons``: a scheduler's explanations.
    """

    ended: list[AttemptEnd] = field(default_factory=list)
    started: list[Attempt] = field(default_factory=list)
    with_output: list[Attempt] = field(default_factory=list)
    adopted: list[Attempt] = field(default_factory=list)
    requeued: list[tuple[Attempt, str, float]] = field(default_factory=list)
    reasons: list[tuple[Attempt, str]] = field(default_factory=list)
    _wake: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def wake(self) -> None:
        """Start the next commit soon."""
        self._wake.set()

    async def wait(self) -> None:
        """Wait until ``wake`` is called."""
        await self._wake.wait()

    def drain(self) -> PendingUpdates:
        """Return all updates, and start a new collection."""
        self._wake.clear()
        drained = PendingUpdates(
            self.ended, self.started, self.with_output, self.adopted, self.requeued, self.reasons
        )
        self.ended, self.started, self.with_output = [], [], []
        self.adopted, self.requeued, self.reasons = [], [], []
        return drained

    def ended_or_requeued(self) -> set[Attempt]:
        """Return the attempts that have ended or are requeued."""
        return {end.attempt for end in self.ended} | {attempt for attempt, _, _ in self.requeued}
