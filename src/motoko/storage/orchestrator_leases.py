"""The lease of an orchestrator on a run name, and the report that it publishes with it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from motoko.errors import LeaseHeld
from motoko.runtime import processes
from motoko.runtime.processes import ProcessIdentity
from motoko.server.state_dir_guard import CHECK_SECONDS, StateDirGuard
from motoko.storage import leases
from motoko.storage.leases import LeaseGuard, describe_holder, holds, is_live, lease_names
from motoko.storage.session import run_transaction
from motoko.storage.threads import run_in_committer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from motoko.storage.store import WorkflowStore
    from motoko.storage.tables import Tables

LEASE_SECONDS: Final = 60.0
ORCHESTRATOR: Final = "orchestrator:"  # the name of a lease: this, then a run name


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """The orchestrator process that holds a lease."""

    host: str
    pid: int
    started: int
    boot: str
    since: float
    namespace: int = 0

    @classmethod
    def here(cls, now: float) -> LeaseHolder:
        """Return this process as a holder since ``now``."""
        own = processes.current()
        return cls(own.host, own.pid, own.started, own.boot, now, own.namespace)

    @property
    def process(self) -> ProcessIdentity:
        """Return its process."""
        return ProcessIdentity(self.pid, self.started, self.boot, self.namespace, self.host)

    def __str__(self) -> str:
        return describe_holder(self.process, self.since)


@dataclass(frozen=True, slots=True)
class StallReport:
    """The time, in seconds since the epoch, at which an orchestrator stalled, and its waits."""

    since: float
    waits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OrchestratorReport:
    """The published state of an orchestrator.

    ``events``: ids of the registered events; None if unknown. Until ``main`` has registered any,
    they are those of the previous orchestrator. ``stall``: None unless stalled.
    """

    events: tuple[str, ...] | None = None
    stall: StallReport | None = None

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> OrchestratorReport:
        """Return the report that was stored as plain data."""
        events, stall = stored.get("events"), stored.get("stall")
        return cls(
            None if events is None else tuple(events),
            None if stall is None else StallReport(stall["since"], tuple(stall["waits"])),
        )


class Lease:
    """The lease on one run name, renewed with a report."""

    def __init__(self, store: WorkflowStore, run_name: str) -> None:
        self._store = store
        self._run_name = run_name
        self._report = OrchestratorReport()
        self._wake = threading.Event()
        self._ended = False
        self.holder: LeaseHolder | None = None
        self._directory: StateDirGuard | None = None
        self.on_renewal: Callable[[], object] = lambda: None
        self.guard = LeaseGuard(ORCHESTRATOR + run_name, store.runtime.rng.token(8))

    def report_events(self, names: Iterable[str]) -> None:
        """Publish the ids of the registered events. Call it in the event loop."""
        self._publish(replace(self._report, events=tuple(names)))

    def report_stall(self, stall: StallReport | None) -> None:
        """Publish a stall, or its end (None)."""
        self._publish(replace(self._report, stall=stall))

    def _publish(self, report: OrchestratorReport) -> None:
        if report != self._report:
            self._report = report
            self._wake.set()

    async def acquire(self) -> None:
        """Acquire the lease; LeaseHeld names the process that holds it."""
        await self._commit(self.acquire_in)
        self._directory = StateDirGuard.of(self._store.state)

    async def _commit(self, work: Callable[[Tables], None]) -> None:
        database = self._store.database
        await run_in_committer(database, lambda: run_transaction(database, work))

    def acquire_in(self, tables: Tables) -> None:
        """Acquire the lease in a transaction; LeaseHeld names the process that holds it."""
        now = self._store.steady()
        holder = live_orchestrator(tables, self._run_name, now)
        if holder is not None:
            raise LeaseHeld(
                f"run name {self._run_name!r} already has an orchestrator: {holder}",
                hint="Stop it with `motoko orchestrator stop`, or choose another --run_name.",
            )
        self.holder = LeaseHolder.here(self._store.now())
        tables.write_lease(self.guard.name, self.guard.token, asdict(self.holder))
        former = orchestrator_report(tables, self._run_name)
        self._report = OrchestratorReport(events=former.events)
        tables.renew_lease(self.guard.name, now, asdict(self._report))

    async def renew_forever(self) -> None:
        """Renew the lease until cancelled, and at once when the report changes.

        A thread renews it, so a blocked event loop does not lose the lease. Fenced if another
        process holds it now; ServerError if the state directory was moved or removed.
        """
        failure: Future[None] = Future()

        def renew() -> None:
            try:
                self._renew_until_ended()
            except Exception as error:  # noqa: BLE001 - raised in the loop
                with suppress(InvalidStateError):  # cancelled by now
                    failure.set_exception(error)

        threading.Thread(target=renew, name="motoko-lease", daemon=True).start()
        try:
            await asyncio.wrap_future(failure)
        finally:
            self._ended = True
            self._wake.set()

    def _renew_until_ended(self) -> None:
        database, clock = self._store.database, self._store.clock
        renewed = clock.monotonic()
        while True:
            changed = self._wake.wait(min(CHECK_SECONDS, leases.RENEW_SECONDS))
            if self._ended:
                return
            if self._directory is not None:
                self._directory.check()
            if changed or clock.monotonic() - renewed >= leases.RENEW_SECONDS:
                self._wake.clear()
                renewed = clock.monotonic()
                database.submit(lambda: run_transaction(database, self._renew)).result()
                self.on_renewal()

    def _renew(self, tables: Tables) -> None:
        if not holds(tables, self.guard.name, self.guard.token):
            raise self.guard.fenced()
        tables.renew_lease(self.guard.name, self._store.steady(), asdict(self._report))

    async def release(self) -> None:
        """Release the lease if this process still holds it."""
        await self._commit(self._release_in)

    def _release_in(self, tables: Tables) -> None:
        name = self.guard.name
        if holds(tables, name, self.guard.token):
            tables.write_lease(name, None, dict(tables.lease(name)["holder"]))
            report = replace(self._report, stall=None)
            tables.renew_lease(name, self._store.steady(), asdict(report))


def live_orchestrator(tables: Tables, run_name: str, now: float) -> LeaseHolder | None:
    """Return the live orchestrator of a run name, None if it has none."""
    name = ORCHESTRATOR + run_name
    lease = tables.lease(name)
    if lease is None or lease["token"] is None or not lease["holder"]:
        return None
    holder = LeaseHolder(**lease["holder"])
    return holder if is_live(tables, name, holder.process, now, LEASE_SECONDS) else None


def live_orchestrators(tables: Tables, now: float) -> dict[str, LeaseHolder]:
    """Return the live orchestrators by run name."""
    found = {name: live_orchestrator(tables, name, now) for name in run_names(tables)}
    return {name: holder for name, holder in found.items() if holder is not None}


def orchestrator_report(tables: Tables, run_name: str) -> OrchestratorReport:
    """Return the report of the current or last orchestrator of a run name."""
    return OrchestratorReport.of(tables.lease_report(ORCHESTRATOR + run_name))


def run_names(tables: Tables) -> list[str]:
    """Return the run names that ever had an orchestrator, sorted."""
    return lease_names(tables, ORCHESTRATOR)


def stall_reports(tables: Tables, now: float) -> dict[str, StallReport]:
    """Return the stalls of live orchestrators by run name."""
    reports = {name: orchestrator_report(tables, name) for name in live_orchestrators(tables, now)}
    return {name: report.stall for name, report in reports.items() if report.stall is not None}
