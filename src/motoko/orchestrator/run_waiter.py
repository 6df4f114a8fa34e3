"""Tasks that wait for runs to end: the awaited runs as ids, and an index of the waiting tasks."""

from __future__ import annotations

import asyncio
from array import array
from typing import TYPE_CHECKING, Final, NamedTuple

from motoko.core.records import RunKey
from motoko.core.run_keys import AwaitedRuns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from motoko.core.records import RunRecord
    from motoko.storage.awaited_ends import ReadEnds

BLOCK: Final = 7  # bits of an id: runs with equal further bits share an entry of the index


class EndedRun(NamedTuple):
    """An awaited run in a terminal state, with its record if it failed."""

    key: RunKey
    failure: RunRecord | None


class RunWaiter:
    """Waits for runs of one study to reach a terminal state, or only for its failures."""

    def __init__(self, keys: Sequence[RunKey], *, failures_only: bool = False) -> None:
        self.awaited = AwaitedRuns(keys)
        self.study = self.awaited.study
        self.failures_only = failures_only
        self._ended = array("i")
        self._next = 0
        self._failures: dict[int, RunRecord] = {}
        self._signal = asyncio.Event()

    def on_record(self, record: RunRecord) -> None:
        """Accept a fresh record of a run of the study."""
        if record.lifecycle.is_terminal:
            self.on_end(record.id, record if record.lifecycle.is_failure else None)

    def on_ends(self, ends: ReadEnds) -> None:
        """Accept ended runs of the study."""
        for run_id in ends.ids:
            self.on_end(run_id, ends.failures.get(run_id))

    def on_end(self, run_id: int, failure: RunRecord | None) -> None:
        """Accept a run of the study that ended, with its record if it failed."""
        if not self.awaited.take(run_id):
            return
        if failure is not None:
            self._failures[run_id] = failure
        if failure is not None or not self.failures_only:
            self._ended.append(run_id)
        if failure is not None or not self.failures_only or not self.awaited:
            self._signal.set()

    async def next(self) -> EndedRun | None:
        """Return the next run in a terminal state, in order of their ends; None after the last."""
        while (ended := self.take_ended()) is None and self.awaited:
            await self._signal.wait()
            self._signal.clear()
        return ended

    def take_ended(self) -> EndedRun | None:
        """Return the next run that is known to have ended, None without one."""
        if self._next == len(self._ended):
            return None
        run_id = self._ended[self._next]
        self._next += 1
        return EndedRun(RunKey(self.study, run_id), self._failures.pop(run_id, None))


class WaiterIndex:
    """The waiters by the runs that they wait for."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[str, int], set[RunWaiter]] = {}
        self.waiters: dict[RunWaiter, None] = {}

    def add(self, waiter: RunWaiter) -> None:
        """Add a waiter."""
        self.waiters[waiter] = None
        for block in _blocks(waiter):
            self._blocks.setdefault(block, set()).add(waiter)

    def remove(self, waiter: RunWaiter) -> None:
        """Remove a waiter."""
        del self.waiters[waiter]
        for block in _blocks(waiter):
            self._blocks[block].discard(waiter)
            if not self._blocks[block]:
                del self._blocks[block]

    def of_run(self, key: RunKey) -> list[RunWaiter]:
        """Return the waiters for a run, those that it has ended for included."""
        found = self._blocks.get((key.study, key.id >> BLOCK), ())
        return [waiter for waiter in found if waiter.awaited.had(key.id)]


def _blocks(waiter: RunWaiter) -> Iterable[tuple[str, int]]:
    return {(waiter.study, run_id >> BLOCK): None for run_id in waiter.awaited.ids}
