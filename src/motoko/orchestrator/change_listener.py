"""Looks up what commits touched, once for everybody, and wakes who waits for it."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio

from motoko.core.firing import WriteSet
from motoko.core.states import OUTCOMES
from motoko.errors import UnknownRunError
from motoko.storage.feed import CommitNotice
from motoko.storage.session import Session
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from motoko.core.records import RunKey, RunRecord
    from motoko.storage.store import WorkflowStore

BULK: Final = 2000  # runs or objects in one pass from which indexes are asked instead of records


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """What a pass found: fresh records of what was touched, or that all must be looked at."""

    touched: tuple[WriteSet, ...] = ()
    records: Mapping[RunKey, RunRecord] = field(default_factory=dict)
    gone: frozenset[RunKey] = frozenset()
    everything: bool = False


class Examiner(Protocol):
    """Looks at news in a thread, in the same snapshot, and takes the result in on the loop."""

    def prepare(self) -> Any:
        """Return what ``examine`` is to know; runs on the loop."""
        ...

    def examine(self, session: Session, news: ChangeSet, prepared: Any) -> Any:
        """Return what follows from the news; runs in a thread and changes nothing."""
        ...

    def absorb(self, news: ChangeSet, result: Any) -> None:
        """Act on it; runs on the loop."""
        ...


class RunWaiter:
    """Waits for runs to end: told by a dispatcher, or asking the database whenever woken."""

    def __init__(self, store: WorkflowStore, keys: Iterable[RunKey], *, told: bool) -> None:
        self._store = store
        self.keys = frozenset(keys)
        self._remaining = set(self.keys)
        self._ended: list[RunRecord] = []
        self._told = told
        self._asked = told
        self.event = asyncio.Event()

    @property
    def remaining(self) -> set[RunKey]:
        """Return the runs that are not known to have ended."""
        return self._remaining

    def learn(self, record: RunRecord) -> None:
        """Take in a record of one of the runs."""
        if record.key in self._remaining and record.lifecycle.ended:
            self._remaining.discard(record.key)
            self._ended.append(record)
            self.event.set()

    async def next(self) -> RunRecord | None:
        """Return the next run that has ended, None when all have been returned."""
        while not self._ended:
            if not self._remaining:
                return None
            if self._asked:
                await self.event.wait()
                self.event.clear()
            if not self._ended and not self._told:
                self._asked = True
                remaining = tuple(self._remaining)
                for record in await run_in_thread(lambda: self._look(remaining)):  # noqa: B023
                    self.learn(record)
        return self._ended.pop(0)

    def _look(self, keys: tuple[RunKey, ...]) -> list[RunRecord]:
        session = Session(self._store.database)
        try:
            return terminal_records(session, keys)
        finally:
            session.close()


class ChangeListener:
    """One for each event loop that waits for a workflow's runs."""

    def __init__(
        self, store: WorkflowStore, *, safety_poll: float | None, examiner: Examiner | None = None
    ) -> None:
        self._store = store
        self._safety_poll = math.inf if safety_poll is None else safety_poll
        self._safety_at = math.inf
        self._examiner = examiner
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._commits: list[CommitNotice] = []
        self._waiting: dict[RunKey, set[RunWaiter]] = {}
        self._new: list[RunWaiter] = []
        self._watchers: set[asyncio.Event] = set()
        self._session: Session | None = None
        self._passes: list[asyncio.Event] = []
        self._looking = False
        self._absorbed = 0
        self.last_number = 0

    @property
    def idle(self) -> bool:
        """Whether every commit that this process knows of was looked up and taken in."""
        pending = self._commits or self._wake.is_set() or self._looking
        return not pending and self._absorbed >= self._store.database.feed.number

    # -- learning --------------------------------------------------------------------------

    async def run(self) -> None:
        """Look up commits as they come, until cancelled."""
        unsubscribe = self._store.database.feed.subscribe(self._from_thread)
        try:
            self._absorbed = self._store.database.feed.number
            self._arrived(CommitNotice(everything=True))
            while True:
                await self._woken()
                self._looking = True
                try:
                    await self._pass()
                finally:
                    self._looking = False
        finally:
            unsubscribe()
            if self._session is not None:
                self._session.close()

    async def _woken(self) -> None:
        """Wait for commits, until the safety poll at the latest: they do not postpone it."""
        with anyio.move_on_after(self._safety_at - time.monotonic()):
            await self._wake.wait()
        if time.monotonic() >= self._safety_at:
            self._arrived(CommitNotice(everything=True))

    async def _pass(self) -> None:
        self._wake.clear()
        commits, self._commits = self._commits, []
        passes, self._passes = self._passes, []
        if any(commit.everything for commit in commits):
            self._safety_at = time.monotonic() + self._safety_poll
        prepared = None if self._examiner is None else self._examiner.prepare()
        new, self._new = self._new, []
        wanted = {key for waiter in new for key in waiter.remaining}
        news, ended, result = await run_in_thread(
            partial(self._look, commits, prepared, wanted, tuple(self._waiting))
        )
        self._absorbed = max([self._absorbed, *(commit.number for commit in commits)])
        self._tell(news, ended)
        if self._examiner is not None:
            self._examiner.absorb(news, result)
        for event in passes:
            event.set()

    async def look_at_everything(self) -> None:
        """Look at everything anew, and return when what was found is taken in."""
        event = asyncio.Event()
        self._passes.append(event)
        self._arrived(CommitNotice(everything=True))
        await event.wait()

    def look_again(self) -> None:
        """Have the examiner asked once more, without news."""
        self._wake.set()

    def _from_thread(self, commit: CommitNotice) -> None:
        self._loop.call_soon_threadsafe(self._arrived, commit)

    def _arrived(self, commit: CommitNotice) -> None:
        self._commits.append(commit)
        self._wake.set()

    def _look(
        self,
        commits: list[CommitNotice],
        prepared: Any,
        wanted: set[RunKey],
        waiting: tuple[RunKey, ...],
    ) -> tuple[ChangeSet, list[RunRecord], Any]:
        if self._session is None:
            self._session = Session(self._store.database)
        else:
            self._session.refresh()
        news = self._news(self._session, commits)
        result = None
        if self._examiner is not None:
            result = self._examiner.examine(self._session, news, prepared)
        ended = terminal_records(self._session, waiting if news.everything else wanted)
        return news, ended, result

    def _news(self, session: Session, commits: list[CommitNotice]) -> ChangeSet:
        touched: list[WriteSet] = []
        keys: set[RunKey] = set()
        everything = False
        for commit in commits:
            runs, variables = set(commit.runs), commit.variables
            bulk = len(commit.oids) > 4 * BULK
            if commit.oids and not bulk:
                found, more = session.classify(commit.oids)
                runs |= found
                variables = variables or more
            everything = everything or commit.everything or bulk
            if runs or variables or commit.everything or bulk:
                touched.append(
                    WriteSet(
                        frozenset(runs),
                        variables,
                        commit.everything or bulk,
                        commit.source,
                        commit.number,
                    )
                )
            keys |= runs
        if len(keys) > BULK:
            return ChangeSet(tuple(touched), everything=True)
        records: dict[RunKey, RunRecord] = {}
        for key in keys:
            try:
                records[key] = session.run(key)
            except UnknownRunError:
                continue
        return ChangeSet(tuple(touched), records, frozenset(keys - records.keys()), everything)

    def _tell(self, news: ChangeSet, ended: list[RunRecord]) -> None:
        for record in (*ended, *news.records.values()):
            for waiter in tuple(self._waiting.get(record.key, ())):
                waiter.learn(record)
        if news.touched:
            self.last_number = max(self.last_number, *[t.number for t in news.touched])
            for event in self._watchers:
                event.set()

    # -- waiting ---------------------------------------------------------------------------

    def awaited(self, key: RunKey) -> bool:
        """Return whether somebody waits for this run to end."""
        return key in self._waiting

    def add(self, waiter: RunWaiter) -> None:
        """Tell ``waiter`` of its runs' ends from now on."""
        for key in waiter.keys:
            self._waiting.setdefault(key, set()).add(waiter)
        self._new.append(waiter)
        self._wake.set()

    def drop(self, waiter: RunWaiter) -> None:
        """Tell ``waiter`` nothing more."""
        for key in waiter.keys:
            waiters = self._waiting.get(key, set())
            waiters.discard(waiter)
            if not waiters:
                self._waiting.pop(key, None)

    def watch(self) -> asyncio.Event:
        """Return an event that is set with every commit; give it back with ``forget``."""
        event = asyncio.Event()
        self._watchers.add(event)
        return event

    def forget(self, event: asyncio.Event) -> None:
        """Stop setting an event that ``watch`` gave out."""
        self._watchers.discard(event)


def terminal_records(session: Session, keys: Iterable[RunKey]) -> list[RunRecord]:
    """Return the records of those runs that have ended, in order of their end."""
    by_study: dict[str, set[int]] = {}
    for key in keys:
        by_study.setdefault(key.study, set()).add(key.id)
    records: list[RunRecord] = []
    for study, ids in by_study.items():
        table = session.tables.study(study)
        if len(ids) > BULK:
            ids &= set(table.ids(None, lifecycles=OUTCOMES))
        records += [r for r in table.records(sorted(ids)) if r.lifecycle.ended]
    return sorted(records, key=lambda record: record.history[-1].time if record.history else 0.0)
