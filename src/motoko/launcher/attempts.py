"""The attempts that a launcher answers for, and what is to be recorded of them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from motoko.core.states import Lifecycle
from motoko.launcher.claiming import Load, fits

if TYPE_CHECKING:
    from motoko.core.records import RunKey, RunRecord
    from motoko.core.run_options import RunOptions
    from motoko.launcher.executors.batch.submission_files import ArrayTask
    from motoko.launcher.executors.process_handle import ProcessHandle
    from motoko.launcher.outcome import AttemptOutcome
    from motoko.launcher.run_directory import AttemptPaths


RECENT_SECONDS: Final = 1.0  # seconds
ENDS_KEPT: Final = 64


class Attempt:
    """One attempt, from its claim until its end is in the database.

    ``stop``: why the launcher ends it early, CREATED if the run shall be tried again later;
    ``past``: it has ended already, so that nothing does.
    ``since``: when it started, in seconds since the epoch, None until then; ``began``: the same as
    uptime, None if it is not known. ``read``: how far its outbox is in the database; ``failed`` is
    what the outbox said of failing until there, ``damaged`` how many lines of it are no records,
    ``misfits`` which fields it set to what is not of their declared types, ``left`` its processes
    that cannot be ended. ``handle``: its process here; ``task``: what a batch scheduler has of it;
    ``submission``: token and index of what a former launcher submitted; ``doubted``: since when the
    evidence of that is incomplete; ``remark``: what the scheduler last said of it. ``recorded`` is
    set when nothing more is to be recorded.
    """

    def __init__(self, record: RunRecord, terms: RunOptions, place: AttemptPaths) -> None:
        self.record = record
        self.terms = terms
        self.place = place
        self.token: str = place.token
        self.handle: ProcessHandle | None = None
        self.task: ArrayTask | None = None
        self.submission: tuple[str, int] | None = None
        self.doubted: float | None = None
        self.remark = record.reason
        self.since: float | None = None
        self.began: float | None = None
        self.stop: Lifecycle | None = None
        self.past = False
        self.read = record.outbox_offset
        self.failed: str | None = None
        self.misfits: set[str] = set()
        self.damaged = 0
        self.left: tuple[str, ...] = ()
        self.recorded = asyncio.Event()

    @property
    def key(self) -> RunKey:
        """Return the run's key."""
        return self.record.key

    @property
    def recorded_start(self) -> bool:
        """Return whether the database knows that it started."""
        return self.record.lifecycle is Lifecycle.START


def recorded_start_time(record: RunRecord) -> float | None:
    """Return when the database says that the present attempt started, None if it does not."""
    times = [m.time for m in record.history if m.attempt == record.attempt and m.state == "START"]
    return times[-1] if times and record.lifecycle is Lifecycle.START else None


class SlotPool:
    """All attempts of a launcher: those that wait for a slot, in order, and those that have one."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._attempts: dict[str, Attempt] = {}
        self._waiting: list[Attempt] = []
        self._running: set[Attempt] = set()
        self._ends: deque[float] = deque(maxlen=ENDS_KEPT)
        self.drained = asyncio.Event()
        self.drained.set()

    def all(self) -> list[Attempt]:
        """Return all attempts whose end is not recorded yet."""
        return list(self._attempts.values())

    def has(self, active: Attempt) -> bool:
        """Return whether the attempt's end is not recorded yet."""
        return active.token in self._attempts

    def running(self) -> list[Attempt]:
        """Return the attempts that have a slot."""
        return list(self._running)

    def add(self, active: Attempt) -> None:
        """Add an attempt that waits for a slot."""
        self._attempts[active.token] = active
        self._waiting.append(active)
        self.drained.clear()

    def add_running(self, active: Attempt) -> None:
        """Add an attempt that runs already."""
        self._attempts[active.token] = active
        self._running.add(active)

    def note_end(self) -> None:
        """Note that an attempt has ended just now."""
        self._ends.append(time.monotonic())

    def start(self) -> list[Attempt]:
        """Return the attempts that may start now; their slots are taken from here on."""
        if not self._waiting:
            return []
        taken = sum(active.terms.slots for active in self._running)
        started: list[Attempt] = []
        while self._waiting and fits(self._waiting[0].terms.slots, taken, self.slots):
            active = self._waiting.pop(0)
            self._running.add(active)
            taken += active.terms.slots
            started.append(active)
        if not self._waiting:
            self.drained.set()
        return started

    def waits(self, active: Attempt) -> bool:
        """Return whether the attempt waits for a slot."""
        return active in self._waiting

    def release(self, active: Attempt) -> None:
        """Give the attempt's slot back, or its place in the queue."""
        self._running.discard(active)
        if active in self._waiting:
            self._waiting.remove(active)
            if not self._waiting:
                self.drained.set()

    def remove(self, active: Attempt) -> None:
        """Forget an attempt."""
        self.release(active)
        self._attempts.pop(active.token, None)
        active.recorded.set()

    def load(self) -> Load:
        """Return what is claimed, for choosing what else to claim."""
        runs: dict[str, int] = {}
        taken = 0
        for active in (*self._running, *self._waiting):
            study = active.record.study
            runs[study] = runs.get(study, 0) + 1
            taken += active.terms.slots
        lately = time.monotonic() - RECENT_SECONDS
        ended = sum(1 for at in self._ends if at > lately)
        return Load(taken, len(self._waiting), ended, runs)


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """An attempt that is over: by its exit status, or by what is known of it already.

    ``status`` None: nobody can tell. ``at`` is in seconds since the epoch. ``fault``: what is wrong
    with its exit record.
    """

    active: Attempt
    status: int | None
    at: float
    ending: AttemptOutcome | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class UpdateNotes:
    """What is to be recorded in the next commit.

    ``requeued`` come with the cause, and with the seconds until they may be tried again;
    ``remarks``: what a scheduler says of attempts that go on.
    """

    ended: tuple[AttemptEnd, ...] = ()
    started: tuple[Attempt, ...] = ()
    grown: tuple[Attempt, ...] = ()
    adopted: tuple[Attempt, ...] = ()
    requeued: tuple[tuple[Attempt, str, float], ...] = ()
    remarks: tuple[tuple[Attempt, str], ...] = ()

    @property
    def leaving(self) -> set[Attempt]:
        """Return the attempts that are over."""
        return {item.active for item in self.ended} | {active for active, _, _ in self.requeued}


class PendingUpdates:
    """Collects what is to be recorded, and wakes whoever records it."""

    def __init__(self) -> None:
        self.ended: list[AttemptEnd] = []
        self.started: list[Attempt] = []
        self.grown: list[Attempt] = []
        self.adopted: list[Attempt] = []
        self.requeued: list[tuple[Attempt, str, float]] = []
        self.remarks: list[tuple[Attempt, str]] = []
        self._wake = asyncio.Event()

    def stir(self) -> None:
        """Have the database looked at."""
        self._wake.set()

    async def stirred(self) -> None:
        """Wait until there is something to do."""
        await self._wake.wait()

    def take(self) -> UpdateNotes:
        """Return all notes, and begin anew."""
        self._wake.clear()
        notes = UpdateNotes(
            tuple(self.ended),
            tuple(self.started),
            tuple(self.grown),
            tuple(self.adopted),
            tuple(self.requeued),
            tuple(self.remarks),
        )
        for page in (self.ended, self.started, self.grown, self.adopted):
            page.clear()
        self.requeued.clear()
        self.remarks.clear()
        return notes
