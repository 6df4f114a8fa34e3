"""The launcher: claims runs, passes them to executors, records how they end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import anyio

from motoko.config import KEEP_ALL, QueueLimits
from motoko.core.run_options import BASH
from motoko.core.states import NON_TERMINAL, Lifecycle
from motoko.errors import Fenced
from motoko.launcher.code_facts import CodeFacts
from motoko.launcher.compactor import Compactor
from motoko.launcher.control import SUSPEND
from motoko.launcher.directory_keeper import DirectoryKeeper
from motoko.launcher.executors.batch.decide import FILES_LAG
from motoko.launcher.recovery import Recovery
from motoko.launcher.store_sync import StoreSync
from motoko.runtime.completion import to_completion
from motoko.storage import leases
from motoko.storage.launcher_leases import LauncherReport
from motoko.storage.orchestrator_leases import ORCHESTRATOR
from motoko.storage.session import Session
from motoko.storage.threads import run_in_committer, run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from anyio.abc import TaskGroup

    from motoko.config import StudyConfig
    from motoko.launcher.attempts import PendingUpdates
    from motoko.launcher.claiming import Capacity, ServedQueue
    from motoko.launcher.config_reload import ConfigReloader
    from motoko.launcher.control import ControlRequest
    from motoko.launcher.executors.base import ExecutorSet
    from motoko.launcher.start_notes import StartNotes
    from motoko.storage.feed import CommitNotice
    from motoko.storage.launcher_leases import LauncherRegistration
    from motoko.storage.store import WorkflowStore

    ServedConfig: TypeAlias = "tuple[Mapping[str, StudyConfig], LauncherOptions]"

GATHER_SECONDS: Final = 0.1

_T = TypeVar("_T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LauncherOptions:
    """The runs that a launcher serves, its limits and its times, in seconds.

    ``capacities`` are by generator, ``defaults`` (run options) by study; ``limits`` apply to a
    batch scheduler. ``lease``: a launcher without a heartbeat for this long is replaced.
    ``stop_grace``: time between TERM and KILL. ``files_lag``: delay of files of other nodes.
    ``keep``: which directories of ended runs stay.
    """

    studies: tuple[str, ...]
    served: ServedQueue
    capacities: Mapping[str, Capacity]
    limits: QueueLimits = field(default_factory=QueueLimits)
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    lease: float = 30.0
    stop_grace: float = 5.0
    safety_poll: float = 30.0
    files_lag: float = FILES_LAG
    keep: str = KEEP_ALL


class Launcher:
    """One launcher. Its methods run in the event loop, and blocking calls in threads."""

    def __init__(
        self,
        store: WorkflowStore,
        options: LauncherOptions,
        me: LauncherRegistration,
        updates: PendingUpdates,
        start_notes: StartNotes,
        executors: ExecutorSet,
        submissions: Path,
    ) -> None:
        self._store = store
        self._options = options
        self.me = me
        self._code = CodeFacts(store)
        self._sync = StoreSync(
            store, me, options.served, options.capacities, options.defaults, self._code.current
        )
        self._updates = updates
        self._start_notes = start_notes
        self._executors = executors
        self._recovery = Recovery(store, self._sync, start_notes, executors, submissions)
        self._suspended: set[str] = set()
        self._claims_paused = False
        self._sync_done = asyncio.Event()
        self._request_lock = asyncio.Lock()
        self._closing = False
        self._recovered = False
        self._reloader: ConfigReloader[ServedConfig] | None = None
        self._config_error = ""
        self._tasks: TaskGroup
        self._reading_code = False
        self._keeper = DirectoryKeeper(store, self._kept)
        self._compactor = Compactor(
            store, lambda: (self.me.studies, not self._executors.attempts())
        )

    # -- public ----------------------------------------------------------------------------

    async def serve(self, ready: Callable[[], object] = lambda: None) -> None:
        """Serve until ``close``; call ``ready`` when earlier attempts are adopted.

        Runs continue after it ends. LauncherError if another launcher serves the same runs,
        Fenced if another one has replaced this one.
        """
        database = await run_in_thread(lambda: self._store.database)
        await self._commit(lambda: self._sync.open(self._report()))
        log.info("launcher %s serves %s", self.me.name, ", ".join(self._options.studies))
        loop = asyncio.get_running_loop()

        def on_commit(commit: CommitNotice) -> None:
            if commit.source != self.me.name:
                loop.call_soon_threadsafe(self._updates.wake)

        unsubscribe = database.feed.subscribe(on_commit)
        fenced = False
        try:
            await self._run(ready)
        except Fenced:
            fenced = True
            raise
        finally:
            unsubscribe()
            await to_completion(self._finish(fenced=fenced))

    def set_reloader(self, reloader: ConfigReloader[ServedConfig]) -> None:
        """Set the reloader to call before each claim."""
        self._reloader = reloader

    def pause_claims(self) -> None:
        """Claim nothing, and manage only attempts of earlier launchers."""
        self._claims_paused = True

    def close(self) -> None:
        """Finish the commit in progress and end; runs continue."""
        self._closing = True
        self._updates.wake()

    async def is_busy(self) -> bool:
        """Return whether it manages attempts, or could claim runs.

        It is busy until it has adopted the attempts of earlier launchers.
        """
        if not self._recovered or self._executors.attempts() or len(self._keeper):
            return True
        suspended = None if self._claims_paused else frozenset(self._suspended)
        return suspended is not None and await run_in_thread(lambda: self._has_runs(suspended))

    def _has_runs(self, suspended: frozenset[str]) -> bool:
        """Return whether a run of another run name is not in a terminal state."""
        with contextlib.closing(Session(self._store.database)) as session:
            tables = [session.tables.study(name) for name in self.me.studies]
            return any(
                table.counts_by_run_name(NON_TERMINAL).keys() - suspended for table in tables
            )

    async def handle_request(self, request: ControlRequest) -> None:
        """Carry out a request after all earlier ones."""
        async with self._request_lock:
            if request.action == SUSPEND:
                await self._suspend(request)
            else:
                await self._resume(request.run_name)

    async def _resume(self, run_name: str | None) -> None:
        self._suspended = set() if run_name is None else self._suspended - {run_name}
        self._claims_paused = self._claims_paused and run_name is not None
        self._updates.wake()
        await self._publish_report()

    async def _suspend(self, request: ControlRequest) -> None:
        name = request.run_name
        if name is None:
            self._claims_paused = True
        elif request.unless_orchestrated and await run_in_thread(lambda: self._orchestrated(name)):
            return
        else:
            self._suspended.add(name)
        # Claims in progress are known after the next commit.
        await self._wait_for_sync()
        attempts = [a for a in self._executors.attempts() if name in (None, a.record.run_name)]
        for attempt in attempts:
            self._executors.executor_of(attempt).cancel(attempt, Lifecycle.CREATED)
        for attempt in attempts:
            await attempt.finalized.wait()
        await self._publish_report()

    def _orchestrated(self, run_name: str) -> bool:
        database = self._store.database
        database.catch_up()
        with contextlib.closing(Session(database)) as session:
            lease = session.tables.lease(ORCHESTRATOR + run_name)
            return lease is not None and lease["token"] is not None

    async def _commit(self, work: Callable[[], _T]) -> _T:
        return await run_in_committer(self._store.database, work)

    # -- the main loop ---------------------------------------------------------------------

    async def _run(self, ready: Callable[[], object]) -> None:
        await run_in_thread(self._start_notes.open)
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                self._executors.start(tasks)
                await self._recover()
                self._recovered = True
                tasks.start_soon(self._renew_lease)
                tasks.start_soon(self._recover_periodically)
                tasks.start_soon(self._keeper.run)
                tasks.start_soon(self._compactor.run)
                ready()
                await self._sync_until_closed()
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise first_error(group) from group

    async def _sync_until_closed(self) -> None:
        while not self._closing:
            next_wakeup = await self._sync_once()
            if self._closing:  # ``close`` may have called ``wake`` before the commit
                return
            pause = self._options.safety_poll
            if next_wakeup is not None:
                pause = min(pause, max(0.0, next_wakeup - self._store.steady()))
            with anyio.move_on_after(pause):
                await self._updates.wait()
            # While many runs wait for slots, more ends follow soon: put them into one commit.
            with anyio.move_on_after(GATHER_SECONDS):
                await self._executors[BASH].pool.few_wait.wait()

    async def _sync_once(self, *, claim: bool = True) -> float | None:
        """Commit the pending updates and claim runs; return when to do so next."""
        if claim:
            await self._reload_config()
        updates = self._updates.drain()
        ended_or_requeued = updates.ended_or_requeued()
        remaining = tuple(a for a in self._executors.attempts() if a not in ended_or_requeued)
        loads = self._executors.loads() if claim and not self._claims_paused else None
        suspended = frozenset(self._suspended)
        result = await self._commit(
            lambda: self._sync.sync_once(
                updates, remaining=remaining, loads=loads, suspended=suspended
            )
        )
        for attempt in ended_or_requeued.difference(result.unfinished):
            self._executors.remove(attempt)
        self._keeper.add(end.attempt.key for end in updates.ended)
        self._compactor.add(len(updates.ended))
        if result.unfinished:
            self._updates.ended.extend(e for e in updates.ended if e.attempt in result.unfinished)
            self._updates.wake()
        for attempt in result.claimed:
            self._executors[attempt.options.generator].submit(attempt)
        for attempt in result.cancelled:
            self._executors.executor_of(attempt).cancel(attempt, Lifecycle.CANCELLED)
        for attempt in result.no_longer_owned:
            log.warning("run %s: it no longer belongs to this launcher", attempt.key)
            self._executors.executor_of(attempt).detach(attempt)
        if result.facts_outdated and not self._reading_code:
            self._reading_code = True
            self._tasks.start_soon(self._read_code)
        done, self._sync_done = self._sync_done, asyncio.Event()
        done.set()
        return result.next_wakeup

    async def _read_code(self) -> None:
        """Read the facts of the code, for which claims wait. Other commits do not."""
        try:
            await self._code.read()
        finally:
            self._reading_code = False
        self._updates.wake()

    async def _wait_for_sync(self) -> None:
        """Wait for a commit that starts after this call."""
        for _ in range(2):  # the next one to end may have started before
            self._updates.wake()
            await self._sync_done.wait()

    # -- configuration ---------------------------------------------------------------------

    async def _reload_config(self) -> None:
        if self._reloader is None:
            return
        config = await run_in_thread(self._reloader.check)
        if config is not None:
            await self._apply_config(*config)
        if self._config_error != self._reloader.error:
            self._config_error = self._reloader.error
            await self._renew_once()

    async def _apply_config(
        self, studies: Mapping[str, StudyConfig], options: LauncherOptions
    ) -> None:
        # Runs of a removed study may still be running.
        self._store.studies = {**self._store.studies, **studies}
        self._options = options
        wanted = replace(self.me, studies=options.studies)
        report = self._report()
        self.me = await self._commit(
            lambda: self._sync.reconfigure(wanted, options.capacities, options.defaults, report)
        )
        slots = {name: capacity.slots for name, capacity in options.capacities.items()}
        self._executors.set_limits(slots, options.limits)
        # They were claimed under the previous configuration and have not started.
        for attempt in self._executors.waiting():
            self._executors.executor_of(attempt).cancel(attempt, Lifecycle.CREATED)
        log.info("the configuration has changed; it serves %s", ", ".join(self.me.studies))

    def _kept(self) -> tuple[str, tuple[str, ...], bool]:
        return self._options.keep, self.me.studies, not self._executors.attempts()

    # -- the lease -------------------------------------------------------------------------

    async def _renew_lease(self) -> None:
        while True:
            await anyio.sleep(min(leases.RENEW_SECONDS, self._options.lease / 3))
            await self._renew_once()

    async def _publish_report(self) -> None:
        """Publish the suspended run names at once; the main loop notices a replacement."""
        with suppress(Fenced):
            await self._renew_once()

    async def _renew_once(self) -> None:
        report = self._report()
        await self._commit(lambda: self._sync.renew(report))

    def _report(self) -> LauncherReport:
        capacities = self._options.capacities
        return LauncherReport(
            {name: capacity.slots for name, capacity in capacities.items()},
            dict(capacities[BASH].per_study),
            tuple(sorted(self._suspended)),
            self._claims_paused,
            self._config_error,
            "; ".join(list(self._keeper.stayed.values())),
        )

    # -- start and end ---------------------------------------------------------------------

    async def _recover_periodically(self) -> None:
        while True:
            await anyio.sleep(self._options.safety_poll)
            await self._recover()

    async def _recover(self) -> None:
        if await self._recovery.adopt_attempts():
            self._updates.wake()

    async def _finish(self, *, fenced: bool) -> None:
        """Record ended attempts, requeue those that did not start, leave the rest to others."""
        ended_or_requeued = self._updates.ended_or_requeued()
        cause = f"launcher {self.me.name} stopped before it started"
        for attempt in self._executors.release():
            if attempt not in ended_or_requeued:
                self._updates.requeued.append((attempt, cause, 0.0))
        if await run_in_thread(self._sync.is_moved):
            self._updates.ended.clear()  # the next launcher reads in the new place how they ended
        if not fenced:
            while self._updates.ended or self._updates.requeued:
                await self._sync_once(claim=False)
            await self._keeper.finish()
        await self._commit(self._sync.close)


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a group; later ones only follow from it."""
    first = group.exceptions[0]
    return first_error(first) if isinstance(first, BaseExceptionGroup) else first
