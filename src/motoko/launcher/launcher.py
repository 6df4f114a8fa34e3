"""The launcher: claims runs, has them started, watches them, records how they end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import anyio

from motoko.config import QueueLimits
from motoko.core.run_options import BASH, SLURM
from motoko.core.states import NON_TERMINAL, Lifecycle
from motoko.errors import Fenced
from motoko.launcher.attempts import Attempt, PendingUpdates, SlotPool
from motoko.launcher.control import SUSPEND
from motoko.launcher.executors.base import ExecutorSet
from motoko.launcher.executors.batch.decide import FILES_LAG
from motoko.launcher.executors.batch.executor import BatchExecutor
from motoko.launcher.executors.batch.queue_client import QueueClient
from motoko.launcher.executors.batch.submission_files import memberships
from motoko.launcher.executors.local import LocalExecutor
from motoko.launcher.start_notes import StartNotes
from motoko.launcher.store_sync import StoreSync, SyncRound
from motoko.storage import leases
from motoko.storage.leases import ORCHESTRATOR, LauncherRegistration, LauncherReport
from motoko.storage.session import Session
from motoko.storage.threads import run_in_committer, run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from motoko.config import StudyConfig
    from motoko.launcher.claiming import Capacity, ServedQueue
    from motoko.launcher.config_reload import ConfigReloader
    from motoko.launcher.control import ControlRequest
    from motoko.launcher.executors.process_handle import Generator
    from motoko.launcher.schedulers.slurm.commands import CommandRunner
    from motoko.storage.feed import CommitNotice
    from motoko.storage.store import WorkflowStore

SAFETY_POLL_SECONDS: Final = 30.0
STOP_GRACE: Final = 5.0
GATHER_SECONDS: Final = 0.02

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LauncherOptions:
    """What a launcher serves, and how much at a time.

    ``capacities`` by generator; ``defaults``: run options by study; ``limits`` of a batch
    scheduler.

    Times are in seconds. ``lease``: after this long without a sign of life it is replaced;
    ``stop_grace``: how long a run may take to end before it is killed; ``files_lag``: how late
    files from other nodes may be seen.
    """

    studies: tuple[str, ...]
    site: ServedQueue
    capacities: Mapping[str, Capacity]
    limits: QueueLimits = field(default_factory=QueueLimits)
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    lease: float = 30.0
    stop_grace: float = STOP_GRACE
    safety_poll: float = SAFETY_POLL_SECONDS
    files_lag: float = FILES_LAG


@dataclass(frozen=True, slots=True)
class _NewConfig:
    studies: Mapping[str, StudyConfig]
    options: LauncherOptions


class Launcher:
    """One launcher. Everything here happens in the event loop; what blocks is in threads."""

    def __init__(
        self,
        store: WorkflowStore,
        options: LauncherOptions,
        generator: Generator,
        scheduler: CommandRunner,
    ) -> None:
        self._store = store
        self._options = options
        self.me = LauncherRegistration.here(
            store.now(),
            generator=", ".join(sorted(options.site.generators)),
            studies=options.studies,
            machines=tuple(sorted(options.site.machines)),
            lease=options.lease,
            random=store.runtime.random,
        )
        self._books = StoreSync(store, self.me, options.site, options.capacities, options.defaults)
        self._notebook = PendingUpdates()
        self._starts = StartNotes(store.state.path, self.me.name)
        self._crews = self._hire(generator, scheduler)
        self._held: set[str] = set()
        self._hold_all = False
        self._round_over = asyncio.Event()
        self._obeying = asyncio.Lock()
        self._closing = False
        self._recovered = False
        self._reloader: ConfigReloader | None = None
        self._changed: _NewConfig | None = None
        self._problem = ""

    def _hire(self, generator: Generator, scheduler: CommandRunner) -> ExecutorSet:
        store, options, notebook = self._store, self._options, self._notebook
        local, slurm = (SlotPool(options.capacities[name].slots) for name in (BASH, SLURM))
        here = str(store.state.path)
        mark = blake2b(os.fsencode(here), digest_size=6).hexdigest()
        return ExecutorSet(
            {
                BASH: LocalExecutor(
                    store, local, notebook, generator, owner=self.me.name,
                    grace=options.stop_grace, starts=self._starts,
                ),
                SLURM: BatchExecutor(
                    store, slurm, notebook, QueueClient(scheduler, mark), options.limits,
                    owner=self.me.name, root=store.state.path / SLURM,
                    starts=self._starts, lag=options.files_lag,
                ),
            }
        )  # fmt: skip

    # -- from outside ----------------------------------------------------------------------

    async def serve(self, ready: Callable[[], object] = lambda: None) -> None:
        """Serve until ``close``; ``ready`` is called when former attempts are taken over.

        Runs go on when it ends. LauncherError where another launcher serves the same runs,
        Fenced if this one was replaced.
        """
        database = await run_in_thread(lambda: self._store.database)
        await run_in_committer(database, lambda: self._books.open(self._report()))
        log.info("launcher %s serves %s", self.me.name, ", ".join(self._options.studies))
        loop = asyncio.get_running_loop()

        def tell(commit: CommitNotice) -> None:
            if commit.source != self.me.name:
                loop.call_soon_threadsafe(self._notebook.stir)

        unsubscribe = database.feed.subscribe(tell)
        fenced = False
        try:
            await self._work(ready)
        except Fenced:
            fenced = True
            raise
        finally:
            unsubscribe()
            with anyio.CancelScope(shield=True):
                await self._finish(fenced=fenced)

    def reload_by(self, reloader: ConfigReloader) -> None:
        """Have the configuration looked at before runs are claimed."""
        self._reloader = reloader

    def prepare_change(self, studies: Mapping[str, StudyConfig], options: LauncherOptions) -> None:
        """Note what the next round is to work by. A reloader calls this, in a thread."""
        self._changed = _NewConfig(studies, options)

    def hold(self) -> None:
        """Claim nothing, and only attend to what former launchers left."""
        self._hold_all = True

    def close(self) -> None:
        """Finish the commit under way and end; what runs goes on."""
        self._closing = True
        self._notebook.stir()

    async def is_busy(self) -> bool:
        """Return whether it attends to attempts, or runs wait that it may claim.

        So it does until it has taken over what former launchers left.
        """
        if not self._recovered or self._crews.attempts():
            return True
        held = None if self._hold_all else frozenset(self._held)
        return held is not None and await run_in_thread(lambda: self._waiting(held))

    def _waiting(self, held: frozenset[str]) -> bool:
        session = Session(self._store.database)
        try:
            tables = [session.tables.study(name) for name in self.me.studies]
            return any(
                len(table.ids(None, lifecycles=NON_TERMINAL))
                > sum(len(table.ids(name, lifecycles=NON_TERMINAL)) for name in held)
                for table in tables
            )
        finally:
            session.close()

    async def obey(self, request: ControlRequest) -> None:
        """Carry out a request after those that came before it, and return when it is done."""
        async with self._obeying:
            await self._obey(request)

    async def _obey(self, request: ControlRequest) -> None:
        name = request.run_name
        if request.action != SUSPEND:
            self._held = set() if name is None else self._held - {name}
            self._hold_all = self._hold_all and name is not None
            self._notebook.stir()
            await self._tell()
            return
        if name is None:
            self._hold_all = True
        elif request.unless_orchestrated and await run_in_thread(lambda: self._orchestrated(name)):
            return
        else:
            self._held.add(name)
        # What is being claimed at this moment is there after the next round.
        await self._settled()
        wanted = [a for a in self._crews.attempts() if name in (None, a.record.run_name)]
        for active in wanted:
            self._crews.of(active).end_early(active, Lifecycle.CREATED)
        for active in wanted:
            await active.recorded.wait()
        await self._tell()

    def _orchestrated(self, run_name: str) -> bool:
        database = self._store.database
        database.catch_up()
        with contextlib.closing(Session(database)) as session:
            lease = session.tables.lease(ORCHESTRATOR + run_name)
            return lease is not None and lease["token"] is not None

    # -- inside ----------------------------------------------------------------------------

    async def _work(self, ready: Callable[[], object]) -> None:
        await run_in_thread(self._starts.open)
        try:
            async with anyio.create_task_group() as tasks:
                self._crews.run(tasks)
                await self._recover()
                self._recovered = True
                tasks.start_soon(self._renew)
                tasks.start_soon(self._recover_later)
                ready()
                await self._rounds()
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise _first_error(group) from group

    async def _rounds(self) -> None:
        while not self._closing:
            wake_at = await self._round()
            if self._closing:  # which may have stirred before the round began
                return
            pause = self._options.safety_poll
            if wake_at is not None:
                pause = min(pause, max(0.0, wake_at - self._store.steady()))
            with anyio.move_on_after(pause):
                await self._notebook.stirred()
            # While runs wait for slots more ends come soon: one commit for all of them.
            with anyio.move_on_after(GATHER_SECONDS):
                await self._crews.named(BASH).pool.drained.wait()

    async def _settled(self) -> None:
        """Wait until a round that began after this call is over."""
        for _ in range(2):  # the first one to end may have begun before
            self._notebook.stir()
            await self._round_over.wait()

    async def _reload(self) -> None:
        """Work by the configuration as it is now."""
        if self._reloader is None:
            return
        await run_in_thread(self._reloader.check)
        change, self._changed = self._changed, None
        if change is not None:
            await self._apply(change)
        if self._problem != self._reloader.problem:
            self._problem = self._reloader.problem
            await self._renewed()

    async def _apply(self, change: _NewConfig) -> None:
        options = change.options
        # Runs of a study that is not there any more may still be under way.
        self._store.studies = {**self._store.studies, **change.studies}
        self._options = options
        wanted = replace(self.me, studies=options.studies)
        report = self._report()
        self.me = await run_in_committer(
            self._store.database,
            lambda: self._books.change(wanted, options.capacities, options.defaults, report),
        )
        self._crews.limit(
            {name: capacity.slots for name, capacity in options.capacities.items()}, options.limits
        )
        # They were claimed by the former configuration and have not begun.
        for active in self._crews.waiting():
            self._crews.of(active).end_early(active, Lifecycle.CREATED)
        log.info("the configuration has changed; it serves %s", ", ".join(self.me.studies))

    async def _round(self, *, claim: bool = True) -> float | None:
        if claim:
            await self._reload()
        notes = self._notebook.take()
        leaving = notes.leaving
        turn = SyncRound(
            notes,
            going=tuple(active for active in self._crews.attempts() if active not in leaving),
            loads=self._crews.loads() if claim and not self._hold_all else None,
            held=frozenset(self._held),
        )
        result = await run_in_committer(self._store.database, lambda: self._books.settle(turn))
        for active in leaving.difference(result.unfinished):
            self._crews.remove(active)
        if result.unfinished:
            self._notebook.ended.extend(e for e in notes.ended if e.active in result.unfinished)
            self._notebook.stir()
        for record, terms in result.claims:
            crew = self._crews.named(terms.generator)
            crew.admit(Attempt(record, terms, self._books.place(record)))
        for active in result.cancelled:
            self._crews.of(active).end_early(active, Lifecycle.CANCELLED)
        for active in result.lost_touch:
            log.warning("run %s: it was taken away", active.key)
            self._crews.of(active).let_go(active)
        over, self._round_over = self._round_over, asyncio.Event()
        over.set()
        return result.wake_at

    async def _renew(self) -> None:
        while True:
            await anyio.sleep(min(leases.RENEW_SECONDS, self._options.lease / 3))
            await self._renewed()

    async def _tell(self) -> None:
        """Say at once what is held; who was replaced, or ends, notices that elsewhere."""
        with suppress(Fenced):
            await self._renewed()

    async def _renewed(self) -> None:
        report = self._report()
        await run_in_committer(self._store.database, lambda: self._books.renew(report))

    def _report(self) -> LauncherReport:
        capacities = self._options.capacities
        return LauncherReport(
            {name: capacity.slots for name, capacity in capacities.items()},
            dict(capacities[BASH].per_study),
            tuple(sorted(self._held)),
            self._hold_all,
            self._problem,
        )

    async def _recover_later(self) -> None:
        while True:
            await anyio.sleep(self._options.safety_poll)
            await self._recover()

    async def _recover(self) -> None:
        known = frozenset(active.token for active in self._crews.attempts())
        left = await run_in_committer(self._store.database, lambda: self._books.orphans(known))
        if not left:
            await self._forget_starts()
            return
        # From here on they start nothing either. Their notes and submissions show what they began,
        # so both are read after this.
        former = {orphan.record.launcher or "" for orphan in left}
        await run_in_thread(partial(self._starts.take, former))
        submitted = await run_in_thread(partial(memberships, self._store.state.path / SLURM))
        for orphan in left:
            active = Attempt(orphan.record, orphan.terms, self._books.place(orphan.record))
            active.submission = submitted.get(active.token)
            # Without a submission it is here, whatever the configuration says of new ones.
            generator = BASH if active.submission is None else SLURM
            await self._crews.named(generator).take_over(active, restarted=orphan.restarted)
        self._notebook.stir()

    async def _forget_starts(self) -> None:
        others = await run_in_thread(self._starts.others)
        if others:
            used = await run_in_committer(self._store.database, self._books.answerable)
            await run_in_thread(partial(self._starts.forget, others - used))

    async def _finish(self, *, fenced: bool) -> None:
        """Record what has ended, give back what did not start, leave the rest to others."""
        leaving = {e.active for e in self._notebook.ended}
        leaving |= {active for active, _, _ in self._notebook.requeued}
        for active in self._crews.attempts():
            if active.handle is not None:
                active.handle.forget()
            elif active.task is None and active not in leaving and active.since is None:
                cause = f"launcher {self.me.name} stopped before it started"
                self._notebook.requeued.append((active, cause, 0.0))
        if not fenced:
            while self._notebook.ended or self._notebook.requeued:
                await self._round(claim=False)
        await run_in_committer(self._store.database, self._books.close)


def _first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a group, in which later ones only follow from it."""
    first = group.exceptions[0]
    return _first_error(first) if isinstance(first, BaseExceptionGroup) else first
