"""One orchestrator for a run name: a lease in the database, renewed while the process lives."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from motoko.errors import LeaseHeld
from motoko.runtime.processes import ProcessIdentity, current, keeps_lease
from motoko.server.state_dir_guard import LOOK_SECONDS, StateDirGuard
from motoko.storage.session import LeaseGuard, run_transaction
from motoko.storage.tables import ORCHESTRATOR
from motoko.storage.threads import run_in_committer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from motoko.storage.store import WorkflowStore
    from motoko.storage.tables import Tables

LEASE_SECONDS: Final = 60.0
RENEW_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """Who holds a lease."""

    host: str
    pid: int
    started: int
    boot: str
    since: float
    namespace: int = 0

    @classmethod
    def here(cls, now: float) -> LeaseHolder:
        """Return this process as a holder since ``now``."""
        own = current()
        return cls(own.host, own.pid, own.started, own.boot, now, own.namespace)

    @property
    def process(self) -> ProcessIdentity:
        """Return its process."""
        return ProcessIdentity(self.pid, self.started, self.boot, self.namespace, self.host)

    def may_live(self, renewed: float, now: float) -> bool:
        """Return whether the holder has to be taken for alive.

        One that is known to be dead is not, and neither is a stopped or unseen one whose lease
        ran out.
        """
        return keeps_lease(self.process, renewed=now - renewed < LEASE_SECONDS)

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since, UTC).isoformat(timespec="seconds")
        return f"process {self.pid} on {self.host}, since {since}"


@dataclass(frozen=True, slots=True)
class StallReport:
    """Since when (seconds since the epoch) nothing can move any more, and who waits for what."""

    since: float
    waits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OrchestratorReport:
    """What an orchestrator says of itself.

    ``events``: the ids of those that its ``main`` has registered, or that of the one before as long
    as it has not come to it; None if that is not known. ``stall``: None while something can move.
    """

    events: tuple[str, ...] | None = None
    stall: StallReport | None = None

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> OrchestratorReport:
        """Return the report that was stored as ``plain()``."""
        events, stall = stored.get("events"), stored.get("stall")
        return cls(
            None if events is None else tuple(events),
            None if stall is None else StallReport(stall["since"], tuple(stall["waits"])),
        )

    def plain(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return asdict(self)


class Lease:
    """The lease on one run name, renewed with a report."""

    def __init__(self, store: WorkflowStore, run_name: str) -> None:
        self._store = store
        self._run_name = run_name
        self._report = OrchestratorReport()
        self._news = threading.Event()
        self._ended = False
        self._home: StateDirGuard | None = None
        self.guard = LeaseGuard(ORCHESTRATOR + run_name, secrets.token_hex(8))

    def say_events(self, names: Iterable[str]) -> None:
        """Have others know which events are registered; from the event loop."""
        self._say(replace(self._report, events=tuple(names)))

    def say_stall(self, stall: StallReport | None) -> None:
        """Have others know that nothing can move any more, or that it does again."""
        self._say(replace(self._report, stall=stall))

    def _say(self, report: OrchestratorReport) -> None:
        if report != self._report:
            self._report = report
            self._news.set()

    async def acquire(self) -> None:
        """Take the lease; LeaseHeld names the process that has it."""
        await run_in_committer(
            self._store.database, lambda: run_transaction(self._store.database, self.take)
        )
        self._home = StateDirGuard.of(self._store.state)

    def take(self, tables: Tables) -> None:
        """Take the lease in a transaction; LeaseHeld names the process that has it."""
        now = self._store.steady()
        holder = current_holder(tables, self._run_name, now)
        if holder is not None:
            raise LeaseHeld(
                f"run name {self._run_name!r} has an orchestrator already: {holder}",
                hint="Stop it with `motoko orchestrator stop`, or choose another --run_name.",
            )
        tables.write_lease(
            self.guard.name, self.guard.token, asdict(LeaseHolder.here(self._store.now()))
        )
        former = report_of(tables, self._run_name)
        self._report = OrchestratorReport(events=former.events)
        tables.renew_lease(self.guard.name, now, self._report.plain())

    async def renew_forever(self) -> None:
        """Renew the lease until cancelled, and whenever there is something to say.

        A thread does it, so that a blocked event loop does not lose the lease. Fenced where
        somebody else has it now; ServerError where the state directory was moved or removed.
        """
        loop = asyncio.get_running_loop()
        failure: asyncio.Future[None] = loop.create_future()

        def fail(error: Exception) -> None:
            if not failure.done():
                failure.set_exception(error)

        def renew() -> None:
            try:
                self._renew_until_ended()
            except Exception as error:  # noqa: BLE001 - raised in the loop
                with suppress(RuntimeError):  # which may be closed by now
                    loop.call_soon_threadsafe(fail, error)

        threading.Thread(target=renew, name="motoko-lease", daemon=True).start()
        try:
            await failure
        finally:
            self._ended = True
            self._news.set()

    def _renew_until_ended(self) -> None:
        database, renewed = self._store.database, time.monotonic()
        while True:
            news = self._news.wait(min(LOOK_SECONDS, RENEW_SECONDS))
            if self._ended:
                return
            if self._home is not None:
                self._home.check()
            if news or time.monotonic() - renewed >= RENEW_SECONDS:
                self._news.clear()
                renewed = time.monotonic()
                database.submit(lambda: run_transaction(database, self._renew)).result()

    def _renew(self, tables: Tables) -> None:
        lease = tables.lease(self.guard.name)
        if lease is None or lease["token"] != self.guard.token:
            raise self.guard.fenced()
        tables.renew_lease(self.guard.name, self._store.steady(), self._report.plain())

    async def release(self) -> None:
        """Give the lease back, if it is still ours."""

        def drop(tables: Tables) -> None:
            lease = tables.lease(self.guard.name)
            if lease is not None and lease["token"] == self.guard.token:
                tables.write_lease(self.guard.name, None, dict(lease["holder"]))
                report = replace(self._report, stall=None)
                tables.renew_lease(self.guard.name, self._store.steady(), report.plain())

        await run_in_committer(
            self._store.database, lambda: run_transaction(self._store.database, drop)
        )


def current_holder(tables: Tables, run_name: str, now: float) -> LeaseHolder | None:
    """Return who orchestrates this run name, None if nobody living does.

    Whoever does so in a database that this one is a copy of, does not do it here.
    """
    name = ORCHESTRATOR + run_name
    lease: Any = tables.lease(name)
    if lease is None or lease["token"] is None or not tables.taken_here(name):
        return None
    holder = LeaseHolder(**lease["holder"])
    return holder if holder.may_live(tables.renewed_at(name), now) else None


def report_of(tables: Tables, run_name: str) -> OrchestratorReport:
    """Return what the orchestrator of a run name, the present or the last one, says of itself."""
    return OrchestratorReport.of(tables.lease_report(ORCHESTRATOR + run_name))


def run_names(tables: Tables) -> list[str]:
    """Return the run names that ever had an orchestrator, sorted."""
    names = tables.lease_names()
    return [name.removeprefix(ORCHESTRATOR) for name in names if name.startswith(ORCHESTRATOR)]


def holders(tables: Tables, now: float) -> dict[str, LeaseHolder]:
    """Return the living orchestrators by run name."""
    found = {name: current_holder(tables, name, now) for name in run_names(tables)}
    return {name: holder for name, holder in found.items() if holder is not None}


def stalls(tables: Tables, now: float) -> dict[str, StallReport]:
    """Return what the living orchestrators that are stalled wait for, by run name."""
    reports = {name: report_of(tables, name) for name in holders(tables, now)}
    return {name: report.stall for name, report in reports.items() if report.stall is not None}
