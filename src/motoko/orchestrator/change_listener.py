"""Read the changes of each commit once, and wake the tasks that wait for them."""

from __future__ import annotations

import asyncio
import contextlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio

from motoko.core.firing import WriteSet
from motoko.core.records import RunKey
from motoko.orchestrator.run_waiter import RunWaiter, WaiterIndex
from motoko.storage.awaited_ends import ReadEnds, read_ends
from motoko.storage.feed import CommitNotice
from motoko.storage.query import BULK, existing_records
from motoko.storage.session import Session
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from motoko.core.records import RunRecord
    from motoko.storage.store import WorkflowStore

BULK_OBJECTS: Final = 4 * BULK  # from so many in one commit, everything is evaluated


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """The write sets of some commits, with fresh records of the runs that they changed.

    ``everything``: any run may have changed.
    """

    write_sets: tuple[WriteSet, ...] = ()
    records: Mapping[RunKey, RunRecord] = field(default_factory=dict)
    removed: frozenset[RunKey] = frozenset()
    everything: bool = False


# Called on the loop. Returns a function that evaluates changes in a thread, in the same snapshot,
# and returns another function that applies the results, on the loop again.
StartEvaluation: TypeAlias = "Callable[[], Callable[[Session, ChangeSet], Callable[[], None]]]"


# The ended runs of a waiter, or of a study.
WaiterEnds: TypeAlias = "tuple[RunWaiter | str, ReadEnds]"


class ChangeListener:
    """Follows the commits to a workflow's database, on one event loop."""

    def __init__(
        self, store: WorkflowStore, *, safety_poll: float | None, start_evaluation: StartEvaluation
    ) -> None:
        self._store = store
        self._clock = store.runtime.clock
        self._safety_poll = math.inf if safety_poll is None else safety_poll
        self._safety_at = math.inf
        self._start_evaluation = start_evaluation
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._commits: list[CommitNotice] = []
        self._waiters = WaiterIndex()
        self._new: list[RunWaiter] = []
        self._signals: set[asyncio.Event] = set()
        self._session: Session | None = None
        self._refreshes: list[asyncio.Event] = []
        self._reading = False
        self._applied = 0
        self.last_number = 0

    @property
    def is_idle(self) -> bool:
        """Whether every commit known to this process was read and applied."""
        pending = self._commits or self._wake.is_set() or self._reading
        return not pending and self._applied >= self._store.database.feed.number

    # -- listening -------------------------------------------------------------------------

    async def run(self) -> None:
        """Read commits as they arrive, until cancelled."""
        unsubscribe = self._store.database.feed.subscribe(self._on_commit_in_thread)
        try:
            self._applied = self._store.database.feed.number
            self._on_commit(CommitNotice(everything=True))
            while True:
                await self._wait_for_commit()
                self._reading = True
                try:
                    await self._read()
                finally:
                    self._reading = False
        finally:
            unsubscribe()
            if self._session is not None:
                self._session.close()

    async def _wait_for_commit(self) -> None:
        """Wait for a commit or the safety poll, which commits do not postpone."""
        with anyio.move_on_after(self._safety_at - self._clock.monotonic()):
            await self._wake.wait()
        if self._clock.monotonic() >= self._safety_at:
            self._on_commit(CommitNotice(everything=True))

    def _on_commit_in_thread(self, commit: CommitNotice) -> None:
        self._loop.call_soon_threadsafe(self._on_commit, commit)

    def _on_commit(self, commit: CommitNotice) -> None:
        self._commits.append(commit)
        self._wake.set()

    async def refresh_everything(self) -> None:
        """Evaluate everything; return when the results are applied."""
        done = asyncio.Event()
        self._refreshes.append(done)
        self._on_commit(CommitNotice(everything=True))
        await done.wait()

    def reevaluate(self) -> None:
        """Start an evaluation without a change."""
        self._wake.set()

    async def _read(self) -> None:
        self._wake.clear()
        commits, self._commits = self._commits, []
        refreshes, self._refreshes = self._refreshes, []
        new, self._new = self._new, []
        if any(commit.everything for commit in commits):
            self._safety_at = self._clock.monotonic() + self._safety_poll
        evaluate = self._start_evaluation()
        waiters = tuple(self._waiters.waiters)

        def read() -> tuple[ChangeSet, list[WaiterEnds], Callable[[], None]]:
            session = self._refreshed_session()
            changes = _read_changes(session, commits)
            apply = evaluate(session, changes)
            ended = _read_ends(session, waiters if changes.everything else new)
            return changes, ended, apply

        changes, ended, apply = await run_in_thread(read)
        self._applied = max([self._applied, *(commit.number for commit in commits)])
        self._notify(changes, ended)
        apply()
        for done in refreshes:
            done.set()

    def _refreshed_session(self) -> Session:
        if self._session is None:
            self._session = Session(self._store.database)
        else:
            self._session.refresh()
        return self._session

    def _notify(self, changes: ChangeSet, ended: list[WaiterEnds]) -> None:
        for receiver, ends in ended:
            if isinstance(receiver, RunWaiter):
                receiver.on_ends(ends)
                continue
            for run_id in ends.ids:
                for waiter in self._waiters.of_run(RunKey(receiver, run_id)):
                    waiter.on_end(run_id, ends.failures.get(run_id))
        for record in changes.records.values():
            for waiter in self._waiters.of_run(record.key):
                waiter.on_record(record)
        if changes.write_sets:
            self.last_number = max(self.last_number, *[w.number for w in changes.write_sets])
            for signal in self._signals:
                signal.set()

    # -- waiting ---------------------------------------------------------------------------

    def is_awaited(self, key: RunKey) -> bool:
        """Return whether a task waits for this run to reach a terminal state."""
        return bool(self._waiters.of_run(key))

    @contextlib.contextmanager
    def notified(self, waiter: RunWaiter) -> Iterator[None]:
        """Deliver records to ``waiter`` within the block."""
        self._waiters.add(waiter)
        self._new.append(waiter)
        self._wake.set()
        try:
            yield
        finally:
            self._waiters.remove(waiter)

    @contextlib.contextmanager
    def commit_signal(self) -> Iterator[asyncio.Event]:
        """Return an event that every commit within the block sets."""
        signal = asyncio.Event()
        self._signals.add(signal)
        try:
            yield signal
        finally:
            self._signals.discard(signal)


def _read_ends(session: Session, waiters: Iterable[RunWaiter]) -> list[WaiterEnds]:
    """Return the ended runs of waiters for many runs, and those of all others by study."""
    found: list[WaiterEnds] = []
    others: dict[str, set[int]] = {}
    for waiter in waiters:
        if len(waiter.awaited) > BULK:
            ids, only = waiter.awaited.remaining_ids(), waiter.failures_only
            found.append((waiter, read_ends(session, waiter.study, ids, failures_only=only)))
        else:
            others.setdefault(waiter.study, set()).update(waiter.awaited.remaining_ids())
    return found + [(s, read_ends(session, s, sorted(ids))) for s, ids in others.items() if ids]


def _read_changes(session: Session, commits: list[CommitNotice]) -> ChangeSet:
    write_sets: list[WriteSet] = []
    keys: set[RunKey] = set()
    for commit in commits:
        runs, variables = set(commit.runs), commit.variables
        everything = commit.everything or len(commit.oids) > BULK_OBJECTS
        if commit.oids and len(commit.oids) <= BULK_OBJECTS:
            classified, changed_variables = session.classify(commit.oids)
            runs |= classified
            variables = variables or changed_variables
        if runs or variables or everything:
            write_sets.append(
                WriteSet(frozenset(runs), variables, everything, commit.source, commit.number)
            )
        keys |= runs
    if len(keys) > BULK:
        return ChangeSet(tuple(write_sets), everything=True)
    records = {record.key: record for record in existing_records(session, keys)}
    return ChangeSet(
        tuple(write_sets),
        records,
        frozenset(keys - records.keys()),
        any(write_set.everything for write_set in write_sets),
    )
